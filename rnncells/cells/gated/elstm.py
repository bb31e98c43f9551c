"""The LSTM with element-wise recurrence."""

from __future__ import annotations

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Params, Weights
from rnncells.fields import number
from rnncells.initializers import ForgetBias, He, Initializer, Normal, gate_kernel, scheme
from rnncells.parts.arithmetic import align, dense, split_gates
from rnncells.parts.gated import ProjectedCell


class ELSTMDrive(NamedTuple):
    gates: jax.Array
    """[..., 2H]"""
    output: jax.Array
    """[..., H]: what the input gives to the output gate."""


class ELSTM(ProjectedCell):
    """LSTM whose memory cells see nothing of each other.

        f = s(x W_f + w_f c + b_f)      z = tanh(x W_z + w_z c + b_z)
        c' = f c + (1 - f) z            o = s((x, c') O + b_o)            y = o c'

    with s the logistic function; products with w are elementwise, and the output gate reads input and memory
    side by side. The derivative of a state by the one before is diagonal, which makes real-time recurrent
    learning exact and cheap; |c| <= max(|c_0|, 1). Only f, z and c' are computed tick by tick.

    Shapes: x [..., I], c and y [..., H]; kernel W [I, 2H], recurrent_scale w [2H] and bias b [2H], gates in
    the order f, z; output_kernel O [I + H, H] and output_bias b_o [H].

    Args:
        features: H.
        forget_bias: added to the initial b_f, 0 by default; a number, an array [H] or a scheme.
        kernel_init, scale_init, bias_init: of W and w, drawn for each gate, and of b; N(0, 0.1^2).
        output_init: of O; uniform within 1 / sqrt(I + H), as is b_o.
        use_bias: without, b and b_o are left out and forget_bias has no place.

    Source: Irie, Gopalakrishnan & Schmidhuber 2023, arXiv 2305.19044; initial values as the authors' code.
    """

    paper = "Irie, Gopalakrishnan & Schmidhuber 2023, arXiv 2305.19044"
    gates = ("f", "z")
    keep = "f"

    forget_bias: ForgetBias = number(default=0.0)
    kernel_init: Initializer = scheme(Normal(0.1), kw_only=True)
    scale_init: Initializer = scheme(Normal(0.1), kw_only=True)
    bias_init: Initializer = scheme(Normal(0.1), kw_only=True)
    output_init: Initializer = scheme(He(6**-0.5, "uniform"), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, scale_key, output_key, bias_key = jax.random.split(key, 4)
        size, wide = self.features, input_size + self.features
        params = super().init(key, input_size, dtype) | {
            "recurrent_scale": gate_kernel(self.scale_init, scale_key, 1, size, 2, dtype).reshape(-1),
            "output_kernel": self.output_init(output_key, (wide, size), dtype),
        }
        if self.use_bias:
            bias = jax.random.uniform(bias_key, (size,), dtype, -1.0, 1.0)
            params["output_bias"] = bias / math.sqrt(wide)
        return params

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> ELSTMDrive:
        of_input = weights["output_kernel"][: -self.features]
        return ELSTMDrive(super().project(weights, x), dense(x, of_input, weights.get("output_bias")))

    def step(self, weights: Weights, carry: jax.Array, drive: ELSTMDrive) -> tuple[jax.Array, jax.Array]:
        f, z = split_gates(drive.gates, 2)
        w_f, w_z = (align(w, carry) for w in split_gates(weights["recurrent_scale"], 2))
        f = jax.nn.sigmoid(f + w_f * carry)
        cell = f * carry + (1 - f) * jnp.tanh(z + w_z * carry)
        return cell, cell

    def readout(self, weights: Weights, out: jax.Array, drive: ELSTMDrive) -> jax.Array:
        of_memory = weights["output_kernel"][-self.features :]
        return jax.nn.sigmoid(drive.output + dense(out, of_memory)) * out
