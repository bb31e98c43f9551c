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
    module: Any,
    params: Params,
    inputs: Any,
    *,
    initial_carry: Carry | None,
    seq_lengths: chex.Array | None,
    mask: chex.Array | None,
    resets: chex.Array | None,
    key: chex.PRNGKey | None,
    return_carries: bool,
    **overrides: bool | None,
) -> Any:
    """`unroll` with Flax's argument names, batch-major layout and order of reversed outputs.

    module: has the cell and the settings as attributes; those of the settings that a call gives
    (`return_carry`, `time_major`, `reverse`, `keep_order`, where not None) override them.
    """
    cell: Cell = module.cell
    settings = {name: getattr(module, name) if value is None else value for name, value in overrides.items()}
    time_major, reverse = settings["time_major"], settings["reverse"]

    def to_time_major(flags: Any) -> Any:
        return flags if flags is None or time_major else jnp.moveaxis(jnp.asarray(flags), -1, 0)

    if not time_major:
        inputs = jax.tree.map(lambda x: jnp.moveaxis(x, x.ndim - cell.input_ndim - 1, 0), inputs)
    carry, ys = unroll(
        cell,
        cast(params, module.dtype),
        cast(inputs, module.dtype),
        initial_carry,
        lengths=seq_lengths,
        mask=to_time_major(mask),
        resets=to_time_major(resets),
        reverse=reverse,
        key=key,
        parallel=module.parallel,
        remat_every=module.remat_every,
        truncate_every=module.truncate_every,
        return_carries=return_carries,
    )
    leaf = jax.tree.leaves(inputs)[0]
    batch_ndim = leaf.ndim - cell.input_ndim - 1
    if reverse and not settings["keep_order"]:
        ys = jax.tree.map(lambda y: _in_order_read(y, seq_lengths), ys)
    if not time_major:
        ys = jax.tree.map(lambda y: jnp.moveaxis(y, 0, batch_ndim), ys)
    return (carry, ys) if settings["return_carry"] else ys


def _in_order_read(y: jax.Array, lengths: chex.Array | None) -> jax.Array:
    """[T, *B, ...] flipped in time, each sequence within its own length."""
    if lengths is None:
        return jnp.flip(y, 0)
    lengths = jnp.asarray(lengths)
    time = jnp.arange(y.shape[0]).reshape(-1, *[1] * lengths.ndim)
    index = jnp.where(time < lengths[None], lengths[None] - 1 - time, time)
    return jnp.take_along_axis(y, index.reshape(index.shape + (1,) * (y.ndim - index.ndim)), axis=0)
