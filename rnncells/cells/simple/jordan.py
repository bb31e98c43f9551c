"""The network of Jordan, whose output recurs."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Params, Weights
from rnncells.fields import Number, number, static
from rnncells.initializers import Glorot, Initializer, scheme
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import constant, dense
from rnncells.parts.gated import DenseCell


class Jordan(DenseCell):
    """Jordan's network: what recurs is not the hidden layer but the output.

        h = act(x W + s U + b)
        y = out(h V + c)
        s' = mu s + y

    The context units s hold the last output, and with mu > 0 a trace of those before.

    Shapes: x [..., I], s and y [..., H], hidden layer [..., K]; kernel W [I, K], recurrent_kernel U [H, K],
    bias b [K], output_kernel V [K, H], output_bias c [H].

    Args:
        features: H, the width of the context and of y.
        hidden: K, the width of the hidden layer; H by default.
        decay: mu, 0 by default, the textbook form: the context is the last output.
        output_activation, activation: out and act, "identity" and "tanh".
        kernel_init, recurrent_init, output_init: the paper gives none; Glorot uniform, orthogonal, Glorot
            uniform.
        bias_init, use_bias: zeros by default; without, b and c are left out.

    Source: Jordan 1986, Serial order, ICS report 8604. His units are logistic.
    """

    paper = "Jordan 1986, ICS report 8604"
    gates = ("h",)

    hidden: int | None = static(
        default=None, check=lambda name, value: value is None or checks.positive_int(name, value)
    )
    decay: Number = number(default=0.0, low=0.0, high=1.0)
    output_activation: Activation = activation("identity")
    activation: Activation = activation("tanh")
    output_init: Initializer = scheme(Glorot(), kw_only=True)

    def block(self, kernel: str) -> int:
        return self.hidden or self.features

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, kernel_key, bias_key = jax.random.split(key, 3)
        shape = (self.block("output_kernel"), self.features)
        params = super().init(key, input_size, dtype)
        params["output_kernel"] = self.output_init(kernel_key, shape, dtype)
        if self.use_bias:
            params["output_bias"] = self.bias_init(bias_key, (self.features,), dtype)
        return params

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = self.activation(drive + dense(carry, weights["recurrent_kernel"]))
        y = self.output_activation(dense(hidden, weights["output_kernel"], weights.get("output_bias")))
        return constant(self.decay, y) * carry + y, y
