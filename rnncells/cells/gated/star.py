"""The stackable recurrent cell."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rnncells.cell import Weights
from rnncells.fields import number
from rnncells.initializers import Chrono, ForgetBias, Initializer, Orthogonal, scheme
from rnncells.parts.arithmetic import dense, split_gates
from rnncells.parts.gated import GatedCell


class _Drive(NamedTuple):
    candidate: jax.Array
    gate: jax.Array


class STAR(GatedCell):
    """Stackable recurrent cell: a candidate of the input alone, one gate, and a last tanh.

        z = tanh(x W_z + b_z)
        k = s(x W_k + h U + b_k)
        h' = tanh((1 - k) h + k z),    y = h'

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 2H], recurrent_kernel U [H, H], bias b [2H], gates in
    the order z, k.

    Args:
        features: H.
        forget_bias: initial -b_k (k takes the new value), `Chrono()` by default; give it the longest
            dependency expected, `Chrono(t_max)`. Or a number, an array [H], `UniformGate()`.
        kernel_init, recurrent_init: orthogonal, drawn for each gate.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Turkoglu, D'Aronco, Wegner & Schindler 2021, arXiv 1911.11033. The authors' code computes another
    cell, tanh(f h + (1 - s(logit f - 1)) z) with f = 1 - k, whose coefficients sum to more than 1. From it
    are the schemes of initialisation; its t_max is 784 whatever is asked for.
    """

    paper = "Turkoglu, D'Aronco, Wegner & Schindler 2021, arXiv 1911.11033"
    gates = ("z", "k")
    recurrent_gates = ("k",)
    write = "k"

    forget_bias: ForgetBias = number(default=Chrono())
    kernel_init: Initializer = scheme(Orthogonal(), kw_only=True)

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> _Drive:
        candidate, gate = split_gates(super().project(weights, x), 2)
        return _Drive(jnp.tanh(candidate), gate)

    def step(self, weights: Weights, carry: jax.Array, drive: _Drive) -> tuple[jax.Array, jax.Array]:
        k = jax.nn.sigmoid(drive.gate + dense(carry, weights["recurrent_kernel"]))
        hidden = self._bounded((1 - k) * carry + k * drive.candidate)
        return hidden, hidden

    def _bounded(self, state: jax.Array) -> jax.Array:
        return jnp.tanh(state)
