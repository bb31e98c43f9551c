"""The pictures of an experiment: curves of its losses and scores."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np

from experiments.harness.record import Line, cells_of, number
from experiments.harness.standing import shown
from rnncells.tasks import Task
from rnncells.tasks.base import higher_is_better, naive

matplotlib.use("Agg")
import matplotlib.pyplot as plt

plt.style.use("petroff10")  # told apart by the colour-blind, too

Reading = Callable[[Line], Any]


def curves(
    title: str, task: Task, lines: Sequence[Line], path: pathlib.Path, *, baseline: bool = True
) -> None:
    """Against updates, for every cell: the training loss, and the score on validation beside that on training
    data where these are finite. The median over its runs, and their range; a cross where one diverged; and
    the naive score, where it is the same for all."""
    blocks = [line for line in lines if "test" not in line]
    judged = [line for line in blocks if line.get("validation")]
    figure, panels = plt.subplots(
        1, 2 if judged else 1, figsize=(11.5 if judged else 7.5, 4.8), layout="constrained", squeeze=False
    )
    left, right = panels[0, 0], panels[0, -1]
    for i, cell in enumerate(cells_of(blocks)):
        own = [line for line in blocks if line["cell"] == cell]
        lost = [line for line in _last_of_each(own) if line["diverged"] is not None]
        label = f"{cell} ({len(lost)} of {len(_last_of_each(own))} diverged)" if lost else cell
        _draw(left, own, lambda line: line["loss"], color=f"C{i}", label=label)
        for line in lost:
            before = [number(each["loss"]) for each in own if each["run"] == line["run"]]
            heights = [height for height in before if np.isfinite(height)]
            left.plot(line["diverged"], heights[-1] if heights else np.nan, "x", color=f"C{i}", ms=8)
        for part, style in (("validation", "-"), ("training", ":")):
            of_part = [line for line in own if line.get(part)]
            both = any(line.get("training") for line in own)
            name = f"{label}, {part}" if both else label

            def score(line: Line, part: str = part) -> Any:
                return line[part][task.score] if line["diverged"] is None else None

            _draw(right, of_part, score, color=f"C{i}", label=name, ls=style)
    left.set(xlabel="updates", ylabel="training loss")
    if judged:
        both = any(line.get("training") for line in judged)
        right.set(xlabel="updates", ylabel=task.score if both else f"validation {task.score}")
    if baseline and np.isfinite(task.baseline):
        words = f"{naive(task)} baseline, {shown(task, task.score, task.baseline)}"
        right.axhline(task.baseline, color="black", lw=1, ls="--", label=words)
    for axes in (left, right)[: panels.size]:
        if axes is left or not higher_is_better(task):
            logarithmic(axes)
        legend(axes, interval(blocks))
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def logarithmic(axes: Any) -> None:
    """Where there is something that a logarithmic axis can show."""
    heights = [height for line in axes.get_lines() for height in np.ravel(line.get_ydata())]
    if any(np.isfinite(height) and height > 0 for height in heights):
        axes.set_yscale("log")


def interval(lines: Sequence[Line]) -> str:
    """What a line and its band are."""
    return banded([len(_last_of_each(lines, cell)) for cell in cells_of(lines)])


def banded(runs: Sequence[int]) -> str:
    """The same, for so many runs of each cell."""
    least, most = min(runs, default=1), max(runs, default=1)
    if most == 1:
        return "one run each"
    count = f"{most}" if least == most else f"{least} to {most}"
    return f"line: median of {count} runs; band: lowest to highest"


def legend(axes: Any, title: str) -> None:
    """Below the axes, where it hides no line."""
    style = {"fontsize": 8, "title_fontsize": 8, "alignment": "left", "frameon": False}
    axes.legend(title=title, loc="upper left", bbox_to_anchor=(0, -0.12), ncols=3, **style)


def _last_of_each(lines: Sequence[Line], cell: str | None = None) -> list[Line]:
    """The last line of every run."""
    last = {line["run"]: line for line in lines if cell in (None, line["cell"])}
    return list(last.values())


def _draw(axes: Any, lines: Sequence[Line], value: Reading, **style: Any) -> None:
    """Median and range over runs, at every update. A run that ended early keeps its last value."""
    if not lines:
        return
    updates = sorted({line["update"] for line in lines})
    courses = []
    for run in sorted({line["run"] for line in lines}):
        known = {line["update"]: number(value(line)) for line in lines if line["run"] == run}
        course, last = [], np.nan
        for update in updates:
            last = known.get(update, last)
            course.append(last)
        courses.append(course)
    columns = [
        [height for height in column if np.isfinite(height)] or [np.nan]
        for column in zip(*courses, strict=True)
    ]
    middle, low, high = ([f(column) for column in columns] for f in (np.median, np.min, np.max))
    axes.plot(updates, middle, **style)
    axes.fill_between(updates, low, high, alpha=0.2, color=style["color"], lw=0)


def over_lengths(title: str, task: Task, rows: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
    """The score of every cell over the lengths of its sequences: the median over its runs, and their range.

    Args:
        title: of the picture.
        task: at the length of training, which is marked.
        rows: one for each run and length: cell, run, length, baseline, and the score by its name.
        path: of the picture.
    """
    figure, axes = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
    lengths = sorted({row["length"] for row in rows})
    for i, cell in enumerate(dict.fromkeys(row["cell"] for row in rows)):
        each = [[r[task.score] for r in rows if (r["cell"], r["length"]) == (cell, at)] for at in lengths]
        middle, low, high = ([f(column) for column in each] for f in (np.median, np.min, np.max))
        axes.plot(lengths, middle, "o-", ms=4, color=f"C{i}", label=cell)
        axes.fill_between(lengths, low, high, alpha=0.2, lw=0, color=f"C{i}")
    known = {row["length"]: row["baseline"] for row in rows}
    if all(np.isfinite(value) for value in known.values()):
        label = f"{naive(task)} baseline"
        axes.plot(lengths, [known[at] for at in lengths], color="black", lw=1, ls="--", label=label)
    axes.axvline(task.length, color="gray", lw=1, ls=":", label=f"trained at {task.length}")
    if not higher_is_better(task):
        logarithmic(axes)
    if max(lengths) > 8 * min(lengths):
        axes.set_xscale("log")
    axes.set(xlabel="length, in ticks", ylabel=f"test {task.score}", title=title)
    axes.title.set_fontsize(10)
    runs = [(row["cell"], row["length"]) for row in rows]
    legend(axes, banded([runs.count(each) for each in set(runs)]))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
