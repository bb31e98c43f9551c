"""Models in Flax nnx: a module, its state or its pure dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flax import nnx

from rnncells import checks
from rnncells.cell import Cell, Params, plain
from rnncells.convert.models.linen import cells_in, path_of_layer
from rnncells.convert.models.tree import Layer, Model, Path, Tree, at, get, nested, ours, put, theirs
from rnncells.convert.nnx import from_nnx, is_cell, to_nnx


def from_nnx_model(model: nnx.Module | Mapping[Any, Any]) -> tuple[dict[str, Cell], Params]:
    """Every recurrent cell in an nnx model as a cell, and the state of the model as a pure dict.

        cells, params = from_nnx_model(model)
        layer = rnncells.nnx.RNN(cells["encoder"], 4, rngs=rngs)
        nnx.update(layer, params["encoder"])

    Where a recurrent layer was lies `{"cell_params": its params}`, the tree of a `rnncells.nnx.RNN` or
    `RNNCell`; all else stays. So `nnx.update` takes the result into the model with
    `rnncells.nnx.RNN(LSTM(8), ...)` in place of each `nnx.RNN(nnx.LSTMCell(...))`.

    Args:
        model: a module, which shows activations; or its state or pure dict, which do not: see `from_nnx`.
            There a cell that is alone under the name `cell` is taken for that of an `nnx.RNN`.

    Returns:
        The cells by the paths of their layers, such as "layers/0", and a pure dict of all of the state, but
        for the random numbers of the layers that are replaced.

    Raises:
        TypeError, ValueError: with the path of the layer, for what `from_nnx` refuses, and for recurrent
            cells of other classes (if they only hold cells of Flax, give the state).
    """
    return ours(_model(model))


def to_nnx_model(params: Params, like: nnx.Module | Mapping[Any, Any]) -> Params:
    """The state of an nnx model with these parameters, as a pure dict.

        nnx.update(model, to_nnx_model(params, like=model))

    The inverse of `from_nnx_model`.

    Args:
        params: in the tree of `from_nnx_model`.
        like: the model, its state or pure dict, for its paths.

    Raises:
        TypeError, ValueError: for an entry that is missing, left over or of another shape, with its path.
    """
    return theirs(params, _model(like))


def _model(source: nnx.Module | Mapping[Any, Any]) -> Model:
    state: Any = nnx.state(source) if isinstance(source, nnx.Module) else source
    if not isinstance(state, Mapping):
        raise TypeError(f"model: expected an nnx module or its state, got {checks.describe(source)}.")
    model = Model(plain(state), {}, "cell_params", "/")
    modules: dict[Path, Any] = {}
    if isinstance(source, nnx.Module):
        modules.update(nnx.iter_modules(source))
    tree = model.tree
    for path in _cells(tree, modules):
        end = path_of_layer(tree, path)
        if modules and not isinstance(modules.get(end), nnx.RNN):
            end = path
        inside = path[len(end) :]
        entries = {name: leaves for name, leaves in get(tree, path).items() if name != "rngs"}
        with at(model.name(end)):
            model.layers[end] = _layer(modules.get(path, entries), entries, inside)
        model = model._replace(tree=put(model.tree, end, nested(inside, entries)))
    return model


def _cells(tree: Tree, modules: Mapping[Path, Any]) -> Iterator[Path]:
    """Where cells lie: modules, where they are known, but for those that hold a cell of this library."""
    if not modules:
        yield from cells_in(tree, is_cell)
    for path, module in modules.items():
        if isinstance(module, nnx.RNNCellBase) and not isinstance(getattr(module, "cell", None), Cell):
            yield path


def _layer(cell_or_entries: Any, entries: Tree, inside: Path) -> Layer:
    """A cell whose entries lie at this path inside the layer."""
    cell, params = from_nnx(cell_or_entries)
    optimized = "dense_h" in entries
    return Layer(cell, params, lambda params: nested(inside, to_nnx(cell, params, optimized=optimized)))
