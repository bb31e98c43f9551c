"""Recurrences that are linear in the state, as monoids: what one tick does to it, and how ticks compose.

A tick of a linear cell is an *element*, a map of the state: two ticks, one after the other, are again one
element. With `combine` associative, all T states come out of an associative scan, in O(log T) parallel
steps; or, one after the other, out of the smallest of loops. `unroll` chooses.

    Diagonal         s' = a s + b, elementwise
    LogSpace         the same for positive a and b, by their logarithms
    Matrix           S' = A S + B
    RankOne          S' = a (S - l r^T S) + l v^T: a matrix that the loop never forms
    RunningMaximum   s' = e^f s + e^i v with the largest exponent so far taken out of s
    Shift            the last K inputs

Leaves of an element have as many axes as the part of the state that they meet; those that are the same along
an axis may have size 1 there (a decay [*B, h, 1, 1] of a state [*B, h, K, V], a constant [1, H]).
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Monoid(abc.ABC):
    """Elements that act on a state, one per tick."""

    @abc.abstractmethod
    def identity(self, like: Any) -> Any:
        """The element that leaves a state as it is, in the shapes and dtypes of `like`."""

    @abc.abstractmethod
    def combine(self, earlier: Any, later: Any) -> Any:
        """One element that does what `earlier`, then `later` do. Associative."""

    @abc.abstractmethod
    def apply(self, element: Any, state: Any) -> Any:
        """The state after the element."""

    def lift(self, element: Any) -> Any:
        """The element of a tick in the form that `combine` takes and gives, where that is wider. `apply` and
        `identity` take both forms."""
        return element


class DiagonalElement(NamedTuple):
    """s -> decay * s + update, elementwise; both [..., H]."""

    decay: jax.Array
    update: jax.Array


class Diagonal(Monoid):
    """s' = a * s + b, real or complex."""

    def identity(self, like: DiagonalElement) -> DiagonalElement:
        return DiagonalElement(jnp.ones_like(like.decay), jnp.zeros_like(like.update))

    def combine(self, earlier: DiagonalElement, later: DiagonalElement) -> DiagonalElement:
        return DiagonalElement(later.decay * earlier.decay, later.decay * earlier.update + later.update)

    def apply(self, element: DiagonalElement, state: jax.Array) -> jax.Array:
        return element.decay * state + element.update

    def full(self, element: DiagonalElement) -> DiagonalElement:
        """The same element, every leaf in the shape of the state."""
        shape = jnp.broadcast_shapes(element.decay.shape, element.update.shape)
        return DiagonalElement(*(jnp.broadcast_to(leaf, shape) for leaf in element))

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


class LogSpace(Monoid):
    """s' = a * s + b with a, b > 0, composed by their logarithms: long products neither vanish
    nor overflow on the way. The state itself is stored as it is, not as a logarithm."""

    def identity(self, like: LogElement) -> LogElement:
        least = jnp.finfo(like.log_update.dtype).min / 2  # of -inf twice, logaddexp has no derivative
        return LogElement(jnp.zeros_like(like.log_decay), jnp.full_like(like.log_update, least))

    def combine(self, earlier: LogElement, later: LogElement) -> LogElement:
        return LogElement(
            earlier.log_decay + later.log_decay,
            jnp.logaddexp(later.log_decay + earlier.log_update, later.log_update),
        )

    def apply(self, element: LogElement, state: jax.Array) -> jax.Array:
        return jnp.exp(element.log_decay) * state + jnp.exp(element.log_update)

    def full(self, element: LogElement) -> LogElement:
        """The same element, every leaf in the shape of the state."""
        shape = jnp.broadcast_shapes(element.log_decay.shape, element.log_update.shape)
        return LogElement(*(jnp.broadcast_to(leaf, shape) for leaf in element))

    def blend(self, element: LogElement, rate: jax.Array) -> LogElement:
        """s -> rate * s + (1 - rate) * element(s)."""
        kept, new = jnp.log(rate), jnp.log1p(-rate)
        return LogElement(jnp.logaddexp(kept, new + element.log_decay), new + element.log_update)


class MatrixElement(NamedTuple):
    """S -> transition S + update."""

    transition: jax.Array
    """[..., K, K]"""
    update: jax.Array
    """[..., K, V]"""


class Matrix(Monoid):
    """S' = A S + B for states [..., K, V]. Composing costs K^3 a tick, applying K^2 V: an associative scan
    seldom pays."""

    def identity(self, like: MatrixElement) -> MatrixElement:
        eye = jnp.eye(like.transition.shape[-1], dtype=like.transition.dtype)
        return MatrixElement(jnp.broadcast_to(eye, like.transition.shape), jnp.zeros_like(like.update))

    def combine(self, earlier: MatrixElement, later: MatrixElement) -> MatrixElement:
        return MatrixElement(
            later.transition @ earlier.transition, later.transition @ earlier.update + later.update
        )

    def apply(self, element: MatrixElement, state: jax.Array) -> jax.Array:
        return element.transition @ state + element.update


class RankOneElement(NamedTuple):
    """S -> decay (S - left right^T S) + left value^T: delta rules, where right is a key and left the key
    times a writing strength."""

    decay: jax.Array
    """[..., 1, 1] or [..., K, 1]"""
    left: jax.Array
    """[..., K]"""
    right: jax.Array
    """[..., K]"""
    value: jax.Array
    """[..., V]"""


class RankOne(Matrix):
    """S' = a (S - l r^T S) + l v^T for states [..., K, V]: K V a tick in a loop, a `Matrix` to compose."""

    def identity(self, like: Any) -> Any:
        if isinstance(like, MatrixElement):
            return super().identity(like)
        return jax.tree.map(jnp.zeros_like, like)._replace(decay=jnp.ones_like(like.decay))

    def lift(self, element: RankOneElement) -> MatrixElement:
        decay, left, right, value = element
        eye = jnp.eye(left.shape[-1], dtype=left.dtype)
        outer = left[..., :, None] * right[..., None, :]
        eye = jnp.broadcast_to(eye, outer.shape)
        return MatrixElement(decay * (eye - outer), left[..., :, None] * value[..., None, :])

    def apply(self, element: Any, state: jax.Array) -> jax.Array:
        if isinstance(element, MatrixElement):
            return super().apply(element, state)
        decay, left, right, value = element
        recalled = jnp.sum(right[..., :, None] * state, -2, keepdims=True)
        left = left[..., :, None]
        return decay * (state - left * recalled) + left * value[..., None, :]


class Scaled(NamedTuple):
    """A state with its largest exponent taken out: it means values * exp(log_scale)."""

    values: Any
    """A pytree of arrays [..., *]."""
    log_scale: jax.Array
    """[...], the axes that all values share."""


class ScaledElement(NamedTuple):
    """s -> exp(log_decay) s + exp(log_update) values."""

    log_decay: jax.Array
    """[...]"""
    log_update: jax.Array
    """[...]"""
    values: Any
    """A pytree of arrays [..., *]."""


class RunningMaximum(Monoid):
    """s' = e^f s + e^i v for `Scaled` states, whose scale is the running maximum m' = max(f + m, i): nothing
    overflows whatever f and i are. Values may be an empty tuple: the state is then the maximum alone."""

    def identity(self, like: Any) -> Any:
        nothing = jax.tree.map(jnp.zeros_like, like)
        return nothing._replace(log_update=jnp.full_like(like.log_update, -jnp.inf))

    def combine(self, earlier: ScaledElement, later: ScaledElement) -> ScaledElement:
        values, log_update = self._add(earlier.values, earlier.log_update, later)
        return ScaledElement(earlier.log_decay + later.log_decay, log_update, values)

    def apply(self, element: ScaledElement, state: Scaled) -> Scaled:
        return Scaled(*self._add(state.values, state.log_scale, element))

    @staticmethod
    def _add(values: Any, log_scale: jax.Array, element: ScaledElement) -> tuple[Any, jax.Array]:
        kept = element.log_decay + log_scale
        top = jnp.maximum(kept, element.log_update)
        finite = jnp.where(top > -jnp.inf, top, 0)  # of two identities
        old, new = jnp.exp(kept - finite), jnp.exp(element.log_update - finite)

        def one(a: jax.Array, b: jax.Array) -> jax.Array:
            axes = (1,) * (a.ndim - top.ndim)
            return old.reshape(top.shape + axes) * a + new.reshape(top.shape + axes) * b

        return jax.tree.map(one, values, element.values), top


class ShiftElement(NamedTuple):
    """Lets one input in, or none."""

    ticks: jax.Array
    """int32 [*B]: 1, or 0 where there is no tick."""
    x: jax.Array
    """[*B, I]"""


class Window(NamedTuple):
    """Lets `ticks` inputs in: the last ones of `window`."""

    ticks: jax.Array
    """int32 [*B], at most K."""
    window: jax.Array
    """[*B, K, I], the latest input last."""


class Shift(Monoid):
    """The last K inputs, as state [*B, K, I] with the latest one last: for causal convolutions and token
    shifts. Composed elements are whole windows."""

    def __init__(self, size: int) -> None:
        self.size = size

    def identity(self, like: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, like)

    def lift(self, element: ShiftElement) -> Window:
        x = element.x[..., None, :]
        padding = jnp.zeros((*x.shape[:-2], self.size - 1, x.shape[-1]), x.dtype)
        return Window(element.ticks, jnp.concatenate([padding, x], -2))

    def combine(self, earlier: Window, later: Window) -> Window:
        count = jnp.minimum(earlier.ticks + later.ticks, self.size).astype(earlier.ticks.dtype)
        return Window(count, self._move(earlier.window, later))

    def apply(self, element: Any, state: jax.Array) -> jax.Array:
        if isinstance(element, Window):
            return self._move(state, element)
        moved = jnp.concatenate([state[..., 1:, :], element.x[..., None, :]], -2)
        return jnp.where(element.ticks[..., None, None] > 0, moved, state)

    def _move(self, window: jax.Array, by: Window) -> jax.Array:
        place = jnp.arange(self.size, dtype=by.ticks.dtype)
        source = place.reshape((1,) * by.ticks.ndim + (-1,)) + by.ticks[..., None]
        old = jnp.take_along_axis(window, jnp.minimum(source, self.size - 1)[..., None], -2)
        return jnp.where((source < self.size)[..., None], old, by.window)
