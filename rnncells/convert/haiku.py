"""Haiku's `LSTM`, `GRU` and `VanillaRNN`.

The LSTM has one kernel on [x, h], the gates in the order i, g, f, o, and adds 1 to f in the forward
pass: here that 1 is in the bias, where it can be seen. The GRU has the order z, r, n, resets before the
product, and its z is our 1 - z (`negate_gate`). The
VanillaRNN is an Elman with relu and two biases. The LSTM's state is (hidden, cell), ours (cell, hidden).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rnncells import checks
from rnncells.cell import Cell, Params
from rnncells.cells.gated.gru import GRU
from rnncells.cells.gated.lstm import LSTM
from rnncells.cells.simple.elman import Elman
from rnncells.convert.arrays import (
    Array,
    arrays,
    concatenate,
    fixed,
    fuse,
    innermost,
    matrix,
    names,
    one_of,
    parameters,
    regate,
    shapes,
    split,
    standard_activations,
    zeros,
)
from rnncells.convert.gates import negate_gate, with_biases

_LSTM = ("linear/w", "linear/b")
_GRU = {"w_i": "kernel", "w_h": "recurrent_kernel", "b": "bias"}
_RNN = ("linear/w", "linear/b", "linear_1/w", "linear_1/b")


def from_haiku(params: Mapping[str, Mapping[str, Any]], *, name: str | None = None) -> tuple[Cell, Params]:
    """A cell and its parameters from those of a Haiku core.

        cell, params = from_haiku(haiku_params, name="agent/~/lstm")

    Args:
        params: Haiku's, a dict of module names to dicts of arrays.
        name: of the core in it, `module_name` in Haiku; unnecessary where params holds nothing else.

    Returns:
        The cell, and params in the dtype that came: JAX arrays where JAX arrays came, NumPy copies
        otherwise.

    Raises:
        TypeError, ValueError: for an entry that is missing, left over or of another shape.
    """
    if not isinstance(params, Mapping) or not all(isinstance(leaf, Mapping) for leaf in params.values()):
        raise TypeError(f"params: expected Haiku's dict of dicts of arrays, got {checks.describe(params)}.")
    if name is None:
        cores = {re.sub(r"/linear(_1)?$", "", module) for module in params}
        if len(cores) != 1:
            raise ValueError(
                f"name: expected the core's, because params holds {', '.join(params) or 'nothing'}."
            )
        (name,) = cores
    entries = {
        f"{module.removeprefix(name)}/{leaf}".lstrip("/"): value
        for module, leaves in params.items()
        if module == name or module.startswith(f"{name}/")
        for leaf, value in leaves.items()
    }
    if not entries:
        raise ValueError(f"name: expected one of params, got {name!r}; it holds {', '.join(params)}.")
    weights = arrays(name, entries)
    if weights.keys() & set(_GRU):
        return _from_gru(name, weights)
    if any(entry.startswith("linear_1/") for entry in weights):
        return _from_vanilla(name, weights)
    return _from_lstm(name, weights)


def _from_lstm(name: str, weights: dict[str, Array]) -> tuple[Cell, Params]:
    names(name, _LSTM, weights)
    rows, columns = matrix("linear/w", weights["linear/w"])
    features = columns // 4
    if columns % 4 or rows <= features:
        raise ValueError(
            f"linear/w: expected [I + H, 4H], an LSTM's, got {checks.describe(weights['linear/w'])}."
        )
    shapes(weights, {"linear/b": (columns,)})
    kernel = regate(weights["linear/w"], "igfo", LSTM.gates)
    bias = split(weights["linear/b"], "igfo")
    bias["f"] = bias["f"] + 1
    return LSTM(features), {
        "kernel": kernel[: rows - features],
        "recurrent_kernel": kernel[rows - features :],
        "bias": fuse(bias, LSTM.gates),
    }


def _from_gru(name: str, weights: dict[str, Array]) -> tuple[Cell, Params]:
    names(name, _GRU, weights)
    _, columns = matrix("w_i", weights["w_i"])
    shapes(weights, {"w_h": (columns // 3, columns), "b": (columns // 3 * 3,)})
    cell = GRU(columns // 3, reset_after=False)
    theirs = {ours: regate(weights[entry], "zrn", cell.gates) for entry, ours in _GRU.items()}
    return cell, negate_gate(cell, theirs, "z")


def _from_vanilla(name: str, weights: dict[str, Array]) -> tuple[Cell, Params]:
    if "linear_1/w" in weights and "linear_1/b" not in weights:  # double_bias=False
        weights["linear_1/b"] = zeros((weights["linear_1/w"].shape[-1],), weights["linear_1/w"])
    names(name, _RNN, weights)
    _, features = matrix("linear/w", weights["linear/w"])
    shapes(
        weights,
        {"linear/b": (features,), "linear_1/w": (features, features), "linear_1/b": (features,)},
    )
    return Elman(features, activation="relu"), {
        "kernel": weights["linear/w"],
        "recurrent_kernel": weights["linear_1/w"],
        "bias": weights["linear/b"] + weights["linear_1/b"],
    }


def to_haiku(cell: Cell, params: Params, *, name: str | None = None) -> dict[str, dict[str, Array]]:
    """The parameters of the Haiku core that computes the same.

        haiku_params |= to_haiku(cell, params, name="agent/~/lstm")

    The inverse of `from_haiku`; the second bias of a VanillaRNN is zero.

    Args:
        cell: an LSTM, a GRU with reset_after=False, or an Elman with relu.
        params: of the cell.
        name: of the core; by default Haiku's, "lstm", "gru" or "vanilla_rnn".

    Raises:
        TypeError, ValueError: for a cell that no Haiku core computes, or params of another tree.
    """
    one_of(innermost(cell)[0], "Haiku", LSTM, GRU, Elman)
    params = parameters(cell, params)
    one_of(cell, "Haiku", LSTM, GRU, Elman)
    standard_activations(cell, "Haiku")
    if isinstance(cell, GRU):
        fixed(cell, "Haiku", reset_after=False)
        theirs = with_biases(cell, negate_gate(cell, params, "z"))
        return {
            name or "gru": {entry: regate(theirs[ours], GRU.gates, "zrn") for entry, ours in _GRU.items()}
        }
    params = with_biases(cell, params)
    kernel, recurrent_kernel, bias = (params[leaf] for leaf in ("kernel", "recurrent_kernel", "bias"))
    if isinstance(cell, Elman):
        fixed(cell, "Haiku", activation="relu")
        name = name or "vanilla_rnn"
        return {
            f"{name}/linear": {"w": kernel, "b": bias},
            f"{name}/linear_1": {"w": recurrent_kernel, "b": zeros(bias.shape, bias)},
        }
    blocks = split(bias, LSTM.gates)
    blocks["f"] = blocks["f"] - 1
    stacked = concatenate([kernel.T, recurrent_kernel.T]).T
    return {
        f"{name or 'lstm'}/linear": {
            "w": regate(stacked, LSTM.gates, "igfo"),
            "b": fuse(blocks, "igfo"),
        }
    }
