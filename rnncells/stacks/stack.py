"""Layers of cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import (
    Carry,
    Cell,
    Drive,
    Inputs,
    Like,
    Out,
    Params,
    Shape,
    Timed,
    Weights,
    derived,
    locked,
)
from rnncells.fields import static
from rnncells.run import Result, Run, Scan
from rnncells.stacks.layers import input_of, layer_key, same_inputs, ticks_of_layer


def _layers(name: str, value: Any) -> None:
    if not isinstance(value, tuple) or not value:
        raise TypeError(f"{name}: expected a list of at least one cell, got {value!r}.")
    for i, cell in enumerate(value):
        checks.cell(f"{name}[{i}]", cell)


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

    paper = "Schmidhuber 1992, doi 10.1162/neco.1992.4.2.234; Graves 2013, arXiv 1308.0850"

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
        same_inputs("Stack.cells", self.cells)

    @derived
    def input_ndim(self) -> int:
        return self.cells[0].input_ndim

    @property
    def output_size(self) -> int:
        sizes = [cell.output_size for cell in self.cells]
        return sum(sizes) if self.skip else sizes[-1]

    @property
    def layered(self) -> bool:
        return True

    @derived
    def timed(self) -> bool:
        return any(cell.timed for cell in self.cells)

    @derived
    def blendable(self) -> bool:
        return all(cell.blendable for cell in self.cells)

    @property
    def children(self) -> Mapping[str, Cell]:
        return {f"layer_{i}": cell for i, cell in enumerate(self.cells)}

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        keys = jax.random.split(key, len(self.cells))
        return {
            name: cell.init(layer_key, size, dtype)
            for (name, cell), layer_key, size in zip(
                self.children.items(), keys, self._sizes(input_size), strict=True
            )
        }

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> Carry:
        return tuple(
            cell.initial_carry(None if params is None else params[name], batch_shape, like=below)
            for (name, cell), below in zip(self.children.items(), self._likes(like), strict=True)
        )

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        return {
            name: cell.prepare(params[name], layer_key(locked(key), i), batch_shape, like=below)
            for i, ((name, cell), below) in enumerate(
                zip(self.children.items(), self._likes(like), strict=True)
            )
        }

    def project(self, weights: Weights, x: Inputs, key: chex.PRNGKey | None = None) -> Drive:
        return StackDrive(x, key)

    def step(self, weights: Weights, carry: Carry, drive: StackDrive) -> tuple[Carry, Out]:
        carries: list[Carry] = []
        ys: list[Any] = []
        for i, (cell, state) in enumerate(zip(self.cells, carry, strict=True)):
            own = weights[f"layer_{i}"]
            of_layer = cell.project(own, self._input(i, drive.x, ys), layer_key(drive.key, i))
            state, out = cell.step(own, state, of_layer)
            carries.append(state)
            ys.append(cell.readout(own, out, of_layer))
        return tuple(carries), self._output(ys)

    def over(self, scan: Scan, run: Run) -> Result:
        results: list[Result] = []
        for i, (name, cell) in enumerate(self.children.items()):
            x = self._input(i, run.ticks.x, [result.ys for result in results])
            own = dataclasses.replace(
                run,
                weights=run.weights[name],
                initial=run.initial[i],
                carry=run.carry[i],
                ticks=ticks_of_layer(run.ticks, x, i),
            )
            results.append(cell.over(scan, own))
        carry, ys, carries = (tuple(parts) for parts in zip(*results, strict=True))
        return Result(carry, self._output(list(ys)), carries)

    def _sizes(self, input_size: int) -> list[int]:
        """The width of each layer's input."""
        more = input_size if self.skip else 0
        return [input_size, *(cell.output_size + more for cell in self.cells[:-1])]

    def _likes(self, like: Any) -> list[Any]:
        """The input of each layer, as shapes and dtypes."""
        if like is None:
            return [None] * len(self.cells)
        first = jax.tree.leaves(like)[0]
        below = [like] + [
            jax.ShapeDtypeStruct((*first.shape[:-1], size), first.dtype)
            for size in self._sizes(first.shape[-1])[1:]
        ]
        return [input_of(cell, like, own) for cell, own in zip(self.cells, below, strict=True)]

    def _input(self, layer: int, x: Any, ys: list[Any]) -> Any:
        below = ys[-1] if ys else x
        if ys and self.skip:
            below = jnp.concatenate([x.x if isinstance(x, Timed) else x, below], -1)
        return input_of(self.cells[layer], x, below)

    def _output(self, ys: list[Any]) -> Any:
        return jnp.concatenate(ys, -1) if self.skip else ys[-1]
