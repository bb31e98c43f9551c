"""The update gate recurrent network."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rnncells.cell import Weights
from rnncells.fields import number
from rnncells.initializers import ForgetBias
from rnncells.parts.arithmetic import dense, split_gates
from rnncells.parts.gated import GatedCell


class UGRNN(GatedCell):
    """Update gate recurrent network: one gate between the old state and a new one.

        g = s(x W_g + h U_g + b_g)      c = tanh(x W_c + h U_c + b_c)
        h' = g h + (1 - g) c,    y = h'

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 2H], recurrent_kernel U [H, 2H], bias b [2H],
    gates in the order g, c.

    Args:
        features: H.
        forget_bias: initial b_g, 1 by default; a number, an array [H], or `Chrono(t_max)`, `UniformGate()`.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform and orthogonal.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Collins, Sohl-Dickstein & Sussillo 2017, arXiv 1611.09913.
    """

    paper = "Collins, Sohl-Dickstein & Sussillo 2017, arXiv 1611.09913"
    gates = ("g", "c")
    keep = "g"

    forget_bias: ForgetBias = number(default=1.0)

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        g, c = split_gates(drive + dense(carry, weights["recurrent_kernel"]), 2)
        g = jax.nn.sigmoid(g)
        hidden = g * carry + (1 - g) * jnp.tanh(c)
        return hidden, hidden
