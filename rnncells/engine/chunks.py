"""A sequence in chunks of ticks: to keep less, to cut gradients, to stay in the cache."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from rnncells.cell import Carry, Out
from rnncells.parts.arithmetic import select
from rnncells.run import Result, Run, Ticks

Loop: TypeAlias = Callable[[Run], Result]


def in_chunks(loop: Loop, every: int, between: Callable[[Carry], Carry] | None = None) -> Loop:
    """`loop` over chunks of `every` ticks, one after the other; `between` is applied to the carry
    that one chunk hands to the next."""

    def chunked(run: Run) -> Result:
        def on(carry: Carry, ticks: Ticks) -> tuple[Carry, Out]:
            result = loop(dataclasses.replace(run, carry=carry, ticks=ticks))
            return result.carry, (result.ys, result.carries)

        def body(carry: Carry, chunk: tuple[jax.Array, Ticks]) -> tuple[Carry, Out]:
            if between is not None:
                carry = select(chunk[0], carry, between(carry))
            return on(carry, chunk[1])

        length, reverse, carry = run.length, run.reverse, run.carry
        if concrete(length):
            if length <= every:
                return loop(run)
            ticks, (count, rest) = run.ticks, divmod(length, every)
        else:
            count, rest = (length + every - 1) // every, 0
            ticks = _padded(run, count * every)
        whole = jax.tree.map(lambda a: a[: count * every].reshape(count, every, *a.shape[1:]), ticks)
        part = jax.tree.map(lambda a: a[count * every :], ticks) if rest else ticks
        starts = jnp.zeros(count, bool)  # the chunk that gets the carry of the call
        if not (reverse and rest):
            starts = starts.at[-1 if reverse else 0].set(True)

        if rest and reverse:
            carry, part_ys = on(carry, part)
        carry, whole_ys = jax.lax.scan(body, carry, (starts, whole), reverse=reverse)
        ys = jax.tree.map(lambda a: a.reshape(count * every, *a.shape[2:]), whole_ys)
        if rest and not reverse:
            carry, part_ys = on(carry if between is None else between(carry), part)
        if rest:
            ys = jax.tree.map(lambda *parts: jnp.concatenate(parts), ys, part_ys)
        if not concrete(length):
            ys = jax.tree.map(lambda a: a[:length], ys)
        return Result(carry, *ys)

    return chunked


def _padded(run: Run, longer: int) -> Ticks:
    """The ticks, and behind them some that do not exist: where T is a symbol."""
    ticks, length = run.ticks, run.length
    place = jnp.arange(longer)
    padded = jax.tree.map(lambda leaf: leaf[jnp.minimum(place, length - 1)], ticks)
    within = place < length
    if ticks.alive is not None:
        within = padded.alive & within.reshape(-1, *[1] * (padded.alive.ndim - 1))
    return padded._replace(alive=within)


def concrete(length: Any) -> bool:
    """Whether a length is a number, not a symbol of `jax.export`."""
    return isinstance(length, int)


CACHE = 3 * 2**18
"""Numbers in the elements of one chunk on a CPU, by measurement: docs/developers/performance.md."""
SHORTEST = 256
"""Where fewer ticks than this fit, wide ones, there is no reliable gain, by measurement too."""
FEWEST = 64
"""Ticks of a chunk below which a loop over chunks costs more than it saves."""


def size(tree: Any) -> Any:
    """Numbers in all leaves together."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def chunk_length(length: int, element: Any) -> int | None:
    """How many ticks a sequential scan should take at a time on a CPU, given the element of one tick.

    Within a chunk the inputs are projected together and the loop is left with `apply`; the memory of
    chunks is used again and stays in the cache. None where ticks are so wide, or so few, that there is no
    gain.
    """
    if not concrete(size(element)):
        return None
    fits = CACHE // max(size(element), 1)
    every = min(fits, length // 4)  # four chunks at least: one would hold everything at once
    if fits < SHORTEST or every < FEWEST:
        return None
    even = [k for k in range(every // 2, every + 1) if length % k == 0]  # no shorter chunk at the end
    return even[-1] if even else every
