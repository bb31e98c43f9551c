"""The adding problem: which cells carry two numbers across a sequence?"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Literal

from experiments.harness import command_line, options, processes, run
from rnncells.tasks import Adding


@dataclasses.dataclass(frozen=True)
class Config(options.Config):
    """Trains cells on the adding problem and compares them with the memoryless baseline.

    Each tick shows a value and a marker; the target at the end is the sum of the two marked
    values. Results go to the folder `out`.
    """

    cells: tuple[options.CellName, ...] = ("Elman", "LSTM", "GRU")
    """Which cells of the catalogue, by name."""
    length: int = 100
    """Ticks of a sequence."""
    variant: Literal["halves", "anywhere", "original"] = "halves"
    """Where the markers lie: one in each half, anywhere, or as in the 1997 paper."""
    out: pathlib.Path = pathlib.Path("runs/adding")
    """Where everything is written."""

    def task(self) -> Adding:
        return Adding(self.length, self.variant)


def main(config: Config) -> None:
    processes.use_every_core()
    run.main("adding", config)


if __name__ == "__main__":
    main(command_line.config_of(Config))
