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

    def lift(self, element: Any) -> MatrixElement:
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
    count = log_decay.shape[-2]
    crossings, since, _ = _sums(_filled(log_decay))
    between = jnp.zeros((*since.shape, 1), since.dtype)
    for until_1, since_2 in crossings:
        between = _below(between, since_2 + until_1.mT, -jnp.inf)
    return LogDecays(between[..., 0, :count, :count], since[..., :count, :])


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
    """The same for g [..., C, K]: no product with one C x C matrix does this, and k_s e^(-G_s) overflows, but
    a product for each pair of neighbouring blocks does (`_sums`)."""
    count = q.shape[-2]
    log_decay, q, k, v = map(_filled, (log_decay, q, k, v))
    crossings, since, until = _sums(log_decay)
    seen = jnp.sum(q * k, -1, keepdims=True) * v
    for until_1, since_2 in crossings:
        size = since_2.shape[-2]
        (_, q_2), (k_1, _), (v_1, _), (seen_1, seen_2) = (_pairs(leaf, size) for leaf in (q, k, v, seen))
        weights = (jnp.exp(since_2) * q_2) @ (jnp.exp(until_1) * k_1).mT
        seen = _joined(seen_1, seen_2 + weights @ v_1)
    seen = seen + (jnp.exp(since) * q) @ state
    kept = jnp.exp(until) * k
    return seen[..., :count, :], jnp.exp(since[..., -1, :, None]) * state + kept.mT @ v


def written(
    between: jax.Array, past: jax.Array, left: jax.Array, right: jax.Array, value: jax.Array, state: jax.Array
) -> jax.Array:
    """u [..., C, V]: what each tick of a delta rule writes under `left` into a memory that only decays, in
    place of its value."""
    found = between * (right @ left.mT)
    found = jnp.where(align(jnp.tri(found.shape[-1], k=-1, dtype=bool), found), found, 0)
    inverse = _inverse(found)
    # Entries of the inverse are those of products of 1 - l r^T: bounded where the rule is stable.
    return jax.lax.custom_linear_solve(
        lambda u: u + found @ u,
        value - past * (right @ state),
        solve=lambda _, target: inverse @ target,
        transpose_solve=lambda _, target: inverse.mT @ target,
    )


def _inverse(found: jax.Array) -> jax.Array:
    """Of 1 + found, for strictly lower triangular found [..., C, C]: block by block, by products alone."""
    count, width = found.shape[-1], _width(found.shape[-1])
    found = jnp.pad(found, [(0, 0)] * (found.ndim - 2) + [(0, width - count)] * 2)
    inverse, size = jnp.ones((*found.shape[:-1], 1, 1), found.dtype), 1
    while size < width:
        blocks = found.reshape(*found.shape[:-2], *(width // (2 * size), 2, size) * 2)
        below = jnp.diagonal(blocks[..., :, 1, :, :, 0, :], axis1=-4, axis2=-2)
        inverse_1, inverse_2 = _pairs_of_squares(inverse)
        inverse = _below(inverse, -(inverse_2 @ jnp.moveaxis(below, -1, -3) @ inverse_1), 0.0)
        size *= 2
    return inverse[..., 0, :count, :count]


def _sums(log_decay: jax.Array) -> tuple[list[tuple[jax.Array, jax.Array]], jax.Array, jax.Array]:
    """Sums of g [..., C, N] over ticks, for C a power of two.

    Where t lies in one block of ticks and s in the block before it, G_ts is the sum after s until the end of
    its block and the sum since the start of t's block. Blocks of 1, 2, 4, ... ticks reach every pair once:
    (those two sums for each size of block [..., C / 2 size, size, N], G_t, the sum after s to the end).
    """
    since, until, size = log_decay, jnp.zeros_like(log_decay), 1
    crossings = []
    while size < log_decay.shape[-2]:
        (since_1, since_2), (until_1, until_2) = _pairs(since, size), _pairs(until, size)
        crossings.append((until_1, since_2))
        since = _joined(since_1, since_1[..., -1:, :] + since_2)
        until = _joined(until_1 + since_2[..., -1:, :], until_2)
        size *= 2
    return crossings, since, until


def _width(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


def _filled(leaf: jax.Array) -> jax.Array:
    """[..., C, N] with ticks in which nothing happens behind, a power of two in all."""
    count = leaf.shape[-2]
    return jnp.pad(leaf, [(0, 0)] * (leaf.ndim - 2) + [(0, _width(count) - count), (0, 0)])


def _pairs(leaf: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """[..., C, N] as first and second blocks of neighbours, [..., C / 2 size, size, N] each."""
    blocks = leaf.reshape(*leaf.shape[:-2], leaf.shape[-2] // (2 * size), 2, size, leaf.shape[-1])
    return blocks[..., 0, :, :], blocks[..., 1, :, :]


def _joined(first: jax.Array, second: jax.Array) -> jax.Array:
    """What `_pairs` took apart."""
    blocks = jnp.concatenate([first, second], -2)
    return blocks.reshape(*blocks.shape[:-3], blocks.shape[-3] * blocks.shape[-2], blocks.shape[-1])


def _pairs_of_squares(blocks: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[..., 2 n, size, size] as [..., n, size, size] twice."""
    pairs = blocks.reshape(*blocks.shape[:-3], blocks.shape[-3] // 2, 2, *blocks.shape[-2:])
    return pairs[..., 0, :, :], pairs[..., 1, :, :]


def _below(diagonal: jax.Array, below: jax.Array, above: float) -> jax.Array:
    """Lower triangular blocks [..., n, 2 size, 2 size], from those on their diagonals [..., 2 n, size, size]
    and those below [..., n, size, size]."""
    first, second = _pairs_of_squares(diagonal)
    rows = [first, jnp.full_like(below, above)], [below, second]
    return jnp.concatenate([jnp.concatenate(row, -1) for row in rows], -2)
