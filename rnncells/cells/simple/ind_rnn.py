"""The independently recurrent network: one recurrent weight for each unit."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Params, Weights
from rnncells.dtypes import accumulator
from rnncells.fields import Number, number, static
from rnncells.initializers import He, Initializer, scheme
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import align
from rnncells.parts.gated import ProjectedCell


class IndRNN(ProjectedCell):
    """IndRNN: every unit sees of the state its own value alone.

        h' = act(x W + b + u h),    y = h'

    With relu the derivative of h after T ticks by h is u^T or 0, unit by unit. So |u| up to gamma^(1/T) lets
    gradients grow by gamma at most, and |u| from gamma^(-1/T) lets them shrink by gamma at most.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], bias b and recurrent_weight u [H].

    Args:
        features: H.
        t_max: T, the ticks over which gradients are bounded: the longest dependency expected.
        gamma: by how much they may grow over T ticks; 2.
        long_memory: u ~ U(gamma^(-1/T), gamma^(1/T)), for a last layer, where every unit must remember; else
            u ~ U(0, gamma^(1/T)), units of every memory.
        activation: act, "relu".
        kernel_init: U(-a, a) with a^2 = 6 / (65 I), as in the authors' code.
        bias_init, use_bias: zeros by default; without, b is left out.

    Source: Li, Li, Cook, Zhu & Gao 2018, arXiv 1803.04831. u starts within its bounds and is free
    afterwards; the authors also clip it after every update. They normalise each batch before or after the
    recurrence, which is left to other layers.
    """

    paper = "Li, Li, Cook, Zhu & Gao 2018, arXiv 1803.04831"
    gates = ("h",)

    t_max: Number = number(default=100.0, low=1.0)
    gamma: Number = number(default=2.0, low=1.0)
    long_memory: bool = static(default=False)
    activation: Activation = activation("relu")
    kernel_init: Initializer = scheme(He(65**-0.5, "uniform"), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, weight_key = jax.random.split(key)
        wide = accumulator(dtype)
        exponent = jnp.log(jnp.asarray(self.gamma, wide)) / jnp.asarray(self.t_max, wide)
        share = jax.random.uniform(weight_key, (self.features,), wide)
        low = jnp.exp(-exponent) if self.long_memory else jnp.zeros((), wide)
        weight = low + share * (jnp.exp(exponent) - low)
        return super().init(key, input_size, dtype) | {"recurrent_weight": weight.astype(dtype)}

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = self.activation(drive + align(weights["recurrent_weight"], carry) * carry)
        return hidden, hidden
