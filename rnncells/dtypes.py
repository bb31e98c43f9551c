"""Which dtype things compute in. JAX's lattice, also where strict promotion is switched on."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp

T = TypeVar("T")


def wider(a: Any, b: Any) -> Any:
    """The promotion of two dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(a, b)


def dtype_of(*trees: chex.ArrayTree) -> Any:
    """The promotion of all floating leaves: the dtype in which they compute together."""
    dtypes = (jnp.result_type(leaf) for leaf in jax.tree.leaves(trees))
    floating = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.inexact)]
    return functools.reduce(wider, floating) if floating else jnp.dtype(jnp.float32)


def accumulator(dtype: Any) -> Any:
    """The dtype for long sums and for linear algebra: float32, or wider if the inputs are."""
    return wider(dtype, jnp.float32)


def widen(tree: T, dtype: Any) -> T:
    """Floating leaves promoted with dtype; other leaves as they are."""

    def one(leaf: Any) -> Any:
        own = jnp.result_type(leaf)
        return jnp.asarray(leaf, wider(own, dtype)) if jnp.issubdtype(own, jnp.inexact) else leaf

    return jax.tree.map(one, tree)


def promote(*trees: Any) -> tuple[Any, ...]:
    """The trees with every floating leaf widened to their common dtype."""
    return widen(trees, dtype_of(*trees))


def cast_like(tree: T, like: T) -> T:
    """The tree with each leaf in the dtype of its counterpart."""
    return jax.tree.map(lambda leaf, other: jnp.asarray(leaf, jnp.result_type(other)), tree, like)
