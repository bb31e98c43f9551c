"""A sequence as one vector."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.attention.masking import average, check_init, positions, silence, softmax
from rnncells.cell import Params
from rnncells.dtypes import promote
from rnncells.fields import Pytree, static
from rnncells.initializers import Glorot, Initializer, scheme
from rnncells.parts.arithmetic import dense


class AttentionPooling(Pytree):
    """A sequence as one vector, for classification: its states, weighted by what they hold.

        a = softmax over t of v . tanh(h_t W + b),    y = sum over t of a_t h_t

    Shapes: h [T, *B, H], y [*B, H]; kernel W [H, F], bias b [F], score_kernel v [F].

    Args:
        features: F.
        kernel_init: of W and v; Glorot uniform.

    Source: Yang, Yang, Dyer, He, Smola & Hovy 2016, doi 10.18653/v1/N16-1174; v is their context vector.
    """

    paper = "Yang, Yang, Dyer, He, Smola & Hovy 2016, doi 10.18653/v1/N16-1174"

    features: int = static(check=checks.positive_int)
    kernel_init: Initializer = scheme(Glorot())

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        """Parameters for sequences [T, *B, input_size]."""
        check_init(self, key, dtype, input_size=input_size)
        kernel_key, score_key = jax.random.split(key)
        return {
            "kernel": self.kernel_init(kernel_key, (input_size, self.features), dtype),
            "bias": jnp.zeros((self.features,), dtype),
            "score_kernel": self.kernel_init(score_key, (self.features, 1), dtype)[:, 0],
        }

    def weights(self, params: Params, hs: chex.Array, *, lengths: chex.Array | None = None) -> jax.Array:
        """hs [T, *B, H] -> a [T, *B]."""
        exists = positions("hs", hs, lengths)
        params, hs = promote(params, hs)
        checks.features("hs", hs, params["kernel"].shape[0])
        hidden = jnp.tanh(dense(silence(hs, exists), params["kernel"], params["bias"]))
        return softmax(hidden @ params["score_kernel"], exists)

    def __call__(self, params: Params, hs: chex.Array, *, lengths: chex.Array | None = None) -> jax.Array:
        """hs [T, *B, H] -> y [*B, H]; lengths int [*B], within [0, T]."""
        weights = self.weights(params, hs, lengths=lengths)
        return average(*promote(weights, silence(hs, positions("hs", hs, lengths))))
