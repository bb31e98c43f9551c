"""What an experiment is: its command line, the cell that it builds, and the numbers that may be swept."""

from __future__ import annotations

import abc
import dataclasses
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import rnncells
from rnncells import checks
from rnncells.cell import Pytree, number, static
from rnncells.initializers import Chrono
from rnncells.tasks import Task

if TYPE_CHECKING:
    CellName = str
else:
    CellName = Literal[tuple(rnncells.CELLS)]


def _literals(owner: Any) -> None:
    """Checks the fields that are one of several words; the command line has done it already."""
    for name, hint in get_type_hints(type(owner)).items():
        known, value = get_args(hint), getattr(owner, name)
        if get_origin(hint) is Literal and value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}.")


class Optimizer(Pytree):
    """The optimiser; what is None is left out. Every number may be swept."""

    kind: Literal["adam", "rmsprop", "sgd"] = static(default="adam")
    """Adam, RMSprop with decay .9, or plain gradient descent."""
    schedule: Literal["constant", "linear", "cosine"] = static(default="constant")
    """The learning rate stays, or falls to 0 at the end of the run."""
    warmup: int = static(default=0)
    """Updates during which the learning rate rises linearly from 0."""
    learning_rate: float = number(default=3e-3, low=0.0)
    """The highest learning rate of the run."""
    clip_norm: float | None = number(default=1.0, low=0.0)
    """Gradients longer than this are scaled down to it."""
    clip_value: float | None = number(default=None, low=0.0)
    """Gradients are clipped to [-clip_value, clip_value], each entry by itself, before the norm."""
    weight_decay: float | None = number(default=None, low=0.0)
    """Decoupled weight decay, times the learning rate (Loshchilov & Hutter 2019, arXiv 1711.05101)."""
    l2: float | None = number(default=None, low=0.0)
    """Times the sum of squares of all parameters, added to the loss."""
    l1: float | None = number(default=None, low=0.0)
    """Times the sum of absolute values of all parameters, added to the loss."""
    noise: float | None = number(default=None, low=0.0)
    """Variance of Gaussian noise on the gradient at the first update; it falls as update ** -.55
    (Neelakantan et al. 2015, arXiv 1511.06807)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _literals(self)
        if self.warmup < 0:
            raise ValueError(f"warmup: expected at least 0, got {self.warmup}.")


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
        _literals(self)
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
        _literals(self)
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


ALIASES = {
    "chrono": ("Chrono.t_max",),
    "zoneout": ("Zoneout.rate",),
    "dropout": ("VariationalDropout.rate", "VariationalDropout.input_rate"),
    "init_scale": ("scale",),
}
"""Short names of numbers that lie somewhere in a cell."""


class Hyperparameters(NamedTuple):
    """The numbers of a run: a pytree, so that they may be traced, stacked and swept."""

    optimizer: Optimizer
    cell: rnncells.Cell

    def replaced(self, numbers: Mapping[str, Any]) -> Hyperparameters:
        """The same with other numbers, each by its name: of the optimiser (`learning_rate`), or of the cell,
        its wrappers and initialisers (`forget_bias`, `Zoneout.rate`, `recurrent_init.scale`), in every
        layer that has it. See `names`."""
        optimizer, cell = self
        for name, value in numbers.items():
            if name in numeric(optimizer):
                optimizer = dataclasses.replace(optimizer, **{name: value})  # type: ignore[type-var]
                continue
            if not self.has(name):
                raise ValueError(
                    f"{name}: expected one of {', '.join(self.names())}, got a name that is not there."
                )
            for full in ALIASES.get(name, (name,)):
                cell, _ = _replaced(cell, full, value, "cell")
        return Hyperparameters(optimizer, cell)

    def check(self) -> None:
        """Raises ValueError or TypeError for a number that is out of range."""
        checks.numbers(self.optimizer)
        checks.numbers(self.cell)

    def has(self, name: str) -> bool:
        """Whether `replaced` finds this name."""
        inside = (_replaced(self.cell, full, None, "cell")[1] for full in ALIASES.get(name, (name,)))
        return name in numeric(self.optimizer) or any(inside)

    def names(self) -> list[str]:
        """What `replaced` finds, among others."""
        short = {name for name in ALIASES if self.has(name)}
        return sorted({*numeric(self.optimizer), *_names(self.cell, "cell"), *short})


def numeric(node: Any) -> list[str]:
    """The fields of a pytree dataclass that are numbers, or may become one."""
    return [field.name for field in dataclasses.fields(node) if "low" in field.metadata]


def _children(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [(str(i), child) for i, child in enumerate(node)]
    if isinstance(node, Pytree):
        return [(field.name, getattr(node, field.name)) for field in dataclasses.fields(node)]  # type: ignore[arg-type]
    return []


def _replaced(node: Any, name: str, value: Any, place: str) -> tuple[Any, int]:
    """`node` with every number of this name set, and how many there were."""
    owner, _, last = name.rpartition(".")
    changes, found = {}, 0
    for key, child in _children(node):
        changed, count = _replaced(child, name, value, place if key.isdigit() else key)
        if count:
            changes[key], found = changed, found + count
    if isinstance(node, Sequence) and changes:
        return type(node)(changes.get(str(i), child) for i, child in enumerate(node)), found  # type: ignore[call-arg]
    if isinstance(node, Pytree) and last in numeric(node) and owner in ("", type(node).__name__, place):
        changes[last], found = value, found + 1
    return (dataclasses.replace(node, **changes) if changes else node), found  # type: ignore[type-var]


def _names(node: Any, place: str) -> set[str]:
    own = numeric(node) if isinstance(node, Pytree) else []
    owner = f"{place}." if not isinstance(node, rnncells.Cell) else ""
    if type(node).__name__ in rnncells.WRAPPERS:
        owner = f"{type(node).__name__}."
    inside = (_names(child, place if key.isdigit() else key) for key, child in _children(node))
    return {f"{owner}{name}" for name in own}.union(*inside)


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
