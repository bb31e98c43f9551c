"""The mLSTM of xLSTM: an LSTM whose memory is a matrix."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, computes_in, dtype_of
from rnncells.linear_scan import Monoid, RunningMaximum, Scaled, ScaledElement
from rnncells.parts.arithmetic import align, dense, split_gates
from rnncells.parts.key_value import attend, inward, log_decays, outward
from rnncells.parts.linear import LinearDrive
from rnncells.parts.memory import HeadedCell


class KeyValueElement(NamedTuple):
    """Writes one value under one key."""

    log_decay: jax.Array
    """[..., h]"""
    log_update: jax.Array
    """[..., h]"""
    key: jax.Array
    """[..., h, K]"""
    value: jax.Array
    """[..., h, K]"""


class KeyValueMemory(RunningMaximum):
    """`Scaled((C, n), m)`: C' = e^f C + e^i k v^T, n' = e^f n + e^i k. The outer product is formed only where
    the state is."""

    def lift(self, element: Any) -> ScaledElement:
        if isinstance(element, ScaledElement):
            return element
        outer = element.key[..., :, None] * element.value[..., None, :]
        return ScaledElement(element.log_decay, element.log_update, (outer, element.key))

    def apply(self, element: Any, state: Scaled) -> Scaled:
        return super().apply(self.lift(element), state)


class MLSTM(HeadedCell):
    """mLSTM: an LSTM with a matrix memory that keys and values write into, for each head by itself.

        (q k v) = x W_qkv + b_qkv,   k <- k / sqrt(K)      i = x w_i + b_i      f = ln s(x w_f + b_f)
        C' = e^f C + e^i k v^T      n' = e^f n + e^i k
        y = s(x W_o + b_o) (q C' / max(|q . n'|, 1))

    with s the logistic function and i, f one number for each head. C and n are stored with the running
    maximum of their exponents taken out, m' = max(f + m, i), and 1 becomes e^-m': no input gate overflows.

    Shapes: x [..., I], carry `Scaled((C, n), m)` of [..., h, K, K], [..., h, K] and [..., h] in float32 or
    wider, with K = H / h, y [..., H]; kernel W [I, 4H] and bias b [4H], gates in the order q, k, v, o;
    gate_kernel [I, 2h] and gate_bias [2h], i of every head, then f.

    Args:
        features: H, a multiple of heads.
        heads: h, 1 by default; the authors' layer has 4.
        kernel_init: drawn for each gate; Glorot uniform.
        bias_init, use_bias: of q, k, v and o; zeros.

    gate_kernel starts at zero, b_i as N(0, 0.1^2), b_f from 3 to 6 over the heads, as in the authors' code.

    Source: Beck et al. 2024, arXiv 2405.04517. The cell alone: their layer adds a causal convolution, norms
    per head, a skip connection and a gated branch, and lets i and f read q, k and v. Their code adds 1e-6 to
    the denominator. Many ticks at once run in chunks of 64; the associative scan is never worth it.
    """

    paper = "Beck et al. 2024, arXiv 2405.04517"
    gates = ("q", "k", "v", "o")
    blendable = False

    @property
    def monoid(self) -> Monoid:
        return KeyValueMemory()

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, bias_key = jax.random.split(key)
        write = 0.1 * jax.random.normal(bias_key, (self.heads,), dtype)
        return super().init(key, input_size, dtype) | {
            "gate_kernel": jnp.zeros((input_size, 2 * self.heads), dtype),
            "gate_bias": jnp.concatenate([write, jnp.linspace(3, 6, self.heads, dtype=dtype)]),
        }

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> Scaled:
        head, dtype = (*batch_shape, self.heads), accumulator(dtype_of(params, like))
        memory = jnp.zeros((*head, self.width, self.width), dtype), jnp.zeros((*head, self.width), dtype)
        return Scaled(memory, jnp.zeros(head, dtype))

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        *qkv, o = self.gate_parts(weights, x)
        q, k, v = map(self.by_head, qkv)
        gates = dense(x, weights["gate_kernel"]).astype(o.dtype)
        i, f = split_gates(gates + align(weights["gate_bias"].astype(o.dtype), gates), 2)
        element = KeyValueElement(jax.nn.log_sigmoid(f), i, k / math.sqrt(k.shape[-1]), v)
        return LinearDrive(element, (q, jax.nn.sigmoid(o)))

    def read(self, weights: Weights, state: Scaled, drive: LinearDrive) -> jax.Array:
        (memory, norm), log_scale = state
        q, _ = drive.extra
        seen = jnp.einsum("...k,...kv->...v", q, memory)
        return _divided(seen, jnp.sum(q * norm, -1, keepdims=True), log_scale[..., None])

    def chunk(self, weights: Weights, carry: Scaled, drive: LinearDrive) -> tuple[Scaled, jax.Array]:
        """The norm is kept as a last column of the memory, where values are 1."""
        log_decay, log_update = (inward(leaf[..., None]) for leaf in drive.element[:2])
        q, k, v = map(inward, (drive.extra[0], *drive.element[2:]))
        (memory, norm), log_scale = carry
        between, so_far = log_decays(log_decay)
        between, past = between + log_update.mT, so_far + log_scale[..., None, None]
        # Not between.max(-1): its derivative looks for the largest entry, which fusion may round otherwise.
        top = jnp.maximum(past, so_far + jax.lax.cummax(log_update - so_far, axis=so_far.ndim - 2))
        state = jnp.concatenate([memory, norm[..., None]], -1)
        v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], -1)
        seen, state = attend(jnp.exp(between - top), jnp.exp(past - top), q, k, v, state)
        outs = _divided(seen[..., :-1], seen[..., -1:], top)
        return Scaled((state[..., :-1], state[..., -1]), top[..., -1, 0]), outward(outs)

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        return (drive.extra[1] * self.merged(out)).astype(computes_in(weights))


def _divided(seen: jax.Array, norm: jax.Array, log_scale: jax.Array) -> jax.Array:
    return seen / jnp.maximum(jnp.abs(norm), jnp.exp(-log_scale))
