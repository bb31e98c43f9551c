"""Steps of differential equations, and the time that they take.

with_time           inputs with the time since the tick before
explicit            one step of s' = f(s), by a method of `EXPLICIT`
relax               a share of the way to a target
symplectic_euler    a velocity, then with it a position
repeat              several steps one after the other
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.cell import Inputs, Timed

Slope: TypeAlias = Callable[[jax.Array], jax.Array]


def with_time(x: Inputs) -> Timed:
    """Inputs of a timed cell with the time [..., 1] that each tick takes: 1 where none is given."""
    if not isinstance(x, Timed):
        return Timed(x, jnp.ones((*x.shape[:-1], 1), x.dtype))
    if not jnp.issubdtype(x.elapsed.dtype, jnp.floating):
        raise TypeError(f"elapsed: expected floating point numbers, got {checks.describe(x.elapsed)}.")
    if x.elapsed.shape[-1] != 1:
        raise ValueError(f"elapsed: expected a last axis of 1, got {checks.describe(x.elapsed)}.")
    return x


def euler(slope: Slope, state: jax.Array, dt: jax.Array) -> jax.Array:
    """s + dt f(s)"""
    return state + dt * slope(state)


def midpoint(slope: Slope, state: jax.Array, dt: jax.Array) -> jax.Array:
    """s + dt f(s + dt f(s) / 2)"""
    return state + dt * slope(state + 0.5 * dt * slope(state))


def rk4(slope: Slope, state: jax.Array, dt: jax.Array) -> jax.Array:
    """The classical method of Runge and Kutta, of fourth order."""
    first = slope(state)
    second = slope(state + 0.5 * dt * first)
    third = slope(state + 0.5 * dt * second)
    fourth = slope(state + dt * third)
    return state + dt / 6 * (first + 2 * second + 2 * third + fourth)


EXPLICIT: dict[str, Callable[[Slope, jax.Array, jax.Array], jax.Array]] = {
    "euler": euler,
    "midpoint": midpoint,
    "rk4": rk4,
}


def explicit(method: str, slope: Slope, state: jax.Array, dt: jax.Array) -> jax.Array:
    """One step of s' = f(s); dt [*B, H] may differ from unit to unit."""
    return EXPLICIT[method](slope, state, dt)


def relax(state: jax.Array, target: jax.Array, share: Any) -> jax.Array:
    """(1 - share) s + share target: an Euler step of s' = target - s, where share is its length; with
    1 - exp(-length) in its place, the exact solution for a target that stands still."""
    return (1 - share) * state + share * target


def symplectic_euler(
    position: jax.Array,
    velocity: jax.Array,
    acceleration: jax.Array,
    dt: jax.Array,
    damping: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """v' = v + dt a,    p' = p + dt v'

    a is taken at the old state. With `damping` d, a further term -d v' is taken at the new one:
    v' = (v + dt a) / (1 + dt d).
    """
    velocity = velocity + dt * acceleration
    if damping is not None:
        velocity = velocity / (1 + dt * damping)
    return position + dt * velocity, velocity


def repeat(step: Slope, state: jax.Array, count: int) -> jax.Array:
    """The step taken `count` times."""
    for _ in range(count):
        state = step(state)
    return state
