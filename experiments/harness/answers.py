"""What a trained model is asked, as files, and what it says, as rows."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from experiments.harness.supervised import Classification
from rnncells.tasks import Task
from rnncells.tasks.base import extras


def read(file: pathlib.Path, task: Task) -> tuple[Any, Any]:
    """Numbers: inputs [N, T, I] or tokens [N, T] in a .npy file, or as `inputs` beside `lengths` in an .npz
    file; or one sequence, a tick in each line, in a .csv file."""
    if not file.exists():
        raise ValueError(f"{file}: expected a file, found none.")
    if file.suffix == ".npz":
        with np.load(file) as held:
            if "inputs" not in held:
                raise ValueError(
                    f"{file}: expected an array named inputs, found {', '.join(held) or 'none'}."
                )
            return held["inputs"], held.get("lengths")
    if file.suffix == ".npy":
        return np.load(file), None
    if file.suffix != ".csv":
        raise ValueError(f"{file}: expected a name that ends with .npy, .npz or .csv.")
    rows: list[list[float]] = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        cells = [cell.strip() for cell in line.split(",")]
        try:
            rows.append([float(cell) for cell in cells])
        except ValueError:
            if number > 1:  # the first line may be names
                bad = next(i for i, cell in enumerate(cells, 1) if not _is_number(cell))
                words = f"expected a number, got {cells[bad - 1]!r}"
                raise ValueError(f"{file}, line {number}, column {bad}: {words}.") from None
        if rows and len(rows[-1]) != len(rows[0]):
            raise ValueError(f"{file}, line {number}: expected {len(rows[0])} columns, got {len(rows[-1])}.")
    if not rows:
        raise ValueError(f"{file}: expected numbers, found none.")
    whole = np.array(rows, np.float32)[None]
    return (whole[..., 0].astype(np.int32), None) if getattr(task, "tokens", None) else (whole, None)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
