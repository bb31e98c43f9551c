"""Fast weights: a recurrent network whose second matrix is written by its own recent states."""

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
from rnncells.initializers import Identity, Initializer, scheme
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import align, constant, dense, normalise
from rnncells.parts.gated import DenseCell


class FastWeightsCarry(NamedTuple):
    """The state of `FastWeights`."""

    memory: jax.Array
    """A [..., H, H]"""
    hidden: jax.Array
    """h [..., H]"""


class FastWeights(DenseCell):
    """A recurrent network with fast weights, which attend to its recent states.

        z = x W + h U + b                        n(v) = scale (v - mean v) / sqrt(var v + epsilon) + shift
        h_0 = act(z)                             h_(s+1) = act(n(z + A h_s)),  s = 0, ..., S - 1
        h' = h_S,    y = h'                      A' = lambda A + eta h' h'^T

    A h_s is the sum of all states that there were, h included, each times its product with h_s and times
    eta lambda^age: attention without a copy of the past.

    Shapes: x [..., I], carry `FastWeightsCarry(memory A, hidden h)` of [..., H, H] in float32 or wider and
    [..., H], y [..., H]; kernel W [I, H], recurrent_kernel U [H, H], bias b, scale and shift [H].

    Args:
        features: H.
        inner_steps: S, 1 by default.
        decay: lambda in [0, 1], .95 by default.
        rate: eta, .5 by default.
        epsilon: 1e-5 by default, at least 1e-12: z may be 0.
        activation: act, "relu" by default.
        kernel_init, recurrent_init: Glorot uniform, and the identity times .05.
        bias_init, use_bias: zeros by default; without, b is left out.

    Source: Ba, Hinton, Mnih, Leibo & Ionescu 2016, arXiv 1610.06258. Values of lambda, eta, act and U at the
    start: those of public implementations of their associative retrieval. Not linear: what is written depends
    on what was read.
    """

    paper = "Ba, Hinton, Mnih, Leibo & Ionescu 2016, arXiv 1610.06258"
    gates = ("h",)

    inner_steps: int = static(default=1, check=checks.positive_int)
    decay: Number = number(default=0.95, low=0.0, high=1.0)
    rate: Number = number(default=0.5)
    epsilon: Number = number(default=1e-5, low=1e-12)
    activation: Activation = activation("relu")
    recurrent_init: Initializer = scheme(Identity(0.05), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        size = (self.features,)
        own = {"scale": jnp.ones(size, dtype), "shift": jnp.zeros(size, dtype)}
        return super().init(key, input_size, dtype) | own

    def initial_carry(
        self, params: Params = None, batch_shape: Shape = (), like: Like = None
    ) -> FastWeightsCarry:
        shape, dtype = (*batch_shape, self.features), dtype_of(params, like)
        memory = jnp.zeros((*shape, self.features), accumulator(dtype))
        return FastWeightsCarry(memory, jnp.zeros(shape, dtype))

    def step(
        self, weights: Weights, carry: FastWeightsCarry, drive: jax.Array
    ) -> tuple[FastWeightsCarry, jax.Array]:
        memory, hidden = carry
        z = drive + dense(hidden, weights["recurrent_kernel"])
        hidden = self.activation(z)
        for _ in range(self.inner_steps):
            recalled = jnp.sum(memory * hidden.astype(memory.dtype)[..., None, :], -1)
            v = normalise(z + recalled.astype(z.dtype), weights["scale"], self.epsilon)
            hidden = self.activation(v + align(weights["shift"], v))
        wide = hidden.astype(memory.dtype)
        written = constant(self.rate, memory) * wide[..., :, None] * wide[..., None, :]
        memory = constant(self.decay, memory) * memory + written
        return FastWeightsCarry(memory, hidden), hidden
