"""The picture of a sweep: the score over what varies."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import polars

from experiments.harness.plots import legend, logarithmic
from experiments.harness.record import number
from experiments.harness.standing import shown
from rnncells.tasks import Task
from rnncells.tasks.base import higher_is_better, naive

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def landscape(
    title: str,
    task: Task,
    ranking: polars.DataFrame,
    names: Sequence[str],
    path: pathlib.Path,
    *,
    grid: bool,
    part: str = "validation",
) -> None:
    """The score over what varies. A grid of two axes or more: a map for every cell, of the best over the
    others. One axis: lines, with the range over seeds. Otherwise: every point, over each axis by itself. What
    diverged is marked as such, at the bad end."""
    names = [name for name in names if name != "cell"] or ["cell"]
    cells = sorted(set(ranking["cell"]))
    maps = grid and len(names) > 1
    columns = len(cells) if maps else 1 if grid else len(names)
    size = (0.8 + 4.4 * columns, 4.2)
    figure, panels = plt.subplots(1, columns, figsize=size, layout="constrained", squeeze=False)
    words = f"{part} {task.score}, mean over seeds"
    if maps:
        best = [ranking.filter(polars.col("cell") == cell) for cell in cells]
        low, high = _range(ranking["mean"].to_list())
        if not higher_is_better(task) and np.isfinite(task.baseline):
            high = max(low, min(high, 10 * task.baseline))  # what is far worse must not hide the rest
        for axes, own, cell in zip(panels.flat, best, cells, strict=True):
            drawn = _map(axes, task, own, names[0], names[1], low, high)
            axes.set_title(cell if len(names) == 2 else f"{cell}, best over {', '.join(names[2:])}")
        figure.colorbar(drawn, ax=panels, label=words if higher_is_better(task) else f"log10 of {words}")
    else:
        for axes, name in zip(panels.flat, names, strict=False):
            for i, cell in enumerate(cells):
                own = ranking.filter(polars.col("cell") == cell)
                _line(axes, own, name, cell, f"C{i}", joined=grid)
            if np.isfinite(task.baseline) and name not in ("length",):
                axes.axhline(task.baseline, color="black", lw=1, ls="--", label=f"{naive(task)} baseline")
            axes.set(xlabel=name)
            if not higher_is_better(task):
                logarithmic(axes)
            axes.spines[["top", "right"]].set_visible(False)
            _mark_lost(axes, ranking, name, higher_is_better(task))
        panels.flat[0].set_ylabel(words)
        legend(panels.flat[0], "band: best to worst seed" if grid else "")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _places(ranking: polars.DataFrame, name: str) -> tuple[list[float], list[str] | None]:
    """Where the values of an axis lie, and their names where they are words."""
    values = ranking[name].to_list()
    if all(isinstance(value, (int, float)) for value in values):
        return [float(value) for value in values], None
    known = sorted(set(map(str, values)), key=_key)
    return [float(known.index(str(value))) for value in values], known


def _line(axes: Any, own: polars.DataFrame, name: str, cell: str, color: str, *, joined: bool) -> None:
    places, words = _places(own, name)
    order = np.argsort(places, kind="stable")
    x = np.array(places)[order]
    mean, best, worst = (
        own[key].cast(polars.Float64).to_numpy()[order].astype(float)
        for key in ("mean", "best seed", "worst seed")
    )
    axes.plot(x, mean, "o-" if joined else "o", label=cell, ms=4, color=color)
    if joined:
        axes.fill_between(x, best, worst, alpha=0.2, lw=0, color=color)
    if words is not None:
        axes.set_xticks(range(len(words)), words)
    elif min(places) > 0 and max(places) > 20 * min(places):  # spans more than a factor of 20
        axes.set_xscale("log")


def _mark_lost(axes: Any, ranking: polars.DataFrame, name: str, higher: bool) -> None:
    """Points with a seed that diverged, as crosses at the bad end of the picture."""
    places, _ = _places(ranking, name)
    lost = [x for x, mean in zip(places, ranking["mean"].to_list(), strict=True) if mean is None]
    if lost:
        edge = [0.02 if higher else 0.98] * len(lost)
        style = {"color": "black", "ls": "", "marker": "x", "ms": 7, "label": "a seed diverged"}
        axes.plot(lost, edge, transform=axes.get_xaxis_transform(), **style)


def _range(means: Sequence[float | None]) -> tuple[float, float]:
    known = [mean for mean in means if mean is not None] or [1.0]
    return min(known), max(known)


def _map(axes: Any, task: Task, own: polars.DataFrame, across: str, up: str, low: float, high: float) -> Any:
    """Colours for the best point of each field; a field without one has diverged."""
    higher = higher_is_better(task)
    xs, ys = (sorted(set(own[name].to_list()), key=_key) for name in (across, up))
    scores = np.full((len(ys), len(xs)), np.nan)
    for row in own.iter_rows(named=True):
        place = ys.index(row[up]), xs.index(row[across])
        scores[place] = (np.fmax if higher else np.fmin)(scores[place], number(row["mean"]))
    scale = (lambda score: score) if higher else (lambda score: np.log10(np.maximum(score, 1e-30)))
    options = {"origin": "lower", "aspect": "auto", "cmap": "viridis" if higher else "viridis_r"}
    drawn = axes.imshow(scale(scores), vmin=scale(low), vmax=scale(high), **options)
    for (i, j), score in np.ndenumerate(scores):
        known = math.isfinite(score)
        dark = (
            drawn.norm(scale(score)) < 0.5 if known and higher else known and drawn.norm(scale(score)) > 0.5
        )
        words = shown(task, task.score, score) if known else "diverged"
        axes.text(j, i, words, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes.set(xlabel=across, ylabel=up, xticks=range(len(xs)), yticks=range(len(ys)))
    axes.set_xticklabels([_label(x) for x in xs], rotation=45)
    axes.set_yticklabels([_label(y) for y in ys])
    return drawn


def _key(value: Any) -> tuple[bool, list[float], str]:
    """Numbers by size, widths of several layers among them, before words."""
    parts = [part for part in str(value).split("-") if part] if isinstance(value, str) else [value]
    try:
        return False, [float(part) for part in parts], ""
    except ValueError:
        return True, [], str(value)


def _label(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
