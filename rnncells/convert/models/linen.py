"""Models in Flax linen: their variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rnncells import checks
from rnncells.cell import Cell, Params, plain
from rnncells.convert.linen import from_linen, is_cell, to_linen
from rnncells.convert.models.tree import Layer, Model, Path, Tree, at, get, nested, ours, theirs


def from_linen_model(variables: Mapping[str, Any]) -> tuple[dict[str, Cell], Params]:
    """Every recurrent cell in the variables of a linen model as a cell, and the variables.

        cells, ours = from_linen_model(variables)
        layer = rnncells.linen.RNN(cells["encoder"])
        ys = layer.apply({"params": ours["params"]["encoder"]}, xs)

    Where a recurrent layer was lies `{"cell": its params}`, the tree of a `rnncells.linen.RNN` or `RNNCell`;
    all else stays. So the model with `self.encoder = rnncells.linen.RNN(LSTM(8))` in place of
    `flax.linen.RNN(flax.linen.LSTMCell(8))` applies to the result. A cell that is made in a compact method
    is named by Flax itself: `rnncells.linen.RNN(LSTM(8), name="LSTMCell_0")` then takes its place.

    Args:
        variables: with the collection `params` (other collections stay), or that collection alone. The
            names of the dense layers show the cells: see `from_linen` for what they do not show. A cell of
            your own looks like any module and stays; one that looks like Flax's and is not is refused. A
            cell that is alone under the name `cell` is taken for that of a `flax.linen.RNN`.

    Returns:
        The cells by the names of their layers, such as "decoder/LSTMCell_0", and the variables.

    Raises:
        TypeError, ValueError: with the name of the layer, for what `from_linen` refuses.
    """
    params = _params(variables)
    cells, made = ours(_model(params))
    return cells, made if params is variables else {**variables, "params": made}


def to_linen_model(params: Params, like: Mapping[str, Any]) -> Params:
    """The variables of a linen model with these parameters.

        variables = to_linen_model(ours, like=variables)

    The inverse of `from_linen_model`.

    Args:
        params: what `from_linen_model` gave, other numbers in it; with the collection `params` or that alone.
        like: variables of the model, for their names.

    Raises:
        TypeError, ValueError: for an entry that is missing, left over or of another shape, with its name.
    """
    inner = _params(params)
    made = theirs(inner, _model(_params(like)))
    return made if inner is params else {**params, "params": made}


def _params(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """The collection `params`."""
    if not isinstance(variables, Mapping):
        raise TypeError(f"variables: expected those of a linen model, got {checks.describe(variables)}.")
    return variables.get("params", variables)


def _model(params: Mapping[str, Any]) -> Model:
    model = Model(plain(params), {}, "cell", "/")
    for path in cells_in(model.tree, is_cell):
        end = path_of_layer(model.tree, path)
        with at(model.name(end)):
            model.layers[end] = _layer(get(model.tree, path), path[len(end) :])
    return model


def cells_in(tree: Tree, is_cell: Callable[[Mapping[Any, Any]], bool], path: Path = ()) -> Iterator[Path]:
    """Where the dense layers of cells lie."""
    if is_cell(tree):
        yield path
        return
    for name, entry in tree.items():
        if isinstance(entry, Mapping):
            yield from cells_in(entry, is_cell, (*path, name))


def path_of_layer(tree: Tree, path: Path) -> Path:
    """Where the layer lies that a cell is of: one level up, if it is a Flax RNN's."""
    alone = path[-1:] == ("cell",) and set(get(tree, path[:-1])) <= {"cell", "rngs"}
    return path[:-1] if alone else path


def _layer(entries: Tree, inside: Path) -> Layer:
    """A cell whose entries lie at this path inside the layer."""
    cell, params = from_linen(entries)
    return Layer(cell, params, lambda params: nested(inside, to_linen(cell, params)))
