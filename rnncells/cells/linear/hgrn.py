"""The hierarchically gated recurrent unit: forget gates with a lower bound, and a state that rotates."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, computes_in
from rnncells.fields import Number, number
from rnncells.initializers import ForgetBias
from rnncells.linear_scan import DiagonalElement
from rnncells.parts.arithmetic import align, constant, dense, normalise
from rnncells.parts.diagonal import complex_zeros
from rnncells.parts.gated import ProjectedCell
from rnncells.parts.linear import LinearCell, LinearDrive


class HGRN(LinearCell, ProjectedCell):
    """Hierarchically gated recurrent unit, the recurrence of HGRN: a complex memory whose forget gate has a
    lower bound, higher in higher layers, so that these remember longer.

        v = silu(x W_re + b_re) + i silu(x W_im + b_im)      g = silu(x [W_p W_q] + [b_p b_q])
        f = gamma + (1 - gamma) s(x W_f + b_f)
        s' = f e^(i theta) s + (1 - f) v
        y = (norm([Re s', Im s']) g) W_o + b_o

    with norm a layer normalisation, of scale and offset.

    Shapes: x [..., I], s [..., H] complex64 or wider, y [..., H]; kernel W [I, 5H], bias b [5H], gates in
    the order re, im, f, p, q; theta [H]; norm_scale and norm_bias [2H]; output_kernel W_o [2H, H],
    output_bias [H].

    Args:
        features: H.
        lower_bound: gamma, a number or [H]; 0 by default, as in the first layer.
        forget_bias: initial b_f, 0 by default.
        epsilon: of the normalisation.
        kernel_init: drawn for each gate, and for W_o; Glorot uniform.
        bias_init, use_bias: zeros by default; without biases there is no b_o either, and forget_bias has no
            place.

    theta starts at 10000^(-2k/H) for k = 0 ... H - 1, as in the authors' code.

    Source: Qin, Yang & Zhong 2023, arXiv 2311.04823. They learn gamma for all layers together, as the running
    sum of a softmax over the layers: here it is a number of the cell, which may be differentiated.
    """

    paper = "Qin, Yang & Zhong 2023, arXiv 2311.04823"
    gates = ("re", "im", "f", "p", "q")
    keep = "f"

    lower_bound: Number = number(default=0.0, low=0.0, high=1.0)
    forget_bias: ForgetBias = number(default=0.0)
    epsilon: Number = number(default=1e-5, low=0.0)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, output_key = jax.random.split(key)
        size = self.features
        params = super().init(key, input_size, dtype) | {
            "theta": jnp.asarray(10000.0 ** (-2 * np.arange(size) / size), dtype),
            "norm_scale": jnp.ones((2 * size,), dtype),
            "norm_bias": jnp.zeros((2 * size,), dtype),
            "output_kernel": self.kernel_init(output_key, (2 * size, size), dtype),
        }
        return params | {"output_bias": jnp.zeros((size,), dtype)} if self.use_bias else params

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> jax.Array:
        return complex_zeros((*batch_shape, self.features), params, like)

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        gates = self.split_drive(ProjectedCell.project(self, weights, x))
        wide = accumulator(x.dtype)
        re, im, f = (gates[name].astype(wide) for name in ("re", "im", "f"))
        free = 1 - constant(self.lower_bound, f)
        keep, write = 1 - free * jax.nn.sigmoid(-f), free * jax.nn.sigmoid(-f)
        theta = align(weights["theta"].astype(wide), f)
        decay = jax.lax.complex(keep * jnp.cos(theta), keep * jnp.sin(theta))
        update = jax.lax.complex(write * jax.nn.silu(re), write * jax.nn.silu(im))
        gate = jax.nn.silu(jnp.concatenate([gates["p"], gates["q"]], -1))
        return LinearDrive(DiagonalElement(decay, update), gate)

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        parts = jnp.concatenate([out.real, out.imag], -1).astype(computes_in(weights))
        parts = normalise(parts, weights["norm_scale"], self.epsilon) + align(weights["norm_bias"], parts)
        return dense(parts * drive.extra, weights["output_kernel"], weights.get("output_bias"))
