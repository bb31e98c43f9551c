"""Flax's `LSTMCell`, `OptimizedLSTMCell`, `GRUCell` and `SimpleCell`, of linen and of nnx.

linen has one dense layer per gate and side, `ii` to `ho`, in one layout for both LSTM cells; the simple
cell has `i` and `h`. One side has the biases, beside it only the `hn` of the GRU has one. nnx's
`LSTMCell` is laid out like that, with `if_` for `if`; its other cells fuse the gates in two dense
layers, `dense_i` and `dense_h`, and its GRU has no bias in `hn`. All gates are in our letters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from rnncells import checks
from rnncells.cell import Cell, Params
from rnncells.cells.gated.gru import GRU
from rnncells.cells.gated.lstm import LSTM
from rnncells.cells.simple.elman import Elman
from rnncells.convert.arrays import (
    Array,
    arrays,
    fixed,
    fuse,
    matrix,
    must_be_zero,
    names,
    one_activation,
    one_of,
    parameters,
    shapes,
    split,
    zeros,
)

_GATES: dict[type[Cell], tuple[str, ...]] = {LSTM: LSTM.gates, GRU: GRU.gates, Elman: ("",)}
_BIASED: dict[type[Cell], str] = {LSTM: "h", GRU: "i", Elman: "i"}
_MGU = {"if", "in", "hf", "hn"}


def from_linen(variables: Mapping[str, Any]) -> tuple[Cell, Params]:
    """A cell and its parameters from those of a linen cell.

        cell, params = from_linen(flax.linen.GRUCell(8).init(key, carry, x))

    The names of the dense layers show the kind. They do not show the activations: sigmoid and tanh
    are assumed, `dataclasses.replace` sets others. Nor do they show `SimpleCell(residual=True)`, which
    is the same function with the identity added to the recurrent kernel.

    Args:
        variables: the tree of one cell; the levels `params` and `cell` that `init` and
            `flax.linen.RNN` put around it are taken off.

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
    return _from_gates("variables", _flat("variables", variables))


def _flat(where: str, tree: Any) -> dict[str, Array]:
    if not isinstance(tree, Mapping):
        raise TypeError(f"{where}: expected the parameters of a Flax cell, got {checks.describe(tree)}.")
    return arrays(where, flatten_dict(tree, sep="/"))


def _entries(kind: type[Cell]) -> list[str]:
    """The names of linen's arrays."""
    kernels = [f"{side}{gate}/kernel" for side in "ih" for gate in _GATES[kind]]
    biases = [f"{_BIASED[kind]}{gate}/bias" for gate in _GATES[kind]]
    return kernels + biases + ["hn/bias"] * (kind is GRU)


def _from_gates(where: str, entries: dict[str, Array]) -> tuple[Cell, Params]:
    if {name.split("/")[0] for name in entries} == _MGU:
        raise ValueError(
            f"{where}: expected an LSTM, GRU or simple cell, got an MGUCell, another cell than"
            " rnncells.MGU: there the gate takes the new value and resets before the product."
        )
    kind = min(_GATES, key=lambda kind: len(entries.keys() ^ set(_entries(kind))))
    names(where, _entries(kind), entries)
    gates, side = _GATES[kind], _BIASED[kind]
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
    return kind(features), params  # type: ignore[call-arg]


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
    params = _checked(cell, params, "Flax linen")
    kind = type(cell)
    gates, side = _GATES[kind], _BIASED[kind]
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


def _checked(cell: Cell, params: Params, library: str) -> Params:
    params = parameters(cell, params)
    one_of(cell, library, LSTM, GRU, Elman)
    one_activation(cell, library)
    if isinstance(cell, GRU):
        fixed(cell, library, reset_after=True)
    return params


def from_nnx(module: Any) -> tuple[Cell, Params]:
    """A cell and its parameters from an nnx cell, or from its state.

    A module shows its activations; a state does not: sigmoid and tanh are assumed,
    `dataclasses.replace` sets others.

    Args:
        module: a `flax.nnx.LSTMCell`, `OptimizedLSTMCell`, `GRUCell` or `SimpleCell`; of an
            `nnx.RNN`, give its `cell`. Or the state or the pure dict of their `nnx.Param`s.

    Returns, Raises:
        As `from_linen`; also for an activation that the cell here cannot have, and for
        `SimpleCell(residual=True)`.
    """
    tree = module
    if isinstance(module, nnx.Module):
        tree = nnx.state(module, nnx.Param)
    if isinstance(tree, nnx.State):
        tree = nnx.to_pure_dict(tree)
    entries = _flat("module", tree)
    if "dense_h/kernel" in entries or "dense_i/kernel" in entries:
        cell, params = _from_fused(entries)
    else:
        cell, params = _from_gates(
            "module", {name.replace("if_/", "if/"): leaf for name, leaf in entries.items()}
        )
    return _with_activations(cell, module) if isinstance(module, nnx.Module) else cell, params


def _from_fused(entries: dict[str, Array]) -> tuple[Cell, Params]:
    side = "dense_h" if "dense_h/bias" in entries else "dense_i"
    names("module", ["dense_i/kernel", "dense_h/kernel", f"{side}/bias"], entries)
    size, _ = matrix("dense_i/kernel", entries["dense_i/kernel"])
    features, columns = matrix("dense_h/kernel", entries["dense_h/kernel"])
    kinds = {len(kind.gates) * features: kind for kind in _GATES if f"dense_{_BIASED[kind]}" == side}
    if columns not in kinds:
        raise ValueError(
            "dense_h/kernel: expected 4 (LSTM, with its bias), 3 (GRU) or 1 (simple cell) times as many"
            f" columns as rows, got {checks.describe(entries['dense_h/kernel'])} and {side}/bias."
        )
    shapes(entries, {"dense_i/kernel": (size, columns), f"{side}/bias": (columns,)})
    params = {
        "kernel": entries["dense_i/kernel"],
        "recurrent_kernel": entries["dense_h/kernel"],
        "bias": entries[f"{side}/bias"],
    }
    if kinds[columns] is GRU:
        params["recurrent_bias"] = zeros((features,), params["bias"])
    return kinds[columns](features), params  # type: ignore[call-arg]


def _with_activations(cell: Cell, module: Any) -> Cell:
    """The cell with the activations of the module."""

    outer = module.activation_fn
    if isinstance(cell, Elman):
        if module.residual:
            raise ValueError(
                "module: expected a SimpleCell with residual=False; convert its state and add the identity"
                " to recurrent_kernel, which is the same function."
            )
        return dataclasses.replace(cell, activation=outer)
    gate = module.gate_fn
    if isinstance(cell, LSTM):
        return dataclasses.replace(
            cell, gate_activation=gate, candidate_activation=outer, output_activation=outer
        )
    return dataclasses.replace(cell, gate_activation=gate, candidate_activation=outer)  # type: ignore[call-arg]


def to_nnx(cell: Cell, params: Params, *, optimized: bool = True) -> dict[str, Any]:
    """The parameters of the nnx cell that computes the same, as a pure dict.

        nnx.update(module, to_nnx(cell, params))

    The inverse of `from_nnx`. `gate_fn` and `activation_fn` must be those of the cell.

    Args:
        cell: as for `to_linen`; the `recurrent_bias` of a GRU must be zero, nnx has none.
        params: of the cell.
        optimized: of an LSTM, the layout of `nnx.OptimizedLSTMCell` (True) or of `nnx.LSTMCell`.

    Raises:
        TypeError, ValueError: for a cell that no nnx cell computes, or params of another tree.
    """
    checks.boolean("optimized", optimized)
    params = _checked(cell, params, "Flax nnx")
    if isinstance(cell, LSTM) and not optimized:
        return {{"if": "if_"}.get(name, name): dense for name, dense in to_linen(cell, params).items()}
    if isinstance(cell, GRU):
        must_be_zero("params['recurrent_bias']", params["recurrent_bias"], "nnx's GRUCell has none")
    dense = {"i": {"kernel": params["kernel"]}, "h": {"kernel": params["recurrent_kernel"]}}
    dense[_BIASED[type(cell)]]["bias"] = params["bias"]
    return {f"dense_{side}": leaves for side, leaves in dense.items()}
