"""Linear attention: attention whose softmax is replaced by a product of features, as a recurrence."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, dtype_of
from rnncells.fields import Number, number, static
from rnncells.parts.key_value import OuterElement
from rnncells.parts.linear import LinearDrive
from rnncells.parts.memory import KeyedCell, Reading


class LinearAttention(KeyedCell):
    """Causal attention with weights f(q) . f(k), all that is needed of the past in two sums.

        q = x W_q + b_q      k = x W_k + b_k      v = x W_v + b_v      f(u) = elu(u) + 1
        S' = S + f(k) v^T                         z' = z + f(k)
        y = (f(q) S' / (f(q) . z' + epsilon)) W_o + b_o

    z is kept as a last column of S, where v is 1. Nothing is ever forgotten: both sums grow with time.

    Shapes: x [..., I], S and z together [..., h, K, V + 1] in float32 or wider with V = H / h, y [..., H];
    key_kernel (W_q W_k) and key_bias [I, 2 h K] and [2 h K], kernel W_v and bias [I, H] and [H],
    output_kernel W_o and output_bias [H, H] and [H].

    Args:
        features: H, a multiple of heads.
        heads: h, 1 by default; the paper has 4 to 8.
        key_size: K; V by default.
        epsilon: 1e-6 by default, at least 1e-12.
        kernel_init, key_init, output_init: Glorot uniform.
        bias_init, use_bias: zeros by default.

    Source: Katharopoulos, Vyas, Pappas & Fleuret 2020, arXiv 2006.16236. Many ticks at once run in chunks of
    64; the associative scan is never worth it.
    """

    paper = "Katharopoulos, Vyas, Pappas & Fleuret 2020, arXiv 2006.16236"
    gates = ("v",)
    blendable = False
    normalised = "not"

    epsilon: Number = number(default=1e-6, low=1e-12)
    use_bias: bool = static(default=True, kw_only=True)

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> jax.Array:
        shape = (*batch_shape, self.heads, self.keys, self.width + 1)
        return jnp.zeros(shape, accumulator(dtype_of(params, like)))

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        (v,) = self.gate_parts(weights, x)
        q, k = (jax.nn.elu(part) + 1 for part in self.query_and_key(weights, x))
        v = self.by_head(v)
        v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], -1)
        return LinearDrive(OuterElement(jnp.zeros_like(k[..., :1]), k, v), Reading(q))

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        seen = out[..., :-1] / (out[..., -1:] + jnp.asarray(self.epsilon, out.dtype))
        return self.emitted(weights, self.merged(seen))
