"""Series in time: columns of a file; windows of them and what follows, divided in time; models of changes."""

from __future__ import annotations

import functools
import itertools
import pathlib
import sys
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import csv_file


class Series(NamedTuple):
    """R values of C columns, one after the other."""

    values: np.ndarray
    """float64 [R, C]."""
    dates: np.ndarray
    """datetime64 [R], or the numbers of the rows where there is no column of dates."""


@functools.cache
def read(
    file: pathlib.Path, names: tuple[str, ...], date: str | None = None, form: str | None = None
) -> Series:
    """Columns of a CSV file; says on the standard error stream what was read, and what was left out and why.

    Args:
        file: to read.
        names: of the columns. A row without a number in one of them is left out.
        date: name of the column by which rows are sorted; by default the one named Date, in any case of
            letters, if there is one.
        form: of dates that are not as 2024-12-31, such as %d.%m.%Y.

    Raises:
        ValueError: for what is wrong with the file.
    """
    known = csv_file.names(file)
    if not names:
        found = ", ".join(known) or "none"
        raise ValueError(f"column: expected names of columns of {file}, which are {found}; got none.")
    if date is None:
        date = next((name for name in known if name.lower() == "date"), None)
    wanted = names if date is None else (date, *names)
    table = csv_file.read(file, wanted).measured(*names)
    if date is not None:
        table = table.by_date(date, form)
    print(table.report(), file=sys.stderr)
    values = np.stack([table.numbers(name) for name in names], 1)
    return Series(values, np.arange(len(values)) if date is None else table.dates(date, form))


class Windows(NamedTuple):
    """What is read of a series, and what comes after it."""

    inputs: np.ndarray
    """[N, window, C]."""
    after: np.ndarray
    """[N, horizon, C]."""
    ends: np.ndarray
    """int [N]: the row of the last value that is read."""


def cuts(total: int, validation: float, test: float) -> tuple[int, int]:
    """The rows at which validation and test begin."""
    return total - round(total * validation) - round(total * test), total - round(total * test)


def divided(
    values: np.ndarray, window: int, horizon: int, validation: float, test: float
) -> tuple[Windows, Windows, Windows]:
    """Windows for training, validation and test, in this order of time.

    The values that follow a window decide which part it is in: all of them are. What is read may reach back
    into the part before, as it will when the model is used; windows with values of two parts after them are
    in none.

    Raises:
        ValueError: where a part would be empty.
    """
    borders = [0, *cuts(len(values), validation, test), len(values)]
    ends = [np.arange(max(start, window) - 1, stop - horizon) for start, stop in itertools.pairwise(borders)]
    if not all(map(len, ends)):
        sizes = ", ".join(f"{len(own)} for {part}" for own, part in zip(ends, PARTS, strict=True))
        raise ValueError(
            f"window, horizon: expected windows of {window} rows and {horizon} after them in every part, got"
            f" {sizes}: there are {len(values)} rows."
        )
    train, held, last = (
        Windows(values[_rows(own, 1 - window, 1)], values[_rows(own, 1, horizon + 1)], own) for own in ends
    )
    return train, held, last


PARTS = ("training", "validation", "test")


def _rows(ends: np.ndarray, start: int, stop: int) -> np.ndarray:
    return ends[:, None] + np.arange(start, stop)


def last_value(windows: Windows) -> np.ndarray:
    """A forecast [N, horizon, C]: nothing changes."""
    return np.broadcast_to(windows.inputs[:, -1:], windows.after.shape)


def moving_average(windows: Windows, number: int) -> np.ndarray:
    """A forecast [N, horizon, C]: the mean of the last so many values."""
    return np.broadcast_to(windows.inputs[:, -number:].mean(1, keepdims=True), windows.after.shape)


class Changes(nn.Module):
    """Inputs [T, B, I] through a model that reads their changes, and whose outputs are changes from the last.

        y = last + scale sqrt(step) model((x_t - x_{t-1}) / scale),    step = 1, 2, ...

    Attributes:
        model: of [T - 1, B, I], with outputs [B, steps * K].
        scale: deviation of one change of each input.
        places: which of the inputs the K targets are.
    """

    time_major: ClassVar[bool] = True

    model: nn.Module
    scale: tuple[float, ...]
    places: tuple[int, ...]

    @nn.compact
    def __call__(self, inputs: jax.Array, *, deterministic: bool = False) -> jax.Array:
        scale, places = jnp.asarray(self.scale, inputs.dtype), jnp.asarray(self.places)
        _, outputs = self.model(jnp.diff(inputs, axis=0) / scale, deterministic=deterministic)
        steps = outputs.shape[-1] // len(self.places)
        far = jnp.sqrt(jnp.arange(1, steps + 1, dtype=inputs.dtype))[:, None] * scale[places]
        return jnp.tile(inputs[-1][:, places], steps) + outputs * far.reshape(-1)
