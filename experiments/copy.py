"""The copying memory problem: which cells repeat ten symbols after a long delay?"""

from __future__ import annotations

import dataclasses
import pathlib

from experiments.harness import command_line, options, processes, run
from experiments.harness.hyperparameters import Optimizer
from rnncells.tasks import Copy


@dataclasses.dataclass(frozen=True)
class Config(options.Config):
    """Trains cells on the copying memory problem and compares them with the memoryless baseline.

    Ten symbols, a long delay, a delimiter, then the ten symbols again. This is the hard one for
    gated cells; orthogonal ones such as ExpRNN are made for it. Results go to the folder `out`.
    """

    cells: tuple[options.CellName, ...] = ("LSTM", "GRU", "ExpRNN")
    """Which cells of the catalogue, by name."""
    features: int | tuple[int, ...] = 128
    """Width of the state; several numbers are the widths of several layers."""
    length: int = 100
    """Ticks of delay; a sequence has 20 more."""
    chrono: float | None = 150.0
    """Forget biases start as Chrono(t_max), where a cell has them: about the longest dependency, in ticks."""
    optimizer: Optimizer = dataclasses.field(
        default_factory=lambda: Optimizer(learning_rate=1e-3, schedule="cosine")
    )
    training: options.Training = dataclasses.field(
        default_factory=lambda: options.Training(updates=1000, seeds=2)
    )
    out: pathlib.Path = pathlib.Path("runs/copy")
    """Where everything is written."""

    def task(self) -> Copy:
        return Copy(self.length)


def main(config: Config) -> None:
    processes.use_every_core()
    run.main("copy", config)


if __name__ == "__main__":
    main(command_line.config_of(Config))
