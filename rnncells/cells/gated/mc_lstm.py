"""The LSTM with a memory controller."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.cells.gated.lstm import LSTMFamily
from rnncells.dtypes import dtype_of
from rnncells.parts.arithmetic import dense, split_gates


class MCLSTMCarry(NamedTuple):
    """`c, v = carry`; both [..., H]."""

    cell: jax.Array
    control: jax.Array


class MCLSTM(LSTMFamily):
    """Memory controller LSTM: what the gates read of the past is not what the cell gives out.

        i = s(x W_i + v U_i + b_i)      f = s(x W_f + v U_f + b_f)
        g = a(x W_g + v U_g + b_g)      o = s(x W_o + v U_o + b_o)
        m = s(x W_m + v U_m + b_m)
        c' = f c + i g                  v' = m t(c')                  y = o t(c')

    Every gate reads the control v, which a gate of its own shows of the memory; the output does not recur.

    Shapes: x [..., I], carry `MCLSTMCarry(cell, control)` of two [..., H], y [..., H]; kernel W [I, 5H],
    recurrent_kernel U [H, 5H], bias b [5H], gates in the order i, f, g, o, m.

    Args:
        features, forget_bias, kernel_init, recurrent_init, bias_init, use_bias and the activations: as LSTM.

    Source: Ben-Ari & Shwartz-Ziv 2017, NIPS workshop on time series. Two other networks share the name: the
    multi-cell LSTM (Cherian, Badola & Padmanabhan 2018, arXiv 1811.06477) and the mass-conserving LSTM (Hoedt
    et al. 2021, arXiv 2101.05186). Initial values are those of the other LSTMs; the authors' are not known.
    """

    paper = "Ben-Ari & Shwartz-Ziv 2017, NIPS workshop on time series"
    gates = ("i", "f", "g", "o", "m")
    write = "i"
    emits = ""

    def initial_carry(  # type: ignore[override]
        self, params: Params = None, batch_shape: Shape = (), like: Like = None
    ) -> MCLSTMCarry:
        shape, dtype = (*batch_shape, self.features), dtype_of(params, like)
        return MCLSTMCarry(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def step(self, weights: Weights, carry: MCLSTMCarry, drive: jax.Array) -> tuple[MCLSTMCarry, jax.Array]:
        i, f, g, o, m = split_gates(drive + dense(carry.control, weights["recurrent_kernel"]), 5)
        cell = self.write_to(carry.cell, i, f, g)
        return MCLSTMCarry(cell, self.read_from(cell, m)), self.read_from(cell, o)
