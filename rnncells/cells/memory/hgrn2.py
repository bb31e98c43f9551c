"""HGRN2: a gated linear recurrence whose state is expanded by an outer product."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from rnncells.cell import Weights
from rnncells.fields import Number, number, static
from rnncells.initializers import ForgetBias
from rnncells.parts.arithmetic import constant
from rnncells.parts.key_value import OuterElement
from rnncells.parts.linear import LinearDrive
from rnncells.parts.memory import OuterCell, Reading


class HGRN2(OuterCell):
    """Hierarchically gated recurrent network with state expansion: the key is what a forget gate lets in.

        q = silu(x W_q + b_q)      v = x W_v + b_v      f = gamma + (1 - gamma) s(x W_f + b_f)
        S' = f S + (1 - f) v^T     f for each row
        o = q S'                   y = n(o) W_o + b_o

    with s the logistic function and n(o) = scale * o / sqrt(mean square of o + epsilon) over all heads
    together. A wide head is a large state: H / h numbers for each feature.

    Shapes: x [..., I], S [..., h, K, K] in float32 or wider with K = H / h, y [..., H]; kernel W [I, 3H] and
    bias b [3H], gates in the order q, f, v; norm_scale [H], output_kernel W_o [H, H] and output_bias b_o [H].

    Args:
        features: H, a multiple of heads.
        heads: h, 1 by default; the paper has heads of 128 features.
        lower_bound: gamma in [0, 1], a number or [H]; 0 by default, as in the paper's first layer. Deeper
            layers should forget less.
        forget_bias: initial b_f, 0 by default.
        epsilon: 1e-5 by default, at least 1e-12.
        kernel_init, output_init: drawn for each gate; Glorot uniform.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Qin et al. 2024, arXiv 2404.07904. There gamma is learned, for each layer and row, as the sum of a
    softmax over layers: a parameter of the whole stack, which a cell by itself does not have. q and v are
    activated as in the authors' language models; their code offers others. Many ticks at once run in chunks
    of 16; the associative scan is never worth it.
    """

    paper = "Qin et al. 2024, arXiv 2404.07904"
    gates = ("q", "f", "v")
    keep = "f"
    normalised = "whole"
    chunk_size = 16

    lower_bound: Number = number(default=0.0, low=0.0, high=1.0)
    forget_bias: ForgetBias = number(default=0.0)
    use_bias: bool = static(default=True, kw_only=True)

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        q, f, v = self.gate_parts(weights, x)
        gamma = constant(self.lower_bound, f)
        write = (1 - gamma) * jax.nn.sigmoid(-f)
        log_decay = _log(gamma + (1 - gamma) * jax.nn.sigmoid(f), write)
        element = OuterElement(*map(self.by_head, (log_decay, write, v)))
        return LinearDrive(element, Reading(self.by_head(jax.nn.silu(q))))


def _log(kept: jax.Array, write: jax.Array) -> jax.Array:
    """ln kept, where kept = 1 - write: accurate near 1, finite at 0, and so are its derivatives."""
    least = jnp.finfo(kept.dtype).tiny
    small = write < 0.5
    near_one = jnp.log1p(-jnp.where(small, write, 0))
    return jnp.where(small, near_one, jnp.log(jnp.where(small, 1, jnp.maximum(kept, least))))
