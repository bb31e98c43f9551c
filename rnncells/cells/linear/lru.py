"""The linear recurrent unit."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, computes_in
from rnncells.fields import Number, number, static
from rnncells.initializers import Normal
from rnncells.linear_scan import DiagonalElement
from rnncells.parts.arithmetic import align, dense, split_gates
from rnncells.parts.diagonal import complex_zeros, on_ring, ring, variance_gain, widened_exp
from rnncells.parts.linear import LinearCell, LinearDrive


class LRU(LinearCell):
    """Linear recurrent unit: a complex diagonal recurrence inside the unit circle.

        lambda = exp(-exp(nu) + i exp(theta))
        s' = lambda s + exp(gamma) (x B),    y = Re(s' C) + x D

    |lambda| < 1 whatever is trained. gamma starts as ln sqrt(1 - |lambda|^2), so that white noise gives
    states of unit variance, and is free afterwards. The state is complex, and no conjugate half is left out.

    Shapes: x [..., I], s [..., H] complex64 or wider, y [..., H]; kernel [I, 2H] and output_kernel [2H, H],
    the real parts of B and C, then the imaginary ones; log_decay nu, log_phase theta, log_gain gamma [H];
    skip_kernel D [I, H].

    Args:
        features: H, both of the state and of y.
        r_min, r_max: |lambda| is drawn uniformly on the ring between them; 0 and 1 by default. Long
            dependencies want .9 and .999.
        max_phase: the phases are drawn from U(0, max_phase); 2 pi by default, less for long dependencies.

    Source: Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu & De 2023, arXiv 2303.06349. Deviation: their D is
    diagonal, which needs an output as wide as the input; here it is a matrix, N(0, 1/I), with outputs of the
    same variance. Their learning rates (nu, theta, gamma, B at half the rate, without weight decay) are left
    to the optimiser.
    """

    paper = "Orvieto et al. 2023, arXiv 2303.06349"
    gates = ("re", "im")

    features: int = static(check=checks.positive_int)
    r_min: Number = number(default=0.0, low=0.0, high=1.0)
    r_max: Number = number(default=1.0, low=0.0, high=1.0)
    max_phase: Number = number(default=2 * np.pi, low=0.0)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        size, wide = self.features, accumulator(dtype)
        radius_key, phase_key, *kernel_keys = jax.random.split(key, 5)
        logs = ring((radius_key, phase_key), size, self.r_min, self.r_max, self.max_phase, wide)
        logs["log_gain"] = jnp.log(variance_gain(logs["log_decay"]))
        shapes = {
            "kernel": (input_size, 2 * size),
            "output_kernel": (2 * size, size),
            "skip_kernel": (input_size, size),
        }
        spread = ((2 * input_size) ** -0.5, size**-0.5, input_size**-0.5)
        kernels = {
            name: Normal(stddev)(k, shape, dtype)
            for (name, shape), stddev, k in zip(shapes.items(), spread, kernel_keys, strict=True)
        }
        return kernels | {name: leaf.astype(dtype) for name, leaf in logs.items()}

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> jax.Array:
        return complex_zeros((*batch_shape, self.features), params, like)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        kernels = {name: leaf for name, leaf in params.items() if not name.startswith("log")}
        return kernels | {"lambda": on_ring(params), "gain": widened_exp(params["log_gain"])}

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        fused = dense(x, weights["kernel"])
        re, im = split_gates(fused.astype(weights["gain"].dtype), 2)
        gain = align(weights["gain"], re)
        element = DiagonalElement(align(weights["lambda"], re), jax.lax.complex(gain * re, gain * im))
        return LinearDrive(element, dense(x, weights["skip_kernel"]))

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        parts = jnp.concatenate([out.real, -out.imag], -1).astype(computes_in(weights))
        return dense(parts, weights["output_kernel"]) + drive.extra
