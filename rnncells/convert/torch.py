"""PyTorch's `LSTM`, `GRU` and `RNN`: layers, directions, `proj_size`, biases or none.

PyTorch has kernels [G*H, I], one bias beside each kernel (the second is redundant, but for the n of
the GRU), and the gates in our order. Its states are (h, c) with layers and directions on the first
axis: layer k forward is 2k, backward 2k + 1.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnncells import checks
from rnncells.cell import Cell, Params
from rnncells.cells.gated.gru import GRU
from rnncells.cells.gated.lstm import LSTM
from rnncells.cells.simple.elman import Elman
from rnncells.convert.arrays import (
    Array,
    arrays,
    fixed,
    innermost,
    listed,
    matrix,
    must_be_zero,
    names,
    one_of,
    parameters,
    shapes,
    standard_activations,
    zeros,
)
from rnncells.convert.gates import one_bias, two_biases, with_biases
from rnncells.convert.state_dict import read
from rnncells.parts.activations import as_activation
from rnncells.parts.gated import DenseCell
from rnncells.stacks import Bidirectional, Stack
from rnncells.wrappers.pointwise import Projection

ENTRY = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)_l(\d+)(_reverse)?")
"""The name of an array in a module."""


def from_torch(
    state_dict: Mapping[str, Any] | str | os.PathLike[str], *, prefix: str = "", nonlinearity: str = "tanh"
) -> tuple[Cell, Params]:
    """A cell and its parameters from the weights of one `torch.nn.LSTM`, `GRU` or `RNN`.

        cell, params = from_torch(module.state_dict())
        cell, params = from_torch("model.safetensors", prefix="encoder.rnn.")

    One layer in one direction is an `LSTM`, `GRU` or `Elman`; `proj_size` makes it a `Projection`, a
    second direction a `Bidirectional`, several layers a `Stack`. Kind, sizes, layers, directions and
    biases are read off the names and shapes. What a state dict does not hold is how the module is
    called: `batch_first` (ours is time-major), `dropout` between layers (off, as in `eval()`).

    Args:
        state_dict: names to arrays (PyTorch tensors, NumPy or JAX), or the path of a safetensors
            file, which needs the package safetensors. A `torch.nn.LSTMCell` has the same arrays
            without the suffix: add `_l0` to its names.
        prefix: the module's own, where the names are those of a larger model: entries that start
            with it are read, the others are not. `from_torch_model` finds every module of a model.
        nonlinearity: of an `RNN`, "tanh" or "relu"; the weights do not show it.

    Returns:
        The cell, and params in the dtype of the weights: JAX arrays where JAX arrays came, NumPy
        copies otherwise. Missing biases become zeros.

    Raises:
        TypeError, ValueError: for an entry that is missing, left over or of another shape; all of
            what starts with the prefix must belong to the module.
    """
    known_nonlinearity(nonlinearity)
    cell, params = from_entries(read(state_dict, prefix), nonlinearity)
    kind, _ = innermost(cell)
    if nonlinearity == "relu" and not isinstance(kind, Elman):
        raise ValueError(
            f"nonlinearity: expected 'tanh', as these are the weights of a {type(kind).__name__}, got 'relu'."
        )
    return cell, params


def known_nonlinearity(value: str) -> None:
    """One that PyTorch's RNN has."""
    if value not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {value!r}.")


def from_entries(entries: Mapping[str, Any], nonlinearity: str | None) -> tuple[Cell, Params]:
    """`from_torch`, of what it has read; a nonlinearity of None is unknown."""
    suffixes = _suffixes(entries)
    weights = arrays("state_dict", entries)
    inner = _cell(weights, nonlinearity)
    _check_shapes(weights, suffixes, inner)
    cell: Cell = inner
    if "weight_hr_l0" in weights:
        cell = Projection(inner, weights["weight_hr_l0"].shape[0])
    levels = [[_params(weights, suffix, cell) for suffix in level] for level in suffixes]
    if len(suffixes[0]) == 2:
        cell = Bidirectional(cell, None, "concat")
        layers = [dict(zip(cell.children, level, strict=True)) for level in levels]
    else:
        layers = [params for (params,) in levels]
    if len(layers) == 1:
        return cell, layers[0]
    stack = Stack((cell,) * len(layers))
    return stack, dict(zip(stack.children, layers, strict=True))


def _suffixes(entries: Mapping[str, Any]) -> list[list[str]]:
    """The ends of the names, by layer and direction; every layer must have the same names before them."""
    found = [match for match in map(ENTRY.fullmatch, entries) if match]
    if not found:
        raise ValueError(
            f"state_dict: expected names such as weight_ih_l0, got {listed(list(entries))}; prefix picks one"
            " module out of a larger model."
        )
    layers = 1 + max(int(match[2]) for match in found)
    directions = ("", "_reverse") if any(match[3] for match in found) else ("",)
    parts = ["weight_ih", "weight_hh"]
    if any(match[1].startswith("bias") for match in found):
        parts += ["bias_ih", "bias_hh"]
    if any(match[1] == "weight_hr" for match in found):
        parts += ["weight_hr"]
    suffixes = [[f"_l{layer}{direction}" for direction in directions] for layer in range(layers)]
    names("state_dict", [part + suffix for level in suffixes for suffix in level for part in parts], entries)
    return suffixes


def _cell(weights: Mapping[str, Array], nonlinearity: str | None) -> DenseCell:
    """The cell in one direction of one layer, without its projection."""
    rows, features = matrix("weight_hh_l0", weights["weight_hh_l0"])
    projected = "weight_hr_l0" in weights
    if projected:
        _, features = matrix("weight_hr_l0", weights["weight_hr_l0"])
    if rows == 4 * features:
        return LSTM(features)
    if rows == 3 * features and not projected:
        return GRU(features)
    if rows != features or projected:
        raise ValueError(
            "weight_hh_l0: expected 4 (LSTM), 3 (GRU) or 1 (RNN) times as many rows as there are hidden"
            f" units, 4 with weight_hr, got {checks.describe(weights['weight_hh_l0'])} for {features} units."
        )
    if nonlinearity is None:
        raise ValueError(
            "nonlinearity: expected 'tanh' or 'relu', because the weights of an RNN do not show it, got None."
        )
    return Elman(features, activation=nonlinearity)


def _check_shapes(weights: Mapping[str, Array], suffixes: list[list[str]], cell: DenseCell) -> None:
    rows = len(cell.gates) * cell.features
    projected = weights["weight_hh_l0"].shape[1]
    _, size = matrix("weight_ih_l0", weights["weight_ih_l0"])
    for level in suffixes:
        expected: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, size),
            "weight_hh": (rows, projected),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
            "weight_hr": (projected, cell.features),
        }
        for suffix in level:
            shapes(weights, {p + suffix: shape for p, shape in expected.items() if p + suffix in weights})
        size = len(level) * projected


def _params(weights: Mapping[str, Array], suffix: str, cell: Cell) -> Params:
    inner, levels = innermost(cell)
    kernel = weights["weight_ih" + suffix].T
    none = zeros((kernel.shape[1],), kernel)
    bias, recurrent_bias = (weights.get(name + suffix, none) for name in ("bias_ih", "bias_hh"))
    params = {
        "kernel": kernel,
        "recurrent_kernel": weights["weight_hh" + suffix].T,
        **one_bias(inner, bias, recurrent_bias),
    }
    if not isinstance(cell, Projection):
        return params
    return {**dict.fromkeys(levels, params), "projection": weights["weight_hr" + suffix].T}


def to_torch(cell: Cell, params: Params, *, bias: bool = True) -> dict[str, np.ndarray]:
    """The state dict of the `torch.nn.LSTM`, `GRU` or `RNN` that computes the same, as NumPy arrays.

        module.load_state_dict({name: torch.tensor(leaf) for name, leaf in to_torch(cell, params).items()})

    The inverse of `from_torch`: PyTorch's second bias is zero, but where ours has its counterpart (the
    n of a GRU). dtypes are kept; PyTorch reads no bfloat16 from NumPy, widen those arrays first.

    Args:
        cell: an LSTM, GRU or Elman (tanh or relu), in a Projection (LSTM), a Bidirectional (concat)
            and a Stack, or without them; all layers alike, as PyTorch has them.
        params: of the cell.
        bias: False for a module without biases; ours must then be zero.

    Raises:
        TypeError, ValueError: for a cell that no such module computes, or params of another tree.
    """
    checks.boolean("bias", bias)
    one_of(innermost(cell)[0], "PyTorch", LSTM, GRU, Elman)
    params = parameters(cell, params)
    levels = [(cell, params)]
    if isinstance(cell, Stack):
        fixed(cell, "PyTorch", skip=False)
        levels = [(layer, params[name]) for name, layer in cell.children.items()]
    layers = [_sides(f"_l{k}", layer, leaves) for k, (layer, leaves) in enumerate(levels)]
    if len({_kind(inner, len(sides)) for sides in layers for _, inner, _ in sides}) > 1:
        raise ValueError(
            "cell: a PyTorch module has one kind of cell, one width and one number of directions in all"
            f" its layers, got {cell}."
        )
    weights = {
        name + suffix: np.array(value, order="C")
        for sides in layers
        for suffix, inner, leaves in sides
        for name, value in _weights(inner, leaves).items()
    }
    if not bias:
        for name in [name for name in weights if name.startswith("bias")]:
            must_be_zero(name, weights.pop(name), "the module has no bias")
    return weights


def _sides(suffix: str, layer: Cell, params: Params) -> list[tuple[str, Cell, Params]]:
    """The cells of a layer, one for each direction, with the ends of their names."""
    if not isinstance(layer, Bidirectional):
        return [(suffix, layer, params)]
    fixed(layer, "PyTorch", merge="concat")
    ends = zip((suffix, f"{suffix}_reverse"), layer.children.items(), strict=True)
    return [(end, inner, params[name]) for end, (name, inner) in ends]


def _kind(cell: Cell, directions: int) -> tuple[type[Cell], int, int | None, object, int]:
    """What PyTorch has once per module."""
    size, nonlinearity = None, None
    if isinstance(cell, Projection):
        fixed(cell, "PyTorch", recurrent=True)
        size, cell = cell.size, cell.cell
        one_of(cell, "PyTorch's projection", LSTM)
    one_of(cell, "PyTorch", LSTM, GRU, Elman)
    standard_activations(cell, "PyTorch")
    if isinstance(cell, GRU):
        fixed(cell, "PyTorch", reset_after=True)
    if isinstance(cell, Elman):
        nonlinearity = cell.activation
        if nonlinearity not in map(functools.partial(as_activation, ""), ("tanh", "relu")):
            raise ValueError(f"cell: PyTorch has RNNs with tanh and relu only, got {cell}.")
    return type(cell), cell.output_size, size, nonlinearity, directions


def _weights(cell: Cell, params: Params) -> dict[str, Array]:
    if isinstance(cell, Projection):
        ((name, inner),) = cell.children.items()
        return {**_weights(inner, params[name]), "weight_hr": params["projection"].T}
    params = with_biases(cell, params)
    bias, recurrent_bias = two_biases(params)
    return {
        "weight_ih": params["kernel"].T,
        "weight_hh": params["recurrent_kernel"].T,
        "bias_ih": bias,
        "bias_hh": recurrent_bias,
    }
