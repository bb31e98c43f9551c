"""What a sweep has found: which point is best, and the command that trains it again."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from typing import Any

import polars

from experiments.harness import tables
from experiments.harness.axes import settled
from experiments.harness.landscape import landscape
from experiments.harness.options import Config
from experiments.harness.record import Line, finished
from experiments.harness.search import Sweep
from experiments.harness.session import Session
from experiments.harness.standing import deciding, shown
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


def command_line(name: str, experiment: Config) -> str:
    """What runs exactly this experiment."""
    default = type(experiment)()
    return shlex.join(["python", "-m", f"experiments.{name}", *arguments(experiment, default, "--")])


def arguments(value: Any, default: Any, flag: str) -> list[str]:
    """The command line that turns `default` into `value`."""
    words = []
    for field in dataclasses.fields(value):
        new, old = getattr(value, field.name), getattr(default, field.name)
        option = flag + field.name.replace("_", "-")
        if new == old or field.name in ("out", "resume"):
            continue
        if isinstance(new, bool):
            *owner, last = option.removeprefix("--").split(".")
            words.append("--" + ".".join([*owner, last if new else f"no-{last}"]))
        elif dataclasses.is_dataclass(new):
            words += arguments(new, old, f"{option}.")
        elif isinstance(new, dict):
            words += [option, *(str(word) for pair in new.items() for word in pair)]
        elif isinstance(new, tuple):
            words += [option, *map(str, new)]
        else:
            words += [option, str(new)]
    return words


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


def report(name: str, sweep: Sweep, here: Session) -> None:
    """sweep.csv, sweep.parquet and sweep.png; on the screen the best points, and the command of the best."""
    out, task = here.config.out, here.config.task()
    names = [axis.name for axis in sweep.axes()]
    lines = here.record.lines
    table, part = tidy(lines), deciding(finished(lines))
    table.write_csv(out / "sweep.csv")
    table.write_parquet(out / "sweep.parquet")
    ranking = ranked(table, names, task.score, higher_is_better(task))
    grid = sweep.search == "grid"
    landscape(f"{name}: {task}", task, ranking, names, out / "sweep.png", grid=grid, part=part)
    rows = [_words(task, row, names) for row in ranking.head(8).iter_rows(named=True)]
    tables.show(here.console, f"{name}: {task}, {part} {task.score} of the best points", rows)
    best = ranking.row(0, named=True)
    alone = settled(sweep.experiment, {key: best[key] for key in names if key != "cell"}, best["cell"])
    lost = int(table["diverged"].is_not_null().sum())
    here.console.print(
        f"{len(table)} runs, {lost} diverged. Everything is in {out}: sweep.csv, sweep.parquet, sweep.png."
        f" The best point again:\n{command_line(name, alone)}",
        soft_wrap=True,
        highlight=False,
    )
    (out / "best.sh").write_text(command_line(name, alone) + "\n")
