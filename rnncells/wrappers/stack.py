"""Cells over cells: stacks of layers, and both directions of time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.cell import Carry, Cell, Drive, Params, Scan, Ticks, Weights, inner, locked, static


def _layer_key(key: chex.PRNGKey | None, layer: int) -> chex.PRNGKey | None:
    return None if key is None else jax.random.fold_in(key, layer)


def _ticks_of_layer(ticks: Ticks, x: Any, layer: int) -> Ticks:
    """What a layer sees of a sequence: its own input, and noise of its own."""
    key = None if ticks.key is None else jax.vmap(_layer_key, (0, None))(ticks.key, layer)
    return ticks._replace(x=x, key=key)


def _same_inputs(name: str, cells: Any) -> None:
    given = [cell for cell in cells or () if isinstance(cell, Cell)] if isinstance(cells, tuple) else []
    if len({cell.input_ndim for cell in given}) > 1:
        raise ValueError(
            f"{name}: expected cells that take inputs with equally many axes, got"
            f" {', '.join(f'{cell} ({cell.input_ndim})' for cell in given)}."
        )


def _optional(name: str, value: Any) -> None:
    if value is not None:
        checks.cell(name, value, Cell)


def _layers(name: str, value: Any) -> None:
    if not isinstance(value, tuple) or not value:
        raise TypeError(f"{name}: expected a list of at least one cell, got {value!r}.")
    for i, cell in enumerate(value):
        checks.cell(f"{name}[{i}]", cell, Cell)


class StackDrive(NamedTuple):
    """The input of a tick and its key: all layers but the first see what a step makes."""

    x: Any
    key: chex.PRNGKey | None


class Stack(Cell):
    """Layers of cells, each reading the outputs of the one below.

        y_1 = f_1(x),    y_l = f_l(y_(l-1)),    y = y_n                              skip=False
        y_1 = f_1(x),    y_l = f_l([x; y_(l-1)]),    y = [y_1; ...; y_n]             skip=True

    It acts tick by tick as one cell; `unroll` runs it layer by layer, each layer with its own best scan
    (in parallel where that layer is linear), with the same result. Layers may differ in kind and width,
    and be wrapped, or stacks themselves.

    Params: {"layer_0": ..., "layer_1": ...}; carry: a tuple of the layers' carries.

    Args:
        cells: the layers, from the input up; a list or tuple of cells.
        skip: connections from the input to all layers and from all layers to the output.

    Source: stacking Schmidhuber 1992, doi 10.1162/neco.1992.4.2.234; skip connections Graves 2013, arXiv
    1308.0850.
    """

    paper: ClassVar[str] = "Schmidhuber 1992, doi 10.1162/neco.1992.4.2.234; Graves 2013, arXiv 1308.0850"

    cells: Sequence[Cell] = flax.struct.field(metadata={"check_in_use": _layers})
    skip: bool = static(default=False)

    def __post_init__(self) -> None:
        if isinstance(self.cells, list):
            object.__setattr__(self, "cells", tuple(self.cells))
        if isinstance(self.cells, Cell) or self.cells == ():
            _layers("Stack.cells", self.cells)
        super().__post_init__()
        for i, cell in enumerate(self.cells if isinstance(self.cells, tuple) else ()):
            checks.not_a_class(f"Stack.cells[{i}]", cell)
        _same_inputs("Stack.cells", self.cells)

    @property
    def input_ndim(self) -> int:  # type: ignore[override]
        return self.cells[0].input_ndim

    @property
    def output_size(self) -> int:
        sizes = [cell.output_size for cell in self.cells]
        return sum(sizes) if self.skip else sizes[-1]

    @property
    def layered(self) -> bool:
        return True

    def init(self, key: chex.PRNGKey, input_size: int, dtype: Any = jnp.float32) -> Params:
        params, below = {}, input_size
        for i, (cell, layer_key) in enumerate(
            zip(self.cells, jax.random.split(key, len(self.cells)), strict=True)
        ):
            params[f"layer_{i}"] = cell.init(layer_key, below, dtype)
            below = cell.output_size + (input_size if self.skip else 0)
        return params

    def initial_carry(self, params: Params, batch_shape: tuple[int, ...] = ()) -> Carry:
        return tuple(
            cell.initial_carry(params[f"layer_{i}"], batch_shape) for i, cell in enumerate(self.cells)
        )

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: tuple[int, ...] = ()
    ) -> Weights:
        return {
            f"layer_{i}": cell.prepare(params[f"layer_{i}"], _layer_key(locked(key), i), batch_shape)
            for i, cell in enumerate(self.cells)
        }

    def project(self, weights: Weights, x: Any, key: chex.PRNGKey | None = None) -> Drive:
        return StackDrive(x, key)

    def step(self, weights: Weights, carry: Carry, drive: StackDrive) -> tuple[Carry, Any]:
        carries: list[Carry] = []
        ys: list[Any] = []
        for i, (cell, state) in enumerate(zip(self.cells, carry, strict=True)):
            own = weights[f"layer_{i}"]
            of_layer = cell.project(own, self._input(drive.x, ys), _layer_key(drive.key, i))
            state, out = cell.step(own, state, of_layer)
            carries.append(state)
            ys.append(cell.readout(own, out, of_layer))
        return tuple(carries), self._output(ys)

    def over(
        self, scan: Scan, weights: Weights, initial: Carry, carry: Carry, ticks: Ticks, reverse: bool
    ) -> tuple[Carry, Any, Any]:
        lasts: list[Carry] = []
        ys: list[Any] = []
        carries: list[Carry] = []
        for i, (cell, start, state) in enumerate(zip(self.cells, initial, carry, strict=True)):
            of_layer = _ticks_of_layer(ticks, self._input(ticks.x, ys), i)
            last, y, states = cell.over(scan, weights[f"layer_{i}"], start, state, of_layer, reverse)
            lasts.append(last)
            ys.append(y)
            carries.append(states)
        return tuple(lasts), self._output(ys), tuple(carries)

    def _input(self, x: Any, ys: list[Any]) -> Any:
        if not ys:
            return x
        return jnp.concatenate([x, ys[-1]], -1) if self.skip else ys[-1]

    def _output(self, ys: list[Any]) -> Any:
        return jnp.concatenate(ys, -1) if self.skip else ys[-1]


class BidirectionalCarry(NamedTuple):
    """The states of the two directions."""

    forward: Carry
    backward: Carry


_MERGES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "concat": lambda a, b: jnp.concatenate([a, b], -1),
    "sum": jnp.add,
    "mul": jnp.multiply,
    "ave": lambda a, b: (a + b) / 2,
}


def _merge(name: str, value: Any) -> None:
    if value not in _MERGES:
        raise ValueError(f"{name}: expected one of {', '.join(_MERGES)}, got {value!r}.")


class Bidirectional(Cell):
    """A layer that reads a sequence in both directions.

        y_t = [f(x_1 .. x_t); g(x_T .. x_t)]            merge="concat"

    Each sequence is read backwards from its own end (`lengths`, `mask`), each packed segment (`resets`) from
    its own. It takes every option of `unroll` and the place of a cell in `linen.RNN`, `nnx.RNN` and
    `Stack`: `Stack([Bidirectional(LSTM(64)), Bidirectional(LSTM(64))])`; but it has no single tick, because
    the future is needed.

    Params: {"forward": ..., "backward": ...}; carry `BidirectionalCarry`: the forward state after the last
    tick and the backward state after the first.

    Args:
        forward: the cell that reads from the beginning.
        backward: the cell that reads from the end; by default one like `forward` with its own parameters.
        merge: "concat", "sum", "mul" or "ave".

    Source: Schuster & Paliwal 1997, doi 10.1109/78.650093.
    """

    paper: ClassVar[str] = "Schuster & Paliwal 1997, doi 10.1109/78.650093"

    forward: Cell = inner()
    backward: Cell | None = flax.struct.field(
        default=None, metadata={"check": checks.not_a_class, "check_in_use": _optional}
    )
    merge: str = static(default="concat", check=_merge)

    def __post_init__(self) -> None:
        super().__post_init__()
        _same_inputs("Bidirectional.backward", self._both)
        sizes = [cell.output_size for cell in self._both if isinstance(cell, Cell)]
        if self.merge != "concat" and len(set(sizes)) > 1:
            raise ValueError(
                f"Bidirectional.merge: expected equal output sizes for {self.merge!r}, got {sizes}."
            )

    @property
    def _both(self) -> tuple[Cell, Cell]:
        return self.forward, self.forward if self.backward is None else self.backward

    @property
    def input_ndim(self) -> int:  # type: ignore[override]
        return self.forward.input_ndim

    @property
    def output_size(self) -> int:
        sizes = [cell.output_size for cell in self._both]
        return sum(sizes) if self.merge == "concat" else sizes[0]

    @property
    def layered(self) -> bool:
        return True

    def init(self, key: chex.PRNGKey, input_size: int, dtype: Any = jnp.float32) -> Params:
        keys = jax.random.split(key)
        forward, backward = (
            cell.init(k, input_size, dtype) for cell, k in zip(self._both, keys, strict=True)
        )
        return {"forward": forward, "backward": backward}

    def initial_carry(self, params: Params, batch_shape: tuple[int, ...] = ()) -> BidirectionalCarry:
        forward, backward = self._both
        return BidirectionalCarry(
            forward.initial_carry(params["forward"], batch_shape),
            backward.initial_carry(params["backward"], batch_shape),
        )

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: tuple[int, ...] = ()
    ) -> Weights:
        forward, backward = self._both
        return {
            "forward": forward.prepare(params["forward"], _layer_key(locked(key), 0), batch_shape),
            "backward": backward.prepare(params["backward"], _layer_key(locked(key), 1), batch_shape),
        }

    def project(self, weights: Weights, x: Any, key: chex.PRNGKey | None = None) -> Drive:
        raise TypeError(
            "Bidirectional: a layer that reads both ways has no single tick; run it over whole sequences with"
            " unroll, linen.RNN or nnx.RNN, alone or in a Stack."
        )

    def step(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Any]:
        return self.project(weights, drive)  # refuses

    def over(
        self, scan: Scan, weights: Weights, initial: Carry, carry: Carry, ticks: Ticks, reverse: bool
    ) -> tuple[Carry, Any, Any]:
        ends = []
        for i, cell in enumerate(self._both):
            own = (weights[BidirectionalCarry._fields[i]], initial[i], carry[i])
            ends.append(cell.over(scan, *own, _ticks_of_layer(ticks, ticks.x, i), reverse != bool(i)))
        (last, ys, states), (first, ys_back, states_back) = ends
        merged = _MERGES[self.merge](ys, ys_back)
        return BidirectionalCarry(last, first), merged, BidirectionalCarry(states, states_back)
