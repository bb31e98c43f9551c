"""RWKV-4: a weighted average of values that decays channel by channel."""

from __future__ import annotations

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, computes_in, dtype_of
from rnncells.fields import static
from rnncells.initializers import Glorot, Initializer, scheme
from rnncells.linear_scan import Monoid, RunningMaximum, Scaled, ScaledElement
from rnncells.parts.arithmetic import align, dense, split_gates
from rnncells.parts.gated import ProjectedCell
from rnncells.parts.linear import LinearCell, LinearDrive


class _Extra(NamedTuple):
    """What the output of a tick needs besides the average of the past."""

    receptance: jax.Array
    log_weight: jax.Array
    """u + k: how much the value of this very tick counts."""
    value: jax.Array


class RWKV4(LinearCell, ProjectedCell):
    """The time mixing of RWKV-4, without its token shift.

        r = x W_r      k = x W_k      v = x W_v
        wkv = (a + e^(u + k) v) / (b + e^(u + k)),    y = (s(r) wkv) W_o
        a' = e^-exp(w) a + e^k v      b' = e^-exp(w) b + e^k

    A tick reads the sums of the ticks before it, and counts itself with a weight of its own, u. Both sums are
    stored with their largest exponent taken out, so that no k overflows.

    Shapes: x [..., I], carry `Scaled((a, b), log_scale)` of three [..., H] in float32 or wider, y [..., H];
    kernel W [I, 3H], gates in the order r, k, v; log_decay w and first u [H]; output_kernel W_o [H, H].

    Args:
        features: H.
        kernel_init: drawn for each gate; Glorot uniform.
        output_init: of W_o; Glorot uniform.
        bias_init, use_bias: no biases by default, as in the paper.

    w starts at -5 + 8 (h / (H - 1))^0.7, u at ln 0.3 + 0.5 ((h + 1) mod 3 - 1), for channels h = 0 ... H - 1,
    as in the authors' code for a first layer.

    Source: Peng et al. 2023, arXiv 2305.13048. The token shift, which mixes every input with the one before
    it, is a window over inputs and a cell of its own: `Stack([CausalConvolution(3 I), RWKV4(H)])` holds it,
    one mixture for each gate, as a special case. The authors start W_r, W_k and W_o at zero, which suits
    residual blocks alone.
    """

    paper = "Peng et al. 2023, arXiv 2305.13048"
    gates = ("r", "k", "v")
    reads = "before"
    blendable = False

    output_init: Initializer = scheme(Glorot(), kw_only=True)
    use_bias: bool = static(default=False, kw_only=True)

    @property
    def monoid(self) -> Monoid:
        return RunningMaximum()

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, output_key = jax.random.split(key)
        channel = np.arange(self.features)
        decay = -5 + 8 * (channel / max(self.features - 1, 1)) ** 0.7
        first = math.log(0.3) + 0.5 * ((channel + 1) % 3 - 1)
        return super().init(key, input_size, dtype) | {
            "log_decay": jnp.asarray(decay, dtype),
            "first": jnp.asarray(first, dtype),
            "output_kernel": self.output_init(output_key, (self.features, self.features), dtype),
        }

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> Scaled:
        shape, dtype = (*batch_shape, self.features), accumulator(dtype_of(params, like))
        return Scaled((jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)), jnp.full(shape, -1e30, dtype))

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        fused = ProjectedCell.project(self, weights, x)
        r, k, v = split_gates(fused.astype(accumulator(fused.dtype)), 3)
        decay, first = (align(weights[name].astype(k.dtype), k) for name in ("log_decay", "first"))
        element = ScaledElement(jnp.broadcast_to(-jnp.exp(decay), k.shape), k, (v, jnp.ones_like(v)))
        return LinearDrive(element, _Extra(jax.nn.sigmoid(r), first + k, v))

    def read(self, weights: Weights, state: Scaled, drive: LinearDrive) -> jax.Array:
        (total, count), log_scale = state
        top = jnp.maximum(log_scale, drive.extra.log_weight)
        past, now = jnp.exp(log_scale - top), jnp.exp(drive.extra.log_weight - top)
        return (past * total + now * drive.extra.value) / (past * count + now)

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        return dense((drive.extra.receptance * out).astype(computes_in(weights)), weights["output_kernel"])
