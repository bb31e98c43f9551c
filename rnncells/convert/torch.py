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
    listed,
    matrix,
    must_be_zero,
    names,
    one_bias,
    one_of,
    parameters,
    shapes,
    standard_activations,
    two_biases,
    zeros,
)
from rnncells.parts.activations import as_activation
from rnncells.stacks import Bidirectional, Stack
from rnncells.wrappers.pointwise import Projection

_ENTRY = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)_l(\d+)(_reverse)?")


def from_torch(state_dict: Any, *, prefix: str = "", nonlinearity: str = "tanh") -> tuple[Cell, Params]:
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
            with it are read, the others are not.
        nonlinearity: of an `RNN`, "tanh" or "relu"; the weights do not show it.

    Returns:
        The cell, and params in the dtype of the weights: JAX arrays where JAX arrays came, NumPy
        copies otherwise. Missing biases become zeros.

    Raises:
        TypeError, ValueError: for an entry that is missing, left over or of another shape; all of
            what starts with the prefix must belong to the module.
    """
    entries = _entries(state_dict, prefix)
    found = [match for match in map(_ENTRY.fullmatch, entries) if match]
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

    weights = arrays("state_dict", entries)
    inner = _cell(weights, nonlinearity)
    _, size = matrix("weight_ih_l0", weights["weight_ih_l0"])
    for level in suffixes:
        for suffix in level:
            _check_shapes(weights, suffix, inner, size)
        size = len(directions) * weights["weight_hh_l0"].shape[1]

    cell, sides = inner, [[_params(weights, suffix, inner) for suffix in level] for level in suffixes]
    if "weight_hr" in parts:
        cell = Projection(cell, weights["weight_hr_l0"].shape[0])
    levels = [side[0] for side in sides]
    if len(directions) == 2:
        cell = Bidirectional(cell)
        levels = [{"forward": forward, "backward": backward} for forward, backward in sides]
    if layers == 1:
        return cell, levels[0]
    return Stack((cell,) * layers), {f"layer_{k}": level for k, level in enumerate(levels)}


def _entries(source: Any, prefix: str) -> Any:
    """The module's entries by their names within it. Of a file, nothing else is read."""
    if isinstance(source, (str, os.PathLike)):
        if not os.fspath(source).endswith(".safetensors"):
            raise ValueError(
                f"state_dict: expected a .safetensors file, got {source}; a PyTorch checkpoint is a"
                " pickle: load it with torch.load and give the state dict."
            )
        try:
            from safetensors import safe_open
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "safetensors is not installed: `pip install safetensors` to read such files."
            ) from error
        with safe_open(source, framework="np") as file:
            known = list(file.keys())
            entries = {name: file.get_tensor(name) for name in known if name.startswith(prefix)}
    elif isinstance(source, Mapping):
        known = list(source)
        entries = {name: leaf for name, leaf in source.items() if name.startswith(prefix)}
    else:
        raise TypeError(
            "state_dict: expected a mapping of names to arrays, such as module.state_dict(), or the path"
            f" of a safetensors file, got {checks.describe(source)}."
        )
    if not entries:
        raise ValueError(
            f"prefix: expected the start of a name, got {prefix!r}; the names are {listed(known)}."
        )
    return {name.removeprefix(prefix): leaf for name, leaf in entries.items()}


def _cell(weights: Mapping[str, Array], nonlinearity: str) -> Cell:
    """The cell in one direction of one layer, without its projection."""
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}.")
    rows, features = matrix("weight_hh_l0", weights["weight_hh_l0"])
    projected = "weight_hr_l0" in weights
    if projected:
        _, features = matrix("weight_hr_l0", weights["weight_hr_l0"])
    if rows == 4 * features:
        cell: Cell = LSTM(features)
    elif rows == 3 * features and not projected:
        cell = GRU(features)
    elif rows == features and not projected:
        return Elman(features, activation=nonlinearity)
    else:
        raise ValueError(
            "weight_hh_l0: expected 4 (LSTM), 3 (GRU) or 1 (RNN) times as many rows as there are hidden"
            f" units, 4 with weight_hr, got {checks.describe(weights['weight_hh_l0'])} for {features} units."
        )
    if nonlinearity != "tanh":
        raise ValueError(
            f"nonlinearity: expected 'tanh', as these are the weights of a {type(cell).__name__}, got 'relu'."
        )
    return cell


def _check_shapes(weights: Mapping[str, Array], suffix: str, cell: Any, size: int) -> None:
    rows = len(cell.gates) * cell.features
    projected = weights["weight_hr_l0"].shape[0] if "weight_hr_l0" in weights else cell.features
    expected: dict[str, tuple[int, ...]] = {
        "weight_ih": (rows, size),
        "weight_hh": (rows, projected),
        "bias_ih": (rows,),
        "bias_hh": (rows,),
        "weight_hr": (projected, cell.features),
    }
    shapes(weights, {p + suffix: shape for p, shape in expected.items() if p + suffix in weights})


def _params(weights: Mapping[str, Array], suffix: str, cell: Cell) -> Params:
    kernel = weights["weight_ih" + suffix].T
    none = zeros((kernel.shape[1],), kernel)
    biases = [weights.get(name + suffix, none) for name in ("bias_ih", "bias_hh")]
    params = {
        "kernel": kernel,
        "recurrent_kernel": weights["weight_hh" + suffix].T,
        **one_bias(cell, *biases),
    }
    if "weight_hr" + suffix not in weights:
        return params
    return {"cell": params, "projection": weights["weight_hr" + suffix].T}


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
    params = parameters(cell, params)
    levels = [(cell, params)]
    if isinstance(cell, Stack):
        fixed(cell, "PyTorch", skip=False)
        levels = [(layer, params[f"layer_{k}"]) for k, layer in enumerate(cell.cells)]
    weights: dict[str, np.ndarray] = {}
    kinds = []
    for k, (layer, leaves) in enumerate(levels):
        sides = [("", layer, leaves)]
        if isinstance(layer, Bidirectional):
            fixed(layer, "PyTorch", merge="concat")
            backward = layer.forward if layer.backward is None else layer.backward
            sides = [("", layer.forward, leaves["forward"]), ("_reverse", backward, leaves["backward"])]
        kinds += [_kind(inner, len(sides)) for _, inner, _ in sides]
        for direction, inner, leaf in sides:
            for name, value in _weights(inner, leaf).items():
                weights[f"{name}_l{k}{direction}"] = np.array(value, order="C")
    if len(set(kinds)) > 1:
        raise ValueError(
            "cell: a PyTorch module has one kind of cell, one width and one number of directions in all"
            f" its layers, got {cell}."
        )
    if not bias:
        for name in [name for name in weights if name.startswith("bias")]:
            must_be_zero(name, weights.pop(name), "the module has no bias")
    return weights


def _kind(cell: Any, directions: int) -> tuple[Any, ...]:
    """What PyTorch has once per module."""
    size = None
    if isinstance(cell, Projection):
        fixed(cell, "PyTorch", recurrent=True)
        size, cell = cell.size, cell.cell
        one_of(cell, "PyTorch's projection", LSTM)
    one_of(cell, "PyTorch", LSTM, GRU, Elman)
    standard_activations(cell, "PyTorch")
    nonlinearity = None
    if isinstance(cell, GRU):
        fixed(cell, "PyTorch", reset_after=True)
    if isinstance(cell, Elman):
        nonlinearity = cell.activation
        if nonlinearity not in map(functools.partial(as_activation, ""), ("tanh", "relu")):
            raise ValueError(f"cell: PyTorch has RNNs with tanh and relu only, got {cell}.")
    return type(cell), cell.features, size, nonlinearity, directions


def _weights(cell: Cell, params: Params) -> dict[str, Array]:
    if isinstance(cell, Projection):
        return {**_weights(cell.cell, params["cell"]), "weight_hr": params["projection"].T}
    bias, recurrent_bias = two_biases(params)
    return {
        "weight_ih": params["kernel"].T,
        "weight_hh": params["recurrent_kernel"].T,
        "bias_ih": bias,
        "bias_hh": recurrent_bias,
    }
