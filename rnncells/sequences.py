"""Sequences of their own lengths: which ticks exist, the last output, the order of reading."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

from rnncells import checks


def last(
    ys: Any, lengths: chex.Array | None = None, *, mask: chex.Array | None = None, reverse: bool = False
) -> Any:
    """The last output of each sequence, within its own length: ys [T, *B, ...] -> [*B, ...].

        carry, ys = unroll(cell, params, xs, lengths=lengths)
        summary = last(ys, lengths)

    Not `ys[-1]`, which is zero where a sequence is shorter than T.

    Args:
        ys: outputs or carries from `unroll`; any pytree.
        lengths, mask, reverse: as `unroll` was given them; with `reverse` the last output is that of the
            first tick. The backward half of a `Bidirectional` has read its whole sequence at the first tick.

    Returns:
        An output for each sequence; zero where it has no tick.
    """
    checks.boolean("reverse", reverse)
    leaf = jax.tree.leaves(ys)[0]
    length, batch = leaf.shape[0], leaf.shape[1:]
    if lengths is not None:
        lengths = checks.lengths(lengths, batch[: jnp.ndim(lengths)], length)
    if mask is not None:
        mask = checks.flags("mask", mask, leaf.shape[: jnp.ndim(mask)])
    exists = existing(length, lengths, mask)
    if exists is None:
        exists = jnp.ones(length, bool)
    time = jnp.arange(length).reshape(-1, *[1] * (exists.ndim - 1))
    if reverse:
        index = jnp.min(jnp.where(exists, time, length), 0, keepdims=True, initial=length)
    else:
        index = jnp.max(jnp.where(exists, time, -1), 0, keepdims=True, initial=-1)
        index = jnp.where(index < 0, length, index)
    return jax.tree.map(lambda y: _at(y, index)[0], ys)


def in_order_read(ys: Any, lengths: jax.Array | None) -> Any:
    """ys [T, *B, ...] flipped in time, each sequence within its own length, which must lie within [0, T]."""
    if lengths is None:
        return jax.tree.map(lambda y: jnp.flip(y, 0), ys)
    time = jnp.arange(jax.tree.leaves(ys)[0].shape[0]).reshape(-1, *[1] * lengths.ndim)
    index = jnp.where(time < lengths[None], lengths[None] - 1 - time, time)
    return jax.tree.map(lambda y: _at(y, index), ys)


def existing(length: int, lengths: jax.Array | None, mask: jax.Array | None) -> jax.Array | None:
    """bool [T, *B], True where a tick exists; None where all do."""
    if lengths is None:
        return mask
    within = jnp.arange(length, dtype=lengths.dtype).reshape(-1, *[1] * lengths.ndim) < lengths[None]
    return within if mask is None else within & mask


def _at(y: jax.Array, index: jax.Array) -> jax.Array:
    """y [T, *B, ...] at index [N, *B], zero where that is T."""
    index = index.reshape(index.shape + (1,) * (y.ndim - index.ndim))
    return jnp.take_along_axis(y, index, axis=0, mode="fill", fill_value=0)
