"""The light gated recurrent unit."""

from __future__ import annotations

from rnncells.cells.gated.ugrnn import UGRNN
from rnncells.fields import number
from rnncells.initializers import ForgetBias
from rnncells.parts.activations import Activation, activation


class LiGRU(UGRNN):
    """Light gated recurrent unit: a GRU without its reset gate, with relu.

        z = s(x W_z + h U_z + b_z)      n = a(x W_n + h U_n + b_n)
        h' = z h + (1 - z) n,    y = h'

    A `UGRNN` with another activation. With relu the state is not bounded, and never negative from h = 0.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 2H], recurrent_kernel U [H, 2H], bias b [2H], gates in
    the order z, n.

    Args:
        features: H.
        forget_bias: initial b_z, 0 by default; a number, an array [H], or `Chrono(t_max)`, `UniformGate()`.
        activation: a, "relu" by default.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform and orthogonal, as in the paper.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Ravanelli, Brakel, Omologo & Bengio 2018, arXiv 1803.10225. The paper normalises x W over batch
    and time, which takes the place of b and keeps relu from growing; a cell sees one sequence, so here is b,
    and `LayerNorm` is the normalisation at hand.
    """

    paper = "Ravanelli, Brakel, Omologo & Bengio 2018, arXiv 1803.10225"
    gates = ("z", "n")
    keep = "z"

    forget_bias: ForgetBias = number(default=0.0)
    activation: Activation = activation("relu")
