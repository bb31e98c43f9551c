"""The arithmetic that cells share: products, gates, activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.dtypes import wider

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


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """x [..., I] @ kernel [I, O] + bias [O] -> [..., O], in the promotion of x and kernel."""
    checks.features("x", x, kernel.shape[0])
    dtype = wider(x.dtype, kernel.dtype)
    y = x.astype(dtype) @ kernel.astype(dtype)
    return y if bias is None else y + bias.astype(dtype).reshape((1,) * (y.ndim - 1) + bias.shape)


def split_gates(fused: jax.Array, count: int) -> list[jax.Array]:
    """[..., G*H] -> G arrays [..., H]."""
    return jnp.split(fused, count, axis=-1)


def modrelu(z: jax.Array, bias: jax.Array) -> jax.Array:
    """relu(|z| + bias) * z / |z| for real z [..., H] and bias [H] (Arjovsky et al. 2016).

    |z| is sqrt(z^2 + 1e-8) in both places: bias = 0 is then the exact identity and the gradient at
    z = 0 is finite, where sign(z) relu(|z| + bias) jumps by 2 bias and has none.
    """
    magnitude = jnp.sqrt(jnp.square(z) + jnp.asarray(1e-8, z.dtype))
    return jax.nn.relu(magnitude + bias.reshape((1,) * (z.ndim - 1) + bias.shape)) * (z / magnitude)
