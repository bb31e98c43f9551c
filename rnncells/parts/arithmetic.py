"""The arithmetic that cells share: products, gates, normalisation."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.dtypes import accumulator, real, wider


def dense(x: jax.Array, kernel: Any, bias: jax.Array | None = None) -> jax.Array:
    """x [..., I] @ kernel [I, O] + bias [O] -> [..., O], in the promotion of x and kernel.

    The kernel may be a `StandIn`: anything of a shape that can be multiplied with."""
    checks.features("x", x, kernel.shape[0])
    if hasattr(kernel, "times"):
        y = kernel.times(x)
    else:
        dtype = wider(x.dtype, kernel.dtype)
        y = x.astype(dtype) @ kernel.astype(dtype)
    return y if bias is None else y + align(bias.astype(y.dtype), y)


def heads(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A product for each head: x [..., h, K], kernel [h, K, N] -> [..., h, N]."""
    dtype = wider(x.dtype, kernel.dtype)
    return jnp.einsum("...hk,hkn->...hn", x.astype(dtype), kernel.astype(dtype))


def align(vector: jax.Array, like: jax.Array) -> jax.Array:
    """A number or [..., H] with leading axes of size 1, so that it meets `like` [*B, H] explicitly."""
    return vector.reshape((1,) * (like.ndim - vector.ndim) + vector.shape)


def constant(value: Any, like: jax.Array) -> jax.Array:
    """A numeric field, a number or [H], as it meets `like` [*B, H]: in its (real) dtype, and explicitly."""
    return align(jnp.asarray(value, real(like.dtype)), like)


def normalise(
    v: jax.Array, scale: jax.Array, epsilon: Any, width: int | None = None, centre: bool = True
) -> jax.Array:
    """scale (v - mean) / sqrt(variance + epsilon) over each block of `width` of the last axis, or all of it.

    v [..., N], scale [N]. Without `centre` it is v / sqrt(mean square + epsilon). Computed in float32 or
    wider, returned in the dtype of v.
    """
    width = v.shape[-1] if width is None else width
    wide = v.astype(accumulator(v.dtype)).reshape(*v.shape[:-1], v.shape[-1] // width, width)
    if centre:
        wide = wide - wide.mean(-1, keepdims=True)
    variance = jnp.square(wide).mean(-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(variance + jnp.asarray(epsilon, wide.dtype))
    return align(scale, v).astype(v.dtype) * wide.reshape(v.shape).astype(v.dtype)


def split_gates(fused: jax.Array, count: int) -> list[jax.Array]:
    """[..., G*H] -> G arrays [..., H]."""
    return jnp.split(fused, count, axis=-1)


def inverse_softplus(y: Any) -> jax.Array:
    """x with softplus(x) = y, for y > 0."""
    return y + jnp.log(-jnp.expm1(-y))


def select(flags: jax.Array, where: Any, otherwise: Any) -> Any:
    """Per leaf `flags ? where : otherwise`; flags [*L] choose among leaves [*L, ...], keys among them."""

    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(flags.reshape(flags.shape + (1,) * (a.ndim - flags.ndim)), a, b)

    return cast(Any, jax.tree.map(choose, where, otherwise))
