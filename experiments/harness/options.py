"""What an experiment is: its command line, and the cell that it builds."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import math
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import rnncells
from experiments.harness.hyperparameters import Hyperparameters, Optimizer, check_words
from rnncells.initializers import Chrono
from rnncells.tasks import Task

if TYPE_CHECKING:
    CellName = str
else:
    CellName = Literal[tuple(rnncells.CELLS)]


class ConfigError(Exception):
    """What is wrong with the options of an experiment, in one sentence for the user."""


@contextlib.contextmanager
def complaints() -> Iterator[None]:
    """What is wrong with the numbers of an experiment becomes a ConfigError."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error


@dataclasses.dataclass(frozen=True)
class Training:
    """How every run is trained."""

    updates: int = 2000
    """Batches that a run learns from, each drawn afresh."""
    batch_size: int = 64
    """Sequences of a batch."""
    report_every: int = 50
    """Updates in one compiled block; after each, a line of metrics, and the progress bar moves on."""
    lengths: tuple[int, ...] = ()
    """A curriculum: train on these lengths first, on the next as soon as one is solved, at last on that of
    the task. Each run goes on by itself. Empty: no curriculum."""
    truncate_every: int | None = None
    """Truncated backpropagation through time: sequences are taken in segments of so many ticks, with an
    optimiser step after each, and the state carried from one to the next."""
    scale_loss: Literal["mean", "length"] = "mean"
    """The gradient is that of the mean over ticks, or of the mean times the number of ticks."""
    memory: float | None = None
    """Gigabytes that the temporaries of a device may take: where a block needs more, only every k-th state is
    kept and the rest recomputed, with k the root of the length."""
    test_sequences: int = 2048
    """Fresh sequences of the final test, the same for every run."""
    seeds: int = 4
    """Runs of each cell, with seeds 0, 1, ..."""
    checkpoint_every: int = 500
    """Updates between checkpoints; there is one at the end anyway."""
    keep: int = 3
    """Checkpoints that are kept, the latest ones; the best one is kept beside them."""

    def __post_init__(self) -> None:
        check_words(self)
        at_least_one = ("updates", "batch_size", "report_every", "test_sequences", "seeds", "keep")
        for name in (*at_least_one, "checkpoint_every", "truncate_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}.")
        for name in ("updates", "checkpoint_every"):
            if getattr(self, name) % self.report_every:
                raise ValueError(
                    f"report_every: expected a divisor of {name} ({getattr(self, name)}),"
                    f" got {self.report_every}."
                )
        if list(self.lengths) != sorted(set(self.lengths)):
            raise ValueError(f"lengths: expected growing lengths, got {self.lengths}.")
        if self.memory is not None and self.memory <= 0:
            raise ValueError(f"memory: expected more than 0 gigabytes, got {self.memory}.")


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where runs go."""

    method: Literal["auto", "map", "vmap"] = "auto"
    """How the runs of one device share it: one after the other in every block (map), or side by side (vmap).
    auto: map on CPU, vmap elsewhere."""
    devices_per_run: int = 1
    """Devices over which each batch is divided; runs are divided over the rest."""
    processes: Literal["one", "hand", "slurm", "ompi"] = "one"
    """How this process finds the others: there are none; by the three options below; or by what Slurm or
    Open MPI tell it."""
    coordinator: str | None = None
    """host:port of process 0, for processes=hand; for slurm and ompi where they do not tell it."""
    process_count: int | None = None
    """Processes in all, for processes=hand."""
    process: int | None = None
    """Which of them this one is, from 0, for processes=hand."""
    devices: int | None = None
    """CPU devices of this process; by default one per core that it may use."""
    wait: int = 120
    """Seconds to wait for the other processes at the start."""
    heartbeat: int = 10
    """Seconds of silence after which a process counts as lost."""

    def __post_init__(self) -> None:
        check_words(self)
        for name in ("devices_per_run", "devices", "wait", "heartbeat"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}.")
        for name in ("coordinator", "process_count", "process"):
            value = getattr(self, name)
            either = name == "coordinator" and self.processes in ("slurm", "ompi")
            if (value is not None) != (self.processes == "hand") and not either:
                raise ValueError(
                    f"{name}: expected a value exactly where processes is hand, got {value}"
                    f" with processes={self.processes}."
                )
        if self.coordinator is not None and not re.fullmatch(r".+:\d+", self.coordinator):
            raise ValueError(f"coordinator: expected host:port, got {self.coordinator}.")
        if self.process is not None and self.process not in range(count := self.process_count or 0):
            raise ValueError(f"process: expected 0 to {count - 1}, got {self.process}.")


@dataclasses.dataclass(frozen=True)
class Config(abc.ABC):
    """One experiment. Subclasses add the task and what it depends on."""

    cells: tuple[CellName, ...] = ("LSTM", "GRU")
    """Which cells of the catalogue, by name."""
    features: int = 64
    """Width of the state."""
    layers: int = 1
    """Layers of the cell, one above the other."""
    chrono: float | None = None
    """Forget biases start as Chrono(t_max), where a cell has them: about the longest dependency, in ticks."""
    zoneout: float | None = None
    """Probability of each state to stay as it was, while training (rnncells.Zoneout)."""
    dropout: float | None = None
    """Rate of variational dropout of inputs and states, while training (rnncells.VariationalDropout)."""
    fields: dict[str, float] = dataclasses.field(default_factory=dict)
    """Other numbers of the cell by name, such as: forget_bias 2 recurrent_init.scale .5"""
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    training: Training = dataclasses.field(default_factory=Training)
    placement: Placement = dataclasses.field(default_factory=Placement)
    out: pathlib.Path = pathlib.Path("runs/experiment")
    """Where everything is written."""
    resume: bool = False
    """Go on from the last checkpoint in `out`."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.cells if name not in rnncells.CELLS]
        if unknown or not self.cells:
            raise ValueError(f"cells: expected names of rnncells.CELLS, got {unknown or 'none'}.")
        if self.layers < 1:
            raise ValueError(f"layers: expected at least 1, got {self.layers}.")

    @abc.abstractmethod
    def task(self) -> Task:
        """What is learned."""

    def numbers(self, cell: str) -> Hyperparameters:
        """The numbers of a run of this cell, as they stand in this config."""
        hyper = Hyperparameters(self.optimizer, self._layers(cell))
        others = [Hyperparameters(self.optimizer, self._layers(name)) for name in self.cells if name != cell]
        elsewhere = {name for name in self.fields if any(other.has(name) for other in others)}
        return hyper.replaced(
            {name: self.fields[name] for name in self.fields if hyper.has(name) or name not in elsewhere}
        )

    def _layers(self, name: str) -> rnncells.Cell:
        bias = {} if self.chrono is None else {"forget_bias": Chrono(self.chrono)}
        cell = make_cell(name, self.features, **bias)
        if self.dropout is not None:
            cell = rnncells.VariationalDropout(cell, rate=self.dropout, input_rate=self.dropout)
        if self.zoneout is not None:
            cell = rnncells.Zoneout(cell, rate=self.zoneout)
        return cell if self.layers == 1 else rnncells.Stack((cell,) * self.layers)


def make_cell(name: str, features: int, **optional: Any) -> rnncells.Cell:
    """A cell of the catalogue; optional fields are set where the cell has them."""
    kind = rnncells.CELLS[name]
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(features, **{field: value for field, value in optional.items() if field in known})  # type: ignore[call-arg]


def plain(value: Any) -> Any:
    """A config as JSON holds it."""
    if isinstance(value, Mapping):
        return {key: plain(child) for key, child in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [plain(child) for child in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, pathlib.PurePath) else value
