"""Retention, the recurrence of the retentive network."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.fields import Number, number
from rnncells.initializers import Glorot, Initializer, scheme
from rnncells.parts.arithmetic import align
from rnncells.parts.diagonal import complex_zeros
from rnncells.parts.key_value import OuterElement, attend, inward, log_decays, outward
from rnncells.parts.linear import LinearDrive
from rnncells.parts.memory import KeyedCell, Reading


class Retention(KeyedCell):
    """Multi-scale retention: a memory that decays at a fixed rate for each head, and turns as it does.

        q = c(x W_q)      k = c(x W_k) / sqrt(K)      v = x W_v      c([a b]) = a + i b
        S' = gamma e^(-i theta) S + k v^T             gamma_h = 1 - 2^(-5 - h),  h = 0, 1, ...
        o = Re(conj(q) S')                            theta_j = 10000^(-j / (K/2 - 1)),  j = 0, ..., K/2 - 1
        y = (silu(x W_g) * n(o)) W_o                  n(o) = o / sqrt(mean square of o + epsilon)

    with n over each head by itself. Row j of S belongs to the pair of j and j + K/2. That the memory turns is
    what turns q and k by their positions in the paper: only the difference of two positions counts, so that
    no position is carried.

    Shapes: x [..., I], S [..., h, K/2, V] complex64 or wider with V = H / h, y [..., H]; key_kernel (W_q W_k)
    [I, 2 h K], kernel (W_v W_g) [I, 2H], output_kernel W_o [H, H]; with biases key_bias, bias and
    output_bias.

    Args:
        features: H, a multiple of heads.
        heads: h, 1 by default; the paper has heads of 512 features.
        key_size: K, even; V / 2 by default, as in the paper, rounded up to an even number.
        epsilon: 1e-6 by default, at least 1e-12.
        kernel_init, key_init, output_init: Glorot uniform, 2^-2.5, 2^-2.5 and 1/2 of it, as in the authors'
            code.
        bias_init, use_bias: no biases by default.

    Source: Sun et al. 2023, arXiv 2307.08621. The authors' code also divides scores and states by their own
    sizes, in another way for each of its three forms; n undoes all of it but for epsilon, and it is left out.
    Their code pairs neighbouring numbers of q and k, which is a relabelling. Many ticks at once run in chunks
    of 64; the associative scan is never worth it.
    """

    paper = "Sun et al. 2023, arXiv 2307.08621"
    gates = ("v", "g")
    norm_trains = False

    epsilon: Number = number(default=1e-6, low=1e-12)
    kernel_init: Initializer = scheme(Glorot(2**-2.5), kw_only=True)
    key_init: Initializer = scheme(Glorot(2**-2.5), kw_only=True)
    output_init: Initializer = scheme(Glorot(0.5), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keys % 2:
            raise ValueError(f"Retention.key_size: expected an even number, got {self.keys}.")

    @property
    def own_key_size(self) -> int:
        return 2 * math.ceil(self.width / 4)

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> jax.Array:
        return complex_zeros((*batch_shape, self.heads, self.keys // 2, self.width), params, like)

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        v, g = self.gate_parts(weights, x)
        q, k = (jax.lax.complex(*jnp.split(part, 2, -1)) for part in self.query_and_key(weights, x))
        element = OuterElement(align(self._log_decay(k.dtype), k), k / math.sqrt(self.keys), self.by_head(v))
        return LinearDrive(element, Reading(q, jax.nn.silu(g)))

    def _log_decay(self, dtype: np.dtype) -> jax.Array:
        """ln gamma - i theta, [h, K/2]."""
        decay = np.log1p(-(2.0 ** (-5 - np.arange(self.heads))))
        angle = 10000.0 ** -np.linspace(0, 1, self.keys // 2)
        return jnp.asarray(decay[:, None] - 1j * angle, dtype)

    def read(self, weights: Weights, state: jax.Array, drive: LinearDrive) -> jax.Array:
        q = drive.extra.query[..., :, None]
        return jnp.sum(q.real * state.real + q.imag * state.imag, -2)

    def chunk(self, weights: Weights, carry: jax.Array, drive: LinearDrive) -> tuple[jax.Array, jax.Array]:
        """Queries and keys are turned by their places in the chunk, so that the memory only decays."""
        log_decay, k, v = map(inward, drive.element)
        between, past = map(jnp.exp, log_decays(log_decay.real[..., :1]))
        turn = jnp.exp(jax.lax.complex(jnp.zeros_like(log_decay.real), -jnp.cumsum(log_decay.imag, -2)))
        q, k = (_parts(turn * leaf, -1) for leaf in (inward(drive.extra.query), k))
        seen, state = attend(between, past, q, k, v, _parts(carry, -2))
        state = jax.lax.complex(*jnp.split(state, 2, -2))
        return turn[..., -1, :, None].conj() * state, outward(seen)


def _parts(z: jax.Array, axis: int) -> jax.Array:
    """The real parts, then the imaginary ones."""
    return jnp.concatenate([z.real, z.imag], axis)
