"""Named initialisation schemes, as small pytree dataclasses with numeric leaves.

A scheme is called as `scheme(key, shape, dtype)`. `gate_kernel` draws a fused kernel one gate block
at a time, because a scheme applied to the fused array is another distribution: the fan-out of a
Glorot draw would be G times too large, and the blocks of a fused orthogonal draw are not orthogonal.

The schemes that cells use by default have `scale=None`, which means 1 and is no leaf: a cell's own
numbers are then its only leaves, and `jax.vmap` with `in_axes=0` sweeps over them alone.
"""

from __future__ import annotations

import math
from typing import Any, Protocol, TypeAlias

import chex
import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.cell import Number, Pytree, number, static
from rnncells.dtypes import accumulator


class Initializer(Protocol):
    """What a scheme is: a pytree dataclass called as `scheme(key, shape, dtype) -> array`.

    Closures such as `jax.nn.initializers.orthogonal()` are refused as fields of a cell: each call
    makes another function, so every new cell would compile again.
    """

    def __call__(self, key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any) -> jax.Array: ...


def _distribution(name: str, value: Any) -> None:
    if value not in ("uniform", "normal"):
        raise ValueError(f"{name}: expected 'uniform' or 'normal', got {value!r}.")


class Zeros(Pytree):
    """Zeros."""

    def __call__(self, key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jnp.zeros(shape, dtype)


class Normal(Pytree):
    """N(0, stddev^2)."""

    stddev: Number = number(default=0.01, low=0.0)

    def __call__(self, key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.normal(key, shape, dtype) * jnp.asarray(self.stddev, dtype)


class Uniform(Pytree):
    """U(-scale / sqrt(n), scale / sqrt(n)), n the last axis: PyTorch's rule for kernels [., H]."""

    scale: Number = number(default=1.0, low=0.0)

    def __call__(self, key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        draw = jax.random.uniform(key, shape, dtype, -1.0, 1.0)
        return draw * jnp.asarray(self.scale, dtype) / math.sqrt(shape[-1])


class Glorot(Pytree):
    """Variance scale^2 * 2 / (fan_in + fan_out) (Glorot & Bengio 2010, PMLR 9:249).

    `distribution` is "uniform" or "normal".
    """

    scale: Number | None = number(default=None)
    distribution: str = static(default="uniform", check=_distribution)

    def __call__(self, key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _scaled(self, key, shape, dtype, 2.0 / (shape[0] + shape[-1]))


class He(Pytree):
    """Variance scale^2 * 2 / fan_in, for relu (He et al. 2015, arXiv 1502.01852).

    `distribution` is "normal" or "uniform".
    """

    scale: Number | None = number(default=None)
    distribution: str = static(default="normal", check=_distribution)

    def __call__(self, key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _scaled(self, key, shape, dtype, 2.0 / shape[0])


def _scaled(
    scheme: Glorot | He, key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any, variance: float
) -> jax.Array:
    if scheme.distribution == "normal":
        draw = jax.random.normal(key, shape, dtype) * math.sqrt(variance)
    else:
        draw = jax.random.uniform(key, shape, dtype, -1.0, 1.0) * math.sqrt(3.0 * variance)
    return _times(draw, scheme.scale)


def _times(draw: jax.Array, scale: Number | None) -> jax.Array:
    return draw if scale is None else draw * jnp.asarray(scale, draw.dtype)


class Orthogonal(Pytree):
    """scale times a matrix with orthonormal rows or columns, Haar distributed
    (Saxe, McClelland & Ganguli 2014, arXiv 1312.6120)."""

    scale: Number | None = number(default=None)

    def __call__(self, key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        wide = accumulator(dtype)  # no QR in half precision
        # One after the other under vmap too: in jaxlib 0.10, batches of QR on two CPU devices wait for
        # each other's threads for ever.
        draw = jax.custom_batching.sequential_vmap(
            lambda key: jax.nn.initializers.orthogonal()(key, shape, wide)
        )
        return _times(draw(key), self.scale).astype(dtype)


class Identity(Pytree):
    """scale times the identity (Le, Jaitly & Hinton 2015, arXiv 1504.00941)."""

    scale: Number = number(default=1.0)

    def __call__(self, key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        rows, columns = shape
        return jnp.eye(rows, columns, dtype=dtype) * jnp.asarray(self.scale, dtype)


class Chrono(Pytree):
    """Chrono initialisation of a forget bias: b = ln u, u ~ U(1, t_max - 1), so that unit k keeps
    its memory for about u_k ticks; a separate input gate gets -b (Tallec & Ollivier 2018, arXiv 1804.11188).

    t_max: the longest dependency expected, in ticks, at least 2. The paper's authors take 3T/2 for
    the copy problem with T blanks.
    """

    t_max: Number = number(default=100.0, low=2.0)

    def __call__(self, key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        u = jax.random.uniform(key, shape, dtype)
        return jnp.log1p(u * (jnp.asarray(self.t_max, dtype) - 2))


class UniformGate(Pytree):
    """Uniform gate initialisation of a forget bias: b = logit u, u ~ U(1/H, 1 - 1/H), so that gate
    activations start uniform over (0, 1) (Gu, Gulcehre, Paine, Hoffman & Pascanu 2020, arXiv 1910.09890)."""

    def __call__(self, key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        edge = 1.0 / max(shape[-1], 2)
        u = jax.random.uniform(key, shape, dtype, edge, 1.0 - edge)
        return jnp.log(u) - jnp.log1p(-u)


ForgetBias: TypeAlias = Number | Chrono | UniformGate


def gate_kernel(
    scheme: Initializer, key: chex.PRNGKey, rows: int, features: int, gates: int, dtype: Any
) -> jax.Array:
    """A fused kernel [rows, gates * features], every gate block drawn by itself."""
    blocks = [scheme(block, (rows, features), dtype) for block in jax.random.split(key, gates)]
    return jnp.concatenate(blocks, axis=-1)


def gate_bias(
    forget_bias: ForgetBias,
    key: chex.PRNGKey,
    features: int,
    gates: tuple[str, ...],
    dtype: Any,
    *,
    keep: str = "",
    write: str = "",
) -> jax.Array:
    """A fused bias [G * H]: zero, but for the gates that decide how long a memory lives.

    forget_bias: a number, an array [H], or a scheme such as `Chrono(t_max)`.
    keep: the gate that keeps the past when it is open; its bias is the forget bias.
    write: the gate that lets the new value in. If it is the only one (no `keep`), its bias is the
        negative forget bias; beside a `keep` gate only Chrono sets it.
    """
    chrono = isinstance(forget_bias, Chrono)
    if callable(forget_bias):
        bias = forget_bias(key, (features,), dtype)
    else:
        if jnp.shape(forget_bias) not in ((), (features,)):
            raise ValueError(
                f"forget_bias: expected a number or {features} of them, one per unit, got"
                f" {checks.describe(forget_bias)}; sweep over values with jax.vmap."
            )
        bias = jnp.broadcast_to(jnp.asarray(forget_bias, dtype), (features,))
    blocks = dict.fromkeys(gates, jnp.zeros((features,), dtype))
    if keep:
        blocks[keep] = bias
    if write and (chrono or not keep):
        blocks[write] = -bias
    return jnp.concatenate([blocks[gate] for gate in gates])
