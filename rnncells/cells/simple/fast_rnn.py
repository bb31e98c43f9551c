"""The FastRNN: a residual step with two learned weights."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.fields import Number, number
from rnncells.initializers import Constant, Initializer, Normal, scheme
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import dense
from rnncells.parts.gated import DenseCell


class FastRNN(DenseCell):
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

    alpha: Number = number(default=-3.0)
    beta: Number = number(default=3.0)
    activation: Activation = activation("tanh")
    kernel_init: Initializer = scheme(Normal(0.1), kw_only=True)
    recurrent_init: Initializer = scheme(Normal(0.1), kw_only=True)
    bias_init: Initializer = scheme(Constant(1.0), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        logits = {"alpha": jnp.asarray(self.alpha, dtype), "beta": jnp.asarray(self.beta, dtype)}
        return super().init(key, input_size, dtype) | logits

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        return params | {name: jax.nn.sigmoid(params[name]) for name in ("alpha", "beta")}

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        candidate = self.activation(drive + dense(carry, weights["recurrent_kernel"]))
        hidden = weights["alpha"] * candidate + weights["beta"] * carry
        return hidden, hidden
