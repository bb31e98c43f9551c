"""Delta networks: memories that unlearn what they recall under a key before they write."""

from __future__ import annotations

import abc
import math

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Carry, Drive, Out, Params, Weights
from rnncells.fields import Number, choice, number, static
from rnncells.linear_scan import Monoid
from rnncells.parts.key_value import Delta, DeltaElement, attend, inward, log_decays, outward, written
from rnncells.parts.linear import LinearDrive
from rnncells.parts.memory import KeyedCell, Reading, SelectiveCell


class _DeltaCell(KeyedCell):
    """S' = e^g (S - b k (k^T S)) + b k v^T, with b = s(x W_b) for each head."""

    @property
    def monoid(self) -> Monoid:
        return Delta()

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, write_key = jax.random.split(key)
        write = self.kernel_init(write_key, (input_size, self.heads), dtype)
        return super().init(key, input_size, dtype) | {"write_kernel": write}

    def delta(
        self, weights: Weights, x: jax.Array, k: jax.Array, v: jax.Array, log_decay: jax.Array | None = None
    ) -> DeltaElement:
        """The element for k [..., h, K], v [..., H] and g [..., h, 1], 0 by default."""
        write = jax.nn.sigmoid(self.head_gate(weights, x, "write_kernel"))
        log_decay = jnp.zeros_like(write) if log_decay is None else log_decay
        return DeltaElement(log_decay, write * k, k, self.by_head(v))

    def chunk(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Out]:
        log_decay, left, right, value = map(inward, drive.element)
        between, past = map(jnp.exp, log_decays(log_decay))
        value = written(between, past, left, right, value, carry)
        seen, state = attend(between, past, inward(drive.extra.query), left, value, carry)
        return state, outward(seen)

    @abc.abstractmethod
    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive: ...


def _of_unit_length(v: jax.Array) -> jax.Array:
    return v * jax.lax.rsqrt(jnp.sum(jnp.square(v), -1, keepdims=True) + 1e-6)


class _UnitKeys(_DeltaCell):
    """q and k of length 1."""

    def unit_query_and_key(self, weights: Weights, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        q, k = (_of_unit_length(jax.nn.silu(part)) for part in self.query_and_key(weights, x))
        return q / math.sqrt(self.keys), k


class DeltaNet(_UnitKeys):
    """Linear attention with the delta rule: a value replaces what was stored under its key.

        q = u(silu(x W_q)) / sqrt(K)      k = u(silu(x W_k))      u(a) = a / sqrt(|a|^2 + 1e-6)
        v = silu(x W_v)                   b = s(x W_b)            one number for each head
        S' = S + b k (v - k^T S)^T
        o = q S'                          y = n(o) W_o

    with s the logistic function and n(o) = scale * o / sqrt(mean square of o + epsilon) for each head. As k
    has length 1, the transition 1 - b k k^T never makes S longer.

    Shapes: x [..., I], S [..., h, K, V] in float32 or wider with V = H / h, y [..., H]; key_kernel (W_q W_k)
    [I, 2 h K], kernel W_v [I, H], write_kernel W_b [I, h], norm_scale [V], output_kernel W_o [H, H]; with
    biases key_bias, bias and output_bias.

    Args:
        features: H, a multiple of heads.
        heads: h, 1 by default; the paper has heads of 128 features.
        key_size: K; V by default.
        epsilon: 1e-5 by default, at least 1e-12.
        kernel_init, key_init, output_init: Glorot uniform; kernel_init of W_b too.
        bias_init, use_bias: no biases by default.

    Source: Yang, Wang, Zhang, Shen & Kim 2024, arXiv 2406.06484. Their causal convolutions of width 4 over q,
    k and v, ahead of silu, are windows over inputs: `CausalConvolution` in a stack goes in front of all of x
    instead. Many ticks at once run in chunks of 64 in the WY form (parts/key_value.py); the associative scan
    is never worth it.
    """

    paper = "Yang, Wang, Zhang, Shen & Kim 2024, arXiv 2406.06484"
    gates = ("v",)

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        (v,) = self.gate_parts(weights, x)
        q, k = self.unit_query_and_key(weights, x)
        return LinearDrive(self.delta(weights, x, k, jax.nn.silu(v)), Reading(q))


class GatedDeltaNet(SelectiveCell, _UnitKeys):
    """A delta network that also forgets: all of its memory, at a rate that the input chooses.

        q = u(silu(x W_q)) / sqrt(K)      k = u(silu(x W_k))      u(a) = a / sqrt(|a|^2 + 1e-6)
        v = silu(x W_v)                   b = s(x W_b)            d = softplus(x W_d + b_d)
        S' = e^(-d e^a) (S - b k (k^T S)) + b k v^T
        o = q S'                          y = (silu(x W_g) * n(o)) W_o

    with a, b and d one number for each head, s the logistic function and
    n(o) = scale * o / sqrt(mean square of o + epsilon) for each head.

    Shapes: x [..., I], S [..., h, K, V] in float32 or wider with V = H / h, y [..., H]; key_kernel (W_q W_k)
    [I, 2 h K], kernel (W_v W_g) [I, 2H], write_kernel W_b and step_kernel W_d [I, h], step_bias b_d and
    log_rate a [h], norm_scale [V], output_kernel W_o [H, H]; with biases key_bias, bias and output_bias.

    Args:
        features: H, a multiple of heads.
        heads: h, 1 by default; the authors' layer has 6.
        key_size: K; V / 2 by default, as in the authors' layer, rounded up.
        step_min, step_max: softplus(b_d) starts log-uniform between them; .001 and .1, at least .0001.
        epsilon: 1e-5 by default, at least 1e-12.
        kernel_init, key_init, output_init: Glorot uniform; kernel_init of W_b and W_d too.
        bias_init, use_bias: no biases but b_d by default.

    e^a starts as U(0, 16), where 0 itself is left out (.001 in its place).

    Source: Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464. Causal convolutions and chunks: as DeltaNet.
    """

    paper = "Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464"
    gates = ("v", "g")
    rates = (1e-3, 16.0)

    @property
    def own_key_size(self) -> int:
        return math.ceil(self.width / 2)

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        v, g = self.gate_parts(weights, x)
        q, k = self.unit_query_and_key(weights, x)
        _, log_decay = self.step_and_log_decay(weights, x)
        element = self.delta(weights, x, k, jax.nn.silu(v), log_decay)
        return LinearDrive(element, Reading(q, jax.nn.silu(g)))


class FastWeightProgrammer(_DeltaCell):
    """A slow network that programs the weights of a fast one: the delta rule with positive keys.

        q = c(f(x W_q))      k = c(f(x W_k))      c(a) = a / (sum of a + epsilon)
        v = x W_v            b = s(x W_b)
        S' = S + b k (v - k^T S)^T
        y = (q S') W_o

    with b one number for each head and s the logistic function. f is the deterministic parameter-free
    projection of the paper: for r = relu([a -a]) all products of r with itself moved round by 1, ..., nu
    places, 2 nu K numbers in all, many of them zero; or elu(a) + 1, K numbers.

    Shapes: x [..., I], S [..., h, F, V] in float32 or wider with V = H / h, F = 2 nu K or K, y [..., H];
    key_kernel (W_q W_k) [I, 2 h K], kernel W_v [I, H], write_kernel W_b [I, h], output_kernel W_o [H, H];
    with biases key_bias, bias and output_bias.

    Args:
        features: H, a multiple of heads.
        heads: h, 1 by default; the paper has 8.
        key_size: K; V by default.
        feature_map: "dpfp" (default), or "elu" for elu(a) + 1.
        nu: 1 by default; the paper has 1 to 3.
        epsilon: 1e-5 by default, at least 1e-12.
        kernel_init, key_init, output_init: Glorot uniform; kernel_init of W_b too.
        bias_init, use_bias: no biases by default.

    Source: Schlag, Irie & Schmidhuber 2021, arXiv 2102.11174, without attention normalisation, as they
    recommend beside the sums to one. Chunks: as DeltaNet.
    """

    paper = "Schlag, Irie & Schmidhuber 2021, arXiv 2102.11174"
    gates = ("v",)
    normalised = "not"

    feature_map: str = choice("dpfp", "elu", default="dpfp")
    nu: int = static(default=1, check=checks.positive_int)
    epsilon: Number = number(default=1e-5, low=1e-12)

    @property
    def rows(self) -> int:
        return self.keys if self.feature_map == "elu" else 2 * self.nu * self.keys

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        (v,) = self.gate_parts(weights, x)
        q, k = map(self._positive, self.query_and_key(weights, x))
        return LinearDrive(self.delta(weights, x, k, v), Reading(q))

    def _positive(self, a: jax.Array) -> jax.Array:
        """c(f(a))."""
        if self.feature_map == "elu":
            found = jax.nn.elu(a) + 1
        else:
            r = jax.nn.relu(jnp.concatenate([a, -a], -1))
            found = jnp.concatenate([r * jnp.roll(r, move, -1) for move in range(1, self.nu + 1)], -1)
        return found / (found.sum(-1, keepdims=True) + jnp.asarray(self.epsilon, found.dtype))
