"""The non-saturating recurrent unit: a memory that heads write into and erase from, without gates."""

from __future__ import annotations

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Cell, Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, dtype_of
from rnncells.fields import static
from rnncells.parts.arithmetic import dense


class NRUCarry(NamedTuple):
    """`h, m = carry`."""

    hidden: jax.Array
    """[..., H]"""
    memory: jax.Array
    """[..., M], float32 or wider."""


class NRU(Cell):
    """Non-saturating recurrent unit: a hidden layer of relu units, and a memory that is only added to.

        h' = relu(x W + h U + m V + b)
        (a, e, p, q, p', q') = [h'; m] W_k + b_k
        A_i = |p q^T|_i, E_i = |p' q'^T|_i        row i = 1 ... k of the products, reshaped to [k, M]
        m' = m + (a_1 A_1 - e_1 E_1 + ... + a_k A_k - e_k E_k) / k
        y = h'

    with |v| = v / ||v||_5: k heads write A_i by a_i and erase E_i by e_i, numbers of any size. p, q, p' and
    q' have sqrt(k M) entries each. Nothing saturates: no gate and no activation is bounded.

    Shapes: x [..., I], carry `NRUCarry(hidden, memory)` of [..., H] and [..., M], y [..., H]; kernel W
    [I, H], recurrent_kernel U [H, H], memory_kernel V [M, H], bias b [H]; heads_kernel W_k [H + M, n] and
    heads_bias b_k [n] with n = 2k + 4 sqrt(k M), in the order a, e, p, q, p', q'.

    Args:
        features: H.
        memory: M, 64. k M must be a square number.
        heads: k, 4.
        positive: relu on a, e, A and E too, so that heads a only write and heads e only erase.

    Kernels and biases start U(-1/sqrt(n), 1/sqrt(n)) with n = I + H + M for h' and H + M for the heads, as in
    the authors' code (PyTorch's `Linear`).

    Source: Chandar, Sankar, Vorontsov, Kahou & Bengio 2019, arXiv 1902.06704; the order 5 of the norm and
    the sizes of the memory from the authors' code, whose layer normalisation of h' (off there) is not here. A
    row of zeros stays zero, with derivative 1 where the authors' code has 1e12.
    """

    paper = "Chandar, Sankar, Vorontsov, Kahou & Bengio 2019, arXiv 1902.06704"
    gates = ("h",)

    features: int = static(check=checks.positive_int)
    memory: int = static(default=64, check=checks.positive_int)
    heads: int = static(default=4, check=checks.positive_int)
    positive: bool = static(default=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._side**2 != self.memory * self.heads:
            raise ValueError(
                f"NRU.memory: expected a square number times heads={self.heads}, that is, memory * heads a"
                f" square number, got {self.memory}."
            )

    @property
    def _side(self) -> int:
        """Entries of p."""
        return math.isqrt(self.memory * self.heads)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        size, both = self.features, self.features + self.memory
        wide = 2 * self.heads + 4 * self._side
        shapes = {
            "kernel": ((input_size, size), input_size + both),
            "recurrent_kernel": ((size, size), input_size + both),
            "memory_kernel": ((self.memory, size), input_size + both),
            "bias": ((size,), input_size + both),
            "heads_kernel": ((both, wide), both),
            "heads_bias": ((wide,), both),
        }
        return {
            name: jax.random.uniform(own, shape, dtype, -(rows**-0.5), rows**-0.5)
            for own, (name, (shape, rows)) in zip(
                jax.random.split(key, len(shapes)), shapes.items(), strict=True
            )
        }

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> NRUCarry:
        dtype = dtype_of(params, like)
        hidden = jnp.zeros((*batch_shape, self.features), dtype)
        return NRUCarry(hidden, jnp.zeros((*batch_shape, self.memory), accumulator(dtype)))

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
        return dense(x, weights["kernel"], weights["bias"])

    def step(self, weights: Weights, carry: NRUCarry, drive: jax.Array) -> tuple[NRUCarry, jax.Array]:
        old = carry.memory.astype(drive.dtype)
        before = dense(carry.hidden, weights["recurrent_kernel"]) + dense(old, weights["memory_kernel"])
        hidden = jax.nn.relu(drive + before)
        fused = dense(jnp.concatenate([hidden, old], -1), weights["heads_kernel"], weights["heads_bias"])
        fused = fused.astype(carry.memory.dtype)
        strengths, vectors = fused[..., : 2 * self.heads], fused[..., 2 * self.heads :]
        write, erase = jnp.split(self._relu(strengths), 2, -1)
        p, q, r, s = jnp.split(vectors, 4, -1)
        change = self._written(write, p, q) - self._written(erase, r, s)
        return NRUCarry(hidden, carry.memory + change / self.heads), hidden

    def _relu(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(x) if self.positive else x

    def _written(self, strength: jax.Array, p: jax.Array, q: jax.Array) -> jax.Array:
        """The sum of what all heads write, [..., M]."""
        rows = self._relu(p[..., :, None] * q[..., None, :])
        # In two steps, as arrays that are divided over devices ask for.
        rows = rows.reshape(*p.shape[:-1], -1).reshape(*p.shape[:-1], self.heads, self.memory)
        largest = jnp.max(jnp.abs(rows), -1, keepdims=True)  # taken out, as fifth powers under- and overflow
        scale = jax.lax.stop_gradient(jnp.where(largest > 0, largest, 1))
        total = jnp.sum(jnp.abs(rows / scale) ** 5, -1, keepdims=True)
        norm = scale * jnp.where(largest > 0, total, 1) ** 0.2
        return jnp.sum(strength[..., None] * rows / norm, -2)
