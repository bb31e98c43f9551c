"""The continuous time recurrent network."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Inputs, Like, Params, Shape, Weights
from rnncells.dtypes import accumulator
from rnncells.fields import Number, choice, number, static
from rnncells.initializers import Glorot, Initializer, scheme
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import align, dense, inverse_softplus
from rnncells.parts.gated import DenseCell
from rnncells.parts.integrators import explicit, relax, repeat, with_time


class CTRNN(DenseCell):
    """Continuous time recurrent network: leaky units with time constants of their own.

        tau dh/dt = -h + act(x W + h U + b),    y = h'

    over the time that a tick takes, in several steps during which x stands still. An Euler step of length d
    is h' = h + d / tau (act(x W + h U + b) - h).

    Shapes: x [..., I] or `Timed(x, elapsed)` with elapsed [..., 1], h and y [..., H]; kernel W [I, H],
    recurrent_kernel U [H, H], bias b [H], raw_tau [H] with tau = softplus(raw_tau) > 0. `prepare` returns
    `rate` 1 / tau in place of `raw_tau`.

    Args:
        features: H.
        tau: initial time constants, in the unit of elapsed, where a tick without elapsed time takes 1; 10/6
            by default: with six steps, each is a tenth of tau long.
        substeps: how many steps a tick takes; 6 by default.
        method: "euler" (the default), "exponential" (exact while the activation stands still) or "rk4".
        activation: act, "tanh" by default.
        kernel_init, recurrent_init: Glorot uniform.
        bias_init, use_bias: zeros by default; without, b is left out.

    Source: Funahashi & Nakamura 1993, doi 10.1016/S0893-6080(05)80125-X; numbers from Hasani, Lechner, Amini,
    Rus & Grosu 2021, arXiv 2006.04439, whose code takes six steps of .1 with tau = 1. Deviations: Funahashi
    & Nakamura bend the state before the kernel, act(h) U, which is the same network in other coordinates
    where U is invertible; Hasani et al. divide the leak alone by tau.
    """

    paper = "Funahashi & Nakamura 1993, doi 10.1016/S0893-6080(05)80125-X"
    gates = ("h",)
    timed = True

    tau: Number = number(default=10 / 6, low=1e-3)
    substeps: int = static(default=6, check=checks.positive_int)
    method: str = choice("euler", "exponential", "rk4", default="euler")
    activation: Activation = activation("tanh")
    recurrent_init: Initializer = scheme(Glorot(), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        tau = jnp.full((self.features,), self.tau, accumulator(dtype))
        return super().init(key, input_size, dtype) | {"raw_tau": inverse_softplus(tau).astype(dtype)}

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        kept = {name: leaf for name, leaf in params.items() if name != "raw_tau"}
        return kept | {"rate": 1 / jax.nn.softplus(params["raw_tau"])}

    def project(
        self, weights: Weights, x: Inputs, key: chex.PRNGKey | None = None
    ) -> tuple[jax.Array, jax.Array]:
        x, elapsed = with_time(x)
        return super().project(weights, x), elapsed / self.substeps * align(weights["rate"], elapsed)

    def step(
        self, weights: Weights, carry: jax.Array, drive: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        fed, length = drive

        def target(hidden: jax.Array) -> jax.Array:
            return self.activation(fed + dense(hidden, weights["recurrent_kernel"]))

        def slope(hidden: jax.Array) -> jax.Array:
            return target(hidden) - hidden

        def advance(hidden: jax.Array) -> jax.Array:
            if self.method == "exponential":
                return relax(hidden, target(hidden), -jnp.expm1(-length))
            return explicit(self.method, slope, hidden, length)

        hidden = repeat(advance, carry, self.substeps)
        return hidden, hidden
