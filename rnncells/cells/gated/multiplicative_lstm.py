"""The multiplicative LSTM."""

from __future__ import annotations

import jax

from rnncells.cell import Weights
from rnncells.cells.gated.lstm import LSTMCarry, LSTMFamily
from rnncells.fields import number
from rnncells.initializers import ForgetBias, Initializer, Orthogonal, scheme
from rnncells.parts.arithmetic import dense, split_gates


class MultiplicativeLSTM(LSTMFamily):
    """LSTM whose recurrent map is another one for every input.

        m = (x W_m) (h U_m)
        i = s(x W_i + m U_i + b_i)      f = s(x W_f + m U_f + b_f)
        g = a(x W_g + m U_g + b_g)      o = s(x W_o + m U_o + b_o)
        c' = f c + i g                  h' = o t(c'),    y = h'

    The product in m is elementwise: h reaches the gates only through diag(x W_m), so that the first tick
    after a state of zeros sees the input alone. A tick has two matrix products, one after the other.

    Shapes: x [..., I], carry `LSTMCarry(cell, hidden)` of two [..., H], y [..., H]; kernel W [I, 5H],
    recurrent_kernel U [H, 5H] and bias b [4H], gates in the order m, i, f, g, o; m has no bias.

    Args:
        features: H.
        forget_bias: initial b_f, 3 by default as the authors'; otherwise as LSTM.
        gate_activation, candidate_activation, output_activation: s, a and t; by name or as functions.
        kernel_init, recurrent_init: drawn for each gate; orthogonal, as the authors'.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Krause, Lu, Murray & Renals 2016, arXiv 1609.07959, with the nonlinearities of the authors' later
    code; in their earlier code the candidate is linear and the output gate inside the tanh. Their weight
    normalisation of U is `WeightNorm(MultiplicativeLSTM(H))`.
    """

    paper = "Krause, Lu, Murray & Renals 2016, arXiv 1609.07959"
    gates = ("m", "i", "f", "g", "o")
    biased_gates = ("i", "f", "g", "o")
    unsigned_gates = ("m",)
    write = "i"
    emits = ""

    forget_bias: ForgetBias = number(default=3.0)
    kernel_init: Initializer = scheme(Orthogonal(), kw_only=True)

    def step(self, weights: Weights, carry: LSTMCarry, drive: jax.Array) -> tuple[LSTMCarry, jax.Array]:
        kernel, size = weights["recurrent_kernel"], self.features
        m = drive[..., :size] * dense(carry.hidden, kernel[:, :size])
        i, f, g, o = split_gates(drive[..., size:] + dense(m, kernel[:, size:]), 4)
        cell = self.write_to(carry.cell, i, f, g)
        hidden = self.read_from(cell, o)
        return LSTMCarry(cell, hidden), hidden
