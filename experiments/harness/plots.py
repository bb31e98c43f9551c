"""The pictures of an experiment: curves of its losses, and the landscape of a sweep."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import polars

from experiments.harness.record import Line, cells_of, number
from rnncells.tasks import Task

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def curves(title: str, task: Task, lines: Sequence[Line], path: pathlib.Path) -> None:
    """Training loss against updates, for every cell: the median over its runs, and their range."""
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    blocks = [line for line in lines if "test" not in line]
    for cell in cells_of(blocks):
        own = [line for line in blocks if line["cell"] == cell]
        updates = sorted({line["update"] for line in own})
        losses = [[number(line["loss"]) for line in own if line["update"] == update] for update in updates]
        middle, low, high = ([f(each) for each in losses] for f in (np.median, np.min, np.max))
        (drawn,) = axes.plot(updates, middle, label=cell)
        axes.fill_between(updates, low, high, alpha=0.2, color=drawn.get_color(), lw=0)
    axes.axhline(task.baseline, color="black", lw=1, ls="--", label="memoryless baseline")
    axes.set(title=title, xlabel="updates", ylabel="training loss", yscale="log")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def landscape(
    title: str, task: Task, ranking: polars.DataFrame, names: Sequence[str], path: pathlib.Path, *, grid: bool
) -> None:
    """The score over the numbers of a sweep. A grid of two numbers or more: a map for every cell, of the best
    over the other numbers. One number: lines, with the range over seeds. Otherwise: every point, over each
    number by itself."""
    cells = sorted(set(ranking["cell"]))
    maps = grid and len(names) > 1
    columns = len(cells) if maps else 1 if grid else len(names)
    size = (0.8 + 4.4 * columns, 4.0)
    figure, panels = plt.subplots(1, columns, figsize=size, layout="constrained", squeeze=False)
    for i, axes in enumerate(panels.flat):
        if maps:
            shown = _map(axes, ranking, cells[i], *names[:2])
            axes.set_title(cells[i] if len(names) == 2 else f"{cells[i]}, best over {', '.join(names[2:])}")
            continue
        for cell in cells:
            of_cell = ranking.filter(polars.col("cell") == cell).sort(names[i])
            x, mean, low, high = (of_cell[key].cast(polars.Float64).to_numpy() for key in _columns(names[i]))
            axes.plot(x, mean, "o-" if grid else "o", label=cell, ms=4)
            if grid:
                axes.fill_between(x, low, high, alpha=0.2, lw=0)
        axes.axhline(task.baseline, color="black", lw=1, ls="--", label="memoryless baseline")
        axes.set(xlabel=names[i], yscale="log", xscale=_scale(ranking[names[i]].to_list()))
        axes.spines[["top", "right"]].set_visible(False)
    if maps:
        figure.colorbar(shown, ax=panels, label=f"log10 of test {task.score}, mean over seeds")
    else:
        panels.flat[0].set_ylabel(f"test {task.score}, mean over seeds")
        panels.flat[0].legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _columns(name: str) -> tuple[str, ...]:
    return name, "mean", "best seed", "worst seed"


def _scale(values: Sequence[float]) -> str:
    """Logarithmic where values span more than a factor of 20."""
    return "log" if min(values) > 0 and max(values) > 20 * min(values) else "linear"


def _map(axes: Any, ranking: polars.DataFrame, cell: str, across: str, up: str) -> Any:
    xs, ys = (sorted(set(ranking[name])) for name in (across, up))
    scores = np.full((len(ys), len(xs)), np.nan)
    for row in ranking.filter(polars.col("cell") == cell).iter_rows(named=True):
        place = ys.index(row[up]), xs.index(row[across])
        scores[place] = np.fmin(scores[place], number(row["mean"]))
    low, high = (
        np.log10(f([value for value in ranking["mean"] if value is not None] or [1])) for f in (min, max)
    )
    shown = axes.imshow(
        np.log10(scores), origin="lower", aspect="auto", cmap="viridis_r", vmin=low, vmax=high
    )
    for (i, j), score in np.ndenumerate(scores):
        shade = shown.norm(np.log10(score)) if np.isfinite(score) else 0
        words, color = (
            f"{score:.2g}" if np.isfinite(score) else "diverged",
            "white" if shade > 0.5 else "black",
        )
        axes.text(j, i, words, ha="center", va="center", fontsize=7, color=color)
    axes.set(xlabel=across, ylabel=up, xticks=range(len(xs)), yticks=range(len(ys)))
    axes.set_xticklabels([f"{x:.3g}" for x in xs], rotation=45)
    axes.set_yticklabels([f"{y:.3g}" for y in ys])
    return shown
