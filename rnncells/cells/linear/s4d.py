"""Diagonal state-space models, one for each channel."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, computes_in
from rnncells.fields import Number, choice, number, static
from rnncells.initializers import Initializer, LeCun, Normal, scheme
from rnncells.linear_scan import DiagonalElement
from rnncells.parts.arithmetic import align, dense
from rnncells.parts.diagonal import (
    RULES,
    complex_zeros,
    discretised,
    even,
    legs_frequencies,
    log_uniform,
    widened_exp,
)
from rnncells.parts.linear import LinearCell, LinearDrive


class S4D(LinearCell):
    """S4D: a state-space model with a diagonal matrix for each of H channels, in continuous time.

        u = x W
        ds/dt = a s + u,    a = -exp(log_decay) + i frequency
        y = 2 Re(sum over n of C_n s_n) + x D

    for each channel with N / 2 complex states, one of each conjugate pair, and a time exp(log_step) of its
    own between ticks, over which u is constant (zero-order hold) or the integral a trapezium (bilinear).
    The paper's B is 1: C makes up for it.

    Shapes: x [..., I], s [..., H, N / 2] complex64 or wider, y [..., H]; kernel W [I, H]; log_decay and
    frequency [H, N / 2], log_step [H]; output_kernel [H, N], the real part of C, then the imaginary one;
    skip_kernel D [I, H].

    Args:
        features: H.
        states: N, even; 64 by default.
        spectrum: how a starts, with real parts -1/2; for n = 0 ... N / 2 - 1 the frequency is pi n with
            "lin" (the default), (N / pi) (N / (2n + 1) - 1) with "inv", and with "legs" one of the normal
            part of HiPPO-LegS.
        discretisation: "zero_order_hold" (the default) or "bilinear".
        step_min, step_max: log_step is drawn uniformly between their logarithms; 1e-3 and .1 by default.
        kernel_init: LeCun normal.

    C starts complex normal.

    Source: Gu, Gupta, Goel & Re 2022, arXiv 2206.11893. Deviations: their model is as wide as its input,
    here W makes the channels; their D is diagonal, which needs an output as wide as the input, here it is a
    matrix, N(0, 1 / I), with outputs of the same variance. What follows in their layer, GELU and a gated
    linear unit across the channels, is no part of the cell. Their learning rates (1e-3 for a and log_step,
    without weight decay) are left to the optimiser.
    """

    paper = "Gu, Gupta, Goel & Re 2022, arXiv 2206.11893"
    gates = ("u",)

    features: int = static(check=checks.positive_int)
    states: int = static(default=64, check=even)
    spectrum: str = choice("lin", "inv", "legs", default="lin")
    discretisation: str = choice(*RULES, default=RULES[0])
    step_min: Number = number(default=1e-3, low=0.0)
    step_max: Number = number(default=0.1, low=0.0)
    kernel_init: Initializer = scheme(LeCun(), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        kernel_key, step_key, output_key, skip_key = jax.random.split(key, 4)
        shape = (self.features, self.states // 2)
        step = log_uniform(step_key, self.features, self.step_min, self.step_max, accumulator(dtype))
        return {
            "kernel": self.kernel_init(kernel_key, (input_size, self.features), dtype),
            "log_decay": jnp.full(shape, np.log(0.5), dtype),
            "frequency": jnp.broadcast_to(jnp.asarray(self._frequencies(), dtype), shape),
            "log_step": step.astype(dtype),
            "output_kernel": Normal(0.5**0.5)(output_key, (self.features, self.states), dtype),
            "skip_kernel": LeCun()(skip_key, (input_size, self.features), dtype),
        }

    def _frequencies(self) -> np.ndarray:
        n, size = np.arange(self.states // 2), self.states
        if self.spectrum == "legs":
            return legs_frequencies(size)
        return np.pi * n if self.spectrum == "lin" else size / np.pi * (size / (2 * n + 1) - 1)

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> jax.Array:
        return complex_zeros((*batch_shape, self.features, self.states // 2), params, like)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        frequency = params["frequency"].astype(accumulator(params["frequency"].dtype))
        a = jax.lax.complex(-widened_exp(params["log_decay"]), frequency)
        step = jnp.broadcast_to(widened_exp(params["log_step"])[:, None], a.shape)
        decay, gain = discretised(self.discretisation, a, step)
        kernels = {name: leaf for name, leaf in params.items() if name.endswith("kernel")}
        return kernels | {"decay": decay, "gain": gain}

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        u = dense(x, weights["kernel"])[..., None]
        decay, gain = (align(weights[name], u) for name in ("decay", "gain"))
        u = u.astype(gain.real.dtype)
        element = DiagonalElement(decay, jax.lax.complex(gain.real * u, gain.imag * u))
        return LinearDrive(element, dense(x, weights["skip_kernel"]))

    def read(self, weights: Weights, state: jax.Array, drive: LinearDrive) -> jax.Array:
        re, im = (
            align(part.astype(state.real.dtype), state) for part in jnp.split(weights["output_kernel"], 2, -1)
        )
        return 2 * jnp.sum(re * state.real - im * state.imag, -1)

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        return out.astype(computes_in(weights)) + drive.extra
