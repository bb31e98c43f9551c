"""What the zoo looks like: ranked dots with ranges, coloured by family."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib

from experiments.harness.standing import shown
from experiments.zoo.report import Row, budget, learned, middle, score, task_of
from rnncells.tasks.base import higher_is_better, naive

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

FAMILIES = {
    "simple": ("#000000", "o"),
    "gated": ("#0072B2", "s"),
    "orthogonal": ("#D55E00", "^"),
    "continuous": ("#009E73", "D"),
    "linear": ("#CC79A7", "v"),
    "memory": ("#E69F00", "P"),
}
"""Colours of Okabe & Ito, and marks: either tells the families apart."""


def draw(rows: Sequence[Row], path: pathlib.Path) -> None:
    """The rows of one task, ranked: on the left those that learn it, by updates; on the right the others, by
    score."""
    task = task_of(rows[0])
    there = [own for own in rows if math.isfinite(middle(own["learned"]))]
    others = [own for own in rows if own not in there]
    size = max(len(there), len(others), 8)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 1.6 + 0.155 * size), layout="constrained")
    end = max(own["updates"] for own in rows)
    limit = shown(task, task.score, learned(task))

    for place, own in enumerate(there):
        known = [at for at in own["learned"] if at is not None]
        missed = len(known) < len(own["learned"])
        dot(left, place, own, middle(own["learned"]), min(known), own["updates"] if missed else max(known))
        if missed:
            left.plot(own["updates"], place, ">", color=FAMILIES[own["family"]][0], ms=4, clip_on=False)
    left.set(xlim=(0, end), xlabel=f"updates to {task.score} {limit}   (arrow: a seed does not get there)")
    left.set_title(f"{len(there)} learn it: how soon?", loc="left", fontsize=10, pad=20)

    for place, own in enumerate(others):
        known = [value for value in own["scores"] if value is not None]
        value = score(own, task)
        if math.isfinite(value):
            dot(right, place, own, value, min(known), max(known))
    words = f"test {task.score} of the best weights"
    right.set(xlabel=words if higher_is_better(task) else f"{words} (log)")
    if not higher_is_better(task):
        right.set_xscale("log")
        right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        right.xaxis.set_major_formatter("{x:g}")
        right.xaxis.set_minor_formatter(NullFormatter())
    right.axvline(task.baseline, color="0.3", lw=1, ls="--", zorder=0)
    right.axvline(learned(task), color="0.3", lw=1, ls=":", zorder=0)
    for value, text in ((task.baseline, naive(task)), (learned(task), "learned")):
        label = f"{text}, {shown(task, task.score, value)}"
        right.annotate(label, (value, -1.2), fontsize=7, color="0.3", ha="center", annotation_clip=False)
    right.set_title(f"{len(others)} do not: how far?", loc="left", fontsize=10, pad=20)

    for axes, shown_here in ((left, there), (right, others)):
        names = [f"{each['entry']}{' *' if each['settings'] else ''}" for each in shown_here]
        axes.set_yticks(range(len(names)), names, fontsize=7)
        for tick, each in zip(axes.get_yticklabels(), shown_here, strict=True):
            tick.set_color(FAMILIES[each["family"]][0])
        axes.set_ylim(size - 0.4, -0.6)
        axes.grid(axis="x", color="0.9", lw=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right", "left"]].set_visible(False)
    marks: list[Any] = [
        Line2D([], [], color=color, marker=mark, ls="", ms=5, label=family)
        for family, (color, mark) in FAMILIES.items()
        if any(own["family"] == family for own in rows)
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False, fontsize=8)
    seeds = max(len(own["scores"]) for own in rows)
    figure.suptitle(
        f"{rows[0]['task']}, {task.length} ticks: {len(there)} of {len(rows)} cells learn it in"
        f" {budget(rows)}\n"
        f"mark: median of {seeds} seeds; line: their range; * settings of its own, see the table",
        fontsize=10,
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def dot(axes: Any, place: int, own: Row, value: float, low: float, high: float) -> None:
    """A median and its range."""
    color, mark = FAMILIES[own["family"]]
    axes.plot((low, high), (place, place), "-", color=color, lw=1.6, alpha=0.5, solid_capstyle="butt")
    axes.plot(value, place, mark, color=color, ms=4.5)
