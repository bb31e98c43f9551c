"""What finished runs have come to, as tables: made from the lines of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.harness.record import Line, cells_of, finished, number
from rnncells.tasks import Task


def summarise(task: Task, lines: Sequence[Line]) -> list[dict[str, str]]:
    """One row per cell (medians over its runs), and one for the memoryless baseline."""
    done = finished(lines)
    rows = []
    for cell in cells_of(done):
        runs = [line for line in done if line["cell"] == cell]
        scores = np.array([number(run["test"][task.score]) for run in runs])
        others = [metric for metric in runs[0]["test"] if metric != task.score]
        row = {
            "cell": cell,
            "weights": f"{runs[0]['parameters']:,}",
            f"test {task.score}": f"{np.median(scores):.4f}",
            "worst seed": f"{scores.max():.4f}",
        }
        row |= {name: f"{np.median([number(run['test'][name]) for run in runs]):.1%}" for name in others}
        row["solved"] = f"{sum(run['solved'] for run in runs)} of {len(runs)}"
        row["s per run"] = f"{np.sum([run['seconds'] for run in runs]) / len(runs):.0f}"
        rows.append(row)
    baseline = {"cell": "(memoryless)", f"test {task.score}": f"{task.baseline:.4f}"}
    return [*rows, {heading: baseline.get(heading, "") for heading in rows[0]}]


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """The rows as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def show(console: Console, title: str, rows: Sequence[dict[str, str]]) -> None:
    """The rows as a table on the screen."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
