"""The recurrence of Mamba-2: one decay for each head, chosen by the input."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Params, Weights
from rnncells.parts.arithmetic import align
from rnncells.parts.key_value import OuterElement
from rnncells.parts.linear import LinearDrive
from rnncells.parts.memory import Reading, SelectiveCell


class Mamba2(SelectiveCell):
    """State space duality: a state space whose transition is one number for each head.

        (z u) = x W      (q k) = silu(x W_qk)      v = silu(u)      d = softplus(x W_d + b_d)
        S' = e^(-d e^a) S + d k v^T
        o = q S' + D v                             y = n(silu(z) * o) W_o

    with d, a and D one number for each head, q and k the same for all heads (C and B of the paper), and
    n(o) = scale * o / sqrt(mean square of o + epsilon) over all heads together.

    Shapes: x [..., I], S [..., h, K, V] in float32 or wider with V = H / h, y [..., H]; kernel W [I, 2H],
    gates in the order z, u; key_kernel W_qk [I, 2K], step_kernel W_d [I, h], step_bias b_d, log_rate a and
    skip D [h], norm_scale [H], output_kernel W_o [H, H]; with biases key_bias, bias and output_bias.

    Args:
        features: H, a multiple of heads.
        heads: h, 1 by default; the paper has heads of 64 features.
        key_size: K, the size of the state for each feature; 128 by default.
        step_min, step_max: softplus(b_d) starts log-uniform between them; .001 and .1, at least .0001.
        epsilon: 1e-5 by default, at least 1e-12.
        kernel_init, key_init, output_init: Glorot uniform; kernel_init of W_d too.
        bias_init, use_bias: no biases but b_d by default.

    e^a starts as U(1, 16), D at 1.

    Source: Dao & Gu 2024, arXiv 2405.21060, with one group of heads. The block's causal convolution of width
    4 over u, q and k, ahead of their silu, is a window over inputs: `CausalConvolution` in a stack goes in
    front of all of x instead. The block is twice as wide as what goes in and comes out; here W_o is square.
    The paper's state is the transpose. Many ticks at once run in chunks of 64; the associative scan is never
    worth it.
    """

    paper = "Dao & Gu 2024, arXiv 2405.21060"
    gates = ("z", "u")
    shared_keys = True
    normalised = "whole"
    rates = (1.0, 16.0)

    @property
    def own_key_size(self) -> int:
        return 128

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        return super().init(key, input_size, dtype) | {"skip": jnp.ones((self.heads,), dtype)}

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        z, u = self.gate_parts(weights, x)
        q, k = map(jax.nn.silu, self.query_and_key(weights, x))
        v = self.by_head(jax.nn.silu(u))
        step, log_decay = self.step_and_log_decay(weights, x)
        skip = align(weights["skip"].astype(v.dtype)[:, None], v)
        return LinearDrive(OuterElement(log_decay, k, step * v), Reading(q, (jax.nn.silu(z), skip * v)))

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        gate, skipped = drive.extra.gate
        return self.emitted(weights, self.normal(weights, gate * self.merged(out + skipped)))
