"""Simple gated units, shallow and deep."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from rnncells.cell import Weights
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import dense, split_gates
from rnncells.parts.gated import GatedCell


def hard_sigmoid(x: jax.Array) -> jax.Array:
    """x / 5 + 1/2, cut off at 0 and 1. The "hard_sigmoid" of JAX and PyTorch has the slope 1/6."""
    return jnp.clip(0.2 * x + 0.5, 0, 1)


class SGU(GatedCell):
    """Simple gated unit: input and state meet in products, before the kernels.

        u = x W_g + b_g
        g = tanh((u h) U_g)
        n = softplus(g h)
        z = a(x W_z + h U_z + b_z)
        h' = (1 - z) h + z n,    y = h'

    Nothing but the softplus moves a state of zero: n is ln 2 there, whatever the input is.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 2H], recurrent_kernel U [H, 2H], bias b [2H], gates in
    the order g, z.

    Args:
        features: H.
        forget_bias: initial -b_z, 0 by default (z takes the new value); a number, an array [H], or
            `Chrono(t_max)`, `UniformGate()`.
        gate_activation: a; x / 5 + 1/2 cut off at 0 and 1, or "sigmoid".
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform and orthogonal.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Gao & Glowacka 2016, PMLR 63:257, arXiv 1604.02910. The slope of a is that of Theano's hard
    sigmoid, the usual one in its day; torchrecurrent takes PyTorch's, and adds biases to U_g and U_z.
    """

    paper = "Gao & Glowacka 2016, PMLR 63, arXiv 1604.02910"
    gates: ClassVar[tuple[str, ...]] = ("g", "z")
    unsigned_gates = ("g",)
    write = "z"

    gate_activation: Activation = activation(hard_sigmoid)

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        u, x_z = split_gates(drive, 2)
        size, kernel = self.features, weights["recurrent_kernel"]
        z = self.gate_activation(x_z + dense(carry, kernel[:, size : 2 * size]))
        g = jnp.tanh(dense(u * carry, kernel[:, :size]))
        hidden = (1 - z) * carry + z * self._candidate(kernel, g * carry)
        return hidden, hidden

    def _candidate(self, kernel: jax.Array, gated: jax.Array) -> jax.Array:
        return jax.nn.softplus(gated)


class DSGU(SGU):
    """Deep simple gated unit: an `SGU` with one more kernel on its candidate.

        u = x W_g + b_g
        g = tanh((u h) U_g)
        n = s((g h) U_o)
        z = a(x W_z + h U_z + b_z)
        h' = (1 - z) h + z n,    y = h'

    The state is a convex combination of values in (0, 1).

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 2H] and bias b [2H] in the order g, z; recurrent_kernel
    U [H, 3H] in the order g, z, o.

    Args:
        features, forget_bias, gate_activation, kernel_init, recurrent_init, bias_init, use_bias: as SGU.

    Source: as SGU.
    """

    gates = ("g", "z", "o")
    input_gates = ("g", "z")
    biased_gates = ("g", "z")

    def _candidate(self, kernel: jax.Array, gated: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(dense(gated, kernel[:, 2 * self.features :]))
