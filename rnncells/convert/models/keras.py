"""Keras models: layers in layers."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from rnncells import checks
from rnncells.cell import Cell, Params
from rnncells.convert.keras import from_keras, to_keras
from rnncells.convert.models.tree import Layer, Model, Path, Tree, at, ours, theirs


def from_keras_model(model: Any) -> tuple[dict[str, Cell], Params]:
    """Every recurrent layer in a Keras model as a cell, and the arrays of the model.

        cells, params = from_keras_model(model)
        layer = rnncells.linen.RNN(cells["encoder"])
        ys = layer.apply({"params": params["encoder"]}, xs)

    The same model in Flax, with layers of the same names, finds its recurrent parameters in place: at the
    path of a layer lies `{"cell": its params}`, the tree of a `rnncells.linen.RNN`. All other arrays lie
    under the names of their layers and their own (`params["head"]["kernel"]`).

    Args:
        model: a built model; models and layers within it are gone through. `from_keras` says what of a layer
            belongs to its call, and is left behind.

    Returns:
        The cells by the names of their layers, such as "decoder/lstm", and a nested dict of NumPy arrays.

    Raises:
        TypeError, ValueError: with the name of the layer, for what `from_keras` refuses, and for recurrent
            layers and cells of other classes; for two entries of one name.
    """
    return ours(_model(model))


def to_keras_model(params: Params, like: Any) -> list[np.ndarray]:
    """The arrays of a Keras model with these parameters, in the order of its weights.

        model.set_weights(to_keras_model(params, like=model))

    The inverse of `from_keras_model`.

    Args:
        params: in the tree of `from_keras_model`.
        like: the model.

    Raises:
        TypeError, ValueError: for an entry that is missing, left over or of another shape, with its name.
    """
    arrays = flatten_dict(theirs(params, _model(like)))
    places = {id(weight): path for path, weight in flatten_dict(_weights(like)[0]).items()}
    return [np.array(arrays[places[id(weight)]]) for weight in like.weights]


def _model(model: Any) -> Model:
    if not hasattr(model, "_flatten_layers"):
        raise TypeError(f"model: expected a Keras model, got {checks.describe(model)}.")
    if not model.weights:
        raise ValueError(f"model: expected a built model, got {model.name} without weights.")
    weights, recurrent = _weights(model)
    made = Model(jax.tree.map(lambda weight: np.array(weight.numpy()), weights), {}, "cell", "/")
    for path, layer in recurrent.items():
        with at(made.name(path)):
            made.layers[path] = _layer(layer)
    return made


def _weights(layer: Any, path: Path = ()) -> tuple[Tree, dict[Path, Any]]:
    """The variables of a layer, nested by the names of the layers in it, and the recurrent ones of these by
    their paths."""
    if _is_recurrent(layer):
        return {str(k): weight for k, weight in enumerate(layer.weights)}, {path: layer}
    parts: list[tuple[str, Any]] = []
    recurrent: dict[Path, Any] = {}
    inner = layer._flatten_layers(include_self=False, recursive=False)
    for child in inner:
        if child.weights or _is_recurrent(child):
            weights, found = _weights(child, (*path, child.name))
            parts.append((child.name, weights))
            recurrent |= found
    elsewhere = {id(weight) for child in inner for weight in child.weights}
    parts += [(weight.name, weight) for weight in layer.weights if id(weight) not in elsewhere]
    tree = dict(parts)
    if len(tree) < len(parts):
        twice = [name for k, (name, _) in enumerate(parts) if name in dict(parts[:k])]
        where = "/".join(map(str, path)) or layer.name
        raise ValueError(f"model: expected different names in {where}, got {twice[0]} twice.")
    return tree, recurrent


def _is_recurrent(layer: Any) -> bool:
    """Whether it is a recurrent layer, a cell, or a Bidirectional, also of a class of the user's own."""
    return hasattr(layer, "state_size") or "Bidirectional" in {base.__name__ for base in type(layer).__mro__}


def _layer(layer: Any) -> Layer:
    cell, params = from_keras(layer)
    bias = len(layer.weights) % 3 == 0

    def back(params: Params) -> Tree:
        return {str(k): leaf for k, leaf in enumerate(to_keras(cell, params, bias=bias))}

    return Layer(cell, params, back)
