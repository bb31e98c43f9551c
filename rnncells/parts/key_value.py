"""Matrices that keys and values write into, one tick after the other and many ticks at once.

    Outer   S' = e^g S + k v^T                      with one g <= 0 for a head, or one for each of its rows
    Delta   S' = e^g (S - l r^T S) + l v^T          with one g <= 0 for a head

Many ticks at once are products of matrices. Over C ticks from a state S, with G_ts the sum of g over the
ticks after s up to t, and G_t that of the chunk up to t,

    Outer   q_t S_t = sum over s <= t of e^(G_ts) (q_t . k_s) v_s  +  e^(G_t) q_t S
    Delta   the same with l for k and u for v, where (1 + A) u = v - e^(G_t) r_t S
            and A_ts = e^(G_ts) r_t . l_s for s < t, 0 elsewhere

which is the representation of Bischof and Van Loan (WY) for products of 1 - l r^T. The state of a tick is
never formed. G_ts is never the difference of two longer sums and no decay is divided by: however strong the
decays are, nothing overflows and nothing cancels. An associative scan would hold a matrix for each tick, and
multiply matrices for `Delta`: it is never worth it.

In the functions of this file time is the last axis but one: g [..., C, 1 or K], keys [..., C, K],
values [..., C, V], a state [..., K, V].

Source: the chunks of Hua et al. 2022, arXiv 2202.10447, Sun et al. 2023, arXiv 2307.08621, and Dao & Gu 2024,
arXiv 2405.21060; of delta rules Yang et al. 2024, arXiv 2406.06484 and 2412.06464.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnncells.linear_scan import Diagonal, DiagonalElement, MatrixElement, Monoid, RankOne, RankOneElement
from rnncells.parts.arithmetic import align


class OuterElement(NamedTuple):
    """S -> e^log_decay S + key value^T."""

    log_decay: jax.Array
    """[..., 1], or [..., K] for each row."""
    key: jax.Array
    """[..., K]"""
    value: jax.Array
    """[..., V]"""


class Outer(Monoid):
    """S' = e^g S + k v^T for states [..., K, V], `Diagonal` to compose: the outer product is formed only
    where the state is."""

    def lift(self, element: Any) -> DiagonalElement:
        if isinstance(element, DiagonalElement):
            return element
        log_decay, key, value = element
        update = key[..., :, None] * value.astype(key.dtype)[..., None, :]
        return DiagonalElement(jnp.exp(log_decay)[..., None], update)

    def identity(self, like: Any) -> Any:
        if isinstance(like, DiagonalElement):
            return Diagonal().identity(like)
        return jax.tree.map(jnp.zeros_like, like)

    def combine(self, earlier: DiagonalElement, later: DiagonalElement) -> DiagonalElement:
        return Diagonal().combine(earlier, later)

    def apply(self, element: Any, state: jax.Array) -> jax.Array:
        return Diagonal().apply(self.lift(element), state)


class DeltaElement(NamedTuple):
    """S -> e^log_decay (S - left right^T S) + left value^T."""

    log_decay: jax.Array
    """[..., 1]"""
    left: jax.Array
    """[..., K]"""
    right: jax.Array
    """[..., K]"""
    value: jax.Array
    """[..., V]"""


class Delta(RankOne):
    """`RankOne` by the logarithm of its decay."""

    def identity(self, like: Any) -> Any:
        if isinstance(like, DeltaElement):
            return jax.tree.map(jnp.zeros_like, like)
        return super().identity(like)

    def lift(self, element: DeltaElement) -> MatrixElement:
        return super().lift(_rank_one(element))

    def apply(self, element: Any, state: jax.Array) -> jax.Array:
        return super().apply(_rank_one(element) if isinstance(element, DeltaElement) else element, state)


def _rank_one(element: DeltaElement) -> RankOneElement:
    return RankOneElement(jnp.exp(element.log_decay)[..., None], *element[1:])


def inward(leaf: jax.Array) -> jax.Array:
    """[C, *B, h, N] -> [*B, h, C, N]."""
    return jnp.moveaxis(leaf, 0, -2)


def outward(leaf: jax.Array) -> jax.Array:
    """[*B, h, C, N] -> [C, *B, h, N]."""
    return jnp.moveaxis(leaf, -2, 0)


class LogDecays(NamedTuple):
    """What is left of things within a chunk, as logarithms."""

    between: jax.Array
    """G_ts [..., C, C]: at tick t, of what tick s wrote; -inf for s > t."""
    past: jax.Array
    """G_t [..., C, 1]: at tick t, of what there was before the chunk."""


def log_decays(log_decay: jax.Array) -> LogDecays:
    """From g [..., C, 1]."""
    before, so_far = (jnp.tri(log_decay.shape[-2], k=k, dtype=bool) for k in (-1, 0))
    passed = jnp.where(align(before, log_decay), log_decay, 0)
    between = jnp.where(align(so_far, log_decay), jnp.cumsum(passed, -2), -jnp.inf)
    return LogDecays(between, jnp.cumsum(log_decay, -2))


def attend(
    between: jax.Array, past: jax.Array, q: jax.Array, k: jax.Array, v: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(what each query sees [..., C, V], the state after the chunk), by decays between [..., C, C] and
    past [..., C, 1]."""
    seen = (between * (q @ k.mT)) @ v + past * (q @ state)
    kept = between[..., -1, :, None] * k
    return seen, past[..., -1:, :] * state + kept.mT @ v


def attend_by_rows(
    log_decay: jax.Array, q: jax.Array, k: jax.Array, v: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The same for g [..., C, K].

    No product with one C x C matrix of decays does this, and k_s e^(-G_s) overflows. But where t lies in one
    block of ticks and s in the block before it, G_ts is a sum within the first and one within the second,
    both <= 0: one product serves each pair of neighbouring blocks of 1, 2, 4, ... ticks.
    """
    count = q.shape[-2]
    width = 1 << (count - 1).bit_length()
    more = [(0, 0)] * (q.ndim - 2) + [(0, width - count), (0, 0)]
    log_decay, q, k, v = (jnp.pad(leaf, more) for leaf in (log_decay, q, k, v))
    seen = jnp.sum(q * k, -1, keepdims=True) * v
    since, until = log_decay, jnp.zeros_like(log_decay)  # from the start of the block, to its end
    size = 1
    while size < width:
        (since_1, since_2), (until_1, until_2) = _pairs(since, size), _pairs(until, size)
        (_, q_2), (k_1, _), (v_1, _), (seen_1, seen_2) = (_pairs(leaf, size) for leaf in (q, k, v, seen))
        seen_2 = seen_2 + ((jnp.exp(since_2) * q_2) @ (jnp.exp(until_1) * k_1).mT) @ v_1
        seen = _joined(seen_1, seen_2)
        total_1, total_2 = since_1[..., -1:, :], since_2[..., -1:, :]
        since, until = _joined(since_1, total_1 + since_2), _joined(until_1 + total_2, until_2)
        size *= 2
    seen = seen + (jnp.exp(since) * q) @ state
    kept = jnp.exp(until) * k
    return seen[..., :count, :], jnp.exp(since[..., -1, :, None]) * state + kept.mT @ v


def _pairs(leaf: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """[..., C, N] as first and second blocks of neighbours, [..., C / 2 size, size, N] each."""
    blocks = leaf.reshape(*leaf.shape[:-2], leaf.shape[-2] // (2 * size), 2, size, leaf.shape[-1])
    return blocks[..., 0, :, :], blocks[..., 1, :, :]


def _joined(first: jax.Array, second: jax.Array) -> jax.Array:
    blocks = jnp.concatenate([first, second], -2)
    return blocks.reshape(*blocks.shape[:-3], blocks.shape[-3] * blocks.shape[-2], blocks.shape[-1])


def written(
    between: jax.Array, past: jax.Array, left: jax.Array, right: jax.Array, value: jax.Array, state: jax.Array
) -> jax.Array:
    """u [..., C, V]: what each tick of a delta rule writes under `left` into a memory that only decays, in
    place of its value."""
    found = between * (right @ left.mT)  # its upper triangle and diagonal are not read
    target = value - past * (right @ state)
    return jax.scipy.linalg.solve_triangular(found, target, lower=True, unit_diagonal=True)
