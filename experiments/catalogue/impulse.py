"""The pictures: what a cell does to an impulse, as it is initialised."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

import jax
import matplotlib
import numpy as np
from PIL import Image

from rnncells import Cell, unroll

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FEATURES, TICKS, UNITS, PANELS = 16, 60, 6, 3
COLOURS = 48
"""Of a picture: lines and letters need few, and the files stay small."""


class Course(NamedTuple):
    """Of the output, or of one part of the state."""

    name: str
    values: np.ndarray
    """[T, 2, N]: with the impulse, and without."""


def courses(cell: Cell, shape: tuple[int, ...] = ()) -> list[Course]:
    """The output, and what else of the state the impulse changes, over time. One input, 1 at the first tick
    (in the middle, if inputs have a spatial shape) and 0 everywhere else."""
    xs = np.zeros((TICKS, 2, *shape, 1), np.float32)
    xs[0, 0][tuple(size // 2 for size in shape)] = 1
    params = cell.init(jax.random.key(0), 1)
    _, (ys, carries) = jax.jit(lambda params, xs: unroll(cell, params, xs, return_carries=True))(params, xs)
    found = [Course("output", _units(ys))]
    for path, leaf in jax.tree_util.tree_leaves_with_path(carries):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        real = {"f": "", "c": "real part of "}.get(np.asarray(leaf).dtype.kind)
        touched = real is not None and not np.allclose(_units(leaf)[:, 0], _units(leaf)[:, 1])
        if touched and not _known(_units(leaf), found):
            found.append(Course(f"{real}state {name}".strip(), _units(leaf)))
    return found


def _units(leaf: jax.Array) -> np.ndarray:
    return np.asarray(leaf.real).reshape(TICKS, 2, -1)


def _known(values: np.ndarray, found: list[Course]) -> bool:
    return any(values.shape == each.values.shape and np.allclose(values, each.values) for each in found)


def draw(cell: Cell, path: pathlib.Path, shape: tuple[int, ...] = ()) -> None:
    """A panel for each course; in it some units, dotted what they do without the impulse."""
    found = courses(cell, shape)[:PANELS]
    figure, panels = plt.subplots(
        1, len(found), figsize=(2.7 * len(found), 1.75), layout="constrained", squeeze=False
    )
    for axes, course in zip(panels[0], found, strict=True):
        for i, unit in enumerate(_chosen(course.values)):
            touched, free = course.values[:, 0, unit], course.values[:, 1, unit]
            axes.plot(touched, color=f"C{i}", lw=1.2)
            if not np.allclose(touched, free) and np.ptp(free) > 0:
                axes.plot(free, color=f"C{i}", lw=1, ls=":")
        axes.set_title(course.name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.03)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    plt.close(figure)
    picture = Image.fromarray(pixels).convert("RGB").quantize(COLOURS)
    picture.save(path, optimize=True)


def _chosen(values: np.ndarray) -> list[int]:
    """Units of every strength, from the half that the impulse moves most."""
    moved = np.abs(values[:, 0] - values[:, 1]).max(0)
    order = np.argsort(-moved, kind="stable")[: max(UNITS, len(moved) // 2)]
    places = np.linspace(0, len(order) - 1, min(UNITS, len(order))).round().astype(int)
    return [int(order[place]) for place in places]
