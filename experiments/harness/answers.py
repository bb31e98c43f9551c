"""What a trained model is asked, as files, and what it says, as rows."""

from __future__ import annotations

import math
import pathlib
import zipfile
from typing import Any

import numpy as np

from experiments.harness import csv_file, supervised
from rnncells.tasks import Task, scores
from rnncells.tasks.base import extras, tokens

CLASSES = (supervised.Classification, scores.Classification, scores.Recall)
"""Tasks whose outputs are logits of classes."""


def read(file: pathlib.Path, task: Task) -> tuple[Any, Any]:
    """Numbers: inputs [N, T, I] or tokens [N, T] in a .npy file, or as `inputs` beside `lengths` in an .npz
    file; or one sequence, a tick in each line, below names or without, in a .csv file.

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
    known = tokens(task)
    for place, (line, cells) in enumerate(csv_file.fields(file)):
        numbers = [csv_file.number(cell) for cell in cells]
        bad = [i for i, number in enumerate(numbers) if not math.isfinite(number)]
        if place == 0 and not any(_is_number(cell) for cell in cells):  # names
            continue
        if bad:
            words = f"expected a number, got {cells[bad[0]]!r}"
            raise ValueError(f"{file}, line {line}, column {bad[0] + 1}: {words}.")
        if rows and len(numbers) != len(rows[0]):
            raise ValueError(f"{file}, line {line}: expected {len(rows[0])} columns, got {len(numbers)}.")
        rows.append(numbers)
        if known is not None and (len(numbers) > 1 or numbers[0] not in range(known)):
            words = f"expected one token from 0 to {known - 1} in each line, got {', '.join(cells)}"
            raise ValueError(f"{file}, line {line}: {words}.")
    if not rows:
        raise ValueError(f"{file}: expected numbers, found none.")
    if known is not None:
        return np.array(rows, np.int32).T, None
    return np.array(rows, np.float32)[None], None


def _is_number(cell: str) -> bool:
    """Or says that one is missing."""
    return cell.lower() in csv_file.MISSING - {""} or math.isfinite(csv_file.number(cell))


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
        if isinstance(task, CLASSES):
            weights = np.exp(own - own.max())
            best = int(own.argmax())
            row["class"] = best if classes is None else classes[best]
            row["probability"] = round(float(weights[best] / weights.sum()), 4)
        else:
            row |= {f"output {i}": float(value) for i, value in enumerate(own)}
        found.append(row)
    return found
