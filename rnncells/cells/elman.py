"""The simple recurrent network."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import chex
import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.cell import Cell, Number, Params, Weights, static
from rnncells.initializers import Glorot, Identity, Initializer, Normal, Orthogonal
from rnncells.ops import Activation, activation, check_activation, dense


class Elman(Cell):
    """Elman's simple recurrent network.

        h' = act(x W + h U + b),    y = h'

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], recurrent_kernel U [H, H], bias b [H].

    Args:
        features: H.
        activation: act, `"tanh"` by default, `"relu"` and others by name or as a function.
        kernel_init, recurrent_init: the paper gives none; Glorot uniform and orthogonal.

    Source: Elman 1990, Finding structure in time, doi 10.1207/s15516709cog1402_1. His context units
    are copied with weight 1 and his activation is the logistic function: `activation="sigmoid"`.
    PyTorch's `RNN` has a second, redundant bias: the bias here is the sum of the two.
    """

    paper: ClassVar[str] = "Elman 1990, doi 10.1207/s15516709cog1402_1"
    gates: ClassVar[tuple[str, ...]] = ("h",)

    features: int = static(check=checks.positive_int)
    activation: Activation = static(default="tanh", check=check_activation)
    kernel_init: Initializer = Glorot()
    recurrent_init: Initializer = Orthogonal()

    @classmethod
    def irnn(cls, features: int, scale: Number = 1.0, stddev: Number = 0.001) -> Self:
        """The IRNN: relu, recurrent kernel scale * identity, input kernel N(0, stddev^2), zero bias.

        Source: Le, Jaitly & Hinton 2015, arXiv 1504.00941.
        """
        return cls(features, activation="relu", kernel_init=Normal(stddev), recurrent_init=Identity(scale))

    def init(self, key: chex.PRNGKey, input_size: int, dtype: Any = jnp.float32) -> Params:
        kernel_key, recurrent_key = jax.random.split(key)
        return {
            "kernel": self.kernel_init(kernel_key, (input_size, self.features), dtype),
            "recurrent_kernel": self.recurrent_init(recurrent_key, (self.features, self.features), dtype),
            "bias": jnp.zeros((self.features,), dtype),
        }

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
        return dense(x, weights["kernel"], weights["bias"])

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = activation(self.activation)(drive + dense(carry, weights["recurrent_kernel"]))
        return hidden, hidden
