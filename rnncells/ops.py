"""The arithmetic that cells share: products, gates, activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.dtypes import accumulator, wider

Activation: TypeAlias = str | Callable[[jax.Array], jax.Array]

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "identity": jax.nn.identity,
    "leaky_relu": jax.nn.leaky_relu,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


def activation(name_or_function: Activation) -> Callable[[jax.Array], jax.Array]:
    """The function that an activation field means."""
    if isinstance(name_or_function, str):
        return ACTIVATIONS[name_or_function]
    return name_or_function


def check_activation(name: str, value: Any) -> None:
    """A known name or a module-level function: a closure would be a new function, and a new
    compilation, every time it is made, and could not be pickled."""
    if isinstance(value, str):
        if value not in ACTIVATIONS:
            raise ValueError(
                f"{name}: expected one of {', '.join(ACTIVATIONS)}, or a function, got {value!r}."
            )
    elif not callable(value) or "<" in getattr(value, "__qualname__", "<"):
        raise TypeError(f"{name}: expected a name or a module-level function, got {value!r}.")


def dense(x: jax.Array, kernel: Any, bias: jax.Array | None = None) -> jax.Array:
    """x [..., I] @ kernel [I, O] + bias [O] -> [..., O], in the promotion of x and kernel.

    The kernel may be a `rnncells.kernels.Kernel`: anything of a shape that can be multiplied with."""
    checks.features("x", x, kernel.shape[0])
    if hasattr(kernel, "times"):
        y = kernel.times(x)
    else:
        dtype = wider(x.dtype, kernel.dtype)
        y = x.astype(dtype) @ kernel.astype(dtype)
    return y if bias is None else y + align(bias.astype(y.dtype), y)


def align(vector: jax.Array, like: jax.Array) -> jax.Array:
    """A number or [..., H] with leading axes of size 1, so that it meets `like` [*B, H] explicitly."""
    return vector.reshape((1,) * (like.ndim - vector.ndim) + vector.shape)


def normalise(
    v: jax.Array, scale: jax.Array, epsilon: Any, blocks: int = 1, centre: bool = True
) -> jax.Array:
    """scale (v - mean) / sqrt(variance + epsilon) over each of the blocks of the last axis.

    v [..., N], scale [N]. Without `centre` it is v / sqrt(mean square + epsilon). Computed in float32 or
    wider, returned in the dtype of v.
    """
    wide = v.astype(accumulator(v.dtype)).reshape(*v.shape[:-1], blocks, -1)
    if centre:
        wide = wide - wide.mean(-1, keepdims=True)
    variance = jnp.square(wide).mean(-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(variance + jnp.asarray(epsilon, wide.dtype))
    return align(scale, v).astype(v.dtype) * wide.reshape(v.shape).astype(v.dtype)


def split_gates(fused: jax.Array, count: int) -> list[jax.Array]:
    """[..., G*H] -> G arrays [..., H]."""
    return jnp.split(fused, count, axis=-1)


def select(flags: jax.Array, where: Any, otherwise: Any) -> Any:
    """Per leaf `flags ? where : otherwise`; flags [*L] choose among leaves [*L, ...]."""

    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(flags.reshape(flags.shape + (1,) * (a.ndim - flags.ndim)), a, b)

    return cast(Any, jax.tree.map(choose, where, otherwise))


def modrelu(z: jax.Array, bias: jax.Array) -> jax.Array:
    """relu(|z| + bias) * z / |z| for real z [..., H] and bias [H] (Arjovsky et al. 2016).

    |z| is sqrt(z^2 + 1e-8) in both places: bias = 0 is then the exact identity and the gradient at
    z = 0 is finite, where sign(z) relu(|z| + bias) jumps by 2 bias and has none.
    """
    magnitude = jnp.sqrt(jnp.square(z) + jnp.asarray(1e-8, z.dtype))
    return jax.nn.relu(magnitude + align(bias, z)) * (z / magnitude)
