"""A gated recurrent unit with delayed feedback."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import dtype_of
from rnncells.fields import Number, number, static
from rnncells.initializers import Initializer, Uniform, scheme
from rnncells.parts.arithmetic import constant, dense, split_gates
from rnncells.parts.gated import GatedCell


class TauGRUCarry(NamedTuple):
    """The state, and the states before it."""

    hidden: jax.Array
    """[..., H]"""
    past: jax.Array
    """[..., d, H], the oldest first; zero before the start."""


class TauGRU(GatedCell):
    """Gated recurrent unit with delayed feedback (tau-GRU): a delay differential equation, discretised.

        u = tanh(x W_u + h U_u + b_u)      g = s(x W_g + h U_g + b_g)
        a = s(x W_a + h U_a + b_a)         z = tanh(x W_z + h_d U_z + b_z)
        h' = (1 - dt g) h + dt g (beta u + alpha a z),    y = h'

    with h the state before the tick, as ever, and h_d the one d ticks before that; it is zero before the
    start.

    Shapes: x [..., I], carry `TauGRUCarry(hidden, past)` of [..., H] and [..., d, H], y [..., H]; kernel W
    [I, 4H], recurrent_kernel U [H, 4H], bias b [4H], gates in the order u, g, a, z.

    Args:
        features: H.
        delay: d, 5 by default; the paper searches for it, task by task.
        alpha, beta: weights of the delayed and of the instantaneous feedback, 1 and 1.
        dt: the step, 1 by default, in [0, 1].
        forget_bias: initial -b_g, 0 by default (g takes the new value), on top of `bias_init`; a number, an
            array [H], or `Chrono(t_max)`, `UniformGate()`.
        kernel_init, recurrent_init, bias_init: U(-1/sqrt(H), 1/sqrt(H)), drawn for each gate.
        use_bias: without biases, forget_bias has no place.

    Source: Erichson, Lim & Mahoney 2022, arXiv 2212.00228. Public code of this cell differs from it and from
    itself: in one version a and z read both the delayed input and the delayed state, and each gate has a
    second bias, here the sum of both.
    """

    paper = "Erichson, Lim & Mahoney 2022, arXiv 2212.00228"
    gates = ("u", "g", "a", "z")
    write = "g"
    blendable = False

    delay: int = static(default=5, check=checks.positive_int)
    alpha: Number = number(default=1.0)
    beta: Number = number(default=1.0)
    dt: Number = number(default=1.0, low=0.0, high=1.0)
    kernel_init: Initializer = scheme(Uniform(), kw_only=True)
    recurrent_init: Initializer = scheme(Uniform(), kw_only=True)
    bias_init: Initializer = scheme(Uniform(), kw_only=True)

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> TauGRUCarry:
        size, dtype = self.features, dtype_of(params, like)
        past = jnp.zeros((*batch_shape, self.delay, size), dtype)
        return TauGRUCarry(jnp.zeros((*batch_shape, size), dtype), past)

    def step(self, weights: Weights, carry: TauGRUCarry, drive: jax.Array) -> tuple[TauGRUCarry, jax.Array]:
        hidden, past = carry
        now, kernel = 3 * self.features, weights["recurrent_kernel"]
        u, g, a = split_gates(drive[..., :now] + dense(hidden, kernel[:, :now]), 3)
        z = jnp.tanh(drive[..., now:] + dense(past[..., 0, :], kernel[:, now:]))
        alpha, beta, dt = (constant(value, hidden) for value in (self.alpha, self.beta, self.dt))
        g = dt * jax.nn.sigmoid(g)
        new = (1 - g) * hidden + g * (beta * jnp.tanh(u) + alpha * jax.nn.sigmoid(a) * z)
        past = jnp.concatenate([past[..., 1:, :], hidden[..., None, :]], -2)
        return TauGRUCarry(new, past), new
