"""Cells that are linear in their state: `project` makes elements of a monoid, `readout` reads states."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Literal, NamedTuple, final

import jax
import jax.numpy as jnp

from rnncells.cell import Carry, Cell, Drive, Like, Out, Outputs, Params, Shape, Weights
from rnncells.dtypes import accumulator, computes_in, dtype_of
from rnncells.linear_scan import Diagonal, Monoid


class LinearDrive(NamedTuple):
    """What `project` of a linear cell returns."""

    element: Any
    """The monoid element of the tick: leaves [*B, ...] in the dtype of the accumulator."""
    extra: Any = None
    """Whatever `read` and `readout` need besides the state."""


def with_element(drive: Any, element: Any) -> Any:
    """The drive of a linear cell with another element. The drives of wrappers have the cell's inside."""
    if hasattr(drive, "inner"):
        return drive._replace(inner=with_element(drive.inner, element))
    return drive._replace(element=element)


class LinearCell(Cell):
    """A cell whose `step` is its monoid: one definition runs tick by tick, by associative scan and in chunks.

    States and elements are float32 (or wider) whatever the parameters are, because a decay such
    as 0.999 rounds to 1 in bfloat16; `readout` returns to the dtype of the weights.
    """

    linear: ClassVar[bool] = True
    reads: ClassVar[Literal["after", "before"]] = "after"
    """Which state a tick reads: the one that it leaves, or the one that it found."""
    associative: ClassVar[bool] = True
    """Whether an associative scan is ever worth it; where it is not, `parallel=None` never takes it."""
    chunk_size: ClassVar[int | None] = None
    """Ticks that `chunk` takes at once, for cells that bring a form of their own for many ticks."""

    @property
    def monoid(self) -> Monoid:
        return Diagonal()

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> Carry:
        return jnp.zeros((*batch_shape, self.output_size), accumulator(dtype_of(params, like)))

    @final
    def step(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Out]:
        state = self.monoid.apply(drive.element, carry)
        return state, self.read(weights, state if self.reads == "after" else carry, drive)

    def read(self, weights: Weights, state: Carry, drive: Drive) -> Any:
        """What `readout` needs of a state, such as a query's view of a matrix; pointwise in time."""
        return state

    def chunk(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Out]:
        """Many ticks of `step` at once: leaves of the drive are [C, *B, ...] -> (the state after them, what
        `read` gives at each). Tick by tick; cells that set `chunk_size` have a faster way."""
        return jax.lax.scan(functools.partial(self.step, weights), carry, drive)

    def readout(self, weights: Weights, out: Out, drive: Drive) -> Outputs:
        return out.astype(computes_in(weights))
