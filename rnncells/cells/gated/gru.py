"""Gated recurrent units."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import dtype_of
from rnncells.fields import static
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import dense, split_gates
from rnncells.parts.gated import GatedCell


class GRU(GatedCell):
    """Gated recurrent unit, in the two forms in use.

        r = s(x W_r + h U_r + b_r)      z = s(x W_z + h U_z + b_z)
        n = a(x W_n + b_n + r (h U_n + q))          reset_after=True (cuDNN's, the default)
        n = a(x W_n + b_n + (r h) U_n)              reset_after=False (the paper's)
        h' = (1 - z) n + z h,    y = h'

    with s `gate_activation` and a `candidate_activation`, the logistic function and tanh. z keeps the past,
    as in PyTorch, Keras and Flax; Chung et al. 2014 and Haiku write 1 - z for it, which is a relabelling
    for the logistic function: `convert.negate_gate(cell, params, "z")` converts the parameters either way.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 3H], recurrent_kernel U [H, 3H], bias b [3H],
    gates in the order r, z, n; with reset_after, recurrent_bias q [H]. (PyTorch and Keras carry a
    recurrent bias for r and z too; there it only adds to b.)

    Args:
        features: H.
        reset_after: whether r multiplies the product (one matrix product per tick) or the state (two).
        forget_bias: initial b_z, 0 by default; a number, an array [H], or `Chrono(t_max)`, `UniformGate()`.
        gate_activation, candidate_activation: s and a; by name or as functions.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform and orthogonal.
        bias_init, use_bias: zeros by default; without, b and q are left out.

    Source: Cho et al. 2014, arXiv 1406.1078 (reset before in v3, after in v1).
    """

    paper = "Cho et al. 2014, arXiv 1406.1078"
    gates = ("r", "z", "n")
    keep = "z"

    reset_after: bool = static(default=True)
    gate_activation: Activation = activation("sigmoid")
    candidate_activation: Activation = activation("tanh")

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        params = super().init(key, input_size, dtype)
        if self.reset_after and self.use_bias:
            params["recurrent_bias"] = jnp.zeros((self.features,), dtype)
        return params

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        gate, candidate = self.gate_activation, self.candidate_activation
        x_r, x_z, x_n = split_gates(drive, 3)
        kernel = weights["recurrent_kernel"]
        if self.reset_after:
            bias = jnp.pad(weights["recurrent_bias"], (2 * self.features, 0)) if self.use_bias else None
            h_r, h_z, h_n = split_gates(dense(carry, kernel, bias), 3)
            n = candidate(x_n + gate(x_r + h_r) * h_n)
        else:
            h_r, h_z = split_gates(dense(carry, kernel[:, : 2 * self.features]), 2)
            n = candidate(x_n + dense(gate(x_r + h_r) * carry, kernel[:, 2 * self.features :]))
        z = gate(x_z + h_z)
        # One product less is faster after one product with the kernel; after two it costs memory.
        hidden = n + z * (carry - n) if self.reset_after else (1 - z) * n + z * carry
        return hidden, hidden


class OutputGatedGRUCarry(NamedTuple):
    """`c, h = carry`; both [..., H]."""

    cell: jax.Array
    hidden: jax.Array


class OutputGatedGRU(GatedCell):
    """A gated unit with an update, a reset and an output gate, as some textbooks print the GRU.

        z = s(x W_z + h U_z + b_z)      r = s(x W_r + h U_r + b_r)
        o = s(x W_o + h U_o + b_o)      g = a(x W_g + h U_g + b_g)
        c' = (1 - z) c + r g            h' = o t(c'),    y = h'

    r scales the new value, not the old state, and z erases; a and t are the logistic function by
    default. Structurally it is an LSTM with f = 1 - z and i = r.

    Shapes: x [..., I], carry `OutputGatedGRUCarry(cell, hidden)` of two [..., H], y [..., H];
    kernel W [I, 4H], recurrent_kernel U [H, 4H], bias b [4H], gates in the order z, r, o, g.

    Args:
        features: H.
        forget_bias: initial -b_z, 0 by default (z erases, so a positive forget bias closes it).
        gate_activation, candidate_activation, output_activation: s, a and t.
        kernel_init, recurrent_init, bias_init, use_bias: as GRU.

    Source: teaching material; no paper is known that introduces it.
    """

    paper = "textbook variant; no paper known"
    gates = ("z", "r", "o", "g")
    write = "z"
    emits = "hidden"

    gate_activation: Activation = activation("sigmoid")
    candidate_activation: Activation = activation("sigmoid")
    output_activation: Activation = activation("sigmoid")

    def initial_carry(
        self, params: Params = None, batch_shape: Shape = (), like: Like = None
    ) -> OutputGatedGRUCarry:
        shape, dtype = (*batch_shape, self.features), dtype_of(params)
        return OutputGatedGRUCarry(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def step(
        self, weights: Weights, carry: OutputGatedGRUCarry, drive: jax.Array
    ) -> tuple[OutputGatedGRUCarry, jax.Array]:
        gate, candidate = self.gate_activation, self.candidate_activation
        z, r, o, g = split_gates(drive + dense(carry.hidden, weights["recurrent_kernel"]), 4)
        cell = (1 - gate(z)) * carry.cell + gate(r) * candidate(g)
        hidden = gate(o) * self.output_activation(cell)
        return OutputGatedGRUCarry(cell, hidden), hidden
