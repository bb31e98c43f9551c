"""What a sweep has found: which point is best, and the command that trains it again."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import polars

from experiments.harness import tables
from experiments.harness.axes import settled
from experiments.harness.command_line import command_line
from experiments.harness.course import said
from experiments.harness.landscape import landscape
from experiments.harness.record import Line, finished, write_whole
from experiments.harness.search import Sweep
from experiments.harness.session import Session
from experiments.harness.standing import deciding, shown, standing
from experiments.harness.study import Found
from rnncells.tasks import Task
from rnncells.tasks.base import higher_is_better


def tidy(lines: Sequence[Line]) -> polars.DataFrame:
    """One row per run: cell, what varies, seed, and what came out."""
    rows = []
    for line in finished(lines):
        row = {"cell": line["cell"], "run": line["run"], **line["numbers"], "seed": line["seed"]}
        for part in ("validation", "test"):
            row |= {f"{part}_{name}": value for name, value in line.get(part, {}).items()}
        others = ("solved", "solved_at", "diverged", "loss", "length", "update", "best", "seconds")
        rows.append(row | {name: line[name] for name in others})
    return polars.DataFrame(rows, infer_schema_length=None)


def ranked(
    table: polars.DataFrame, names: Sequence[str], score: str, higher: bool = False
) -> polars.DataFrame:
    """One row per cell and point, best first: the mean validation score over its seeds (the test score, where
    nothing was validated), its range, and the mean test score. Points with a seed that diverged, or whose
    score is not finite, come last.

    Args:
        table: as `tidy` makes it.
        names: what varies.
        score: of the task.
        higher: a higher score is a better one.
    """
    part = "validation" if f"validation_{score}" in table.columns else "test"
    lost = polars.col("diverged").is_not_null()

    def finite(part: str) -> polars.Expr:
        value = polars.col(f"{part}_{score}").cast(polars.Float64)
        return polars.when(lost | ~value.is_finite()).then(None).otherwise(value)

    def mean(part: str) -> polars.Expr:
        return polars.when(finite(part).is_null().any()).then(None).otherwise(finite(part).mean())

    best, worst = finite(part).min(), finite(part).max()
    if higher:
        best, worst = worst, best
    tested = f"test_{score}" in table.columns
    keys = list(dict.fromkeys(["cell", *names]))
    grouped = table.group_by(keys, maintain_order=True).agg(
        mean(part).alias("mean"),
        best.alias("best seed"),
        worst.alias("worst seed"),
        *([mean("test").alias("test")] if tested else []),
        polars.col("solved").sum(),
        lost.sum().alias("diverged"),
        polars.len().alias("seeds"),
    )
    return grouped.sort("mean", descending=higher, nulls_last=True, maintain_order=True)


def _words(task: Task, row: dict[str, Any], names: Sequence[str]) -> dict[str, str]:
    """A point as a row of the table on the screen."""
    lost = f"diverged, {row['diverged']} of {row['seeds']}" if row["diverged"] else "not finite"
    said = {key: f"{row[key]:.4g}" if isinstance(row[key], float) else str(row[key]) for key in names}
    for key in ("mean", "test"):
        if key in row:
            said[key] = lost if row[key] is None else shown(task, task.score, row[key])
    seeds = " to ".join(shown(task, task.score, row[key]) for key in ("best seed", "worst seed"))
    solved = f"{row['solved']} of {row['seeds']}"
    return {"cell": row["cell"], **said, "seeds": seeds, "solved": solved}


def written(
    title: str, task: Task, lines: Sequence[Line], names: Sequence[str], out: pathlib.Path, *, grid: bool
) -> polars.DataFrame:
    """sweep.csv, sweep.parquet and sweep.png from the lines of a sweep. Returns the points, best first."""
    table = tidy(lines)
    table.write_csv(out / "sweep.csv")
    table.write_parquet(out / "sweep.parquet")
    ranking = ranked(table, names, task.score, higher_is_better(task))
    landscape(title, task, ranking, names, out / "sweep.png", grid=grid, part=deciding(finished(lines)))
    return ranking


def rows(task: Task, ranking: polars.DataFrame, names: Sequence[str]) -> list[dict[str, str]]:
    """The best points as rows of a table."""
    return [_words(task, row, names) for row in ranking.head(8).iter_rows(named=True)]


def report(name: str, sweep: Sweep, here: Session, found: Sequence[Found] | None = None) -> None:
    """What a sweep leaves, and on the screen the best points and the command that trains the best one on
    fresh seeds, in a folder beside.

    Args:
        name: of the experiment.
        sweep, here: what has come to its end.
        found: the best points of its studies, where several workers may have searched.
    """
    out, task, lines = here.config.out, here.config.task(), finished(here.record.lines)
    names, points = [axis.name for axis in sweep.axes()], []
    lost = sum(line["diverged"] is not None for line in lines)
    words = [f"{len(lines)} runs, {lost} diverged."]
    if lines:
        grid = sweep.search == "grid"
        ranking = written(f"{name}: {task}", task, lines, names, out, grid=grid)
        title = f"{name}: {task}, {deciding(lines)} {task.score} of the best points"
        tables.show(here.console, title, rows(task, ranking, names))
        points = [ranking.row(0, named=True)]
        words.append(f"Everything is in {out}: sweep.csv, sweep.parquet, sweep.png.")
    if found:
        best = min(found, key=lambda each: standing(task, each.score))
        where = f"{best.points} points" + (f" of {best.workers} workers" if best.workers > 1 else "")
        which = f"{best.cell}, {_said(best.point)}, {shown(task, task.score, best.score)}"
        words.append(f"The best of {where}: {which}, found by {best.worker}.")
        points = [{"cell": best.cell, **best.point}]
    if points:
        command = again(name, sweep, points[0], out)
        words.append(f"The best point on fresh seeds:\n{command}")
        write_whole(out / "best.sh", command + "\n")
    here.console.print(" ".join(words), soft_wrap=True, highlight=False)


def again(name: str, sweep: Sweep, point: Mapping[str, Any], out: pathlib.Path) -> str:
    """The command that trains a point on seeds that did not choose it, in a folder beside the sweep."""
    numbers = {axis.name: point[axis.name] for axis in sweep.axes() if axis.name != "cell"}
    alone = settled(sweep.experiment, numbers, point["cell"])
    training = dataclasses.replace(alone.training, first_seed=alone.training.all_seeds.stop)
    command = command_line(name, dataclasses.replace(alone, training=training))
    return f"{command} --out {shlex.quote(str(out.with_name(f'{out.name}-best')))}"


def _said(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {said(value)}" for key, value in point.items())
