"""How good trained models are: every run of an experiment once more, at other lengths, on other parts."""

from __future__ import annotations

import csv
import dataclasses
import json
import pathlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import tyro

from experiments.harness import options, plots, processes, tables, trained, weights
from experiments.harness.course import said
from experiments.harness.folder import PROVENANCE
from experiments.harness.progress import screen
from experiments.harness.provenance import digest
from experiments.harness.standing import shown
from rnncells.tasks import Task
from rnncells.tasks.base import naive

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Config:
    """Judges the best weights of runs, without noise, and shows a row for every cell and length.

    A task that draws its sequences is judged on those of the final test, or on as many at any other length:
    train short, test long. Finite data are judged on one of their parts. With several lengths, lengths.png in
    the folder of the run shows the scores over them.
    """

    run: tyro.conf.Positional[pathlib.Path]
    """The folder that a run has left."""
    length: tuple[int, ...] = ()
    """Lengths of the sequences; by default that of training."""
    cell: str | None = None
    """Which of its cells; by default all."""
    number: int | None = None
    """Which run of it; by default all."""
    part: Literal["test", "validation", "train"] = "test"
    """Of finite data."""
    sequences: int | None = None
    """Fresh sequences; by default as many as the test of the run had."""
    output: pathlib.Path | None = None
    """A .csv file for the scores of every run."""


def main(config: Config) -> None:
    processes.use_every_core()
    try:
        own, task = task_of(config)
        rows = list(judged(config, own, task))
    except ValueError as error:
        sys.exit(str(error))
    title = f"{weights.title(config.run, own, task)}, judged on {words(config, own, task)}"
    tables.show(screen(), title, summary(task, rows))
    if len({row["length"] for row in rows}) > 1:
        plots.over_lengths(title, task, rows, config.run / "lengths.png")
        print(f"The scores over lengths are in {config.run / 'lengths.png'}.")
    if config.output is not None:
        with config.output.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(rows)


def task_of(config: Config) -> tuple[options.Config, Task]:
    """What the run was, with its data where they are finite; these must be what they were."""
    if config.sequences is not None and config.sequences < 1:
        raise ValueError(f"sequences: expected at least 1, got {config.sequences}.")
    own, _ = weights.described(config.run, with_task=False)
    task = own.task()
    parts = getattr(task, "parts", None)
    if parts is not None and config.length:
        raise ValueError(f"length: expected none for data that have their own, got {config.length}.")
    if parts is not None and config.sequences is not None:
        raise ValueError(f"sequences: expected none for finite data, got {config.sequences}.")
    before = weights.held(config.run, "config.json").get(PROVENANCE, [{}])[-1].get("data")
    if before not in (None, digest(parts)):
        print("The data are not those of the training any more.", file=sys.stderr)
    return own, task


def judged(config: Config, own: options.Config, task: Task) -> Iterator[Row]:
    """A row for every run and length."""
    programs: dict[str, Callable[[Any], dict[str, float]]] = {}
    known = [weights.about(path) for path in weights.files(config.run)]
    known.sort(key=lambda about: own.cells.index(about["cell"]) if about["cell"] in own.cells else -1)
    wanted = [a for a in known if config.cell in (None, a["cell"]) and config.number in (None, a["run"])]
    if not wanted:
        names = ", ".join(f"{about['cell']}-{about['run']}" for about in known[:12])
        raise ValueError(f"expected one of {names}, got cell {config.cell}, run {config.number}.")
    for about in wanted:
        finite = getattr(task, "parts", None) is not None
        model = trained.load(config.run, about["cell"], about["run"], task=task if finite else None)
        for length in config.length or (model.task.length,):
            at = model.task if length == model.task.length else stretched(model.task, length)
            name = json.dumps([about["cell"], about["numbers"], length])
            if name not in programs:
                programs[name] = trained.judge(model, at, config.part, config.sequences)
            scores = programs[name](model.params)
            varied = [f"{key} {said(value)}" for key, value in about["numbers"].items()]
            row: Row = {
                "cell": ", ".join([about["cell"], *varied]),
                "run": about["run"],
                "seed": about["seed"],
            }
            row |= {"length": length, "trained": length == model.task.length, **scores}
            yield row | {"solved": bool(at.solved(scores)), "baseline": at.baseline}


def stretched(task: Task, length: int) -> Task:
    """The same task at another length."""
    try:
        return dataclasses.replace(task, length=length)  # type: ignore[type-var]
    except TypeError as error:
        raise ValueError(f"length: expected none for {task}, which has one length, got {length}.") from error


def summary(task: Task, rows: list[Row]) -> list[dict[str, str]]:
    """A row for each cell and length, medians over runs."""
    found = []
    for cell, length in dict.fromkeys((row["cell"], row["length"]) for row in rows):
        own = [row for row in rows if (row["cell"], row["length"]) == (cell, length)]
        each = [row[task.score] for row in own]
        found.append(
            {
                "cell": cell,
                "length": f"{length}{' (trained)' if own[0]['trained'] else ''}",
                "runs": str(len(own)),
                task.score: shown(task, task.score, float(np.median(each))),
                "lowest": shown(task, task.score, min(each)),
                "highest": shown(task, task.score, max(each)),
                naive(task): shown(task, task.score, own[0]["baseline"]),
                "solved": f"{sum(row['solved'] for row in own)} of {len(own)}",
            }
        )
    return found


def words(config: Config, own: options.Config, task: Task) -> str:
    """What it is judged on."""
    if getattr(task, "parts", None) is not None:
        return f"the {config.part} part"
    return f"{config.sequences or own.training.test_sequences} fresh sequences"


class Evaluate(types.ModuleType):
    """`experiments.evaluate` is a function and this script: imported, it stands in for the function."""

    __call__ = staticmethod(trained.evaluate)


sys.modules[__name__].__class__ = Evaluate

if __name__ == "__main__":
    main(tyro.cli(Config))
