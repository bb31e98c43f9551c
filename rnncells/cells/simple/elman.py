"""The simple recurrent network."""

from __future__ import annotations

from typing import Self

import jax

from rnncells.cell import Weights
from rnncells.fields import Number
from rnncells.initializers import Identity, Normal
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import dense
from rnncells.parts.gated import DenseCell


class Elman(DenseCell):
    """Elman's simple recurrent network.

        h' = act(x W + h U + b),    y = h'

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], recurrent_kernel U [H, H], bias b [H].

    Args:
        features: H.
        activation: act, `"tanh"` by default, `"relu"` and others by name or as a function.
        kernel_init, recurrent_init: the paper gives none; Glorot uniform and orthogonal.
        bias_init, use_bias: zeros by default; without, b is left out.

    Source: Elman 1990, Finding structure in time, doi 10.1207/s15516709cog1402_1. His context units
    are copied with weight 1 and his activation is the logistic function: `activation="sigmoid"`.
    PyTorch's `RNN` has a second, redundant bias: the bias here is the sum of the two.
    """

    paper = "Elman 1990, doi 10.1207/s15516709cog1402_1"
    gates = ("h",)

    activation: Activation = activation("tanh")

    @classmethod
    def irnn(cls, features: int, scale: Number = 1.0, stddev: Number = 0.001) -> Self:
        """The IRNN: relu, recurrent kernel scale * identity, input kernel N(0, stddev^2), zero bias.

        Source: Le, Jaitly & Hinton 2015, arXiv 1504.00941.
        """
        return cls(features, activation="relu", kernel_init=Normal(stddev), recurrent_init=Identity(scale))

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = self.activation(drive + dense(carry, weights["recurrent_kernel"]))
        return hidden, hidden
