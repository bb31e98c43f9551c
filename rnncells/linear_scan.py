"""Recurrences that are linear in the state: their monoids, and the cells that use them.

A tick of such a cell is a map of the state that composes: two ticks are again one element. With
`combine` associative, all T states come out of an associative scan, in O(log T) parallel steps; or,
one after the other, out of the smallest of loops. `unroll` chooses (see `chunk_length`).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple, Protocol, final

import chex
import jax
import jax.numpy as jnp

from rnncells.cell import Carry, Cell, Weights
from rnncells.dtypes import accumulator, cast_like, dtype_of
from rnncells.ops import select


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

    def blend(self, element: DiagonalElement, rate: jax.Array) -> DiagonalElement:
        """s -> rate * s + (1 - rate) * element(s)."""
        return DiagonalElement(rate + (1 - rate) * element.decay, (1 - rate) * element.update)

    def shift(self, element: DiagonalElement, by: jax.Array) -> DiagonalElement:
        """s -> element(s) + by."""
        return element._replace(update=element.update + by)


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

    def blend(self, element: LogElement, rate: jax.Array) -> LogElement:
        """s -> rate * s + (1 - rate) * element(s)."""
        kept, new = jnp.log(rate), jnp.log1p(-rate)
        return LogElement(jnp.logaddexp(kept, new + element.log_decay), new + element.log_update)


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


def sequential(
    monoid: Monoid, elements: Any, carry: Carry, initial: Carry, fresh: jax.Array | None, reverse: bool
) -> Carry:
    """The states after every tick, one after the other; `fresh` is where the initial state comes back."""

    def tick(state: Carry, now: tuple[Any, jax.Array | None]) -> tuple[Carry, Carry]:
        element, start = now
        if start is not None:
            state = select(start, initial, state)
        state = cast_like(monoid.apply(element, state), carry)
        return state, state

    return jax.lax.scan(tick, carry, (elements, fresh), reverse=reverse)[1]


def associative(
    monoid: Monoid, elements: Any, carry: Carry, initial: Carry, fresh: jax.Array | None, reverse: bool
) -> Carry:
    """The same, all at once: the elements up to each tick are combined into one, then applied."""
    if fresh is None:
        prefix = jax.lax.associative_scan(monoid.combine, elements, reverse=reverse)
        return cast_like(jax.vmap(monoid.apply, (0, None))(prefix, carry), carry)

    def combine(earlier: tuple[jax.Array, Any], later: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        # Forget before combining: selecting afterwards would let NaN into the derivative.
        kept = select(later[0], monoid.identity(earlier[1]), earlier[1])
        return earlier[0] | later[0], monoid.combine(kept, later[1])

    forgotten, prefix = jax.lax.associative_scan(combine, (fresh, elements), reverse=reverse)
    start = jax.vmap(select, (0, None, None))(forgotten, initial, carry)
    return cast_like(jax.vmap(monoid.apply)(prefix, start), carry)


CACHE = 3 * 2**18
"""Numbers in the elements of one chunk on a CPU, by measurement (docs/performance.md, "Linear cells")."""
SHORTEST = 256
"""Ticks of a chunk below which there is no reliable gain, by measurement too."""


def size(tree: Any) -> int:
    """Numbers in all leaves together."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def chunk_length(length: int, element: Any) -> int | None:
    """How many ticks a sequential scan should take at a time on a CPU, given the element of one tick.

    Within a chunk the inputs are projected together and the loop is left with `apply`; the memory of
    chunks is used again and stays in the cache. None where a tick is so wide that there is no gain.
    """
    fits = CACHE // max(size(element), 1)
    if fits < SHORTEST:
        return None
    if 3 * length <= 4 * fits:
        return length
    even = [k for k in range(fits // 2, fits + 1) if length % k == 0]  # no shorter chunk at the end
    return even[-1] if even else fits
