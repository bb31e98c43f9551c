"""Flax linen's `LSTMCell`, `OptimizedLSTMCell`, `GRUCell` and `SimpleCell`.

There is one dense layer per gate and side, `ii` to `ho`, in one layout for both LSTM cells; the simple
cell has `i` and `h`. One side has the biases, beside it only the `hn` of the GRU has one. All gates are
in our letters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from rnncells import checks
from rnncells.cell import Cell, Params, plain
from rnncells.cells.gated.gru import GRU
from rnncells.cells.gated.lstm import LSTM
from rnncells.cells.simple.elman import Elman
from rnncells.convert.arrays import (
    Array,
    arrays,
    fixed,
    fuse,
    innermost,
    listed,
    matrix,
    names,
    one_activation,
    one_of,
    parameters,
    shapes,
    split,
)
from rnncells.convert.gates import with_biases
from rnncells.parts.gated import DenseCell

GATES: dict[type[DenseCell], tuple[str, ...]] = {LSTM: LSTM.gates, GRU: GRU.gates, Elman: ("",)}
BIASED: dict[type[DenseCell], str] = {LSTM: "h", GRU: "i", Elman: "i"}
"""The side that has the biases."""
_OTHERS = {
    frozenset({"if", "in", "hf", "hn"}): "an MGUCell, whose gate keeps the past and resets after the product;"
    " that of rnncells.MGU takes the new value and resets before",
    frozenset({"ih", "hh"}): "a ConvLSTMCell",
}
"""Dense layers of cells that have no counterpart here."""


def from_linen(variables: Mapping[str, Any]) -> tuple[Cell, Params]:
    """A cell and its parameters from those of a linen cell.

        cell, params = from_linen(flax.linen.GRUCell(8).init(key, carry, x))

    The names of the dense layers show the kind. They do not show the activations: sigmoid and tanh
    are assumed, `dataclasses.replace` sets others. Nor do they show `SimpleCell(residual=True)`, which
    is the same function with the identity added to the recurrent kernel.

    Args:
        variables: the tree of one cell; the levels `params` and `cell` that `init` and
            `flax.linen.RNN` put around it are taken off. `from_linen_model` takes the tree of a model.

    Returns:
        The cell, and params in the dtype of the variables: JAX arrays where JAX arrays came, NumPy
        copies otherwise.

    Raises:
        TypeError, ValueError: for an entry that is missing, left over or of another shape, and for the
            MGUCell: its one gate keeps the past and resets after the product, `rnncells.MGU`'s takes
            the new value and resets before, and no weights make the one the other.
    """
    for level in ("params", "cell"):
        if isinstance(variables, Mapping) and set(variables) == {level}:
            variables = variables[level]
    entries = flat("variables", variables)
    if not is_cell(variables):
        raise ValueError(
            f"variables: expected the dense layers of one cell, got {listed(list(map(str, variables)))};"
            " from_linen_model takes the variables of a model."
        )
    return from_entries("variables", entries)


def is_cell(level: Mapping[str, Any]) -> bool:
    """Whether these look like the dense layers of a cell of linen, one without a counterpart here included:
    two gates at least that have a layer on the input and one on the state."""
    of_input, of_state = ({str(name)[1:] for name in level if str(name)[:1] == side} for side in "ih")
    return len(of_input & of_state) > 1 or set(level) in ({"i", "h"}, {"ih", "hh"})


def flat(where: str, tree: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays of a cell by their names, such as `hn/bias`."""
    if not isinstance(tree, Mapping):
        raise TypeError(f"{where}: expected the parameters of a Flax cell, got {checks.describe(tree)}.")
    return arrays(where, flatten_dict(plain(tree), sep="/"))


def _entries(kind: type[DenseCell]) -> list[str]:
    """The names of linen's arrays."""
    kernels = [f"{side}{gate}/kernel" for side in "ih" for gate in GATES[kind]]
    biases = [f"{BIASED[kind]}{gate}/bias" for gate in GATES[kind]]
    return kernels + biases + ["hn/bias"] * (kind is GRU)


def from_entries(where: str, entries: dict[str, Array]) -> tuple[DenseCell, Params]:
    """A cell and its parameters from linen's arrays by their names."""
    other = _OTHERS.get(frozenset(name.split("/")[0] for name in entries))
    if other is not None:
        raise ValueError(f"{where}: expected an LSTM, GRU or simple cell, got {other}.")
    kind = min(GATES, key=lambda kind: len(entries.keys() ^ set(_entries(kind))))
    names(where, _entries(kind), entries)
    gates, side = GATES[kind], BIASED[kind]
    size, features = matrix(f"i{gates[0]}/kernel", entries[f"i{gates[0]}/kernel"])
    rows = {"i": size, "h": features}
    shapes(
        entries,
        {
            name: (rows[name[0]], features) if name.endswith("kernel") else (features,)
            for name in _entries(kind)
        },
    )

    def fused(side: str, part: str) -> Array:
        return fuse({gate: entries[f"{side}{gate}/{part}"] for gate in gates}, gates)

    params = {
        "kernel": fused("i", "kernel"),
        "recurrent_kernel": fused("h", "kernel"),
        "bias": fused(side, "bias"),
    }
    if kind is GRU:
        params["recurrent_bias"] = entries["hn/bias"]
    return kind(features), params


def to_linen(cell: Cell, params: Params) -> dict[str, Any]:
    """The parameters of the linen cell that computes the same, without the levels around them.

        layer = flax.linen.RNN(flax.linen.GRUCell(8))
        ys = layer.apply({"params": {"cell": to_linen(cell, params)}}, xs)

    The inverse of `from_linen`; for an LSTM both `LSTMCell` and `OptimizedLSTMCell` take it. `gate_fn`
    and `activation_fn` must be those of the cell.

    Args:
        cell: an LSTM (with one activation for candidate and output), GRU (reset_after=True) or Elman.
        params: of the cell.

    Raises:
        TypeError, ValueError: for a cell that no linen cell computes, or params of another tree.
    """
    cell, params = checked(cell, params, "Flax linen")
    kind = type(cell)
    gates, side = GATES[kind], BIASED[kind]
    entries = {}
    for prefix, part, name in (
        ("i", "kernel", "kernel"),
        ("h", "kernel", "recurrent_kernel"),
        (side, "bias", "bias"),
    ):
        for gate, block in split(params[name], gates).items():
            entries[f"{prefix}{gate}/{part}"] = block
    if kind is GRU:
        entries["hn/bias"] = params["recurrent_bias"]
    return unflatten_dict(entries, sep="/")


def checked(cell: Cell, params: Params, library: str) -> tuple[DenseCell, Params]:
    """A cell that Flax has as well, and its parameters with all biases."""
    one_of(innermost(cell)[0], library, *GATES)
    params = parameters(cell, params)
    one_of(cell, library, *GATES)
    one_activation(cell, library)
    if isinstance(cell, GRU):
        fixed(cell, library, reset_after=True)
    assert isinstance(cell, DenseCell)
    return dataclasses.replace(cell, use_bias=True), with_biases(cell, params)
