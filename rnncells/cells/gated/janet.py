"""JANET: an LSTM with nothing but its forget gate."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rnncells.cell import Weights
from rnncells.fields import Number, number
from rnncells.initializers import Chrono, ForgetBias
from rnncells.parts.arithmetic import constant, dense, split_gates
from rnncells.parts.gated import GatedCell


class JANET(GatedCell):
    """Just another network: one gate forgets, and lets in what it has forgotten, and a little more.

        f = x W_f + h U_f + b_f      g = tanh(x W_g + h U_g + b_g)
        h' = s(f) h + (1 - s(f - beta)) g,    y = h'

    with s the logistic function. A positive beta opens the way in wider than the way out, so that the two
    coefficients sum to more than 1; with beta = 0 it is a UGRNN.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 2H], recurrent_kernel U [H, 2H], bias b [2H], gates in
    the order f, g.

    Args:
        features: H.
        beta: 1 by default.
        forget_bias: initial b_f, `Chrono(100)` by default; its t_max should be the longest dependency in
            ticks, which the paper takes to be the length of the sequence. A number, an array [H] or
            another scheme serves too.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform and orthogonal.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: van der Westhuizen & Lasenby 2018, arXiv 1804.04849. beta is fixed, as there; the authors' code
    draws b_f = ln u with u up to t_max, here up to t_max - 1 as Tallec & Ollivier 2018 (arXiv 1804.11188).
    """

    paper = "van der Westhuizen & Lasenby 2018, arXiv 1804.04849"
    gates = ("f", "g")
    keep = "f"

    beta: Number = number(default=1.0)
    forget_bias: ForgetBias = number(default=Chrono())

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        f, g = split_gates(drive + dense(carry, weights["recurrent_kernel"]), 2)
        written = 1 - jax.nn.sigmoid(f - constant(self.beta, f))
        hidden = jax.nn.sigmoid(f) * carry + written * jnp.tanh(g)
        return hidden, hidden
