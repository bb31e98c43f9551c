"""Recurrences that are linear in the state: their monoids, and the cells that use them.

A tick of such a cell is a map of the state that composes: two ticks are again one element. With
`combine` associative, all T states come out of an associative scan, in O(log T) parallel steps.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol, final

import chex
import jax
import jax.numpy as jnp

from rnncells.cell import Carry, Cell, Weights
from rnncells.dtypes import accumulator, dtype_of


class Monoid(Protocol):
    """Elements that act on a state, one per tick."""

    def identity(self, like: Any) -> Any:
        """The element that leaves a state as it is, in the shapes and dtypes of `like`."""

    def combine(self, earlier: Any, later: Any) -> Any:
        """One element that does what `earlier`, then `later` do. Associative."""

    def apply(self, element: Any, state: Any) -> Any:
        """The state after the element."""


class DiagonalElement(NamedTuple):
    """s -> decay * s + update, elementwise; both [..., H]."""

    decay: jax.Array
    update: jax.Array


class Diagonal:
    """s' = a * s + b."""

    def identity(self, like: DiagonalElement) -> DiagonalElement:
        return DiagonalElement(jnp.ones_like(like.decay), jnp.zeros_like(like.update))

    def combine(self, earlier: DiagonalElement, later: DiagonalElement) -> DiagonalElement:
        return DiagonalElement(later.decay * earlier.decay, later.decay * earlier.update + later.update)

    def apply(self, element: DiagonalElement, state: jax.Array) -> jax.Array:
        return element.decay * state + element.update


class LogElement(NamedTuple):
    """s -> exp(log_decay) * s + exp(log_update), elementwise; both [..., H]."""

    log_decay: jax.Array
    log_update: jax.Array


class LogSpace:
    """s' = a * s + b with a, b > 0, composed by their logarithms: long products neither vanish
    nor overflow on the way. The state itself is stored as it is, not as a logarithm."""

    def identity(self, like: LogElement) -> LogElement:
        return LogElement(jnp.zeros_like(like.log_decay), jnp.full_like(like.log_update, -jnp.inf))

    def combine(self, earlier: LogElement, later: LogElement) -> LogElement:
        return LogElement(
            earlier.log_decay + later.log_decay,
            jnp.logaddexp(later.log_decay + earlier.log_update, later.log_update),
        )

    def apply(self, element: LogElement, state: jax.Array) -> jax.Array:
        return jnp.exp(element.log_decay) * state + jnp.exp(element.log_update)


class LinearDrive(NamedTuple):
    """What `project` of a linear cell returns."""

    element: Any
    """The monoid element of the tick: leaves [*B, ...] in the dtype of the accumulator."""
    extra: Any = None
    """Whatever `readout` needs besides the state."""


class LinearCell(Cell):
    """A cell whose `step` is its monoid: `project` makes elements, `readout` reads states.

    States and elements are float32 (or wider) whatever the parameters are, because a decay such
    as 0.999 rounds to 1 in bfloat16; `readout` returns to the dtype of the weights.
    """

    linear: ClassVar[bool] = True

    @property
    def monoid(self) -> Monoid:
        return Diagonal()

    def initial_carry(self, params: chex.ArrayTree, batch_shape: tuple[int, ...] = ()) -> Carry:
        return jnp.zeros((*batch_shape, self.output_size), accumulator(dtype_of(params)))

    @final
    def step(self, weights: Weights, carry: Carry, drive: LinearDrive) -> tuple[Carry, Any]:
        state = self.monoid.apply(drive.element, carry)
        return state, state

    def readout(self, weights: Weights, out: Any, drive: LinearDrive) -> Any:
        return out.astype(dtype_of(weights))
