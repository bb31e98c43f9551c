"""Arrays that users hand over, checked: what is wrong is said with the name of the argument."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.harness.data import Arrays


def arrays(inputs: Any, targets: Any, lengths: Any = None) -> Arrays:
    """Sequences with what is wanted of them.

    Args:
        inputs: floats [N, T, I], or tokens, ints [N, T]; or a list of N arrays of their own lengths, [T, I]
            or [T], which are padded.
        targets: one for each sequence, ints [N] or floats [N] or [N, O]; or one for each tick, ints [N, T] or
            floats [N, T, O], as a list of arrays where the inputs are one.
        lengths: ints [N] within 0 and T; ticks past them do not exist, and are not read.

    Raises:
        ValueError: for other shapes and types, negative classes and tokens, and what is not finite.
    """
    xs, own = sequences(inputs, lengths)
    ys = padded("targets", targets)[0]
    total, ticks = xs.shape[:2]
    if ys.dtype.kind == "f" and ys.ndim == 1:
        ys = ys[:, None]
    axes = 1 if ys.dtype.kind == "i" else 2  # of a target for each sequence
    per_tick = ys.ndim == axes + 1
    if len(ys) != total or ys.ndim not in (axes, axes + 1) or (per_tick and ys.shape[1] != ticks):
        raise ValueError(
            f"targets: expected ints [N] or [N, T], or floats [N, O] or [N, T, O], for {total} sequences of"
            f" {ticks} ticks, got {said(ys)}."
        )
    exists = existing(total, ticks, own)
    mask = exists if per_tick else np.ones(total, bool)
    return Arrays(xs, checked("targets", ys, mask), mask, own)


def sequences(inputs: Any, lengths: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Inputs as `arrays` takes them: float32 [N, T, I] or int32 [N, T], and int32 lengths [N] or None."""
    xs, own = padded("inputs", inputs)
    if xs.ndim != (2 if xs.dtype.kind == "i" else 3) or 0 in xs.shape:
        raise ValueError(f"inputs: expected floats [N, T, I] or tokens, ints [N, T], got {said(xs)}.")
    total, ticks = xs.shape[:2]
    if lengths is not None:
        if own is not None:
            raise ValueError("lengths: expected none beside a list of arrays, which have their own.")
        own = np.asarray(lengths)
        if own.shape != (total,) or own.dtype.kind not in "iu" or own.min() < 0 or own.max() > ticks:
            span = f" from {own.min()} to {own.max()}" if own.size else ""
            raise ValueError(f"lengths: expected {total} ints within 0 and {ticks}, got {said(own)}{span}.")
        own = own.astype(np.int32)
    return checked("inputs", xs, existing(total, ticks, own)), own


def padded(name: str, given: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """float32 or int32; a list of arrays of different lengths padded with zeros, and its lengths."""
    lengths = None
    if isinstance(given, (list, tuple)) and len({np.shape(each)[:1] for each in given}) > 1:
        each = [np.asarray(one) for one in given]
        if len({one.shape[1:] for one in each}) > 1 or not all(one.ndim for one in each):
            shapes = sorted({str(list(one.shape)) for one in each})[:4]
            raise ValueError(f"{name}: expected arrays that differ in length only, got {', '.join(shapes)}.")
        lengths = np.array([len(one) for one in each], np.int32)
        whole = np.zeros((len(each), lengths.max(), *each[0].shape[1:]), np.result_type(*each))
        for row, one in zip(whole, each, strict=True):
            row[: len(one)] = one
    else:
        whole = np.asarray(given)
    if whole.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected floats, or ints for tokens and classes, got {said(whole)}.")
    return whole.astype(np.float32 if whole.dtype.kind == "f" else np.int32), lengths


def existing(total: int, ticks: int, lengths: np.ndarray | None) -> np.ndarray:
    """bool [N, T]."""
    if lengths is None:
        return np.ones((total, ticks), bool)
    return np.arange(ticks) < lengths[:, None]


def checked(name: str, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The values, those that do not count zero; those that do must be finite, and ints not negative."""
    wrong = ~np.isfinite(values) if values.dtype.kind == "f" else values < 0
    wrong = wrong.reshape(*mask.shape, -1).any(-1) & mask
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        found = np.ravel(values[place])
        bad = found[~np.isfinite(found)] if values.dtype.kind == "f" else found
        where = " and ".join(f"{word} {i}" for word, i in zip(("sequence", "tick"), place, strict=False))
        wanted = "finite numbers" if values.dtype.kind == "f" else "ints from 0"
        raise ValueError(f"{name}: expected {wanted}, got {bad[0]} in {where}.")
    counts = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    return np.where(counts, values, np.zeros((), values.dtype))


def said(array: np.ndarray) -> str:
    return f"{array.dtype}{list(array.shape)}"
