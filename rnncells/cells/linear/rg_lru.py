"""The real-gated linear recurrent unit of Griffin and Hawk."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Params, Weights
from rnncells.dtypes import accumulator
from rnncells.fields import Number, number
from rnncells.initializers import ForgetBias, Initializer, LeCun, scheme
from rnncells.linear_scan import DiagonalElement
from rnncells.parts.arithmetic import align, constant, split_gates
from rnncells.parts.linear import LinearCell, LinearDrive
from rnncells.parts.raw_input import RawInput


class RGLRU(LinearCell, RawInput):
    """Real-gated linear recurrent unit: a gate that raises a decay to a power, and takes in as much as it
    forgets.

        r = s(x W_r + b_r)      i = s(x W_i + b_i)
        a = s(Lambda)^(c r)
        h' = a h + sqrt(1 - a^2) (i x),    y = h'            x V in place of i x's x where I is not H

    With r closed the state stays as it is and nothing enters; white noise gives states of its own variance
    whatever a is.

    Shapes: x [..., I], h [..., H] in float32 or wider, y [..., H]; kernel W [I, 2H], bias b [2H], gates in
    the order r, i; decay_logit Lambda [H]; input_kernel V [I, H] where I is not H.

    Args:
        features: H.
        exponent: c, 8 by default.
        r_min, r_max: s(Lambda)^c, the decay where r is open, is drawn uniformly between them; .9 and .999 by
            default.
        forget_bias: initial -b_r, 0 by default.
        kernel_init: drawn for each gate, and for V; LeCun normal.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: De et al. 2024, arXiv 2402.19427. The unit alone: their block puts a projection and a short
    convolution before it and a gated branch beside it. The authors' code lets the gates see blocks of x,
    draws s(Lambda) itself between .9 and .999, uniformly in area, and does not scale i x at the first tick
    of a segment.
    """

    paper = "De et al. 2024, arXiv 2402.19427"
    gates = ("r", "i")
    write = "r"

    exponent: Number = number(default=8.0, low=0.0)
    r_min: Number = number(default=0.9, low=0.0, high=1.0)
    r_max: Number = number(default=0.999, low=0.0, high=1.0)
    forget_bias: ForgetBias = number(default=0.0)
    kernel_init: Initializer = scheme(LeCun(), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, decay_key = jax.random.split(key)
        wide = accumulator(dtype)
        low, high, exponent = (jnp.asarray(n, wide) for n in (self.r_min, self.r_max, self.exponent))
        share = jax.random.uniform(decay_key, (self.features,), wide, 1e-6, 1 - 1e-6)  # logarithms follow
        log_decay = jnp.log(low + share * (high - low)) / exponent
        logit = log_decay - jnp.log(-jnp.expm1(log_decay))
        return {**super().init(key, input_size, dtype), "decay_logit": logit.astype(dtype)}

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        fused, value = super().project(weights, x), self.raw(weights, x)
        wide = accumulator(fused.dtype)
        r, i = (jax.nn.sigmoid(gate) for gate in split_gates(fused.astype(wide), 2))
        base = jax.nn.log_sigmoid(weights["decay_logit"].astype(wide))
        log_decay = constant(self.exponent, r) * r * align(base, r)
        update = _root(-jnp.expm1(2 * log_decay)) * (i * value.astype(wide))
        return LinearDrive(DiagonalElement(jnp.exp(log_decay), update))


def _root(x: jax.Array) -> jax.Array:
    """sqrt(x) with a finite derivative at 0, where a gate has closed entirely."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)
