"""PyTorch models: a `torch.nn.Module`, a state dict or a safetensors file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rnncells.cell import Cell, Params
from rnncells.convert.arrays import as_array
from rnncells.convert.models.tree import Layer, Model, Path, at, ours, theirs
from rnncells.convert.state_dict import read
from rnncells.convert.torch import ENTRY, from_entries, known_nonlinearity, to_torch

_OF_A_CELL = re.compile(r"(weight|bias)_(ih|hh)")
"""The name of an array in an LSTMCell, GRUCell or RNNCell."""
_RECURRENT = re.compile(r"(weight|bias)_(ih|hh|hr)(_.*)?")
"""Any part of a name that tells a recurrent module."""


def from_torch_model(model: Any, *, nonlinearity: str | None = None) -> tuple[dict[str, Cell], Params]:
    """Every `LSTM`, `GRU`, `RNN` and their cells in a PyTorch model as cells, and the arrays of the model.

        cells, params = from_torch_model(model)
        cells, params = from_torch_model("model.safetensors")
        layer = rnncells.linen.RNN(cells["encoder.rnn"], time_major=True)
        ys = layer.apply({"params": params["encoder"]["rnn"]}, xs)

    The same model in Flax, with layers of the same names, finds its recurrent parameters in place: at the
    path of a layer lies `{"cell": its params}`, the tree of a `rnncells.linen.RNN`. All other arrays lie
    under their own names as PyTorch has them (`params["head"]["weight"]`, [out, in]).

    Args:
        model: a `torch.nn.Module`, its state dict, or the path of a safetensors file.
        nonlinearity: of the RNNs in a state dict, "tanh" or "relu", which the weights do not show; a module
            does.

    Returns:
        The cells by the names of their modules, and a nested dict of arrays as `from_torch` makes them.

    Raises:
        TypeError, ValueError: with the name of the layer, for what `from_torch` refuses, an RNN of unknown
            nonlinearity, reparametrised weights (`weight_norm`), and a subclass of a recurrent module, which
            may compute anything (if it does not, give the state dict).
    """
    if nonlinearity is not None:
        known_nonlinearity(nonlinearity)
    return ours(_model(model, nonlinearity))


def to_torch_model(params: Params, like: Any) -> dict[str, np.ndarray]:
    """The state dict of a PyTorch model with these parameters, as NumPy arrays.

        state_dict = {name: torch.tensor(leaf) for name, leaf in to_torch_model(params, model).items()}
        model.load_state_dict(state_dict)

    The inverse of `from_torch_model`.

    Args:
        params: in the tree of `from_torch_model`.
        like: the model, its state dict or file: it shows which layers are recurrent and have biases.

    Raises:
        TypeError, ValueError: for an entry that is missing, left over or of another shape, with its name.
    """
    tree = theirs(params, _model(like, "tanh"))
    return {".".join(path): np.array(leaf) for path, leaf in flatten_dict(tree).items()}


def _model(source: Any, nonlinearity: str | None) -> Model:
    modules: Mapping[str, Any] = {}
    if hasattr(source, "named_modules"):
        modules = dict(source.named_modules(remove_duplicate=False))
        source = source.state_dict()
    _only_known(modules)
    entries = read(source)
    layers: dict[Path, Layer] = {}
    for path in dict.fromkeys(map(_path, entries)):
        if path is not None:
            name, prefix = ".".join(map(str, path)), "".join(f"{part}." for part in path)
            inside = {
                key.removeprefix(prefix): leaf for key, leaf in entries.items() if key.startswith(prefix)
            }
            with at(name):
                layers[path] = _layer(inside, getattr(modules.get(name), "nonlinearity", nonlinearity))
    tree = unflatten_dict({tuple(name.split(".")): as_array(leaf) for name, leaf in entries.items()})
    return Model(tree, layers, "cell", ".")


def _only_known(modules: Mapping[str, Any]) -> None:
    """Recurrent modules of PyTorch itself."""
    for name, module in modules.items():
        kind = type(module)
        recurrent = {"RNNBase", "RNNCellBase"} & {base.__name__ for base in kind.__mro__}
        if recurrent and kind.__module__ != "torch.nn.modules.rnn":
            with at(name):
                raise TypeError(f"expected an LSTM, GRU or RNN of torch.nn, got a subclass, {kind.__name__}.")


def _path(name: str) -> Path | None:
    """Where the recurrent module lies that an entry belongs to, if it does to any."""
    *path, last = name.split(".")
    if ENTRY.fullmatch(last) or _OF_A_CELL.fullmatch(last):
        return tuple(path)
    if any(map(_RECURRENT.fullmatch, name.split("."))):
        raise ValueError(
            f"{name}: expected the weights of an LSTM, GRU or RNN as they are, got those of a"
            " reparametrisation; remove it first (torch.nn.utils.remove_weight_norm and the like)."
        )
    return None


def _layer(entries: Mapping[str, Any], nonlinearity: str | None) -> Layer:
    """A recurrent module, from its own entries. Those of a cell lack the number of the layer."""
    end = "" if any(map(ENTRY.fullmatch, entries)) else "_l0"
    numbered = {name + end * bool(_OF_A_CELL.fullmatch(name)): leaf for name, leaf in entries.items()}
    cell, params = from_entries(numbered, nonlinearity)
    bias = any(name.startswith("bias") for name in entries)

    def back(params: Params) -> dict[str, np.ndarray]:
        weights = to_torch(cell, params, bias=bias)
        return {name.removesuffix(end): leaf for name, leaf in weights.items()}

    return Layer(cell, params, back)
