"""The copying memory problem: which cells repeat ten symbols after a long delay?"""

from __future__ import annotations

import dataclasses
import pathlib

import tyro

from experiments.train import CellName, Training, experiment, make_cell, use_every_core
from rnncells.initializers import Chrono
from rnncells.tasks import Copy


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains cells on the copying memory problem and compares them with the memoryless baseline.

    Ten symbols, a long delay, a delimiter, then the ten symbols again. This is the hard one for
    gated cells; orthogonal ones such as ExpRNN are made for it. Results go to the folder `out`.
    """

    cells: tuple[CellName, ...] = ("LSTM", "GRU", "ExpRNN")
    """Which cells of the catalogue, by name."""
    features: int = 128
    """Width of the state."""
    length: int = 100
    """Ticks of delay; a sequence has 20 more."""
    chrono: bool = True
    """Start forget biases by Chrono(3/2 length), where a cell has them."""
    training: Training = dataclasses.field(default_factory=lambda: Training(learning_rate=1e-3))
    """How every run is trained."""
    out: pathlib.Path = pathlib.Path("runs/copy")
    """Where config.json, metrics.jsonl, curves.png and table.md are written."""


def main(config: Config) -> None:
    use_every_core()
    task = Copy(config.length)
    bias = {"forget_bias": Chrono(max(2.0, 1.5 * config.length))} if config.chrono else {}
    cells = {name: make_cell(name, config.features, **bias) for name in config.cells}
    experiment("copy", task, cells, config, config.training, config.out)


if __name__ == "__main__":
    main(tyro.cli(Config))
