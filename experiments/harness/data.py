"""Finite data: arrays on the host, their parts, and how batches are taken from them on the device.

What users hand over is batch-major, [N, T, ...]; what models and tasks see is time-major, [T, B, ...].
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rnncells.tasks import Batch


class Arrays(NamedTuple):
    """N sequences, batch-major."""

    inputs: Any
    """float32 [N, T, I], or tokens, int32 [N, T]; or a pytree of arrays [N, ...]."""
    targets: Any
    """One for each tick, [N, T, ...], or one for each sequence, [N, ...]."""
    mask: Any
    """bool [N, T]: the ticks whose targets count; or [N]: the sequences."""
    lengths: Any = None
    """int32 [N]: ticks of each sequence, where they differ."""


class Parts(NamedTuple):
    """What a run learns from, what decides about it, and what is read once, at its end."""

    train: Arrays
    validation: Arrays | None = None
    test: Arrays | None = None


def count(part: Arrays) -> int:
    """N."""
    return int(part.mask.shape[0])


def split(
    whole: Arrays,
    validation: float = 0.15,
    test: float = 0.15,
    seed: int | None = 0,
    groups: Sequence[Hashable] | None = None,
) -> Parts:
    """Sequences as a training, a validation and a test part.

    Args:
        whole: all sequences.
        validation, test: which fraction of them each part gets, rounded; a part of 0 is None.
        seed: of the order in which they are dealt; None keeps theirs, so that validation comes after training
            and the test after both, as data in time need it.
        groups: of each sequence, such as the document that it is from: whole groups are dealt, so that none
            is in two parts.

    Raises:
        ValueError: where a part would be empty.
    """
    names = range(count(whole)) if groups is None else groups
    members: dict[Hashable, list[int]] = {}
    for row, name in enumerate(names):
        members.setdefault(name, []).append(row)
    total, what = len(members), "sequences" if groups is None else "groups"
    sizes = [round(total * fraction) for fraction in (validation, test)]
    for name, fraction, size in zip(("validation", "test"), (validation, test), sizes, strict=True):
        if not 0 <= fraction < 1 or (fraction and not size):
            raise ValueError(
                f"{name}: expected a fraction that holds some of {total} {what}, got {fraction}."
            )
    rest = total - sum(sizes)
    if rest < 1:
        raise ValueError(f"validation, test: expected to leave some of {total} {what}, got {sum(sizes)}.")
    order = np.arange(total) if seed is None else np.random.default_rng(seed).permutation(total)
    dealt = list(members.values())
    chosen = [
        [row for group in own for row in dealt[group]]
        for own in (order[:rest], order[rest : rest + sizes[0]], order[rest + sizes[0] :])
    ]
    train, *others = (
        jax.tree.map(lambda a, rows=rows: np.asarray(a)[np.array(rows, int)], whole) for rows in chosen
    )
    return Parts(train, *(part if count(part) else None for part in others))


def check_fractions(validation: float, test: float) -> None:
    """Both parts are wanted, and training as well."""
    if min(validation, test) <= 0 or validation + test >= 1:
        raise ValueError(
            f"validation, test: expected fractions that leave some for training, got {validation} and {test}."
        )


def streams(tokens: Any, number: int) -> Arrays:
    """Contiguous text as streams that are read side by side, each token predicting the next.

        stream i is tokens[i * t : (i + 1) * t], t = ceil((L - 1) / number)

    What is missing at the end of the last streams is masked; no token is dropped.

    Args:
        tokens: ints [L], L at least 2.
        number: streams.

    Returns:
        inputs, targets and mask [number, t].
    """
    whole = np.asarray(tokens)
    if whole.ndim != 1 or whole.dtype.kind not in "iu" or not 1 <= number < len(whole):
        raise ValueError(
            f"tokens: expected more ints than the {number} streams, at least one stream, got"
            f" {whole.dtype}{list(whole.shape)}."
        )
    ticks = math.ceil((len(whole) - 1) / number)
    missing = number * ticks - (len(whole) - 1)

    def laid_out(row: np.ndarray, dtype: Any) -> np.ndarray:
        return np.pad(row, (0, missing)).astype(dtype).reshape(number, ticks)

    exists = laid_out(np.ones(len(whole) - 1, bool), bool)
    return Arrays(laid_out(whole[:-1], np.int32), laid_out(whole[1:], np.int32), exists)


def time_major(part: Arrays) -> Batch:
    """As models and tasks see it: leaves of the inputs with a second axis, and targets of ticks, swapped."""

    def swapped(tree: Any) -> Any:
        return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1) if a.ndim > 1 else a, tree)

    inputs, targets, mask, lengths = part
    if mask.ndim == 2:
        targets, mask = swapped(targets), swapped(mask)
    return Batch(swapped(inputs), targets, mask, lengths)


def taken(part: Arrays, rows: jax.Array) -> Batch:
    """These sequences, int32 [B]; a row past the last is a sequence that does not count."""
    last = count(part) - 1
    chosen = jax.tree.map(lambda a: jnp.asarray(a)[jnp.minimum(rows, last)], part)
    there = (rows <= last).reshape(-1, *[1] * (chosen.mask.ndim - 1))
    return time_major(chosen._replace(mask=chosen.mask & there))


def order(key: chex.PRNGKey, size: int, start: jax.Array, number: int) -> jax.Array:
    """Which sequences come from position `start` on, int32 [number]: all `size` of them in every epoch, each
    epoch in an order of its own, from `fold_in(key, epoch)`."""
    first, epochs = start // size, number // size + 2
    keys = jax.vmap(lambda epoch: jax.random.fold_in(key, epoch))(first + jnp.arange(epochs))
    orders = jax.vmap(lambda own: jax.random.permutation(own, size))(keys)
    return jax.lax.dynamic_slice(orders.reshape(-1), (start - first * size,), (number,))


def segments(part: Arrays, length: int) -> int:
    """Segments of an epoch of streams, the last one included, which may be shorter."""
    return -(-int(part.mask.shape[1]) // length)


def segment(part: Arrays, index: jax.Array, length: int) -> tuple[Batch, jax.Array]:
    """One segment of all streams, and its resets, bool [length, N]: True where the streams begin. Ticks past
    the end do not count."""
    ticks = part.mask.shape[1]
    places = index * length + jnp.arange(length)
    within = jax.tree.map(
        lambda a: jnp.asarray(a)[:, jnp.minimum(places, ticks - 1)], part._replace(lengths=None)
    )
    batch = time_major(within._replace(mask=within.mask & (places < ticks)))
    resets = jnp.broadcast_to((places == 0)[:, None], (length, count(part)))
    return batch, resets
