"""A cell over a sequence in Flax's layout: what rnncells.linen and rnncells.nnx share."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

from rnncells.cell import Carry, Cell, Params
from rnncells.unroll import unroll


def cast(tree: Any, dtype: Any | None) -> Any:
    """Floating leaves in `dtype`; as they are where it is None."""
    if dtype is None:
        return tree

    def one(leaf: Any) -> Any:
        return jnp.asarray(leaf, dtype) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf

    return jax.tree.map(one, tree)


def layer(
    cell: Cell,
    params: Params,
    inputs: Any,
    *,
    initial_carry: Carry | None,
    seq_lengths: chex.Array | None,
    mask: chex.Array | None,
    resets: chex.Array | None,
    key: chex.PRNGKey | None,
    time_major: bool,
    reverse: bool,
    keep_order: bool,
    return_carry: bool,
    return_carries: bool,
    dtype: Any | None,
    **options: Any,
) -> Any:
    """`unroll` with Flax's argument names, batch-major layout and order of reversed outputs."""

    def to_time_major(flags: Any) -> Any:
        return flags if flags is None or time_major else jnp.moveaxis(jnp.asarray(flags), -1, 0)

    if not time_major:
        inputs = jax.tree.map(lambda x: jnp.moveaxis(x, x.ndim - cell.input_ndim - 1, 0), inputs)
    carry, ys = unroll(
        cell,
        cast(params, dtype),
        cast(inputs, dtype),
        initial_carry,
        lengths=seq_lengths,
        mask=to_time_major(mask),
        resets=to_time_major(resets),
        reverse=reverse,
        key=key,
        return_carries=return_carries,
        **options,
    )
    leaf = jax.tree.leaves(inputs)[0]
    batch_ndim = leaf.ndim - cell.input_ndim - 1
    if reverse and not keep_order:
        ys = jax.tree.map(lambda y: _in_order_read(y, seq_lengths), ys)
    if not time_major:
        ys = jax.tree.map(lambda y: jnp.moveaxis(y, 0, batch_ndim), ys)
    return (carry, ys) if return_carry else ys


def _in_order_read(y: jax.Array, lengths: chex.Array | None) -> jax.Array:
    """[T, *B, ...] flipped in time, each sequence within its own length."""
    if lengths is None:
        return jnp.flip(y, 0)
    lengths = jnp.asarray(lengths)
    time = jnp.arange(y.shape[0]).reshape(-1, *[1] * lengths.ndim)
    index = jnp.where(time < lengths[None], lengths[None] - 1 - time, time)
    return jnp.take_along_axis(y, index.reshape(index.shape + (1,) * (y.ndim - index.ndim)), axis=0)
