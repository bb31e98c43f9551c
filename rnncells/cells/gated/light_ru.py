"""The light recurrent unit."""

from __future__ import annotations

import jax

from rnncells.cells.gated.star import STAR
from rnncells.fields import number
from rnncells.initializers import ForgetBias, Glorot, Initializer, scheme


class LightRU(STAR):
    """Light recurrent unit: a candidate of the input alone, and one gate.

        n = tanh(x W_n)
        f = s(x W_f + h U + b)
        h' = (1 - f) h + f n,    y = h'

    A `STAR` without its last tanh: the state is a convex combination, so |h| <= max(|h_0|, 1).

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 2H] in the order n, f; recurrent_kernel U [H, H]; bias
    b [H].

    Args:
        features: H.
        forget_bias: initial -b, 0 by default (f takes the new value); a number, an array [H], or
            `Chrono(t_max)`, `UniformGate()`.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform and orthogonal.
        bias_init, use_bias: zeros by default; without b, forget_bias has no place.

    Source: Ye, Zhang, Liu, Li, Chang & Zheng 2024, doi 10.3390/electronics13163204, by the equations that
    RecurrentLayers.jl and torchrecurrent print (the latter adds a bias to n). The paper also changes the
    activation, by a structure that it calls stack recurrent cell; that is not here. It abbreviates its unit
    as LRU, which is another cell's name.
    """

    paper = "Ye, Zhang, Liu, Li, Chang & Zheng 2024, doi 10.3390/electronics13163204"
    gates = ("n", "f")
    recurrent_gates = ("f",)
    biased_gates = ("f",)
    write = "f"

    forget_bias: ForgetBias = number(default=0.0)
    kernel_init: Initializer = scheme(Glorot(), kw_only=True)

    def _bounded(self, state: jax.Array) -> jax.Array:
        return state
