"""Activations as fields of cells: by name, as a function, or with numbers of their own."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from rnncells.dtypes import accumulator
from rnncells.fields import Number, Pytree, converted, number, static
from rnncells.parts.arithmetic import align, constant

NAMED: dict[str, Callable[[jax.Array], jax.Array]] = {
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "identity": jax.nn.identity,
    "leaky_relu": jax.nn.leaky_relu,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "soft_sign": jax.nn.soft_sign,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


class Function(Pytree, abc.ABC):
    """A function of one array, elementwise."""

    @abc.abstractmethod
    def __call__(self, x: jax.Array) -> jax.Array: ...


class Named(Function):
    """One of `NAMED`."""

    name: str = static()

    def __call__(self, x: jax.Array) -> jax.Array:
        return NAMED[self.name](x)

    def __repr__(self) -> str:
        return repr(self.name)


class Given(Function):
    """A module-level function."""

    function: Callable[[jax.Array], jax.Array] = static()

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.function(x)

    def __repr__(self) -> str:
        return self.function.__qualname__


class LeakyReLU(Function):
    """x where x > 0, slope * x elsewhere."""

    slope: Number = number(default=0.01)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.where(x > 0, x, constant(self.slope, x) * x)


Activation: TypeAlias = Any  # a name, a module-level function, or a `Function`, as which it is stored


def as_activation(name: str, value: Any) -> Any:
    """A known name or a module-level function as a `Function`; anything that cannot be called as it is.

    A closure is refused: it would be a new function, and a new compilation, every time it is made, and could
    not be pickled."""
    if isinstance(value, str):
        if value not in NAMED:
            raise ValueError(f"{name}: expected one of {', '.join(NAMED)}, or a function, got {value!r}.")
        return Named(value)
    if not callable(value) or dataclasses.is_dataclass(value):
        return value
    known = next((word for word, function in NAMED.items() if function is value), None)
    if known is not None:
        return Named(known)
    if "<" in getattr(value, "__qualname__", "<"):
        raise TypeError(f"{name}: expected a name or a module-level function, got {value!r}.")
    return Given(value)


def activation(default: Activation, *, kw_only: bool = False) -> Any:
    """A field that holds an activation: `self.activation(z)` applies it."""
    return converted(convert=as_activation, default=default, kw_only=kw_only)


def modrelu(z: jax.Array, bias: jax.Array) -> jax.Array:
    """relu(|z| + bias) * z / |z| for real or complex z [..., H] and real bias [H] (Arjovsky et al. 2016).

    |z| is sqrt(|z|^2 + 1e-8) in both places: bias = 0 is then the exact identity and the gradient at
    z = 0 is finite, where sign(z) relu(|z| + bias) jumps by 2 bias and has none. In float32 or wider.
    """
    wide = z.astype(accumulator(z.dtype))
    square = jnp.square(wide.real) + jnp.square(wide.imag) if jnp.iscomplexobj(wide) else jnp.square(wide)
    magnitude = jnp.sqrt(square + constant(1e-8, square))
    gain = jax.nn.relu(magnitude + align(bias.astype(square.dtype), square)) / magnitude
    return (gain.astype(wide.dtype) * wide).astype(z.dtype)
