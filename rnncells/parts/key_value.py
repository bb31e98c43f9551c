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
import numpy as np

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
    since, until, crossing = _by_blocks(log_decay)
    across = since[..., :-1, :, :] + until[..., :-1, :, :].mT
    between = jnp.where(align(crossing, across), across, 0).sum(-3)
    past = since[..., -1, :, :]
    seen = align(jnp.tri(past.shape[-2], dtype=bool), between)
    return LogDecays(jnp.where(seen, between, -jnp.inf), past)


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
    one product for each size of blocks does."""
    since, until, crossing = _by_blocks(log_decay)
    q_since, k_until = jnp.exp(since) * q[..., None, :, :], jnp.exp(until) * k[..., None, :, :]
    across = q_since[..., :-1, :, :] @ k_until[..., :-1, :, :].mT
    weights = jnp.where(align(crossing, across), across, 0).sum(-3)
    itself = jnp.sum(q * k, -1, keepdims=True) * v
    seen = weights @ v + itself + q_since[..., -1, :, :] @ state
    return seen, jnp.exp(since[..., -1, -1, :, None]) * state + k_until[..., -1, :, :].mT @ v


def _by_blocks(log_decay: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For blocks of 1, 2, 4, ... ticks, as many as it takes until one holds all C: the sums of g [..., C, N]
    since the start of each tick's block, and after the tick until its end, both [..., L, C, N]; and, for all
    sizes but the last, the pairs of ticks t, s in neighbouring blocks of one of the next size, [L - 1, C, C].

    Every pair s < t is such a pair for one size alone, and there G_ts is the sum since the start of t's block
    plus that after s until the end of its own. A product with zeros and ones does all sums at once.
    """
    ticks = np.arange(log_decay.shape[-2])
    blocks = ticks >> np.arange((len(ticks) - 1).bit_length() + 1)[:, None]
    first, second = blocks[:, None, :], blocks[:, :, None]  # of s, of t
    since, until = ((first == second) & which for which in (ticks <= ticks[:, None], ticks > ticks[:, None]))
    summed = jnp.asarray(np.stack([since, until]).reshape(-1, len(ticks)), log_decay.dtype)
    sums = jnp.einsum("ts,...sn->...tn", summed, log_decay, precision="highest")
    sums = sums.reshape(*log_decay.shape[:-2], 2, len(blocks), *log_decay.shape[-2:])
    crossing = (second == first + 1) & (second % 2 == 1)
    return sums[..., 0, :, :, :], sums[..., 1, :, :, :], jnp.asarray(crossing[:-1])


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
    """Of 1 + found, for strictly lower triangular found [..., C, C]: of blocks of 1, 2, 4, ... ticks on the
    diagonal, each of two smaller ones and -inverse found inverse below."""
    count = found.shape[-1]
    width, size = 1 << (count - 1).bit_length(), 1
    found = jnp.pad(found, [(0, 0)] * (found.ndim - 2) + [(0, width - count)] * 2)
    inverse = jnp.ones_like(found[..., :1])[..., None]
    while size < width:
        split = width // (2 * size), 2, size
        # One axis at a time, as arrays that are divided over devices ask for.
        blocks = found.reshape(*found.shape[:-1], *split).reshape(*found.shape[:-2], *split * 2)
        below = jnp.moveaxis(jnp.diagonal(blocks[..., :, 1, :, :, 0, :], axis1=-4, axis2=-2), -1, -3)
        pairs = inverse.reshape(*found.shape[:-2], width // (2 * size), 2, size, size)
        first, second = pairs[..., 0, :, :], pairs[..., 1, :, :]
        rows = [first, jnp.zeros_like(below)], [-(second @ below @ first), second]
        inverse = jnp.concatenate([jnp.concatenate(row, -1) for row in rows], -2)
        size *= 2
    return inverse[..., 0, :count, :count]
