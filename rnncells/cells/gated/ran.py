"""The recurrent additive network."""

from __future__ import annotations

import jax

from rnncells.cell import Weights
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import dense, split_gates
from rnncells.parts.gated import GatedCell


class RAN(GatedCell):
    """Recurrent additive network: a gated sum of linear inputs.

        h = g(c)
        i = s(x W_i + h U_i + b_i)      f = s(x W_f + h U_f + b_f)
        c' = i (x W_c) + f c
        y = g(c')

    The memory is a sum of the inputs x W_c, each with a weight in (0, 1), and can grow with their number. The
    state is c alone, of which h is a function.

    Shapes: x [..., I], carry c and y [..., H]; kernel W [I, 3H] in the order i, f, c; recurrent_kernel U [H,
    2H] and bias b [2H] in the order i, f.

    Args:
        features: H.
        forget_bias: initial b_f, 0 by default; a number, an array [H], or `UniformGate()`; `Chrono(t_max)`
            sets b_i = -b_f as well.
        activation: g, "tanh" by default; "identity" is the paper's other choice.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform and orthogonal.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Lee, Levy & Zettlemoyer 2017, arXiv 1705.07393. The projection of h in the authors' code is left
    out.
    """

    paper = "Lee, Levy & Zettlemoyer 2017, arXiv 1705.07393"
    gates = ("i", "f", "c")
    recurrent_gates = ("i", "f")
    biased_gates = ("i", "f")
    keep = "f"
    write = "i"

    activation: Activation = activation("tanh")

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        gates, content = drive[..., : 2 * self.features], drive[..., 2 * self.features :]
        gates = gates + dense(self.activation(carry), weights["recurrent_kernel"])
        i, f = split_gates(jax.nn.sigmoid(gates), 2)
        cell = i * content + f * carry
        return cell, cell

    def readout(self, weights: Weights, out: jax.Array, drive: jax.Array) -> jax.Array:
        return self.activation(out)
