"""The minimal gated unit."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rnncells.cell import Weights
from rnncells.parts.arithmetic import dense, split_gates
from rnncells.parts.gated import GatedCell


class MGU(GatedCell):
    """Minimal gated unit: one gate both resets and updates.

        f = s(x W_f + h U_f + b_f)
        n = tanh(x W_n + (f h) U_n + b_n)
        h' = (1 - f) h + f n,    y = h'

    Here f = 1 takes the new value, as in the paper. Flax's MGUCell keeps the past with f and resets
    after the product; because the same gate also resets, that is another cell and its weights do
    not convert.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 2H], recurrent_kernel U [H, 2H], bias b [2H],
    gates in the order f, n.

    Args:
        features: H.
        forget_bias: initial -b_f, 0 by default (f takes the new value, so a positive forget bias
            closes it); a number, an array [H], or `Chrono(t_max)`, `UniformGate()`.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform and orthogonal.

    Source: Zhou, Wu, Zhang & Zhou 2016, arXiv 1603.09420.
    """

    paper = "Zhou, Wu, Zhang & Zhou 2016, arXiv 1603.09420"
    gates = ("f", "n")
    write = "f"

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        x_f, x_n = split_gates(drive, 2)
        kernel = weights["recurrent_kernel"]
        f = jax.nn.sigmoid(x_f + dense(carry, kernel[:, : self.features]))
        n = jnp.tanh(x_n + dense(f * carry, kernel[:, self.features :]))
        hidden = (1 - f) * carry + f * n
        return hidden, hidden
