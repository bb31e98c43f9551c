"""The structurally constrained network: a slow context beside a simple recurrent network."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, dtype_of
from rnncells.fields import Number, number, static
from rnncells.initializers import Initializer, Normal, scheme
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import constant, dense
from rnncells.parts.gated import DenseCell


class SCRNCarry(NamedTuple):
    """`h, s = carry`."""

    hidden: jax.Array
    """[..., H]"""
    context: jax.Array
    """[..., C], float32 or wider."""


class SCRN(DenseCell):
    """Structurally constrained recurrent network: beside the hidden units, context units that change slowly.

        s' = alpha s + (1 - alpha) x B
        h' = act(x A + h R + s' P + b),    y = [h'; s']

    The context has no weights among its units: it is a moving average of what B reads. The output layer reads
    both, so y holds both.

    Shapes: x [..., I], carry `SCRNCarry(hidden, context)` of [..., H] and [..., C], y [..., H + C]; kernel A
    [I, H], recurrent_kernel R [H, H], context_kernel B [I, C], context_to_hidden P [C, H]; with use_bias,
    bias b [H].

    Args:
        features: H.
        context: C, 40.
        decay: alpha, 0.95, or an array [C]; not trained.
        activation: act, "sigmoid".
        kernel_init, recurrent_init, context_init: of A, of R, of B and P; N(0, 0.05^2), as in the authors'
            code.
        bias_init, use_bias: no bias by default, as in the paper.

    Source: Mikolov, Joulin, Chopra, Mathieu & Ranzato 2014, arXiv 1412.7753. The authors' code differs from
    the paper: its hidden units read s, not s'. It starts from a state of 0.1; here both parts start at zero.
    Context units that learn alpha, which the paper also tries, are not here.
    """

    paper = "Mikolov, Joulin, Chopra, Mathieu & Ranzato 2014, arXiv 1412.7753"
    gates = ("h",)

    context: int = static(default=40, check=checks.positive_int)
    decay: Number = number(default=0.95, low=0.0, high=1.0)
    activation: Activation = activation("sigmoid")
    kernel_init: Initializer = scheme(Normal(0.05), kw_only=True)
    recurrent_init: Initializer = scheme(Normal(0.05), kw_only=True)
    context_init: Initializer = scheme(Normal(0.05), kw_only=True)
    use_bias: bool = static(default=False, kw_only=True)

    @property
    def output_size(self) -> int:
        return self.features + self.context

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, read_key, write_key = jax.random.split(key, 3)
        return super().init(key, input_size, dtype) | {
            "context_kernel": self.context_init(read_key, (input_size, self.context), dtype),
            "context_to_hidden": self.context_init(write_key, (self.context, self.features), dtype),
        }

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> SCRNCarry:
        dtype = dtype_of(params, like)
        hidden = jnp.zeros((*batch_shape, self.features), dtype)
        return SCRNCarry(hidden, jnp.zeros((*batch_shape, self.context), accumulator(dtype)))

    def project(
        self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None
    ) -> tuple[jax.Array, jax.Array]:
        seen = dense(x, weights["context_kernel"])
        seen = seen.astype(accumulator(seen.dtype))
        return super().project(weights, x), (1 - constant(self.decay, seen)) * seen

    def step(
        self, weights: Weights, carry: SCRNCarry, drive: tuple[jax.Array, jax.Array]
    ) -> tuple[SCRNCarry, SCRNCarry]:
        fast, slow = drive
        context = constant(self.decay, slow) * carry.context + slow
        read = dense(context.astype(fast.dtype), weights["context_to_hidden"])
        hidden = self.activation(fast + dense(carry.hidden, weights["recurrent_kernel"]) + read)
        after = SCRNCarry(hidden, context)
        return after, after

    def readout(self, weights: Weights, out: SCRNCarry, drive: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.concatenate([out.hidden, out.context.astype(out.hidden.dtype)], -1)
