"""Which dtype things compute in. JAX's lattice, also where strict promotion is switched on."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

T = TypeVar("T")


def wider(a: Any, b: Any) -> Any:
    """The promotion of two dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(a, b)


def real(dtype: Any) -> Any:
    """The dtype of the parts of a complex number; other dtypes as they are."""
    return jnp.finfo(dtype).dtype if jnp.issubdtype(dtype, jnp.complexfloating) else jnp.dtype(dtype)


def _floating(trees: Any) -> list[Any]:
    dtypes = (jnp.result_type(leaf) for leaf in jax.tree.leaves(trees))
    return [real(dtype) for dtype in dtypes if jnp.issubdtype(dtype, jnp.inexact)]


def dtype_of(*trees: Any) -> Any:
    """The promotion of all floating leaves, complex ones by their parts: the real dtype in which they
    compute together; float32 where there are none."""
    found = _floating(trees)
    return functools.reduce(wider, found) if found else jnp.dtype(jnp.float32)


def computes_in(weights: Any, x: Any = ()) -> Any:
    """The real dtype of a tick with prepared weights: the narrowest of theirs, since `prepare` may keep
    constants and linear algebra wider than the parameters, or that of a wider input."""
    found = sorted(_floating(weights), key=lambda dtype: jnp.finfo(dtype).bits)[:1] + _floating(x)
    return functools.reduce(wider, found) if found else jnp.dtype(jnp.float32)


def accumulator(dtype: DTypeLike) -> Any:
    """The dtype for long sums and for linear algebra: float32, or wider if the inputs are."""
    return wider(dtype, jnp.float32)


def widen(tree: T, dtype: DTypeLike) -> T:
    """Floating leaves promoted with dtype; other leaves as they are."""

    def one(leaf: Any) -> Any:
        own = jnp.result_type(leaf)
        return jnp.asarray(leaf, wider(own, dtype)) if jnp.issubdtype(own, jnp.inexact) else leaf

    return jax.tree.map(one, tree)


def promote(*trees: Any) -> tuple[Any, ...]:
    """The trees with every floating leaf widened to their common dtype."""
    return widen(trees, dtype_of(*trees))


def cast_like(tree: T, like: T) -> T:
    """The tree with each leaf in the dtype of its counterpart; keys as they are."""

    def one(leaf: Any, other: Any) -> Any:
        dtype = jnp.result_type(other)
        return leaf if jnp.issubdtype(dtype, jax.dtypes.prng_key) else jnp.asarray(leaf, dtype)

    return jax.tree.map(one, tree, like)
