"""The adding problem: which cells carry two numbers across a sequence?"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Literal

import tyro

from experiments.train import CellName, Training, experiment, make_cell, use_every_core
from rnncells.tasks import Adding


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains cells on the adding problem and compares them with the memoryless baseline.

    Each tick shows a value and a marker; the target at the end is the sum of the two marked
    values. Results go to the folder `out`.
    """

    cells: tuple[CellName, ...] = ("Elman", "LSTM", "GRU")
    """Which cells of the catalogue, by name."""
    features: int = 64
    """Width of the state."""
    length: int = 100
    """Ticks of a sequence."""
    variant: Literal["halves", "anywhere", "original"] = "halves"
    """Where the markers lie: one in each half, anywhere, or as in the 1997 paper."""
    training: Training = dataclasses.field(default_factory=Training)
    """How every run is trained."""
    out: pathlib.Path = pathlib.Path("runs/adding")
    """Where config.json, metrics.jsonl, curves.png and table.md are written."""


def main(config: Config) -> None:
    use_every_core()
    task = Adding(config.length, config.variant)
    cells = {name: make_cell(name, config.features) for name in config.cells}
    experiment("adding", task, cells, config, config.training, config.out)


if __name__ == "__main__":
    main(tyro.cli(Config))
