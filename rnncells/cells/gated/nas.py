"""The cell that a search over architectures found."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.cells.gated.lstm import LSTMCarry
from rnncells.dtypes import dtype_of
from rnncells.fields import static
from rnncells.initializers import Glorot, Initializer, scheme
from rnncells.parts.arithmetic import dense, split_gates
from rnncells.parts.gated import DenseCell


class NAS(DenseCell):
    """The recurrent cell of neural architecture search, found on the Penn treebank.

        u_k = x W_k      v_k = h U_k + b_k      for k = 0 ... 7
        p = tanh(s(u_0 + v_0) relu(u_1 + v_1))      q = tanh(s(u_2 + v_2) + relu(u_3 v_3))
        r = tanh(tanh(u_4 + v_4) s(u_5 + v_5))      w = s(tanh(u_6 + v_6) + s(u_7 + v_7))
        c' = tanh(p + c) q                          h' = tanh(c' tanh(r + w)),    y = h'

    with s the logistic function. Input and state meet in a product for k = 3, in sums elsewhere; c and h stay
    between -1 and 1.

    Shapes: x [..., I], carry `LSTMCarry(cell, hidden)` of two [..., H], y [..., H]; kernel W [I, 8H],
    recurrent_kernel U [H, 8H] and, with use_bias, bias b [8H], gates in the order s0 ... s7.

    Args:
        features: H.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform.
        use_bias, bias_init: no biases by default.

    Source: Zoph & Le 2017, arXiv 1611.01578; equations, initial values and the place of the bias as in
    TensorFlow's NASCell, which the authors' laboratory published, without its projection of h.
    """

    paper = "Zoph & Le 2017, arXiv 1611.01578"
    gates = ("s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7")
    unsigned_gates = ("s3",)

    recurrent_init: Initializer = scheme(Glorot(), kw_only=True)
    use_bias: bool = static(default=False, kw_only=True)

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> LSTMCarry:
        shape, dtype = (*batch_shape, self.features), dtype_of(params, like)
        return LSTMCarry(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
        return dense(x, weights["kernel"])

    def step(self, weights: Weights, carry: LSTMCarry, drive: jax.Array) -> tuple[LSTMCarry, jax.Array]:
        product = dense(carry.hidden, weights["recurrent_kernel"], weights.get("bias"))
        u_3, v_3 = (split_gates(side, 8)[3] for side in (drive, product))
        a_0, a_1, a_2, _, a_4, a_5, a_6, a_7 = split_gates(drive + product, 8)
        sigmoid, relu, tanh = jax.nn.sigmoid, jax.nn.relu, jnp.tanh
        p = tanh(sigmoid(a_0) * relu(a_1))
        q = tanh(sigmoid(a_2) + relu(u_3 * v_3))
        r = tanh(tanh(a_4) * sigmoid(a_5))
        w = sigmoid(tanh(a_6) + sigmoid(a_7))
        cell = tanh(p + carry.cell) * q
        hidden = tanh(cell * tanh(r + w))
        return LSTMCarry(cell, hidden), hidden
