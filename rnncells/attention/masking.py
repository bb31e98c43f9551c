"""Softmax and averages over positions of which some do not exist."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.dtypes import accumulator
from rnncells.fields import Pytree, check_numbers
from rnncells.parts.arithmetic import select


def check_init(owner: Pytree, key: chex.PRNGKey, dtype: DTypeLike, **sizes: int) -> None:
    check_numbers(owner)
    checks.key(key)
    checks.float_dtype("dtype", dtype)
    for name, size in sizes.items():
        checks.positive_int(name, size)


def positions(name: str, memory: Any, lengths: chex.Array | None) -> jax.Array | None:
    """bool [S, *B]: the positions of a memory [S, *B, M] that exist; None where all do. Checks both."""
    if not hasattr(memory, "dtype") or not jnp.issubdtype(memory.dtype, jnp.floating) or memory.ndim < 2:
        raise TypeError(
            f"{name}: expected floating point [time, *batch, features], got {checks.describe(memory)}."
        )
    if lengths is None:
        return None
    lengths = checks.lengths(lengths, memory.shape[1:-1], memory.shape[0]).astype(jnp.int32)
    return jnp.arange(memory.shape[0], dtype=jnp.int32).reshape(-1, *[1] * lengths.ndim) < lengths[None]


def silence(memory: jax.Array, exists: jax.Array | None) -> jax.Array:
    """Zero where nothing exists, before anything reads it: a derivative must not see NaN either."""
    return memory if exists is None else select(exists, memory, jnp.zeros_like(memory))


def softmax(scores: jax.Array, exists: jax.Array | None) -> jax.Array:
    """Over the first axis; zero where nothing exists, even if nothing at all does."""
    wide = scores.astype(accumulator(scores.dtype))
    floor = jnp.finfo(wide.dtype).min
    if exists is not None:
        wide = jnp.where(exists, wide, floor)
    mass = jnp.exp(wide - jax.lax.stop_gradient(jnp.max(wide, axis=0, keepdims=True, initial=floor)))
    if exists is not None:
        mass = jnp.where(exists, mass, 0)
    total = jnp.sum(mass, axis=0, keepdims=True)
    return (mass / jnp.where(total > 0, total, 1)).astype(scores.dtype)


def average(weights: jax.Array, memory: jax.Array) -> jax.Array:
    return jnp.einsum("s...,s...m->...m", weights, memory)
