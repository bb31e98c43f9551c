"""The LSTM with a refine gate."""

from __future__ import annotations

import chex
import jax
from jax.typing import DTypeLike

from rnncells.cells.gated.lstm import CoupledLSTM
from rnncells.fields import number
from rnncells.initializers import ForgetBias, UniformGate


class URLSTM(CoupledLSTM):
    """Coupled LSTM with a second gate that refines its forget gate near 0 and 1.

        f = s(x W_f + h U_f + b_f)      r = s(x W_r + h U_r + b_r)
        g = a(x W_g + h U_g + b_g)      o = s(x W_o + h U_o + b_o)
        e = r (1 - (1 - f)^2) + (1 - r) f^2
        c' = e c + (1 - e) g            h' = o t(c'),    y = h'

    The effective gate e is f at r = 1/2 and reaches from f^2 to 1 - (1 - f)^2: where f saturates, r moves e
    further than f could. Forget gates start uniform over (0, 1).

    Shapes: as LSTM, gates in the order f, r, g, o.

    Args:
        features: H.
        forget_bias: added to the initial b_f and taken from b_r, `UniformGate()` by default; a number, an
            array [H] or a scheme.
        gate_activation, candidate_activation, output_activation: s, a and t; by name or as functions.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform and orthogonal.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Gu, Gulcehre, Paine, Hoffman & Pascanu 2020, arXiv 1910.09890. The paper adds one vector to f and
    takes it from r; here b_f and b_r start as that vector and its negative, and are trained each by itself.
    """

    paper = "Gu, Gulcehre, Paine, Hoffman & Pascanu 2020, arXiv 1910.09890"
    gates = ("f", "r", "g", "o")

    forget_bias: ForgetBias = number(default=UniformGate())

    def added_biases(self, key: chex.PRNGKey, dtype: DTypeLike) -> dict[str, jax.Array]:
        added = super().added_biases(key, dtype)
        return added | {"r": -added["f"]}

    def kept(self, *gates: jax.Array) -> jax.Array:
        f, r = map(self.gate_activation, gates)
        return f * (f + 2 * r * (1 - f))
