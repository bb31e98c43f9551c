"""A cell that runs freely, on inputs made from its own outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rnncells import checks
from rnncells.cell import Carry, Cell, Out, Params, shapes_of
from rnncells.dtypes import cast_like
from rnncells.unroll import batch_sharding, checked

Feed: TypeAlias = Callable[[Any, chex.PRNGKey | None], tuple[Any, Any]]


def generate(
    cell: Cell,
    params: Params,
    x: Any,
    length: int,
    feed: Feed,
    carry: Carry | None = None,
    *,
    key: chex.PRNGKey | None = None,
) -> tuple[Carry, Out]:
    """Runs a cell for `length` ticks, each input but the first made from the output before it.

    Sampling from logits, the cell's outputs times a kernel:

        def feed(y, key):
            token = jax.random.categorical(key, y @ kernel)
            return embedding[token], token

        carry, tokens = generate(cell, params, embedding[start], 20, feed, key=key)

    The cell and its noise are those of `unroll`: over the same inputs and with the same key it gives the
    same outputs. Call it inside `jax.jit`: outside, every call compiles, since `feed` may be a new function.

    Args:
        cell: any `Cell`.
        params: from `cell.init`.
        x: the first input, [*B, I] with any number of batch axes, or the pytree that the cell takes.
        length: T, at least 1.
        feed: (y, key) -> (the next input, what to emit). The next input has the structure and the shapes
            of x; what is emitted is any pytree. Its key is None where none is given, and otherwise
            different for every tick and independent of the cell's.
        carry: the state before the first tick; `cell.initial_carry` by default.
        key: a PRNG key for cells that draw noise, and for feed: tick t of the cell uses `fold_in(key, t)`.

    Returns:
        The carry after the last tick, and what was emitted, [T, ...].

    Raises:
        TypeError, ValueError: at trace time, for an argument of the wrong kind, shape or value.
    """
    length = checks.positive_int("length", length)
    if not callable(feed):
        raise TypeError(f"feed: expected a function (y, key) -> (next x, emitted), got {feed!r}.")
    xs = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x)
    params, xs, carry, (_, *batch_shape) = checked(cell, params, xs, carry, key)
    x = jax.tree.map(lambda leaf: leaf[0], xs)
    like = shapes_of(x)
    if carry is None:
        carry = cell.initial_carry(params, tuple(batch_shape), like=like)
    carry = batch_sharding(xs, len(batch_shape))(carry)
    weights = cell.prepare(params, key, tuple(batch_shape), like=like)
    # Unlike any tick's key, and unlike `locked(key)`, from which `prepare` draws.
    feed_key = None if key is None else jax.random.fold_in(key, np.uint32(2**32 - 2))

    def body(state: tuple[Carry, Any], t: jax.Array) -> tuple[tuple[Carry, Any], Any]:
        carry, x = state
        carry, y = cell.tick(weights, carry, x, None if key is None else jax.random.fold_in(key, t))
        fed = feed(y, None if feed_key is None else jax.random.fold_in(feed_key, t))
        if not isinstance(fed, tuple) or len(fed) != 2:
            raise TypeError(f"feed: expected a pair (next x, emitted), got {checks.describe(fed)}.")
        checks.alike("feed: expected the next x to be like the first,", x, fed[0])
        return (carry, cast_like(fed[0], x)), fed[1]

    (carry, _), emitted = jax.lax.scan(body, (carry, x), jnp.arange(length))
    return carry, emitted
