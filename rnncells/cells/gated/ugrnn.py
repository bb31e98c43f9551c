"""The update gate recurrent network, and the intersection network of the same paper."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Weights
from rnncells.fields import Number, number
from rnncells.initializers import ForgetBias
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import dense, split_gates
from rnncells.parts.gated import GatedCell
from rnncells.parts.raw_input import RawInput


class _UpdateGated(GatedCell):
    """A gate between the old state and a new one."""

    paper = "Collins, Sohl-Dickstein & Sussillo 2017, arXiv 1611.09913"
    keep = "g"

    forget_bias: ForgetBias = number(default=1.0)
    activation: Activation = activation("tanh")

    def _renewed(self, g: jax.Array, c: jax.Array, carry: jax.Array) -> jax.Array:
        g = jax.nn.sigmoid(g)
        return g * carry + (1 - g) * self.activation(c)


class UGRNN(_UpdateGated):
    """Update gate recurrent network: one gate between the old state and a new one.

        g = s(x W_g + h U_g + b_g)      c = a(x W_c + h U_c + b_c)
        h' = g h + (1 - g) c,    y = h'

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 2H], recurrent_kernel U [H, 2H], bias b [2H],
    gates in the order g, c.

    Args:
        features: H.
        forget_bias: initial b_g, 1 by default; a number, an array [H], or `Chrono(t_max)`, `UniformGate()`.
        activation: a, "tanh" by default; by name or as a function.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform and orthogonal.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Collins, Sohl-Dickstein & Sussillo 2017, arXiv 1611.09913.
    """

    gates = ("g", "c")

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        g, c = split_gates(drive + dense(carry, weights["recurrent_kernel"]), 2)
        hidden = self._renewed(g, c, carry)
        return hidden, hidden


class _Drive(NamedTuple):
    """Of all four gates, and the input in the width of the state."""

    gates: jax.Array
    x: jax.Array


class IntersectionRNN(RawInput, _UpdateGated):
    """Intersection network (+RNN): gates in both directions, from tick to tick and from layer to layer.

        g = s(x W_g + h U_g + b_g)      c = a(x W_c + h U_c + b_c)
        p = s(x W_p + h U_p + b_p)      d = t(x W_d + h U_d + b_d)
        h' = g h + (1 - g) c
        y = p x + (1 - p) d

    With p open the input passes to the layer above as it is. That needs I = H; otherwise y takes x V in its
    place. The output is no part of the state.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 4H], recurrent_kernel U [H, 4H], bias b [4H], gates in
    the order g, c, p, d; input_kernel V [I, H] where I is not H.

    Args:
        features: H.
        forget_bias: initial b_g, 1 by default; a number, an array [H], or `Chrono(t_max)`, `UniformGate()`.
        activation, output_activation: a and t, "tanh" and "relu" by default.
        pass_bias: initial b_p, 1 by default.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform and orthogonal.
        bias_init, use_bias: zeros by default; without biases, forget_bias and pass_bias have no place.

    Source: Collins, Sohl-Dickstein & Sussillo 2017, arXiv 1611.09913; initial biases from TensorFlow's cell.
    Where I is not H that cell refuses the input, or projects it once, with a bias, for gates and output
    alike.
    """

    gates = ("g", "c", "p", "d")

    output_activation: Activation = activation("relu")
    pass_bias: Number = number(default=1.0)

    def added_biases(self, key: chex.PRNGKey, dtype: DTypeLike) -> dict[str, jax.Array]:
        passing = jnp.full((self.features,), self.pass_bias, dtype)
        return super().added_biases(key, dtype) | {"p": passing}

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> _Drive:
        return _Drive(super().project(weights, x), self.raw(weights, x))

    def step(
        self, weights: Weights, carry: jax.Array, drive: _Drive
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        g, c, p, d = split_gates(drive.gates + dense(carry, weights["recurrent_kernel"]), 4)
        return self._renewed(g, c, carry), (p, d)

    def readout(self, weights: Weights, out: tuple[jax.Array, jax.Array], drive: _Drive) -> jax.Array:
        p, d = jax.nn.sigmoid(out[0]), self.output_activation(out[1])
        return p * drive.x + (1 - p) * d
