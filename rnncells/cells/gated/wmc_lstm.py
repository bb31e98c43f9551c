"""The LSTM with working memory connections."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Params, Weights
from rnncells.cells.gated.lstm import MemoryGatedLSTM
from rnncells.initializers import Initializer, Orthogonal, gate_kernel, scheme
from rnncells.parts.arithmetic import dense, split_gates


class WMCLSTM(MemoryGatedLSTM):
    """LSTM whose gates see the whole memory, through a kernel and a tanh.

        i = s(x W_i + h U_i + tanh(c V_i) + b_i)      f = s(x W_f + h U_f + tanh(c V_f) + b_f)
        c' = f c + i a(x W_g + h U_g + b_g)
        o = s(x W_o + h U_o + tanh(c' V_o) + b_o)     h' = o t(c'),    y = h'

    The output gate sees the new memory c'. However large the memory, it moves what a gate computes by at most
    1, where peepholes may drown the rest.

    Shapes: as LSTM, and memory_kernel V [H, 3H] in the order i, f, o.

    Args:
        features, forget_bias, kernel_init, recurrent_init, bias_init, use_bias and the activations: as LSTM.
        memory_init: drawn for each gate; orthogonal.

    Source: Landi, Baraldi, Cornia & Cucchiara 2021, arXiv 2109.00020. Initial values are those of the other
    LSTMs; the authors' are not known.
    """

    paper = "Landi, Baraldi, Cornia & Cucchiara 2021, arXiv 2109.00020"

    memory_init: Initializer = scheme(Orthogonal(), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, memory_key = jax.random.split(key)
        memory = gate_kernel(self.memory_init, memory_key, self.features, self.features, 3, dtype)
        return super().init(key, input_size, dtype) | {"memory_kernel": memory}

    def seen_before(self, weights: Weights, cell: jax.Array) -> tuple[jax.Array, jax.Array]:
        to_i, to_f = split_gates(jnp.tanh(dense(cell, weights["memory_kernel"][:, : 2 * self.features])), 2)
        return to_i, to_f

    def seen_after(self, weights: Weights, cell: jax.Array) -> jax.Array:
        return jnp.tanh(dense(cell, weights["memory_kernel"][:, 2 * self.features :]))
