"""The selective state-space model, the core of Mamba."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, computes_in, dtype_of
from rnncells.fields import Number, number, static
from rnncells.initializers import Initializer, LeCun, scheme
from rnncells.linear_scan import DiagonalElement
from rnncells.parts.arithmetic import align, dense, inverse_softplus, split_gates
from rnncells.parts.diagonal import log_uniform, widened_exp
from rnncells.parts.linear import LinearCell, LinearDrive
from rnncells.parts.raw_input import RawInput


def _rank(name: str, value: Any) -> None:
    if value is not None:
        checks.positive_int(name, value)


class _Extra(NamedTuple):
    """What the output of a tick needs besides the state."""

    reader: jax.Array
    """C [..., N]"""
    skip: jax.Array
    """D u [..., H]"""


class S6(LinearCell, RawInput):
    """S6: a state-space model for each channel whose steps, inputs and outputs the input selects.

        B = x W_B      C = x W_C      Delta = softplus(x W_1 W_2 + b)
        s' = e^(Delta A) s + Delta u B,    A = -exp(log_rate)
        y = sum over n of C_n s'_n + d u

    with u = x, or x V where I is not H, N real states for each of the H channels, B and C shared by the
    channels, Delta shared by the states. A large Delta forgets the state and takes the input, a small one
    keeps the state. A is discretised exactly and B by Euler's rule, as in the authors' code.

    Shapes: x [..., I], s [..., H, N] in float32 or wider, y [..., H]; kernel W [I, 2N], B, then C; bias
    [2N] with use_bias; step_down W_1 [I, R], step_up W_2 [R, H], step_bias b [H]; log_rate [H, N]; skip d
    [H]; input_kernel V [I, H] where I is not H.

    Args:
        features: H.
        states: N, 16 by default.
        rank: R; by default H / 32, rounded up, as in Mamba with its channels twice as many as its features.
        step_min, step_max: ln softplus(b) is drawn uniformly between their logarithms; 1e-3 and .1.
        kernel_init: of W_B, W_C and W_1, and V; LeCun normal.
        bias_init, use_bias: no biases of B and C by default.

    A starts as -1 ... -N in every channel, W_2 uniform within R^-1/2, d at 1.

    Source: Gu & Dao 2023, arXiv 2312.00752. The model alone: a Mamba block puts a projection and a short
    convolution before it, a gated branch and a projection behind it. The convolution, which theirs does for
    every channel by itself, is a special case of the first layer of
    `Stack([CausalConvolution(E, width=4, activation="silu"), S6(E)])`.
    """

    paper = "Gu & Dao 2023, arXiv 2312.00752"
    gates = ("b", "c")

    states: int = static(default=16, check=checks.positive_int)
    rank: int | None = static(default=None, check=_rank)
    step_min: Number = number(default=1e-3, low=0.0)
    step_max: Number = number(default=0.1, low=0.0)
    kernel_init: Initializer = scheme(LeCun(), kw_only=True)
    use_bias: bool = static(default=False, kw_only=True)

    def block(self, kernel: str) -> int:
        return self.states if kernel == "kernel" else self.features

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, down_key, up_key, step_key = jax.random.split(key, 4)
        size, wide = self.features, accumulator(dtype)
        rank = self.rank or -(-size // 32)
        step = jnp.exp(log_uniform(step_key, size, self.step_min, self.step_max, wide))
        rates = np.log(np.arange(self.states) + 1.0)
        return super().init(key, input_size, dtype) | {
            "step_down": self.kernel_init(down_key, (input_size, rank), dtype),
            "step_up": jax.random.uniform(up_key, (rank, size), dtype, -(rank**-0.5), rank**-0.5),
            "step_bias": inverse_softplus(step).astype(dtype),
            "log_rate": jnp.broadcast_to(jnp.asarray(rates, dtype), (size, self.states)),
            "skip": jnp.ones((size,), dtype),
        }

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> jax.Array:
        return jnp.zeros((*batch_shape, self.features, self.states), accumulator(dtype_of(params, like)))

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        fused, u = super().project(weights, x), self.raw(weights, x)
        wide = accumulator(fused.dtype)
        b, c = split_gates(fused.astype(wide), 2)
        step = dense(dense(x, weights["step_down"]), weights["step_up"], weights["step_bias"])
        step, channels = jax.nn.softplus(step.astype(wide)), u.astype(wide)
        rate = align(widened_exp(weights["log_rate"]), step[..., None])
        element = DiagonalElement(
            jnp.exp(-step[..., None] * rate), (step * channels)[..., None] * b[..., None, :]
        )
        return LinearDrive(element, _Extra(c, align(weights["skip"].astype(u.dtype), u) * u))

    def read(self, weights: Weights, state: jax.Array, drive: LinearDrive) -> jax.Array:
        return jnp.sum(state * drive.extra.reader[..., None, :], -1)

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        return out.astype(computes_in(weights)) + drive.extra.skip
