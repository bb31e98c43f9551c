"""What the zoo found: one row for each entry and task, ranked, as tables."""

from __future__ import annotations

import json
import math
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.harness.record import Line, finished, number, write_whole
from experiments.harness.standing import shown
from experiments.harness.tables import markdown
from experiments.zoo.entries import Entry
from experiments.zoo.published import ELSEWHERE, ENTRIES, PUBLISHED, Published, family_of
from rnncells.tasks import TASKS, Task
from rnncells.tasks.base import higher_is_better, naive

Row = dict[str, Any]
SHARE = 0.3
"""A cell has learned a task when this share of the naive baseline's error is left: .05 of adding."""


def learned(task: Task) -> float:
    """The score at which a task counts as learned; that of accuracies by their distance from 1."""
    if higher_is_better(task):
        return 1 - SHARE * (1 - task.baseline)
    return SHARE * task.baseline


def row(name: str, config: Entry, lines: Sequence[Line]) -> Row:
    """What became of the runs of an entry."""
    task, last = config.task(), finished(lines)
    better = 1 if higher_is_better(task) else -1

    def reached(run: int) -> int | None:
        for line in lines:
            if line["run"] == run and "test" not in line and line.get("validation"):
                value = number(line["validation"][task.score])
                if better * value >= better * learned(task):
                    return int(line["update"])
        return None

    own, training = PUBLISHED.get(name, Published()), config.training
    return {
        "task": config.on,
        "length": task.length,
        "entry": name,
        "family": family_of(name),
        "settings": said(own),
        "features": config.features,
        "updates": training.updates,
        "batch": training.batch_size,
        "scores": [line["test"][task.score] for line in last],
        "learned": [reached(line["run"]) for line in last],
        "solved": [line["solved_at"] for line in last],
        "diverged": [line["diverged"] for line in last],
        "parameters": last[0]["parameters"],
        "seconds": sum(line["seconds"] for line in last),
    }


def said(own: Published) -> str:
    """The settings of an entry that others do not have."""
    words = [f"{name} {value}" for name, value in {**own.optimizer, **own.fields}.items()]
    words += ["chrono"] if own.chrono else []
    words += [f"{own.window} T"] if own.window else []
    words += [f"{own.layers} layers"] if own.layers > 1 else []
    words += ["blocks"] if own.blocks else []
    words += [f"{own.longer} times the updates"] if own.longer > 1 else []
    words += [f"{own.wider:g} times the width"] if own.wider != 1 else []
    return ", ".join(words).replace("_", " ").replace("clip norm None", "no clipping")


def middle(values: Sequence[float | None], worst: float = math.inf) -> float:
    """The median over seeds; None, of one that has no value, is the worst."""
    return float(np.median([worst if value is None else value for value in values]))


def score(own: Row, task: Task) -> float:
    """The median test score; a seed that diverged is the worst."""
    worst = -math.inf if higher_is_better(task) else math.inf
    lost = [None if gone is not None else s for s, gone in zip(own["scores"], own["diverged"], strict=True)]
    return middle(lost, worst)


def ranked(rows: Sequence[Row], task: Task) -> list[Row]:
    """Those whose median seed has learned the task first, the soonest before the others; then by score."""
    sign = -1 if higher_is_better(task) else 1
    return sorted(rows, key=lambda own: (middle(own["learned"]), sign * score(own, task)))


def task_of(own: Row) -> Task:
    return Entry(on=own["task"], length=own["length"]).task()


def read(out: pathlib.Path) -> list[Row]:
    """What is there from earlier."""
    path = out / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def save(rows: Sequence[Row], out: pathlib.Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "results.jsonl", "".join(json.dumps(own) + "\n" for own in rows))


def by_task(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each task, ranked."""
    found = [name for name in TASKS if any(own["task"] == name for own in rows)]
    each = {name: [own for own in rows if own["task"] == name] for name in found}
    return {name: ranked(own, task_of(own[0])) for name, own in each.items()}


def page(rows: Sequence[Row]) -> str:
    """All that was found, as a page: a map of the tasks where there are several, and each task."""
    tasks = by_task(rows)
    parts = [f"# The zoo\n\n{INTRODUCTION}\n"]
    there = {own["entry"] for own in rows}
    if missing := [name for name in ENTRIES if name not in there]:
        parts.append(f"\nNot trained yet: {', '.join(missing)}.\n")
    if len(tasks) > 1:
        parts.append(f"\n## All tasks\n\nThe median score of each.\n\n{markdown(overview(tasks))}")
    for name, own in tasks.items():
        head = f"## {name}\n\n{sentence(own)}\n\n![Every cell on {name}]({name}.png)\n\n"
        parts.append(f"\n{head}{markdown(tabulate(own))}")
    return "".join(parts)


INTRODUCTION = (
    "Every cell of the catalogue, trained alike, but for the settings in the last column, which are the"
    " authors' or tuned as theirs (`experiments/zoo/published.py` names the sources). Blocks are the layers"
    " in which state-space models are published. Not among them: "
    + "; ".join(f"{name} ({why})" for name, why in ELSEWHERE.items())
    + ". Made by `python -m experiments.zoo`."
)


def budget(rows: Sequence[Row]) -> str:
    """What all have, but for those whose settings say another one."""
    updates, batch, features = (
        statistics.mode(own[key] for own in rows) for key in ("updates", "batch", "features")
    )
    return f"{updates} updates of {batch} sequences and {features} features"


def sentence(rows: Sequence[Row]) -> str:
    """What the table of a task says."""
    task = task_of(rows[0])
    there = sum(math.isfinite(middle(own["learned"])) for own in rows)
    lost = sum(gone is not None for own in rows for gone in own["diverged"])
    limit, baseline = (shown(task, task.score, value) for value in (learned(task), task.baseline))
    seeds = sum(len(own["scores"]) for own in rows)
    return (
        f"`{task}`: {there} of {len(rows)} cells bring the {task.score} of their median seed to {limit},"
        f" where the {naive(task)} baseline is {baseline}, within {budget(rows)}."
        f" Of {seeds} runs {lost} diverged. Ranked by the updates of the median seed, then by score."
        " A run ends when the task is solved."
    )


def tabulate(rows: Sequence[Row]) -> list[dict[str, str]]:
    """The table of a task."""
    task = task_of(rows[0])
    limit = shown(task, task.score, learned(task))
    lines = []
    for place, own in enumerate(rows, 1):
        known = [value for value in own["scores"] if value is not None]
        edges = [shown(task, task.score, value) for value in (min(known), max(known))] if known else []
        to = middle(own["learned"])
        lost = sum(gone is not None for gone in own["diverged"])
        seeds = len(own["scores"])
        lines.append(
            {
                "": str(place),
                "cell": own["entry"],
                "family": own["family"],
                f"test {task.score}": shown(task, task.score, score(own, task)),
                "range": " to ".join(edges),
                "solved": f"{sum(at is not None for at in own['solved'])} of {seeds}",
                f"updates to {limit}": f"{to:.0f}" if math.isfinite(to) else "",
                "s": f"{own['seconds']:.0f}",
                "parameters": f"{own['parameters']:,}",
                "diverged": f"{lost} of {seeds}" if lost else "",
                "settings": own["settings"],
            }
        )
    return lines


def overview(tasks: dict[str, list[Row]]) -> list[dict[str, str]]:
    """Entries by tasks."""
    names = list(dict.fromkeys(own["entry"] for rows in tasks.values() for own in rows))
    lines = []
    for name in names:
        line = {"cell": name}
        for on, rows in tasks.items():
            task = task_of(rows[0])
            line[f"{on}, {task.score}"] = "".join(
                shown(task, task.score, score(own, task)) for own in rows if own["entry"] == name
            )
        lines.append(line)
    return lines
