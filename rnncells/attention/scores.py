"""What a query sees in a memory: the scores of Bahdanau, and of Luong."""

from __future__ import annotations

import abc
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.attention.masking import average, check_init, positions, silence, softmax
from rnncells.cell import Params
from rnncells.dtypes import promote
from rnncells.fields import Pytree, choice, static
from rnncells.initializers import Glorot, Initializer, scheme
from rnncells.parts.arithmetic import dense


class Attention(Pytree, abc.ABC):
    """What all scores share: a = softmax over s of score(q, m_s), c = sum over s of a_s m_s."""

    paper: ClassVar[str]
    """Authors, year, arXiv id or DOI."""

    def init(
        self, key: chex.PRNGKey, query_size: int, memory_size: int, dtype: DTypeLike = jnp.float32
    ) -> Params:
        """Parameters for queries [*B, query_size] and memories [S, *B, memory_size]."""
        check_init(self, key, dtype, query_size=query_size, memory_size=memory_size)
        return self.draw(key, query_size, memory_size, dtype)

    def prepare(self, params: Params, memory: chex.Array, *, lengths: chex.Array | None = None) -> jax.Array:
        """keys [S, *B, K]: what the scores need of a memory [S, *B, M], the same for every query."""
        exists = positions("memory", memory, lengths)
        params, memory = promote(params, memory)
        return self.keys_of(params, silence(memory, exists))

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
        memory = silence(memory, exists)
        keys = self.keys_of(params, memory) if keys is None else silence(keys, exists)
        weights = softmax(self.scores(params, query, keys), exists)
        return average(weights, memory), weights

    @abc.abstractmethod
    def draw(self, key: chex.PRNGKey, query_size: int, memory_size: int, dtype: DTypeLike) -> Params:
        """`init`, its arguments checked."""

    @abc.abstractmethod
    def keys_of(self, params: Params, memory: jax.Array) -> jax.Array:
        """[S, *B, M] -> [S, *B, K]."""

    @abc.abstractmethod
    def scores(self, params: Params, query: jax.Array, keys: jax.Array) -> jax.Array:
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

    paper = "Bahdanau, Cho & Bengio 2015, arXiv 1409.0473"

    features: int = static(check=checks.positive_int)
    kernel_init: Initializer = scheme(Glorot())

    def draw(self, key: chex.PRNGKey, query_size: int, memory_size: int, dtype: DTypeLike) -> Params:
        query_key, memory_key, score_key = jax.random.split(key, 3)
        return {
            "query_kernel": self.kernel_init(query_key, (query_size, self.features), dtype),
            "memory_kernel": self.kernel_init(memory_key, (memory_size, self.features), dtype),
            "bias": jnp.zeros((self.features,), dtype),
            "score_kernel": self.kernel_init(score_key, (self.features, 1), dtype)[:, 0],
        }

    def keys_of(self, params: Params, memory: jax.Array) -> jax.Array:
        checks.features("memory", memory, params["memory_kernel"].shape[0])
        return dense(memory, params["memory_kernel"])

    def scores(self, params: Params, query: jax.Array, keys: jax.Array) -> jax.Array:
        checks.features("query", query, params["query_kernel"].shape[0])
        hidden = dense(query, params["query_kernel"], params.get("bias"))[None] + keys
        return jnp.tanh(hidden) @ params["score_kernel"]


def _width(name: str, value: object) -> None:
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

    paper = "Luong, Pham & Manning 2015, arXiv 1508.04025"

    score: str = choice("dot", "general", "concat", default="dot")
    features: int | None = static(default=None, check=_width)
    kernel_init: Initializer = scheme(Glorot())

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.score == "concat") != (self.features is not None):
            expected = "the width of its hidden layer" if self.features is None else "None"
            raise ValueError(
                f"MultiplicativeAttention.features: expected {expected} with score={self.score!r}, got"
                f" {self.features}."
            )

    def draw(self, key: chex.PRNGKey, query_size: int, memory_size: int, dtype: DTypeLike) -> Params:
        if self.features is not None:
            params = self._additive.draw(key, query_size, memory_size, dtype)
            return {name: leaf for name, leaf in params.items() if name != "bias"}
        if self.score == "general":
            return {"kernel": self.kernel_init(key, (query_size, memory_size), dtype)}
        if query_size != memory_size:
            raise ValueError(
                f"memory_size: expected the {query_size} of queries with score='dot', got {memory_size};"
                " score='general' takes any two."
            )
        return {}

    def keys_of(self, params: Params, memory: jax.Array) -> jax.Array:
        if self.score == "concat":
            return self._additive.keys_of(params, memory)
        if self.score == "dot":
            return memory
        checks.features("memory", memory, params["kernel"].shape[1])
        return dense(memory, params["kernel"].T)

    def scores(self, params: Params, query: jax.Array, keys: jax.Array) -> jax.Array:
        if self.score == "concat":
            return self._additive.scores(params, query, keys)
        checks.features("query", query, keys.shape[-1])
        return jnp.einsum("...q,s...q->s...", query, keys)

    @property
    def _additive(self) -> AdditiveAttention:
        return AdditiveAttention(self.features or 1, self.kernel_init)
