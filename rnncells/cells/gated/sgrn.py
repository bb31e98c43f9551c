"""The simple gated recurrent network."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from rnncells.cell import Weights
from rnncells.fields import number
from rnncells.initializers import ForgetBias
from rnncells.parts.arithmetic import dense
from rnncells.parts.gated import GatedCell


class SGRN(GatedCell):
    """Simple gated recurrent network: one product of the input is candidate and gate.

        p = x W
        f = s(p + h U + b)
        h' = tanh((1 - f) p + f h),    y = h'

    With f open the state still decays, by tanh.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], recurrent_kernel U [H, H], bias b [H].

    Args:
        features: H.
        forget_bias: initial b, 1 by default; a number, an array [H], or `Chrono(t_max)`, `UniformGate()`.
        kernel_init, recurrent_init: Glorot uniform and orthogonal.
        bias_init, use_bias: zeros by default; without b, forget_bias has no place.

    Source: Zu & Wei 2021, IET Generation, Transmission & Distribution 15(4):751, doi 10.1049/gtd2.12056. The
    bias is of the gate alone: RecurrentLayers.jl and torchrecurrent add it to the candidate too.
    """

    paper = "Zu & Wei 2021, doi 10.1049/gtd2.12056"
    gates = ("f",)
    keep = "f"

    forget_bias: ForgetBias = number(default=1.0)

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
        return dense(x, weights["kernel"])

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        f = jax.nn.sigmoid(drive + dense(carry, weights["recurrent_kernel"], weights.get("bias")))
        hidden = jnp.tanh((1 - f) * drive + f * carry)
        return hidden, hidden
