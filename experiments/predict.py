"""What a trained model says to new inputs."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
import sys
import types
from typing import Any

import tyro

from experiments.harness import trained


@dataclasses.dataclass(frozen=True)
class Config:
    """Reads a file as the experiment reads it, asks the best weights of a run, and writes rows as CSV.

    Numbers: a .npy file with inputs [N, T, I] (or tokens [N, T]), an .npz file with `inputs` and `lengths`,
    or a .csv file with one sequence, a tick in each line. Applications read what they are about.
    """

    run: tyro.conf.Positional[pathlib.Path]
    """The folder that a run has left."""
    input: pathlib.Path
    """What is asked."""
    cell: str | None = None
    """Which of its cells; by default the one of the best run."""
    number: int | None = None
    """Which run of it; by default the best one by validation."""
    output: pathlib.Path | None = None
    """A .csv file for the answers; by default the screen."""


def main(config: Config) -> None:
    try:
        model = trained.load(config.run, config.cell, config.number)
        inputs, lengths = model.config.read(config.input, model.task)
        rows = model.config.said(trained.predict(model, inputs, lengths), model.task)
        if config.output is not None and config.output.suffix != ".csv":
            raise ValueError(f"output: expected a name that ends with .csv, got {config.output}.")
        print(f"{model.cell}, run {model.about['run']}, of {config.run} answers.", file=sys.stderr)
        if config.output is None:
            write(rows, sys.stdout)
            return
        with config.output.open("w", newline="") as file:
            write(rows, file)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


def write(rows: list[dict[str, Any]], file: Any) -> None:
    """A table with the names in its first line."""
    table = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)


class Predict(types.ModuleType):
    """`experiments.predict` is a function and this script: imported, it stands in for the function."""

    __call__ = staticmethod(trained.predict)


sys.modules[__name__].__class__ = Predict

if __name__ == "__main__":
    main(tyro.cli(Config))
