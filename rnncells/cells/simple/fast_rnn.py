"""The FastRNN and the FastGRNN: a residual step with two learned weights."""

from __future__ import annotations

from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.fields import Number, number
from rnncells.initializers import Constant, ForgetBias, Initializer, Normal, scheme
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import align, dense
from rnncells.parts.gated import DenseCell, GatedCell


class _FastCell(DenseCell):
    """Two numbers that are learned as logits, and the authors' initial values."""

    logits: ClassVar[tuple[str, str]]

    kernel_init: Initializer = scheme(Normal(0.1), kw_only=True)
    recurrent_init: Initializer = scheme(Normal(0.1), kw_only=True)
    bias_init: Initializer = scheme(Constant(1.0), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        logits = {name: jnp.asarray(getattr(self, name), dtype) for name in self.logits}
        return super().init(key, input_size, dtype) | logits

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        return params | {name: jax.nn.sigmoid(params[name]) for name in self.logits}


class FastRNN(_FastCell):
    """FastRNN: a simple recurrent network behind a weighted residual connection.

        c = act(x W + h U + b)
        h' = s(alpha) c + s(beta) h,    y = h'

    with s the logistic function. Two numbers are learned beside the weights of an `Elman`: how much of the
    candidate comes in, and how much of the state stays.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], recurrent_kernel U [H, H], bias b [H], alpha [] and
    beta []. With `LowRank(FastRNN(H), rank)` U is a product of two factors, as in the paper.

    Args:
        features: H.
        alpha, beta: their initial values, -3 and 3: at first .047 comes in and .953 stays.
        activation: act, "tanh" by default.
        kernel_init, recurrent_init: N(0, 0.1^2), as the authors' code.
        bias_init, use_bias: ones, as the authors' code.

    Source: Kusupati, Singh, Bhatia, Kumar, Jain & Varma 2018, arXiv 1901.02358; initial values from the
    authors' code (EdgeML). W is never factored here.
    """

    paper = "Kusupati et al. 2018, arXiv 1901.02358"
    gates = ("h",)
    logits = ("alpha", "beta")

    alpha: Number = number(default=-3.0)
    beta: Number = number(default=3.0)
    activation: Activation = activation("tanh")

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        candidate = self.activation(drive + dense(carry, weights["recurrent_kernel"]))
        hidden = weights["alpha"] * candidate + weights["beta"] * carry
        return hidden, hidden


class FastGRNN(_FastCell, GatedCell):
    """FastGRNN: a gate and a candidate that share all their weights but the biases.

        p = x W + h U
        z = s(p + b_z)      c = act(p + b_c)
        h' = z h + (s(zeta) (1 - z) + s(nu)) c,    y = h'

    with s the logistic function. Two numbers are learned beside the weights: how much of the candidate comes
    in where the gate is closed, and how much always.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], recurrent_kernel U [H, H], bias b [2H] in the order
    z, c, zeta [] and nu []. With `LowRank(FastGRNN(H), rank)` U is a product of two factors, as in the paper.

    Args:
        features: H.
        forget_bias: added to the initial b_z, 0 by default; a number, an array [H], or a scheme.
        zeta, nu: their initial values, 1 and -4: .731 and .018.
        gate_activation, activation: s of the gate and act, "sigmoid" and "tanh"; the paper also has
            piecewise linear ones.
        kernel_init, recurrent_init: N(0, 0.1^2), as the authors' code.
        bias_init, use_bias: ones, as the authors' code.

    Source: Kusupati, Singh, Bhatia, Kumar, Jain & Varma 2018, arXiv 1901.02358; initial values from the
    authors' code (EdgeML). W is never factored here.
    """

    paper = "Kusupati et al. 2018, arXiv 1901.02358"
    gates = ("z", "c")
    input_gates = ("c",)
    recurrent_gates = ("c",)
    keep = "z"
    logits = ("zeta", "nu")

    forget_bias: ForgetBias = number(default=0.0)
    zeta: Number = number(default=1.0)
    nu: Number = number(default=-4.0)
    gate_activation: Activation = activation("sigmoid")
    activation: Activation = activation("tanh")

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
        return dense(x, weights["kernel"])

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        shared = drive + dense(carry, weights["recurrent_kernel"])
        bias = self.split_bias(weights)
        gate, candidate = (shared + align(bias[name], shared) if bias else shared for name in self.gates)
        gate = self.gate_activation(gate)
        share = weights["zeta"] * (1 - gate) + weights["nu"]
        hidden = gate * carry + share * self.activation(candidate)
        return hidden, hidden
