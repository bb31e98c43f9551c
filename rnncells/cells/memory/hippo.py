"""HiPPO-LegS: all of the past of a signal, as Legendre polynomials."""

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
from rnncells.fields import number, static
from rnncells.initializers import ForgetBias, Glorot, forget_blocks
from rnncells.linear_scan import Diagonal, DiagonalElement
from rnncells.parts.arithmetic import align, dense, split_gates


class HiPPOCarry(NamedTuple):
    """The state, and the ticks so far."""

    hidden: jax.Array
    """[..., H]"""
    memory: jax.Array
    """[..., M, N], float32 or wider."""
    ticks: jax.Array
    """int32 [...]"""


class HiPPODrive(NamedTuple):
    """What the input gives to the gates, [..., 2H], and to the memories, [..., M]."""

    gates: jax.Array
    signal: jax.Array


def remember(memory: jax.Array, signal: jax.Array, ticks: jax.Array) -> jax.Array:
    """The memory after one more tick of HiPPO-LegS: [..., M, N], signal [..., M], ticks so far [...].

        m' = (I - A / 2t)^-1 ((I + A / 2t) m + B u / t) = 2 (I - A / 2t)^-1 (m + B u / 2t) - m

    in O(N): with d = 1 / 2t and r_n = B_n = sqrt(2n + 1), row n of (I - d A) z = v says

        (1 + d (n + 1)) z_n + d r_n s_n = v_n,    s_(n+1) = s_n + r_n z_n,    s_0 = 0

    and s is a linear recurrence in n. The memory of the first tick, t = 0, is (u, 0, 0, ...).
    """
    wide, size = memory.dtype, memory.shape[-1]
    signal, ticks = signal[..., None].astype(wide), ticks[..., None, None]
    step = 0.5 / jnp.maximum(ticks, 1).astype(wide)
    order = align(jnp.arange(size, dtype=wide), memory)
    root = jnp.sqrt(2 * order + 1)
    known, scale = memory + step * root * signal, 1 + step * (order + 1)
    element = DiagonalElement((1 - step * order) / scale, root * known / scale)
    full = Diagonal().full(element)
    _, after = jax.lax.associative_scan(Diagonal().combine, full, axis=-1)
    before = jnp.concatenate([jnp.zeros_like(after[..., :1]), after[..., :-1]], -1)
    new = 2 * (known - step * root * before) / scale - memory
    return jnp.where(ticks == 0, jnp.where(order == 0, signal, 0), new)


class HiPPOLegS(Cell):
    """HiPPO-LegS: a memory of all of the past, and a gated network that writes and reads it.

        u = x e_x + h e_h + e_b
        m' = (I - A / 2t)^-1 ((I + A / 2t) m + B u / t),    or (u, 0, 0, ...) at the first tick, t = 0
        g = s(x W_g + m' V_g + b_g)      c = tanh(x W_c + m' V_c + b_c)
        h' = (1 - g) h + g c,    t' = t + 1,    y = h'

    with s the logistic function. A and B are fixed: m holds, for each of M signals u, the coefficients of its
    whole past, stretched to [0, 1], in N Legendre polynomials. No time scale is chosen: as t grows, a tick
    changes the memory less.

    Shapes: x [..., I], carry `HiPPOCarry(hidden, memory, ticks)` of [..., H], [..., M, N] and int32 [...], y
    [..., H]; kernel W [I, 2H], memory_kernel V [M N, 2H], bias b [2H], gates in the order g, c; input_encoder
    e_x [I, M], hidden_encoder e_h [H, M], encoder_bias e_b [M].

    Args:
        features: H.
        order: N, H by default.
        memories: M, 1.
        forget_bias: subtracted from the initial b_g, 0 by default (g writes); a number, an array [H], or a
            scheme.

    As in the authors' code W_c and V_c start Glorot normal, W_g and V_g N(0, 1 / (I + M N)), encoders
    U(-a, a) with a^2 = 3 / (I + H), and biases as PyTorch's `Linear`: U(-1/sqrt(n), 1/sqrt(n)) with n =
    I + M N for b and I + H for e_b.

    Source: Gu, Dao, Ermon, Rudra & Re 2020, arXiv 2008.07669. As in the authors' code, and unlike the paper's
    formula, which has the memory follow the hidden units, the memory is written first; steps are trapezoidal
    (the paper also gives Euler's) and the first tick is the exact one. Their code stops counting at 1024
    ticks; here t grows on.
    """

    paper = "Gu, Dao, Ermon, Rudra & Re 2020, arXiv 2008.07669"
    gates = ("g", "c")

    features: int = static(check=checks.positive_int)
    order: int | None = static(
        default=None, check=lambda name, value: value is None or checks.positive_int(name, value)
    )
    memories: int = static(default=1, check=checks.positive_int)
    forget_bias: ForgetBias = number(default=0.0)

    @property
    def _order(self) -> int:
        return self.order or self.features

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        size, count, held = self.features, self.memories, self.memories * self._order
        keys = iter(jax.random.split(key, 9))

        def uniform(bound: float, *shape: int) -> jax.Array:
            return jax.random.uniform(next(keys), shape, dtype, -bound, bound)

        def kernel(rows: int) -> jax.Array:
            gate = jax.random.normal(next(keys), (rows, size), dtype) * (input_size + held) ** -0.5
            candidate = Glorot(distribution="normal")(next(keys), (rows, size), dtype)
            return jnp.concatenate([gate, candidate], -1)

        closed = forget_blocks(self.forget_bias, next(keys), size, dtype, write="g")["g"]
        added = jnp.concatenate([closed, jnp.zeros_like(closed)])
        encoder = math.sqrt(3 / (input_size + size))
        return {
            "kernel": kernel(input_size),
            "memory_kernel": kernel(held),
            "bias": uniform((input_size + held) ** -0.5, 2 * size) + added,
            "input_encoder": uniform(encoder, input_size, count),
            "hidden_encoder": uniform(encoder, size, count),
            "encoder_bias": uniform((input_size + size) ** -0.5, count),
        }

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> HiPPOCarry:
        dtype = dtype_of(params, like)
        memory = jnp.zeros((*batch_shape, self.memories, self._order), accumulator(dtype))
        hidden = jnp.zeros((*batch_shape, self.features), dtype)
        return HiPPOCarry(hidden, memory, jnp.zeros(batch_shape, jnp.int32))

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> HiPPODrive:
        signal = dense(x, weights["input_encoder"], weights["encoder_bias"])
        return HiPPODrive(dense(x, weights["kernel"], weights["bias"]), signal)

    def step(self, weights: Weights, carry: HiPPOCarry, drive: HiPPODrive) -> tuple[HiPPOCarry, jax.Array]:
        hidden, memory, ticks = carry
        memory = remember(memory, drive.signal + dense(hidden, weights["hidden_encoder"]), ticks)
        seen = memory.reshape(*memory.shape[:-2], self.memories * self._order).astype(drive.gates.dtype)
        g, c = split_gates(drive.gates + dense(seen, weights["memory_kernel"]), 2)
        hidden = hidden + jax.nn.sigmoid(g) * (jnp.tanh(c) - hidden)
        return HiPPOCarry(hidden, memory, ticks + 1), hidden
