"""What a sweep has found: which point is best, and the command that trains it again."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from typing import Any

import polars

from experiments.harness import plots, tables
from experiments.harness.options import Config
from experiments.harness.record import Line, finished
from experiments.harness.search import Sweep, settled
from experiments.harness.session import Session


def tidy(lines: Sequence[Line]) -> polars.DataFrame:
    """One row per run: cell, its numbers, seed, and what came out."""
    rows = []
    for line in finished(lines):
        row = {"cell": line["cell"], "run": line["run"], **line["numbers"], "seed": line["seed"]}
        row |= {f"test_{name}": value for name, value in line["test"].items()}
        others = ("solved", "diverged", "loss", "length", "update", "seconds")
        rows.append(row | {name: line[name] for name in others})
    return polars.DataFrame(rows, infer_schema_length=None)


def ranked(table: polars.DataFrame, names: Sequence[str], score: str) -> polars.DataFrame:
    """One row per cell and point, best first: the mean score over its seeds, and its range. Points with a
    seed whose score is not finite come last."""
    value = polars.col(f"test_{score}").cast(polars.Float64)
    grouped = table.group_by(["cell", *names], maintain_order=True).agg(
        polars.when(value.is_null().any()).then(None).otherwise(value.mean()).alias("mean"),
        value.min().alias("best seed"),
        value.max().alias("worst seed"),
        polars.col("solved").sum(),
        polars.col("diverged").is_not_null().sum(),
        polars.len().alias("seeds"),
    )
    return grouped.sort("mean", nulls_last=True)


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
        if dataclasses.is_dataclass(new):
            words += arguments(new, old, f"{option}.")
        elif isinstance(new, dict):
            words += [option, *(str(word) for pair in new.items() for word in pair)]
        elif isinstance(new, tuple):
            words += [option, *map(str, new)]
        else:
            words += [option, str(new)]
    return words


def report(name: str, sweep: Sweep, here: Session) -> None:
    """sweep.csv, sweep.parquet and sweep.png; on the screen the best points, and the command of the best."""
    out, task = here.config.out, here.config.task()
    names = [axis.name for axis in sweep.axes()]
    table = tidy(here.record.lines)
    table.write_csv(out / "sweep.csv")
    table.write_parquet(out / "sweep.parquet")
    ranking = ranked(table, names, task.score)
    plots.landscape(f"{name}: {task}", task, ranking, names, out / "sweep.png", grid=sweep.search == "grid")
    rows = []
    for row in ranking.head(8).iter_rows(named=True):
        shown = {"cell": row["cell"], **{key: f"{row[key]:.4g}" for key in names}}
        shown["mean"] = "not finite" if row["mean"] is None else f"{row['mean']:.4g}"
        shown["seeds"] = f"{row['best seed']:.3g} to {row['worst seed']:.3g}"
        rows.append({**shown, "solved": f"{row['solved']} of {row['seeds']}"})
    tables.show(here.console, f"{name}: {task}, test {task.score} of the best points", rows)
    best = ranking.row(0, named=True)
    alone = settled(sweep.experiment, {key: best[key] for key in names}, best["cell"])
    lost = int(table["diverged"].is_not_null().sum())
    here.console.print(
        f"{len(table)} runs, {lost} diverged. Everything is in {out}: sweep.csv, sweep.parquet, sweep.png."
        f" The best point again:\n{command_line(name, alone)}",
        soft_wrap=True,
        highlight=False,
    )
    (out / "best.sh").write_text(command_line(name, alone) + "\n")
