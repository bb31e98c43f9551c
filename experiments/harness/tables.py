"""What finished runs have come to, as tables: made from the lines of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from experiments.harness.record import Line, cells_of, finished
from experiments.harness.standing import deciding, score_of, shown, standing
from rnncells.tasks import Task
from rnncells.tasks.base import higher_is_better, naive


def summarise(task: Task, lines: Sequence[Line]) -> list[dict[str, str]]:
    """One row per cell (medians over its runs, those that diverged counting as the worst), and one for the
    naive baseline. `after` is how long it took those that have solved the task."""
    done = finished(lines)
    rows = [_row(task, [line for line in done if line["cell"] == cell]) for cell in cells_of(done)]
    part = "test" if any(line["test"] for line in done) else deciding(done)
    kept = [name for name in rows[0] if name not in ("after", "diverged") or any(row[name] for row in rows)]
    baseline = {"cell": f"({naive(task)})", f"{part} {task.score}": shown(task, task.score, task.baseline)}
    return [{name: row.get(name, "") for name in kept} for row in (*rows, baseline)]


def _row(task: Task, runs: Sequence[Line]) -> dict[str, str]:
    part = "test" if any(run["test"] for run in runs) else deciding(runs)
    scores = [standing(task, score_of(task, run, part)) for run in runs]
    sign = -1 if higher_is_better(task) else 1
    alive = [run for run in runs if run.get("diverged") is None]

    def worded(value: float) -> str:
        if np.isfinite(value):
            return shown(task, task.score, sign * value)
        return "not finite" if len(alive) == len(runs) else "diverged"

    others = [metric for metric in runs[0].get(part, {}) if metric != task.score]
    row = {
        "cell": runs[0]["cell"],
        "weights": f"{runs[0]['parameters']:,}",
        f"{part} {task.score}": worded(np.median(scores)),
        "worst seed": worded(max(scores)),
    }
    row |= {name: shown(task, name, _median(run[part].get(name) for run in alive)) for name in others}
    row["solved"] = f"{sum(run['solved'] for run in runs)} of {len(runs)}"
    solved = [run for run in runs if run["solved"] and run.get("solved_at") is not None]
    updates, seconds = (_median(run[name] for run in solved) for name in ("solved_at", "seconds_to_solution"))
    row["after"] = f"{updates:.0f} updates, {seconds:.3g} s" if solved else ""
    row["diverged"] = f"{len(runs) - len(alive)} of {len(runs)}" if len(alive) < len(runs) else ""
    row["s per run"] = f"{np.sum([run['seconds'] for run in runs]) / len(runs):.0f}"
    return row


def _median(values: Any) -> float:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else float("nan")


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """The rows as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def show(console: Console, title: str, rows: Sequence[dict[str, str]]) -> None:
    """The rows as a table on the screen."""
    table = Table(*(Column(name, overflow="fold") for name in rows[0]), title=title, padding=(0, 0, 0, 1))
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
