"""Curves and tables of runs, made anew from their folders; of several, side by side."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import tyro
from rich.console import Console

from experiments.harness import plots, ranking, run, tables, weights
from experiments.harness.progress import screen
from experiments.harness.record import Line, finished, lines_of, write_whole
from rnncells.tasks import Task
from rnncells.tasks.base import higher_is_better


@dataclasses.dataclass(frozen=True)
class Config:
    """Draws curves.png and writes table.md (of a sweep sweep.png, sweep.csv and sweep.parquet) from what a
    run has left, finished or not. Several folders, of experiments with the same score, are compared in one
    picture and one table.
    """

    runs: tyro.conf.Positional[tuple[pathlib.Path, ...]]
    """The folders."""
    out: pathlib.Path | None = None
    """Where picture and table are written; by default the folder itself, and runs/compared of several."""


class Left(NamedTuple):
    """What a run has left."""

    folder: pathlib.Path
    title: str
    task: Task
    lines: list[Line]
    vary: list[str]
    """What varies, in a sweep."""
    search: str


def main(config: Config) -> None:
    console = screen()
    try:
        found = [left(folder) for folder in config.runs]
        if len(found) == 1:
            again(found[0], config.out or found[0].folder, console)
        else:
            compared(found, config.out or pathlib.Path("runs/compared"), console)
    except ValueError as error:
        sys.exit(str(error))


def left(folder: pathlib.Path) -> Left:
    """Read and checked; lines that are damaged are said and left out."""
    own, task = weights.described(folder)
    lines, damage = lines_of(folder / "metrics.jsonl")
    for words, _ in damage:
        print(words, file=sys.stderr)
    if not lines:
        raise ValueError(f"{folder}: expected lines in metrics.jsonl, found none.")
    whole = weights.held(folder, "config.json")
    vary = [text.partition("=")[0] for text in whole.get("vary", [])]
    task = task or own.task()
    return Left(folder, weights.title(folder, own, task), task, lines, vary, whole.get("search", ""))


def again(what: Left, out: pathlib.Path, console: Console) -> None:
    """The files of one folder."""
    out.mkdir(parents=True, exist_ok=True)
    if what.vary and finished(what.lines):
        grid = what.search == "grid"
        ranked = ranking.written(what.title, what.task, what.lines, what.vary, out, grid=grid)
        tables.show(console, what.title, ranking.rows(what.task, ranked, what.vary))
        print(f"Written: {', '.join(str(out / f'sweep.{kind}') for kind in ('png', 'csv', 'parquet'))}.")
    else:
        run.report(what.title, what.task, what.lines, out, console)
        print(f"Written: {out / 'curves.png'}, {out / 'table.md'}.")


def compared(found: Sequence[Left], out: pathlib.Path, console: Console) -> None:
    """One picture and one table; cells are called after their folders."""
    first = found[0]
    for other in found[1:]:
        scores = [(each.task.score, higher_is_better(each.task)) for each in (first, other)]
        if scores[0] != scores[1]:
            raise ValueError(
                f"runs: expected experiments with the same score, got {first.task.score} of {first.folder}"
                f" and {other.task.score} of {other.folder}."
            )
    names = [each.folder.name for each in found]
    labels = names if len(set(names)) == len(names) else [str(each.folder) for each in found]
    lines = [
        line | {"cell": f"{label}: {line['cell']}"}
        for label, each in zip(labels, found, strict=True)
        for line in each.lines
    ]
    same = len({each.task.baseline for each in found}) == 1
    title = "\n".join(f"{label}: {each.title}" for label, each in zip(labels, found, strict=True))
    out.mkdir(parents=True, exist_ok=True)
    plots.curves(title, first.task, lines, out / "curves.png", baseline=same)
    rows = table(found, labels, same)
    if rows:
        write_whole(out / "table.md", tables.markdown(rows))
        tables.show(console, "test scores, medians over runs", rows)
    print(f"Written: {out / 'curves.png'}{', ' + str(out / 'table.md') if rows else ''}.")


def table(found: Sequence[Left], labels: Sequence[str], same: bool) -> list[dict[str, str]]:
    """The rows of every folder, one below the other; the naive score once where it is the same for all."""
    rows: list[dict[str, Any]] = []
    for i, (label, each) in enumerate(zip(labels, found, strict=True)):
        if finished(each.lines):
            *own, baseline = tables.summarise(each.task, each.lines)
            rows += [row | {"cell": f"{label}: {row['cell']}"} for row in own]
            if not same:
                rows.append(baseline | {"cell": f"{label}: {baseline['cell']}"})
            elif i == len(found) - 1:
                rows.append(baseline)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name, "") for name in names} for row in rows]


if __name__ == "__main__":
    main(tyro.cli(Config))
