"""The chaos-free network."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Weights
from rnncells.fields import Number, number
from rnncells.initializers import ForgetBias, Initializer, UniformWithin, scheme
from rnncells.parts.arithmetic import dense, split_gates
from rnncells.parts.gated import GatedCell


class _Drive(NamedTuple):
    gates: jax.Array
    """Of theta and eta, [..., 2H]."""
    candidate: jax.Array


class CFN(GatedCell):
    """Chaos-free network: two gates on two terms that mix no units, so that it has no dynamics of its own.

        theta = s(x W_theta + h U_theta + b_theta)      eta = s(x W_eta + h U_eta + b_eta)
        h' = theta tanh(h) + eta tanh(x W_c),    y = h'

    Without input each unit goes to zero from wherever it is; |h| < 2 after the first tick, always.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 3H] in the order theta, eta, c; recurrent_kernel U
    [H, 2H] and bias b [2H] in the order theta, eta.

    Args:
        features: H.
        forget_bias: initial b_theta, 1 by default; a number, an array [H], or `Chrono(t_max)`,
            `UniformGate()`.
        input_bias: initial b_eta, -1 by default.
        kernel_init, recurrent_init: U(-.07, .07), which the paper takes for 224 units.
        bias_init, use_bias: zeros by default; without biases, forget_bias and input_bias have no place.

    Source: Laurent & von Brecht 2017, arXiv 1612.06212.
    """

    paper = "Laurent & von Brecht 2017, arXiv 1612.06212"
    gates = ("theta", "eta", "c")
    recurrent_gates = ("theta", "eta")
    biased_gates = ("theta", "eta")
    keep = "theta"

    forget_bias: ForgetBias = number(default=1.0)
    input_bias: Number = number(default=-1.0)
    kernel_init: Initializer = scheme(UniformWithin(0.07), kw_only=True)
    recurrent_init: Initializer = scheme(UniformWithin(0.07), kw_only=True)

    def added_biases(self, key: chex.PRNGKey, dtype: DTypeLike) -> dict[str, jax.Array]:
        taking = jnp.full((self.features,), self.input_bias, dtype)
        return super().added_biases(key, dtype) | {"eta": taking}

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> _Drive:
        fused = super().project(weights, x)
        gates, candidate = fused[..., : 2 * self.features], fused[..., 2 * self.features :]
        return _Drive(gates, jnp.tanh(candidate))

    def step(self, weights: Weights, carry: jax.Array, drive: _Drive) -> tuple[jax.Array, jax.Array]:
        gates = jax.nn.sigmoid(drive.gates + dense(carry, weights["recurrent_kernel"]))
        theta, eta = split_gates(gates, 2)
        hidden = theta * jnp.tanh(carry) + eta * drive.candidate
        return hidden, hidden
