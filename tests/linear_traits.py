"""Linear cells whose states are matrices, for the laws over traits."""

import jax
import jax.numpy as jnp

from rnncells import LinearCell, LinearDrive, dense, split_gates, static
from rnncells.dtypes import accumulator, dtype_of
from rnncells.initializers import Glorot
from rnncells.linear_scan import DiagonalElement, RankOne, RankOneElement
from rnncells.parts.arithmetic import align


class Heads(LinearCell):
    """A matrix for each of two heads, S' = a S + k v^T, with one decay for a whole head; y = q S."""

    paper = "none"
    gates = ("q", "k", "v")

    features: int = static()

    def init(self, key, input_size, dtype=jnp.float32):
        kernels = [Glorot()(k, (input_size, self.features), dtype) for k in jax.random.split(key, 3)]
        return {"kernel": jnp.concatenate(kernels, -1), "bias": jnp.zeros((2,), dtype)}

    def initial_carry(self, params=None, batch_shape=(), like=None):
        wide = accumulator(dtype_of(params, like))
        return jnp.zeros((*batch_shape, 2, -(-self.features // 2), self.features), wide)

    def project(self, weights, x, key=None):
        q, k, v = split_gates(dense(x, weights["kernel"]).astype(accumulator(x.dtype)), 3)
        rows = slice(-(-self.features // 2))  # the first half of the units, for both heads
        decay = jax.nn.sigmoid(weights["bias"].astype(v.dtype)).reshape((1,) * (v.ndim - 1) + (2, 1, 1))
        decay = jnp.broadcast_to(decay, (*v.shape[:-1], 2, 1, 1))
        update = k[..., None, rows, None] * v[..., None, None, :]
        update = jnp.concatenate([update, jnp.tanh(update)], -3)
        return LinearDrive(DiagonalElement(decay, update), q[..., rows])

    def read(self, weights, state, drive):
        return jnp.einsum("...k,...hkv->...v", drive.extra, state)


class Delta(LinearCell):
    """A matrix that unlearns what it recalls: S' = a (S - b k (k^T S)) + b k v^T, y = q S'."""

    paper = "none"
    gates = ("q", "k", "v")
    associative = False

    features: int = static()

    @property
    def monoid(self):
        return RankOne()

    def init(self, key, input_size, dtype=jnp.float32):
        kernels = [Glorot()(k, (input_size, self.features), dtype) for k in jax.random.split(key, 3)]
        return {"kernel": jnp.concatenate(kernels, -1), "write": jnp.zeros((), dtype)}

    def initial_carry(self, params=None, batch_shape=(), like=None):
        wide = accumulator(dtype_of(params, like))
        return jnp.zeros((*batch_shape, self.features, self.features), wide)

    def project(self, weights, x, key=None):
        q, k, v = split_gates(dense(x, weights["kernel"]).astype(accumulator(x.dtype)), 3)
        k = k / jnp.sqrt(1 + jnp.sum(jnp.square(k), -1, keepdims=True))
        write = align(jax.nn.sigmoid(weights["write"].astype(k.dtype)), k)
        decay = jnp.full((*k.shape[:-1], 1, 1), 0.9, k.dtype)
        return LinearDrive(RankOneElement(decay, write * k, k, v), q)

    def read(self, weights, state, drive):
        return jnp.einsum("...k,...kv->...v", drive.extra, state)
