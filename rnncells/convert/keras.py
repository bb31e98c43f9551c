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
    matrix,
    must_be_zero,
    one_activation,
    one_bias,
    one_of,
    parameters,
    regate,
    shapes,
    two_biases,
    zeros,
)
from rnncells.stacks import Bidirectional

_ORDERS: dict[type[Cell], str] = {LSTM: "ifgo", GRU: "zrn", Elman: "h"}
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
        layer: a built `keras.layers.LSTM`, `GRU`, `SimpleRNN` or one of their cells, or a
            `Bidirectional` of two of them; or a list of arrays in the order of `get_weights()`: kernel,
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
        forward, of_forward = _from_layer(layer.forward_layer, go_backwards=False)
        backward, of_backward = _from_layer(layer.backward_layer, go_backwards=True)
        cell = _both(forward, backward, layer.merge_mode)
        return cell, {"forward": of_forward, "backward": of_backward}
    return _from_layer(layer, go_backwards=False)


def _from_layer(layer: Any, go_backwards: bool) -> tuple[Cell, Params]:
    name = type(layer).__name__
    if name.removesuffix("Cell") not in _LAYERS or not hasattr(layer, "get_config"):
        raise TypeError(
            "layer: expected a Keras LSTM, GRU, SimpleRNN or Bidirectional, or a list of arrays,"
            f" got {checks.describe(layer)}."
        )
    config, weights = layer.get_config(), layer.get_weights()
    if not weights:
        raise ValueError(f"layer: expected a built layer, got {name} without weights.")
    if config.get("go_backwards", False) != go_backwards:
        raise ValueError(
            f"layer: expected go_backwards={go_backwards}, got {not go_backwards}; the direction belongs"
            " to the call: convert layer.get_weights(), unroll with reverse=True, flip the outputs."
        )
    if len(weights) == 2 and config.get("reset_after"):
        weights = [*weights, np.zeros((2, weights[0].shape[1]), weights[0].dtype)]
    elif len(weights) == 2:
        weights = [*weights, np.zeros(weights[0].shape[1], weights[0].dtype)]
    cell, params = _one_direction(weights)
    outer = _activation(config, "activation")
    if isinstance(cell, Elman):
        return dataclasses.replace(cell, activation=outer), params
    gate = _activation(config, "recurrent_activation")
    if isinstance(cell, LSTM):
        cell = dataclasses.replace(
            cell, gate_activation=gate, candidate_activation=outer, output_activation=outer
        )
    else:
        cell = dataclasses.replace(cell, gate_activation=gate, candidate_activation=outer)  # type: ignore[call-arg]
    return cell, params


def _both(forward: Cell, backward: Cell, merge: str) -> Cell:
    return Bidirectional(forward, None if backward == forward else backward, merge=merge)


def _activation(config: dict[str, Any], field: str) -> str:
    name = config[field]
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"layer: expected {field} to be one of {', '.join(ACTIVATIONS)}, got {name!r}.")
    return ACTIVATIONS[name]


def _from_weights(weights: Sequence[Array]) -> tuple[Cell, Params]:
    if len(weights) in (4, 6):
        half = len(weights) // 2
        (forward, of_forward), (backward, of_backward) = map(_one_direction, (weights[:half], weights[half:]))
        return _both(forward, backward, "concat"), {"forward": of_forward, "backward": of_backward}
    if len(weights) not in (2, 3):
        raise ValueError(
            "layer: expected the arrays kernel, recurrent_kernel and bias, or without bias, or twice as"
            f" many for both directions, got {len(weights)}."
        )
    return _one_direction(weights)


def _one_direction(weights: Sequence[Array]) -> tuple[Cell, Params]:
    entries = {
        name: array(name, value)
        for name, value in zip(("kernel", "recurrent_kernel", "bias"), weights, strict=False)
    }
    size, _ = matrix("kernel", entries["kernel"])
    features, columns = matrix("recurrent_kernel", entries["recurrent_kernel"])
    kinds: dict[int, type[Cell]] = {len(kind.gates) * features: kind for kind in _ORDERS}
    if columns not in kinds:
        raise ValueError(
            "recurrent_kernel: expected 4 (LSTM), 3 (GRU) or 1 (SimpleRNN) times as many columns as rows,"
            f" got {checks.describe(entries['recurrent_kernel'])}."
        )
    cell: Any = kinds[columns](features)  # type: ignore[call-arg]
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
    """The arrays of the Keras layer that computes the same: `layer.set_weights(to_keras(cell, params))`.

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
    params = parameters(cell, params)
    sides: list[tuple[Any, Params]] = [(cell, params)]
    if isinstance(cell, Bidirectional):
        backward = cell.forward if cell.backward is None else cell.backward
        sides = [(cell.forward, params["forward"]), (backward, params["backward"])]
    return [np.array(leaf) for inner, leaves in sides for leaf in _weights(inner, leaves, bias)]


def _weights(cell: Cell, params: Params, bias: bool) -> list[Array]:
    one_of(cell, "Keras", LSTM, GRU, Elman)
    one_activation(cell, "Keras")
    two = isinstance(cell, GRU) and cell.reset_after
    biases = np.stack(two_biases(params)) if two else params["bias"]
    weights = [params["kernel"], params["recurrent_kernel"], biases]
    if not bias:
        must_be_zero("bias", weights.pop(), "the layer has no bias")
    return [regate(leaf, cell.gates, _ORDERS[type(cell)]) for leaf in weights]
