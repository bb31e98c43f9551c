"""The Legendre memory unit: the last theta ticks of a signal, as Legendre polynomials."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, dtype_of
from rnncells.fields import static
from rnncells.initializers import Glorot, Initializer, LeCun, scheme
from rnncells.parts import hippo
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import align, dense
from rnncells.parts.gated import DenseCell


class LMUCarry(NamedTuple):
    """`h, m = carry`."""

    hidden: jax.Array
    """[..., H]"""
    memory: jax.Array
    """[..., M, N], float32 or wider."""


class LMUDrive(NamedTuple):
    """What the input gives to the hidden units, [..., H], and to the memories, [..., M]."""

    hidden: jax.Array
    signal: jax.Array


def _window(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"{name}: expected a positive number known at trace time, got {checks.describe(value)}."
        )
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a positive number, got {value}.")


@functools.lru_cache
def window(order: int, theta: float) -> tuple[hippo.Matrix, hippo.Matrix]:
    """A [N, N] and B [N] of one tick over a window of theta ticks, in float64."""
    return hippo.zero_order_hold(*hippo.legt(order), 1 / theta)


class LMU(DenseCell):
    """Legendre memory unit: a memory of a sliding window, written and read by a simple recurrent network.

        u = x e_x + h e_h + m e_m
        m' = A m + B u
        h' = act(x W_x + h W_h + m' W_m),    y = h'

    A and B are fixed: m holds, for each of M signals u, the coefficients of its last theta ticks in N
    Legendre polynomials; u(t - r theta) is near the sum over i of m_i P_i(2r - 1), for r from 0 to 1. The
    memory is linear in u, but u depends on the hidden units, so the cell is not linear.

    Shapes: x [..., I], carry `LMUCarry(hidden, memory)` of [..., H] and [..., M, N], y [..., H]; kernel W_x
    [I, H], recurrent_kernel W_h [H, H], memory_kernel W_m [M N, H], input_encoder e_x [I, M], hidden_encoder
    e_h [H, M], memory_encoder e_m [M N, M]; with use_bias, bias [H]. `prepare` adds transition A^T [N, N] and
    write B [N], and gives A W_m [M, N, H] as memory_kernel, B W_m [M, H] as signal_kernel and e_m [M, N, M].

    Args:
        features: H.
        order: N, H by default.
        theta: the window in ticks, 784 as for the pixels of an image. Static: A and B are computed in
            double precision, see parts/hippo.py.
        memories: M, 1.
        activation: act, "tanh".
        kernel_init: of W_x and W_m; recurrent_init: of W_h; Glorot normal.
        encoder_init: of e_x and e_h; LeCun uniform. e_m starts at zero.
        bias_init, use_bias: no bias by default, as in the paper.

    Source: Voelker, Kajic & Eliasmith 2019, Legendre memory units, NeurIPS 32; initial values from the
    authors' first code. Its later versions (KerasLMU) leave e_h, e_m and W_x out by default. The paper's
    memory has one signal; M of them are M memories with encoders of their own, as in KerasLMU. A and B by
    zero-order hold.
    """

    paper = "Voelker, Kajic & Eliasmith 2019, NeurIPS 32"
    gates = ("h",)

    order: int | None = static(
        default=None, check=lambda name, value: value is None or checks.positive_int(name, value)
    )
    theta: float = static(default=784.0, check=_window)
    memories: int = static(default=1, check=checks.positive_int)
    activation: Activation = activation("tanh")
    kernel_init: Initializer = scheme(Glorot(distribution="normal"), kw_only=True)
    recurrent_init: Initializer = scheme(Glorot(distribution="normal"), kw_only=True)
    encoder_init: Initializer = scheme(LeCun(distribution="uniform"), kw_only=True)
    use_bias: bool = static(default=False, kw_only=True)

    @property
    def _order(self) -> int:
        return self.order or self.features

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, memory_key, *encoder_keys = jax.random.split(key, 4)
        size, count, held = self.features, self.memories, self.memories * self._order
        read, write = (
            self.encoder_init(k, (rows, count), dtype)
            for k, rows in zip(encoder_keys, (input_size, size), strict=True)
        )
        return super().init(key, input_size, dtype) | {
            "memory_kernel": self.kernel_init(memory_key, (held, size), dtype),
            "input_encoder": read,
            "hidden_encoder": write,
            "memory_encoder": jnp.zeros((held, count), dtype),
        }

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> LMUCarry:
        dtype = dtype_of(params, like)
        memory = jnp.zeros((*batch_shape, self.memories, self._order), accumulator(dtype))
        return LMUCarry(jnp.zeros((*batch_shape, self.features), dtype), memory)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        wide, dtype = accumulator(dtype_of(params)), params["memory_kernel"].dtype
        a, b = (jnp.asarray(part, wide) for part in window(self._order, float(self.theta)))
        shape = (self.memories, self._order, -1)
        kernel, encoder = (params[name].reshape(shape) for name in ("memory_kernel", "memory_encoder"))
        # m' W_m is m (A W_m) + u (B W_m): no product of a tick then waits for m'.
        from_memory = jnp.einsum("kn,mkh->mnh", a, kernel.astype(wide)).astype(dtype)
        from_signal = jnp.einsum("k,mkh->mh", b, kernel.astype(wide)).astype(dtype)
        return params | {
            "memory_kernel": from_memory,
            "signal_kernel": from_signal,
            "memory_encoder": encoder,
            "transition": a.T,
            "write": b,
        }

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LMUDrive:
        return LMUDrive(super().project(weights, x), dense(x, weights["input_encoder"]))

    def step(self, weights: Weights, carry: LMUCarry, drive: LMUDrive) -> tuple[LMUCarry, jax.Array]:
        hidden, memory = carry

        def read(name: str) -> jax.Array:
            dtype = drive.hidden.dtype
            return jnp.tensordot(memory.astype(dtype), weights[name].astype(dtype), 2)

        signal = drive.signal + dense(hidden, weights["hidden_encoder"]) + read("memory_encoder")
        seen = read("memory_kernel") + dense(signal, weights["signal_kernel"])
        written = align(weights["write"], memory) * signal[..., None].astype(memory.dtype)
        hidden = self.activation(drive.hidden + dense(hidden, weights["recurrent_kernel"]) + seen)
        return LMUCarry(hidden, dense(memory, weights["transition"]) + written), hidden
