"""Both directions of time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Carry, Cell, Drive, Inputs, Like, Out, Params, Shape, Weights, derived, locked
from rnncells.fields import choice, inner
from rnncells.run import Result, Run, Scan
from rnncells.stacks.layers import input_of, layer_key, same_inputs, ticks_of_layer


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

    paper = "Schuster & Paliwal 1997, doi 10.1109/78.650093"

    forward: Cell = inner()
    backward: Cell | None = inner(default=None)
    merge: str = choice(*_MERGES, default="concat")

    def __post_init__(self) -> None:
        super().__post_init__()
        same_inputs("Bidirectional.backward", self._both)
        sizes = [cell.output_size for cell in self._both if isinstance(cell, Cell)]
        if self.merge != "concat" and len(set(sizes)) > 1:
            raise ValueError(
                f"Bidirectional.merge: expected equal output sizes for {self.merge!r}, got {sizes}."
            )

    @property
    def _both(self) -> tuple[Cell, Cell]:
        return self.forward, self.forward if self.backward is None else self.backward

    @property
    def children(self) -> Mapping[str, Cell]:
        return dict(zip(BidirectionalCarry._fields, self._both, strict=True))

    @derived
    def input_ndim(self) -> int:
        return self.forward.input_ndim

    @derived
    def timed(self) -> bool:
        return any(cell.timed for cell in self._both)

    @property
    def output_size(self) -> int:
        sizes = [cell.output_size for cell in self._both]
        return sum(sizes) if self.merge == "concat" else sizes[0]

    @property
    def layered(self) -> bool:
        return True

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        keys = jax.random.split(key)
        return {
            name: cell.init(k, input_size, dtype)
            for (name, cell), k in zip(self.children.items(), keys, strict=True)
        }

    def initial_carry(
        self, params: Params = None, batch_shape: Shape = (), like: Like = None
    ) -> BidirectionalCarry:
        return BidirectionalCarry(
            *(
                cell.initial_carry(
                    None if params is None else params[name], batch_shape, like=input_of(cell, like, like)
                )
                for name, cell in self.children.items()
            )
        )

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        return {
            name: cell.prepare(
                params[name], layer_key(locked(key), i), batch_shape, like=input_of(cell, like, like)
            )
            for i, (name, cell) in enumerate(self.children.items())
        }

    def project(self, weights: Weights, x: Inputs, key: chex.PRNGKey | None = None) -> Drive:
        raise TypeError(
            "Bidirectional: a layer that reads both ways has no single tick; run it over whole sequences with"
            " unroll, linen.RNN or nnx.RNN, alone or in a Stack."
        )

    def step(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Out]:
        return self.project(weights, drive)  # refuses

    def over(self, scan: Scan, run: Run) -> Result:
        ends = []
        for i, (name, cell) in enumerate(self.children.items()):
            own = dataclasses.replace(
                run,
                weights=run.weights[name],
                initial=run.initial[i],
                carry=run.carry[i],
                ticks=ticks_of_layer(run.ticks, input_of(cell, run.ticks.x, run.ticks.x), i),
                reverse=run.reverse != bool(i),
            )
            ends.append(cell.over(scan, own))
        forward, backward = ends
        return Result(
            BidirectionalCarry(forward.carry, backward.carry),
            _MERGES[self.merge](forward.ys, backward.ys),
            BidirectionalCarry(forward.carries, backward.carries),
        )
