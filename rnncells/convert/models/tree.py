"""A model as a nested dict of arrays, with recurrent layers at some of its paths."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from flax.traverse_util import flatten_dict

from rnncells.cell import Cell, Params, plain
from rnncells.convert.arrays import names, shapes

Path: TypeAlias = tuple[Hashable, ...]  # strings, and numbers in lists of nnx
Tree: TypeAlias = Any  # a nested dict of arrays


class Layer(NamedTuple):
    """A recurrent layer of another library."""

    cell: Cell
    params: Params
    back: Callable[[Params], Tree]
    """Makes the layer's own entries of our parameters."""


class Model(NamedTuple):
    """The tree of a model of another library."""

    tree: Tree
    layers: dict[Path, Layer]
    level: str
    """Under which an adapter of `rnncells.linen` or `rnncells.nnx` has its parameters."""
    separator: str
    """Between the parts of a name."""

    def name(self, path: Path) -> str:
        return self.separator.join(map(str, path))


def ours(model: Model) -> tuple[dict[str, Cell], Params]:
    """The cells by name, and the tree with their parameters in place of the layers' entries."""
    tree = model.tree
    for path, layer in model.layers.items():
        tree = put(tree, path, {model.level: layer.params})
    return {model.name(path): layer.cell for path, layer in model.layers.items()}, tree


def theirs(params: Params, like: Model) -> Tree:
    """The inverse: the tree of a model that is laid out like another."""
    made = plain(params)
    for path, layer in like.layers.items():
        with at(like.name(path)):
            entries = get(made, path)
            names("params", [like.level], entries if isinstance(entries, Mapping) else [])
            made = put(made, path, layer.back(entries[like.level]))
    got, expected = (
        {like.name(path): leaf for path, leaf in flatten_dict(tree).items()} for tree in (made, like.tree)
    )
    names("params", expected, got)
    shapes(got, {name: np.shape(leaf) for name, leaf in expected.items()})
    return made


def get(tree: Tree, path: Path) -> Tree:
    """What lies at a path."""
    for name in path:
        if not isinstance(tree, Mapping) or name not in tree:
            raise ValueError("params: missing.")
        tree = tree[name]
    return tree


def put(tree: Tree, path: Path, value: Tree) -> Tree:
    """A copy with another value at a path."""
    if not path:
        return value
    first, *rest = path
    return {**tree, first: put(tree[first], tuple(rest), value)}


def nested(path: Path, tree: Tree) -> Tree:
    """A tree at a path of its own."""
    for name in reversed(path):
        tree = {name: tree}
    return tree


@contextlib.contextmanager
def at(name: str) -> Iterator[None]:
    """Puts the name of a layer before a complaint."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name or 'the model itself'}: {error}") from error
