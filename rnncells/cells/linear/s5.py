"""A diagonal state-space model that all channels share."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, computes_in
from rnncells.fields import Number, choice, number, static
from rnncells.initializers import LeCun, Normal
from rnncells.linear_scan import DiagonalElement
from rnncells.parts.arithmetic import align, constant, dense, split_gates
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


def _states(name: str, value: Any) -> None:
    if value is not None:
        even(name, value)


class S5(LinearCell):
    """S5: one state-space model with a diagonal matrix, many inputs and many outputs, in continuous time.

        ds/dt = a s + x B,    a = -exp(log_decay) + i frequency
        y = 2 Re(s C) + x D

    with P / 2 complex states, one of each conjugate pair, and a time rescale * exp(log_step) between ticks
    for each, over which x is constant (zero-order hold) or the integral a trapezium (bilinear).

    Shapes: x [..., I], s [..., P / 2] complex64 or wider, y [..., H]; kernel [I, P], the real part of B,
    then the imaginary one; log_decay, frequency and log_step [P / 2]; output_kernel [P, H], of C likewise;
    skip_kernel D [I, H].

    Args:
        features: H, of y.
        states: P, a multiple of 2 * blocks; by default the first that is not below features.
        blocks: J: a starts as J times the spectrum of the normal part of HiPPO-LegS of size P / J, whose real
            parts are -1/2; 1 by default. The authors take 8 and more on long sequences.
        discretisation: "zero_order_hold" (the default) or "bilinear".
        step_min, step_max: log_step is drawn uniformly between their logarithms; 1e-3 and .1 by default.
        rescale: for inputs at another rate than those that the model was trained on, such as 2 for half as
            many ticks; 1 by default.

    B = V^-1 B_0 and C = C_0 V, with V the eigenvectors of that matrix and B_0, C_0 Gaussian, are Gaussian
    too: each part of an entry of B is drawn from N(0, 1 / 2I), of C from N(0, 1 / P).

    Source: Smith, Warrington & Linderman 2023, arXiv 2208.04933. Deviations: their D is diagonal, which
    needs an output as wide as the input; here it is a matrix, N(0, 1 / I), with outputs of the same
    variance. They train Re a itself, and may clip it below 0; here it is negative whatever is trained.
    Their code draws B_0 with variance 1 / P, which is 1 / I where the input is as wide as the state. What
    follows in their layer, an activation and a gate, is no part of the cell.
    """

    paper = "Smith, Warrington & Linderman 2023, arXiv 2208.04933"
    gates = ("re", "im")

    features: int = static(check=checks.positive_int)
    states: int | None = static(default=None, check=_states)
    blocks: int = static(default=1, check=checks.positive_int)
    discretisation: str = choice(*RULES, default=RULES[0])
    step_min: Number = number(default=1e-3, low=0.0)
    step_max: Number = number(default=0.1, low=0.0)
    rescale: Number = number(default=1.0, low=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.states is not None and self.states % (2 * self.blocks):
            raise ValueError(
                f"S5.states: expected a multiple of 2 * blocks={2 * self.blocks}, got {self.states}."
            )

    @property
    def pairs(self) -> int:
        """P / 2."""
        return self.states // 2 if self.states else -(-self.features // (2 * self.blocks)) * self.blocks

    def block(self, kernel: str) -> int:
        return self.pairs

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        kernel_key, output_key, skip_key, step_key = jax.random.split(key, 4)
        size = self.pairs
        step = log_uniform(step_key, size, self.step_min, self.step_max, accumulator(dtype))
        frequency = np.tile(legs_frequencies(2 * size // self.blocks), self.blocks)
        return {
            "kernel": Normal((2 * input_size) ** -0.5)(kernel_key, (input_size, 2 * size), dtype),
            "log_decay": jnp.full((size,), np.log(0.5), dtype),
            "frequency": jnp.asarray(frequency, dtype),
            "log_step": step.astype(dtype),
            "output_kernel": LeCun()(output_key, (2 * size, self.features), dtype),
            "skip_kernel": LeCun()(skip_key, (input_size, self.features), dtype),
        }

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> jax.Array:
        return complex_zeros((*batch_shape, self.pairs), params, like)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        step = widened_exp(params["log_step"])
        a = jax.lax.complex(-widened_exp(params["log_decay"]), params["frequency"].astype(step.dtype))
        decay, gain = discretised(self.discretisation, a, constant(self.rescale, step) * step)
        kernels = {name: leaf for name, leaf in params.items() if name.endswith("kernel")}
        return kernels | {"decay": decay, "gain": gain}

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        fused = dense(x, weights["kernel"])
        re, im = split_gates(fused.astype(weights["gain"].real.dtype), 2)
        decay, gain = (align(weights[name], re) for name in ("decay", "gain"))
        element = DiagonalElement(decay, gain * jax.lax.complex(re, im))
        return LinearDrive(element, dense(x, weights["skip_kernel"]))

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        parts = jnp.concatenate([2 * out.real, -2 * out.imag], -1).astype(computes_in(weights))
        return dense(parts, weights["output_kernel"]) + drive.extra
