"""Keras 3's `LSTM`, `GRU`, `SimpleRNN` and `Bidirectional`.

Keras has our kernels, with the gates of the LSTM in our order and those of the GRU as z, r, n. Its GRU
has two biases [2, 3H] when it resets after the product and one [3H] when before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnncells import checks
from rnncells.cell import Cell, Params
from rnncells.cells.gated.gru import GRU
from rnncells.cells.gated.lstm import LSTM
from rnncells.cells.simple.elman import Elman
from rnncells.convert.arrays import (
    Array,
    array,
    innermost,
    matrix,
    must_be_zero,
    one_activation,
    one_of,
    parameters,
    regate,
    shapes,
    zeros,
)
from rnncells.convert.gates import one_bias, two_biases, with_biases
from rnncells.parts.gated import DenseCell
from rnncells.stacks import Bidirectional

_ORDERS: dict[type[DenseCell], str] = {LSTM: "ifgo", GRU: "zrn", Elman: "h"}
_LAYERS = ("LSTM", "GRU", "SimpleRNN")
ACTIVATIONS = {"linear": "identity", "softsign": "soft_sign"} | {
    name: name for name in ("elu", "hard_sigmoid", "relu", "selu", "sigmoid", "silu", "softplus", "tanh")
}
"""Our names of theirs."""
_MERGES = ("concat", "sum", "ave", "mul")


def from_keras(layer: Any) -> tuple[Cell, Params]:
    """A cell and its parameters from a Keras layer, or from its arrays.

        cell, params = from_keras(model.get_layer("lstm"))
        cell, params = from_keras([kernel, recurrent_kernel, bias])

    A layer shows its activations, its reset convention and its merge mode. What belongs to a call and
    not to a cell is left behind: `return_sequences`, `return_state`, `stateful` (hand the carry over),
    dropout (off, as in inference), `zero_output_for_mask` (our outputs at masked ticks are zero).

    Args:
        layer: a built `keras.layers.LSTM`, `GRU`, `SimpleRNN`, one of their cells or an `RNN` of one, or
            a `Bidirectional` of two layers; or a list of arrays in the order of `get_weights()`: kernel,
            recurrent_kernel and bias, or without bias; twice as many for both directions (merged by
            concatenation). Arrays show the kind of the cell and, for the GRU, the reset convention by
            the shape of the bias; activations are taken to be the defaults, `dataclasses.replace` sets
            others.

    Returns:
        The cell, and params in the dtype of the weights. Missing biases become zeros.

    Raises:
        TypeError, ValueError: for a layer of another class or with an activation that the cell here
            has not; for `go_backwards`, which is no property of a cell; for arrays of other shapes.
    """
    if isinstance(layer, (list, tuple)):
        return _from_weights(layer)
    if type(layer).__name__ == "Bidirectional" and hasattr(layer, "merge_mode"):
        if layer.merge_mode not in _MERGES:
            raise ValueError(
                f"layer: expected a merge_mode of {', '.join(_MERGES)}, got {layer.merge_mode};"
                " convert its forward_layer and backward_layer by their get_weights()."
            )
        forward = _from_layer(layer.forward_layer, go_backwards=False)
        backward = _from_layer(layer.backward_layer, go_backwards=True)
        return _both(forward, backward, layer.merge_mode)
    return _from_layer(layer, go_backwards=False)


def _from_layer(layer: Any, go_backwards: bool) -> tuple[Cell, Params]:
    inner = layer.cell if type(layer).__name__ == "RNN" else layer
    name = type(inner).__name__
    if name.removesuffix("Cell") not in _LAYERS or not hasattr(inner, "get_config"):
        raise TypeError(
            "layer: expected a Keras LSTM, GRU, SimpleRNN or Bidirectional, or a list of arrays,"
            f" got {checks.describe(inner)}."
        )
    config, weights = inner.get_config(), inner.get_weights()
    if not weights:
        raise ValueError(f"layer: expected a built layer, got {name} without weights.")
    if layer.get_config().get("go_backwards", False) != go_backwards:
        raise ValueError(
            f"layer: expected go_backwards={go_backwards}, got {not go_backwards}; the direction belongs"
            " to the call: convert layer.get_weights(), unroll with reverse=True, flip the outputs."
        )
    if len(weights) == 2 and config.get("reset_after"):
        weights = [*weights, np.zeros((2, weights[0].shape[1]), weights[0].dtype)]
    elif len(weights) == 2:
        weights = [*weights, np.zeros(weights[0].shape[1], weights[0].dtype)]
    cell, params = _one_direction(weights)
    return _with_activations(cell, config), params


def _with_activations(cell: DenseCell, config: dict[str, Any]) -> Cell:
    """The cell with the activations of the layer."""
    outer = _activation(config, "activation")
    if isinstance(cell, Elman):
        return dataclasses.replace(cell, activation=outer)
    gate = _activation(config, "recurrent_activation")
    if isinstance(cell, GRU):
        return dataclasses.replace(cell, gate_activation=gate, candidate_activation=outer)
    assert isinstance(cell, LSTM)
    return dataclasses.replace(
        cell, gate_activation=gate, candidate_activation=outer, output_activation=outer
    )


def _both(forward: tuple[Cell, Params], backward: tuple[Cell, Params], merge: str) -> tuple[Cell, Params]:
    """Two directions, each a cell and its params."""
    cell = Bidirectional(forward[0], None if backward[0] == forward[0] else backward[0], merge=merge)
    return cell, dict(zip(cell.children, (forward[1], backward[1]), strict=True))


def _activation(config: dict[str, Any], field: str) -> str:
    name = config[field]
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"layer: expected {field} to be one of {', '.join(ACTIVATIONS)}, got {name!r}.")
    return ACTIVATIONS[name]


def _from_weights(weights: Sequence[Array]) -> tuple[Cell, Params]:
    if len(weights) in (4, 6):
        half = len(weights) // 2
        return _both(_one_direction(weights[:half]), _one_direction(weights[half:]), "concat")
    if len(weights) not in (2, 3):
        raise ValueError(
            "layer: expected the arrays kernel, recurrent_kernel and bias, or without bias, or twice as"
            f" many for both directions, got {len(weights)}."
        )
    return _one_direction(weights)


def _one_direction(weights: Sequence[Array]) -> tuple[DenseCell, Params]:
    entries = {
        name: array(name, value)
        for name, value in zip(("kernel", "recurrent_kernel", "bias"), weights, strict=False)
    }
    size, _ = matrix("kernel", entries["kernel"])
    features, columns = matrix("recurrent_kernel", entries["recurrent_kernel"])
    kinds = {len(kind.gates) * features: kind for kind in _ORDERS}
    if columns not in kinds:
        raise ValueError(
            "recurrent_kernel: expected 4 (LSTM), 3 (GRU) or 1 (SimpleRNN) times as many columns as rows,"
            f" got {checks.describe(entries['recurrent_kernel'])}."
        )
    cell = kinds[columns](features)
    if isinstance(cell, GRU):
        if "bias" not in entries:
            raise ValueError(
                "layer: expected the bias of a GRU, whose shape shows its reset convention; give the layer"
                " itself, or zeros [2, 3H] to reset after the product, [3H] before."
            )
        cell = dataclasses.replace(cell, reset_after=entries["bias"].ndim == 2)
    bias = entries.setdefault("bias", zeros((columns,), entries["kernel"]))
    two = isinstance(cell, GRU) and cell.reset_after
    shapes(entries, {"kernel": (size, columns), "bias": (2, columns) if two else (columns,)})
    kernel, recurrent_kernel, bias = (
        regate(leaf, _ORDERS[type(cell)], cell.gates) for leaf in entries.values()
    )
    biases = one_bias(cell, *bias) if two else {"bias": bias}
    return cell, {"kernel": kernel, "recurrent_kernel": recurrent_kernel, **biases}


def to_keras(cell: Cell, params: Params, *, bias: bool = True) -> list[np.ndarray]:
    """The arrays of the Keras layer that computes the same.

        layer.set_weights(to_keras(cell, params))

    The inverse of `from_keras`. The layer's activations, `reset_after` and `merge_mode` must be those of
    the cell: arrays do not show them.

    Args:
        cell: an LSTM (with one activation for candidate and output), GRU or Elman, or a Bidirectional
            of them. Keras has no layer of several levels: convert the layers of a Stack one by one.
        params: of the cell.
        bias: False for a layer with use_bias=False; ours must then be zero.

    Raises:
        TypeError, ValueError: for a cell that no such layer computes, or params of another tree.
    """
    checks.boolean("bias", bias)
    one_of(innermost(cell)[0], "Keras", *_ORDERS)
    params = parameters(cell, params)
    sides = [(cell, params)]
    if isinstance(cell, Bidirectional):
        sides = [(inner, params[name]) for name, inner in cell.children.items()]
    return [np.array(leaf) for inner, leaves in sides for leaf in _weights(inner, leaves, bias)]


def _weights(cell: Cell, params: Params, bias: bool) -> list[Array]:
    one_of(cell, "Keras", *_ORDERS)
    assert isinstance(cell, DenseCell)
    one_activation(cell, "Keras")
    params = with_biases(cell, params)
    two = isinstance(cell, GRU) and cell.reset_after
    biases = np.stack(two_biases(params)) if two else params["bias"]
    weights = [params["kernel"], params["recurrent_kernel"], biases]
    if not bias:
        must_be_zero("bias", weights.pop(), "the layer has no bias")
    return [regate(leaf, cell.gates, _ORDERS[type(cell)]) for leaf in weights]
