"""Attention over a sequence of states: scores and pooling. The decoder is in wrappers/decoder.py.

Layout, as everywhere, is time-major: a memory is [S, *B, M], such as the outputs of `unroll` over an
encoder; queries are [*B, Q], weights [S, *B], contexts [*B, M]. Lengths are int [*B]: positions at or past
them have weight zero and are never read, so that NaN there reaches neither results nor gradients; a memory of
length 0 gives weights and a context of zero. The softmax runs in float32 or wider.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.cell import Params, Pytree, static
from rnncells.dtypes import accumulator, promote
from rnncells.initializers import Glorot, Initializer
from rnncells.ops import dense, select


class Attention(Pytree, abc.ABC):
    """What all scores share: a = softmax over s of score(q, m_s), c = sum over s of a_s m_s."""

    paper: ClassVar[str]
    """Authors, year, arXiv id or DOI."""

    def init(self, key: chex.PRNGKey, query_size: int, memory_size: int, dtype: Any = jnp.float32) -> Params:
        """Parameters for queries [*B, query_size] and memories [S, *B, memory_size]."""
        _check_init(self, key, dtype, query_size=query_size, memory_size=memory_size)
        return self._init(key, query_size, memory_size, dtype)

    def prepare(self, params: Params, memory: chex.Array, *, lengths: chex.Array | None = None) -> jax.Array:
        """keys [S, *B, K]: what the scores need of a memory [S, *B, M], the same for every query."""
        exists = positions("memory", memory, lengths)
        params, memory = promote(params, memory)
        return self._keys(params, _silence(memory, exists))

    def __call__(
        self,
        params: Params,
        query: chex.Array,
        memory: chex.Array,
        *,
        lengths: chex.Array | None = None,
        keys: chex.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """query [*B, Q], memory [S, *B, M] -> context [*B, M], weights [S, *B].

        Args:
            params: from `init`.
            query, memory: floating point, with the same batch axes.
            lengths: int [*B]. Concrete values must lie in [0, S], traced ones are clipped.
            keys: from `prepare`, for this memory and these lengths, where many queries share them.

        Raises:
            TypeError, ValueError: at trace time, for an argument of the wrong kind, shape or value.
        """
        exists = positions("memory", memory, lengths)
        for name, given, axes in (
            ("query", query, memory.shape[1:-1]),
            ("keys", memory if keys is None else keys, memory.shape[:-1]),
        ):
            if given.shape[:-1] != axes:
                raise ValueError(
                    f"{name}: expected axes {list(axes)} before the last, those of memory, got"
                    f" {checks.describe(given)}."
                )
        params, query, memory, keys = promote(params, query, memory, keys)
        memory = _silence(memory, exists)
        keys = self._keys(params, memory) if keys is None else _silence(keys, exists)
        weights = _softmax(self._scores(params, query, keys), exists)
        return _average(weights, memory), weights

    @abc.abstractmethod
    def _init(self, key: chex.PRNGKey, query_size: int, memory_size: int, dtype: Any) -> Params:
        """`init`, its arguments checked."""

    @abc.abstractmethod
    def _keys(self, params: Params, memory: jax.Array) -> jax.Array:
        """[S, *B, M] -> [S, *B, K]."""

    @abc.abstractmethod
    def _scores(self, params: Params, query: jax.Array, keys: jax.Array) -> jax.Array:
        """[*B, Q], [S, *B, K] -> [S, *B]."""


class AdditiveAttention(Attention):
    """A network of one hidden layer scores each pair of query and memory.

        score(q, m_s) = v . tanh(q W + m_s U + b)

    Shapes: query_kernel W [Q, F], memory_kernel U [M, F], bias b [F], score_kernel v [F]; keys m U.

    Args:
        features: F.
        kernel_init: of W, U and v; Glorot uniform.

    Source: Bahdanau, Cho & Bengio 2015, arXiv 1409.0473. Deviations: the paper leaves b out of its
    equations, draws W and U from N(0, 0.001^2) and starts v at zero.
    """

    paper: ClassVar[str] = "Bahdanau, Cho & Bengio 2015, arXiv 1409.0473"

    features: int = static(check=checks.positive_int)
    kernel_init: Initializer = Glorot()

    def _init(self, key: chex.PRNGKey, query_size: int, memory_size: int, dtype: Any) -> Params:
        query_key, memory_key, score_key = jax.random.split(key, 3)
        return {
            "query_kernel": self.kernel_init(query_key, (query_size, self.features), dtype),
            "memory_kernel": self.kernel_init(memory_key, (memory_size, self.features), dtype),
            "bias": jnp.zeros((self.features,), dtype),
            "score_kernel": self.kernel_init(score_key, (self.features, 1), dtype)[:, 0],
        }

    def _keys(self, params: Params, memory: jax.Array) -> jax.Array:
        checks.features("memory", memory, params["memory_kernel"].shape[0])
        return dense(memory, params["memory_kernel"])

    def _scores(self, params: Params, query: jax.Array, keys: jax.Array) -> jax.Array:
        checks.features("query", query, params["query_kernel"].shape[0])
        hidden = dense(query, params["query_kernel"], params.get("bias"))[None] + keys
        return jnp.tanh(hidden) @ params["score_kernel"]


def _score(name: str, value: Any) -> None:
    if value not in ("dot", "general", "concat"):
        raise ValueError(f"{name}: expected 'dot', 'general' or 'concat', got {value!r}.")


def _width(name: str, value: Any) -> None:
    if value is not None:
        checks.positive_int(name, value)


class MultiplicativeAttention(Attention):
    """The three scores of Luong, Pham & Manning.

        score(q, m_s) = q . m_s                      score="dot", with Q = M
        score(q, m_s) = q W . m_s                    score="general"
        score(q, m_s) = v . tanh(q W + m_s U)        score="concat", in the paper [q; m_s] and one kernel

    Shapes: kernel W [Q, M], keys m W^T (general); query_kernel W [Q, F], memory_kernel U [M, F],
    score_kernel v [F], keys m U (concat).

    Args:
        score: "dot", "general" or "concat".
        features: F, for concat alone.
        kernel_init: of every kernel; Glorot uniform, where the paper draws from U(-0.1, 0.1).

    Source: Luong, Pham & Manning 2015, arXiv 1508.04025.
    """

    paper: ClassVar[str] = "Luong, Pham & Manning 2015, arXiv 1508.04025"

    score: str = static(default="dot", check=_score)
    features: int | None = static(default=None, check=_width)
    kernel_init: Initializer = Glorot()

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.score == "concat") != (self.features is not None):
            expected = "the width of its hidden layer" if self.features is None else "None"
            raise ValueError(
                f"MultiplicativeAttention.features: expected {expected} with score={self.score!r}, got"
                f" {self.features}."
            )

    def _init(self, key: chex.PRNGKey, query_size: int, memory_size: int, dtype: Any) -> Params:
        if self.features is not None:
            params = self._additive._init(key, query_size, memory_size, dtype)
            return {name: leaf for name, leaf in params.items() if name != "bias"}
        if self.score == "general":
            return {"kernel": self.kernel_init(key, (query_size, memory_size), dtype)}
        if query_size != memory_size:
            raise ValueError(
                f"memory_size: expected the {query_size} of queries with score='dot', got {memory_size};"
                " score='general' takes any two."
            )
        return {}

    def _keys(self, params: Params, memory: jax.Array) -> jax.Array:
        if self.score == "concat":
            return self._additive._keys(params, memory)
        if self.score == "dot":
            return memory
        checks.features("memory", memory, params["kernel"].shape[1])
        return dense(memory, params["kernel"].T)

    def _scores(self, params: Params, query: jax.Array, keys: jax.Array) -> jax.Array:
        if self.score == "concat":
            return self._additive._scores(params, query, keys)
        checks.features("query", query, keys.shape[-1])
        return jnp.einsum("...q,s...q->s...", query, keys)

    @property
    def _additive(self) -> AdditiveAttention:
        return AdditiveAttention(self.features or 1, self.kernel_init)


class AttentionPooling(Pytree):
    """A sequence as one vector, for classification: its states, weighted by what they hold.

        a = softmax over t of v . tanh(h_t W + b),    y = sum over t of a_t h_t

    Shapes: h [T, *B, H], y [*B, H]; kernel W [H, F], bias b [F], score_kernel v [F].

    Args:
        features: F.
        kernel_init: of W and v; Glorot uniform.

    Source: Yang, Yang, Dyer, He, Smola & Hovy 2016, doi 10.18653/v1/N16-1174; v is their context vector.
    """

    paper: ClassVar[str] = "Yang, Yang, Dyer, He, Smola & Hovy 2016, doi 10.18653/v1/N16-1174"

    features: int = static(check=checks.positive_int)
    kernel_init: Initializer = Glorot()

    def init(self, key: chex.PRNGKey, input_size: int, dtype: Any = jnp.float32) -> Params:
        """Parameters for sequences [T, *B, input_size]."""
        _check_init(self, key, dtype, input_size=input_size)
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
        hidden = jnp.tanh(dense(_silence(hs, exists), params["kernel"], params["bias"]))
        return _softmax(hidden @ params["score_kernel"], exists)

    def __call__(self, params: Params, hs: chex.Array, *, lengths: chex.Array | None = None) -> jax.Array:
        """hs [T, *B, H] -> y [*B, H]; lengths int [*B], within [0, T]."""
        weights = self.weights(params, hs, lengths=lengths)
        return _average(*promote(weights, _silence(hs, positions("hs", hs, lengths))))


def _check_init(owner: Pytree, key: chex.PRNGKey, dtype: Any, **sizes: int) -> None:
    checks.numbers(owner)
    checks.key(key)
    checks.float_dtype("dtype", dtype)
    for name, size in sizes.items():
        checks.positive_int(name, size)


def positions(name: str, memory: Any, lengths: chex.Array | None) -> jax.Array | None:
    """bool [S, *B]: the positions of a memory [S, *B, M] that exist; None where all do. Checks both."""
    if not hasattr(memory, "dtype") or not jnp.issubdtype(memory.dtype, jnp.floating) or memory.ndim < 2:
        raise TypeError(
            f"{name}: expected floating point [time, *batch, features], got {checks.describe(memory)}."
        )
    if lengths is None:
        return None
    lengths = checks.lengths(lengths, memory.shape[1:-1], memory.shape[0]).astype(jnp.int32)
    return jnp.arange(memory.shape[0], dtype=jnp.int32).reshape(-1, *[1] * lengths.ndim) < lengths[None]


def _silence(memory: jax.Array, exists: jax.Array | None) -> jax.Array:
    """Zero where nothing exists, before anything reads it: a derivative must not see NaN either."""
    return memory if exists is None else select(exists, memory, jnp.zeros_like(memory))


def _softmax(scores: jax.Array, exists: jax.Array | None) -> jax.Array:
    """Over the first axis; zero where nothing exists, even if nothing at all does."""
    wide = scores.astype(accumulator(scores.dtype))
    floor = jnp.finfo(wide.dtype).min
    if exists is not None:
        wide = jnp.where(exists, wide, floor)
    mass = jnp.exp(wide - jax.lax.stop_gradient(jnp.max(wide, axis=0, keepdims=True, initial=floor)))
    if exists is not None:
        mass = jnp.where(exists, mass, 0)
    total = jnp.sum(mass, axis=0, keepdims=True)
    return (mass / jnp.where(total > 0, total, 1)).astype(scores.dtype)


def _average(weights: jax.Array, memory: jax.Array) -> jax.Array:
    return jnp.einsum("s...,s...m->...m", weights, memory)
