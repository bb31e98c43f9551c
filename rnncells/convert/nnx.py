"""Flax nnx's `LSTMCell`, `OptimizedLSTMCell`, `GRUCell` and `SimpleCell`.

`LSTMCell` is laid out as in linen, with `if_` for `if`; the others fuse the gates, in our order, in two
dense layers, `dense_i` and `dense_h`. One of the two has a bias; the GRU has none in its `hn`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from flax import nnx

from rnncells import checks
from rnncells.cell import Cell, Params
from rnncells.cells.gated.gru import GRU
from rnncells.cells.gated.lstm import LSTM
from rnncells.cells.simple.elman import Elman
from rnncells.convert import linen
from rnncells.convert.arrays import Array, matrix, must_be_zero, names, shapes, zeros
from rnncells.parts.gated import DenseCell

_KINDS = (nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell)


def from_nnx(module: nnx.Module | Mapping[Any, Any]) -> tuple[Cell, Params]:
    """A cell and its parameters from an nnx cell.

        cell, params = from_nnx(module)

    A module shows its activations, which the cell then has; a state does not: sigmoid and tanh are
    assumed, `dataclasses.replace` sets others. nnx's GRUCell has no bias within r (h U_n + q): q is 0.

    Args:
        module: a `flax.nnx.LSTMCell`, `OptimizedLSTMCell`, `GRUCell` or `SimpleCell`; of an
            `nnx.RNN`, give its `cell`. Or the state or the pure dict of their `nnx.Param`s.
            `from_nnx_model` takes a model.

    Returns, Raises:
        As `from_linen`; also for an activation that the cell here cannot have, and for
        `SimpleCell(residual=True)`.
    """
    tree: Any = module
    if isinstance(module, nnx.Module):
        if type(module) not in _KINDS:
            known = ", ".join(kind.__name__ for kind in _KINDS)
            raise TypeError(f"module: expected one of Flax's {known}, got {type(module).__name__}.")
        tree = nnx.state(module, nnx.Param)
    entries = linen.flat("module", tree)
    if _is_fused(tree):
        cell, params = _from_fused(entries)
    else:
        renamed = {name.replace("if_/", "if/"): leaf for name, leaf in entries.items()}
        cell, params = linen.from_entries("module", renamed)
    return _with_activations(cell, module) if isinstance(module, nnx.Module) else cell, params


def is_cell(level: Mapping[Any, Any]) -> bool:
    """Whether these look like the dense layers of an nnx cell."""
    return _is_fused(level) or linen.is_cell(level)


def _is_fused(level: Mapping[Any, Any]) -> bool:
    return "dense_i" in level and "dense_h" in level


def _from_fused(entries: dict[str, Array]) -> tuple[DenseCell, Params]:
    side = "dense_h" if "dense_h/bias" in entries else "dense_i"
    names("module", ["dense_i/kernel", "dense_h/kernel", f"{side}/bias"], entries)
    size, _ = matrix("dense_i/kernel", entries["dense_i/kernel"])
    features, columns = matrix("dense_h/kernel", entries["dense_h/kernel"])
    kinds = {
        len(kind.gates) * features: kind for kind in linen.GATES if f"dense_{linen.BIASED[kind]}" == side
    }
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
    return kinds[columns](features), params


def _with_activations(cell: DenseCell, module: Any) -> Cell:
    """The cell with the activations of the module."""
    outer = module.activation_fn
    if isinstance(cell, LSTM):
        return dataclasses.replace(
            cell, gate_activation=module.gate_fn, candidate_activation=outer, output_activation=outer
        )
    if isinstance(cell, GRU):
        return dataclasses.replace(cell, gate_activation=module.gate_fn, candidate_activation=outer)
    assert isinstance(cell, Elman)
    if module.residual:
        raise ValueError(
            "module: expected a SimpleCell with residual=False; convert its state and add the identity"
            " to recurrent_kernel, which is the same function."
        )
    return dataclasses.replace(cell, activation=outer)


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
    cell, params = linen.checked(cell, params, "Flax nnx")
    if isinstance(cell, LSTM) and not optimized:
        return {{"if": "if_"}.get(name, name): dense for name, dense in linen.to_linen(cell, params).items()}
    if isinstance(cell, GRU):
        must_be_zero("params['recurrent_bias']", params["recurrent_bias"], "nnx's GRUCell has none")
    dense = {"i": {"kernel": params["kernel"]}, "h": {"kernel": params["recurrent_kernel"]}}
    dense[linen.BIASED[type(cell)]]["bias"] = params["bias"]
    return {f"dense_{side}": leaves for side, leaves in dense.items()}
