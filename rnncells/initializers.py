"""Named initialisation schemes, as small pytree dataclasses with numeric leaves.

A scheme is called as `scheme(key, shape, dtype)`. `gate_kernel` draws a fused kernel one gate block
at a time, because a scheme applied to the fused array is another distribution: the fan-out of a
Glorot draw would be G times too large, and the blocks of a fused orthogonal draw are not orthogonal.

The schemes that cells use by default have `scale=None`, which means 1 and is no leaf: a cell's own
numbers are then its only leaves, and `jax.vmap` with `in_axes=0` sweeps over them alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import chex
import jax
import jax.numpy as jnp
from flax.core.meta import AxisMetadata
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Shape
from rnncells.dtypes import accumulator
from rnncells.fields import Number, Pytree, choice, converted, number, static


class Initializer(Protocol):
    """What a scheme is: a pytree dataclass called as `scheme(key, shape, dtype) -> array`.

    A plain function, such as Flax's `nn.initializers.lecun_normal()`, is taken too (`Given`).
    """

    def __call__(self, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike) -> jax.Array: ...


class Given(Pytree):
    """A function as a scheme. Every call of `nn.initializers.lecun_normal()` makes another function, and a
    cell with another function compiles again: make it once."""

    function: Callable[..., jax.Array] = static()

    def __call__(self, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
        return self.function(key, shape, dtype)


def as_scheme(name: str, value: Any) -> Any:
    """A function as a `Given`; anything else as it is."""
    if isinstance(value, type):
        raise TypeError(f"{name}: expected a scheme, such as Orthogonal(), got the class {value.__name__}.")
    return Given(value) if callable(value) and not dataclasses.is_dataclass(value) else value


def scheme(default: Initializer, *, kw_only: bool = False) -> Any:
    """A field that holds an initialisation scheme."""
    return converted(convert=as_scheme, default=default, kw_only=kw_only)


class Zeros(Pytree):
    """Zeros."""

    def __call__(self, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jnp.zeros(shape, dtype)


class Constant(Pytree):
    """One value everywhere."""

    value: Number = number(default=0.0)

    def __call__(self, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jnp.full(shape, self.value, dtype)


class Normal(Pytree):
    """N(0, stddev^2)."""

    stddev: Number = number(default=0.01, low=0.0)

    def __call__(self, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jax.random.normal(key, shape, dtype) * jnp.asarray(self.stddev, dtype)


class Uniform(Pytree):
    """U(-scale / sqrt(n), scale / sqrt(n)), n the last axis: PyTorch's rule for kernels [., H]."""

    scale: Number = number(default=1.0, low=0.0)

    def __call__(self, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
        draw = jax.random.uniform(key, shape, dtype, -1.0, 1.0)
        return draw * jnp.asarray(self.scale, dtype) / math.sqrt(shape[-1])


class UniformWithin(Pytree):
    """U(-bound, bound)."""

    bound: Number = number(default=0.01, low=0.0)

    def __call__(self, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -1.0, 1.0) * jnp.asarray(self.bound, dtype)


class Glorot(Pytree):
    """Variance scale^2 * 2 / (fan_in + fan_out) (Glorot & Bengio 2010, PMLR 9:249).

    `distribution` is "uniform" or "normal".
    """

    scale: Number | None = number(default=None)
    distribution: str = choice("uniform", "normal", default="uniform")

    def __call__(self, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
        return _scaled(self, key, shape, dtype, 2.0 / (shape[0] + shape[-1]))


class He(Pytree):
    """Variance scale^2 * 2 / fan_in, for relu (He et al. 2015, arXiv 1502.01852).

    `distribution` is "normal" or "uniform".
    """

    scale: Number | None = number(default=None)
    distribution: str = choice("normal", "uniform", default="normal")

    def __call__(self, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
        return _scaled(self, key, shape, dtype, 2.0 / shape[0])


class LeCun(Pytree):
    """Variance scale^2 / fan_in: products of inputs of unit variance have unit variance (LeCun, Bottou, Orr &
    Mueller 1998, doi 10.1007/3-540-49430-8_2).

    `distribution` is "normal" or "uniform".
    """

    scale: Number | None = number(default=None)
    distribution: str = choice("normal", "uniform", default="normal")

    def __call__(self, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
        return _scaled(self, key, shape, dtype, 1.0 / shape[0])


def _scaled(
    scheme: Glorot | He | LeCun, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike, variance: float
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

    def __call__(self, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
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

    def __call__(self, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
        rows, columns = shape
        return jnp.eye(rows, columns, dtype=dtype) * jnp.asarray(self.scale, dtype)


class Chrono(Pytree):
    """Chrono initialisation of a forget bias: b = ln u, u ~ U(1, t_max - 1), so that unit k keeps
    its memory for about u_k ticks; a separate input gate gets -b (Tallec & Ollivier 2018, arXiv 1804.11188).

    t_max: the longest dependency expected, in ticks, at least 2. The paper's authors take 3T/2 for
    the copy problem with T blanks.
    """

    t_max: Number = number(default=100.0, low=2.0)

    def __call__(self, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
        wide = accumulator(dtype)  # 16 bits overflow
        u = jax.random.uniform(key, shape, wide)
        return jnp.log1p(u * (jnp.asarray(self.t_max, wide) - 2)).astype(dtype)


class UniformGate(Pytree):
    """Uniform gate initialisation of a forget bias: b = logit u, u ~ U(1/H, 1 - 1/H), so that gate
    activations start uniform over (0, 1) (Gu, Gulcehre, Paine, Hoffman & Pascanu 2020, arXiv 1910.09890)."""

    def __call__(self, key: chex.PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
        edge = 1.0 / max(shape[-1], 2)
        u = jax.random.uniform(key, shape, dtype, edge, 1.0 - edge)
        return jnp.log(u) - jnp.log1p(-u)


ForgetBias: TypeAlias = Number | Chrono | UniformGate


def gate_kernel(
    scheme: Initializer, key: chex.PRNGKey, rows: int, features: int, gates: int, dtype: DTypeLike
) -> jax.Array:
    """A fused kernel [rows, gates * features], every gate block drawn by itself."""
    return fuse([scheme(block, (rows, features), dtype) for block in jax.random.split(key, gates)])


def fuse(blocks: Sequence[jax.Array], axis: int = -1) -> Any:
    """Blocks [..., H] as one array [..., G*H], or along another axis; in the box of the first, where they
    come in boxes (as those of Flax's `with_partitioning` do)."""
    box: Any = blocks[0]
    if isinstance(box, AxisMetadata):
        return box.replace_boxed(jnp.concatenate([jax.tree.leaves(block)[0] for block in blocks], axis))
    return jnp.concatenate(blocks, axis)


def forget_blocks(
    forget_bias: ForgetBias,
    key: chex.PRNGKey,
    features: int,
    dtype: DTypeLike,
    *,
    keep: str = "",
    write: str = "",
) -> dict[str, jax.Array]:
    """Biases [H] of the gates that decide how long a memory lives, by name.

    forget_bias: a number, an array [H], or a scheme such as `Chrono(t_max)`.
    keep: the gate that keeps the past when it is open; its bias is the forget bias.
    write: the gate that lets the new value in. If it is the only one (no `keep`), its bias is the
        negative forget bias; beside a `keep` gate only Chrono sets it.
    """
    if callable(forget_bias):
        bias = forget_bias(key, (features,), dtype)
    else:
        if jnp.shape(forget_bias) not in ((), (features,)):
            raise ValueError(
                f"forget_bias: expected a number or {features} of them, one per unit, got"
                f" {checks.describe(forget_bias)}; sweep over values with jax.vmap."
            )
        bias = jnp.broadcast_to(jnp.asarray(forget_bias, dtype), (features,))
    blocks = {keep: bias} if keep else {}
    if write and (isinstance(forget_bias, Chrono) or not keep):
        blocks[write] = -bias
    return blocks


def linear_bias(key: chex.PRNGKey, size: int, fan_in: int, dtype: DTypeLike) -> jax.Array:
    """A bias [size] as PyTorch's linear layers draw it: U(-1 / sqrt(n), 1 / sqrt(n)), n the rows of the
    kernel beside it."""
    return jax.random.uniform(key, (size,), dtype, -1.0, 1.0) / math.sqrt(fan_in)
