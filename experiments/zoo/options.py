"""What the zoo trains: its command line."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Literal

from experiments.harness import options
from experiments.harness.hyperparameters import Optimizer
from experiments.zoo.published import ENTRIES
from rnncells.tasks import TASKS

if TYPE_CHECKING:
    EntryName = str
    TaskName = str
else:
    EntryName, TaskName = Literal[ENTRIES], Literal[tuple(TASKS)]


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains every cell of the catalogue on tasks, several seeds side by side, and ranks and draws them.

    All have one width, one budget and one optimiser, but for what their authors publish (experiments/zoo/
    published.py). A run ends when its task is solved. Every cell has a folder OUT/TASK/CELL of its own, as
    every experiment leaves one, and what `out` holds of other cells and tasks stays in the tables.
    """

    tasks: tuple[TaskName, ...] = ("adding",)
    """What is learned, by name."""
    cells: tuple[EntryName, ...] = ENTRIES
    """Which entries: cells of the catalogue, and LSTM-chrono and GRU-chrono."""
    length: int | None = None
    """Ticks of a sequence; by default what the task has (adding: 100)."""
    features: int = 64
    """Width of every state."""
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    """Of all, but for what is published."""
    training: options.Training = dataclasses.field(
        default_factory=lambda: options.Training(
            updates=2000, batch_size=32, seeds=3, stop_when_solved=True, keep=1
        )
    )
    """The budget of a run."""
    out: pathlib.Path = pathlib.Path("runs/zoo")
    """Where results.jsonl, table.md and a picture of each task are written."""
    resume: bool = False
    """Go on in `out`: read the cells that are done, go on with the one that was being trained."""

    def __post_init__(self) -> None:
        for name, known in (("tasks", tuple(TASKS)), ("cells", ENTRIES)):
            unknown = [each for each in getattr(self, name) if each not in known]
            if unknown or not getattr(self, name):
                raise ValueError(f"{name}: expected some of {', '.join(known)}, got {unknown or 'none'}.")
