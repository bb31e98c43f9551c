"""Gated linear attention: a memory whose rows decay, each as the input says."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Params, Weights
from rnncells.dtypes import accumulator
from rnncells.fields import Number, number, static
from rnncells.initializers import ForgetBias, forget_blocks
from rnncells.parts.arithmetic import constant, dense
from rnncells.parts.key_value import OuterElement
from rnncells.parts.linear import LinearDrive
from rnncells.parts.memory import KeyedCell, Reading


class GLA(KeyedCell):
    """Gated linear attention.

        q = x W_q / sqrt(K)      k = x W_k      v = x W_v      a = s(x W_1 W_2 + b_a)^(1 / tau)
        S' = a S + k v^T         a for each row
        o = q S'                 y = (silu(x W_r) * n(o)) W_o

    with s the logistic function and n(o) = scale * o / sqrt(mean square of o + epsilon) for each head.

    Shapes: x [..., I], S [..., h, K, V] in float32 or wider with V = H / h, y [..., H]; key_kernel (W_q W_k)
    [I, 2 h K], kernel (W_v W_r) [I, 2H], gate_kernel W_1 [I, R], decay_kernel W_2 [R, h K], decay_bias b_a
    [h K], norm_scale [V], output_kernel W_o [H, H]; with biases key_bias, bias and output_bias.

    Args:
        features: H, a multiple of heads.
        heads: h, 1 by default; the paper has 4.
        key_size: K; V / 2 by default, as in the paper, rounded up.
        rank: R, 16 by default.
        temperature: tau, 16 by default, at least 1e-3: the larger it is, the slower is forgetting.
        forget_bias: initial b_a, 0 by default.
        epsilon: 1e-5 by default, at least 1e-12.
        kernel_init, key_init, output_init: Glorot uniform; kernel_init of W_1 and W_2 too.
        bias_init, use_bias: no biases but b_a by default.

    Source: Yang, Wang, Shen, Panda & Kim 2023, arXiv 2312.06635, and the authors' code, which has the mean
    square where the paper writes a layer norm. Many ticks at once run in chunks of 16; the associative scan
    is never worth it.
    """

    paper = "Yang, Wang, Shen, Panda & Kim 2023, arXiv 2312.06635"
    gates = ("v", "r")
    chunk_size = 16

    rank: int = static(default=16, check=checks.positive_int)
    temperature: Number = number(default=16.0, low=1e-3)
    forget_bias: ForgetBias = number(default=0.0)

    @property
    def own_key_size(self) -> int:
        return math.ceil(self.width / 2)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, *kernel_keys, bias_key = jax.random.split(key, 4)
        rows = self.heads * self.keys
        bias = forget_blocks(self.forget_bias, bias_key, rows, dtype, keep="a")
        return super().init(key, input_size, dtype) | {
            "gate_kernel": self.kernel_init(kernel_keys[0], (input_size, self.rank), dtype),
            "decay_kernel": self.kernel_init(kernel_keys[1], (self.rank, rows), dtype),
            "decay_bias": bias["a"],
        }

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        v, r = self.gate_parts(weights, x)
        q, k = self.query_and_key(weights, x)
        logit = dense(dense(x, weights["gate_kernel"]), weights["decay_kernel"], weights["decay_bias"])
        logit = self.by_head(logit.astype(accumulator(logit.dtype)))
        log_decay = jax.nn.log_sigmoid(logit) / constant(self.temperature, logit)
        element = OuterElement(log_decay, k, self.by_head(v))
        return LinearDrive(element, Reading(q / math.sqrt(self.keys), jax.nn.silu(r)))
