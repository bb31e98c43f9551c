"""A cell that runs freely, on inputs made from its own outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rnncells import checks
from rnncells.cell import Carry, Cell, Params
from rnncells.dtypes import cast_like, promote

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
) -> tuple[Carry, Any]:
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
    checks.cell("cell", cell, Cell)
    checks.numbers(cell)
    checks.key(key)
    length = checks.positive_int("length", length)
    if not callable(feed):
        raise TypeError(f"feed: expected a function (y, key) -> (next x, emitted), got {feed!r}.")
    xs = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x)
    _, batch_shape = checks.sequence(xs, cell.input_ndim)
    if cell.input_ndim == 1 and hasattr(x, "shape"):
        size = x.shape[-1]
        checks.params(cell, jax.eval_shape(lambda: cell.init(jax.random.key(0), size)), params, size)
    params, x = promote(params, x)
    expected = cell.carry_shape(params, batch_shape)
    if carry is None:
        carry = cell.initial_carry(params, batch_shape)
    else:
        checks.alike("carry: expected", expected, carry)
        carry = cast_like(carry, expected)
    weights = cell.prepare(params, key, batch_shape)
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
