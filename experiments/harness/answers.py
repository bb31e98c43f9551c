"""What a trained model is asked, as files, and what it says, as rows."""

from __future__ import annotations

import math
import pathlib
import zipfile
from typing import Any

import numpy as np

from experiments.harness import csv_file
from experiments.harness.supervised import Classification
from rnncells.tasks import Task
from rnncells.tasks.base import extras


def read(file: pathlib.Path, task: Task) -> tuple[Any, Any]:
    """Numbers: inputs [N, T, I] or tokens [N, T] in a .npy file, or as `inputs` beside `lengths` in an .npz
    file; or one sequence, a tick in each line, in a .csv file.

    Raises:
        ValueError: for another file, and what is wrong in it.
    """
    if not file.exists():
        raise ValueError(f"{file}: expected a file, found none.")
    if file.suffix in (".npy", ".npz"):
        return _arrays(file)
    if file.suffix != ".csv":
        raise ValueError(f"{file}: expected a name that ends with .npy, .npz or .csv.")
    rows: list[list[float]] = []
    for place, (line, cells) in enumerate(csv_file.fields(file)):
        numbers = [csv_file.number(cell) for cell in cells]
        bad = [i for i, number in enumerate(numbers) if not math.isfinite(number)]
        if place == 0 and len(bad) == len(cells):  # names
            continue
        if bad:
            words = f"expected a number, got {cells[bad[0]]!r}"
            raise ValueError(f"{file}, line {line}, column {bad[0] + 1}: {words}.")
        if rows and len(numbers) != len(rows[0]):
            raise ValueError(f"{file}, line {line}: expected {len(rows[0])} columns, got {len(numbers)}.")
        rows.append(numbers)
    if not rows:
        raise ValueError(f"{file}: expected numbers, found none.")
    whole = np.array(rows, np.float32)[None]
    return (whole[..., 0].astype(np.int32), None) if getattr(task, "tokens", None) else (whole, None)


def _arrays(file: pathlib.Path) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        with file.open("rb") as opened:
            held = np.load(opened)
            arrays = {"inputs": held} if isinstance(held, np.ndarray) else dict(held)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        words = f"expected arrays of numbers that NumPy has saved ({error or type(error).__name__})"
        raise ValueError(f"{file}: {words}.") from None
    if "inputs" not in arrays:
        raise ValueError(f"{file}: expected an array named inputs, found {', '.join(arrays) or 'none'}.")
    return arrays["inputs"], arrays.get("lengths")


def rows(outputs: np.ndarray, task: Task) -> list[dict[str, Any]]:
    """A row for each sequence, outputs [N, O], or for each of its ticks, [N, T, O]: the class with its
    probability, by the names in `extras["classes"]`; or the numbers."""
    classes = extras(task).get("classes")
    found = []
    for place in np.ndindex(*outputs.shape[:-1]):
        row: dict[str, Any] = dict(zip(("sequence", "tick"), place, strict=False))
        own = outputs[place].astype(np.float64)
        if isinstance(task, Classification):
            weights = np.exp(own - own.max())
            best = int(own.argmax())
            row["class"] = best if classes is None else classes[best]
            row["probability"] = round(float(weights[best] / weights.sum()), 4)
        else:
            row |= {f"output {i}": float(value) for i, value in enumerate(own)}
        found.append(row)
    return found
