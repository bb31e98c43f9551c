"""What an experiment is: its command line, and the cells and the model that it builds."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

import rnncells
from experiments.harness import answers
from experiments.harness.hyperparameters import (
    ALIASES,
    Hyperparameters,
    Optimizer,
    check_words,
    numeric,
    words,
)
from experiments.harness.model import Model, ModelFactory, stacked, widths
from experiments.harness.model import Pooling as Pooling
from experiments.harness.model import make_cell as make_cell
from experiments.harness.placement import Placement as Placement
from experiments.harness.saved import plain as plain
from rnncells.initializers import Chrono
from rnncells.tasks import Task
from rnncells.tasks.base import tokens

if TYPE_CHECKING:
    CellName = str
else:
    CellName = Literal[tuple(rnncells.CELLS)]


GIVEN = {
    "chrono": (*ALIASES["chrono"], "forget_bias"),
    **{name: ALIASES[name] for name in ("zoneout", "dropout")},
}
"""Options that set numbers of the cell, and which."""


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
    """Batches that a run learns from: drawn afresh, or from all sequences in a new order every epoch."""
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
    kept and the rest recomputed, with k the root of the length. By default what the device has."""
    validate_every: int | None = None
    """Updates between validations, which decide which weights are the best ones, whether a run has solved its
    task and when it ends; by default report_every."""
    validation_sequences: int = 512
    """Sequences of a validation, fresh ones each time, the same for every run; finite data have their own."""
    test_sequences: int = 2048
    """Fresh sequences of the final test of the best weights, the same for every run; finite data have their
    own."""
    evaluate_at_once: int = 2048
    """Sequences of a validation or test that are taken at a time."""
    stop_when_solved: bool = False
    """End a run when its validation counts as solved."""
    patience: int | None = None
    """End a run whose validation score has not become better in so many updates."""
    seeds: int = 4
    """Runs of each cell."""
    first_seed: int = 0
    """The seed of the first one; the others follow."""
    checkpoint_every: int = 500
    """Updates between checkpoints; there is one at the end anyway."""
    keep: int = 3
    """Checkpoints that are kept, the latest ones; the best one is kept beside them."""

    def __post_init__(self) -> None:
        check_words(self)
        at_least_one = ("updates", "batch_size", "report_every", "test_sequences", "seeds", "keep")
        optional = (
            "truncate_every",
            "validate_every",
            "validation_sequences",
            "evaluate_at_once",
            "patience",
        )
        for name in (*at_least_one, "checkpoint_every", *optional):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}.")
        if not 0 <= self.first_seed <= 2**31 - self.seeds:
            raise ValueError(f"first_seed: expected seeds within 0 and 2 ** 31 - 1, got {self.first_seed}.")
        whole = ("updates", "checkpoint_every")
        for divisor, names in (("report_every", (*whole, "validate_every")), ("validate_every", whole)):
            for name in names:
                size, multiple = getattr(self, divisor), getattr(self, name)
                if size is not None and multiple is not None and multiple % size:
                    raise ValueError(f"{divisor}: expected a divisor of {name} ({multiple}), got {size}.")
        if list(self.lengths) != sorted(set(self.lengths)):
            raise ValueError(f"lengths: expected growing lengths, got {self.lengths}.")
        if self.memory is not None and not self.memory > 0:
            raise ValueError(f"memory: expected more than 0 gigabytes, got {self.memory}.")

    @property
    def all_seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)


@dataclasses.dataclass(frozen=True)
class Config(abc.ABC):
    """One experiment. Subclasses add the task and what it depends on."""

    cells: tuple[CellName, ...] = ("LSTM", "GRU")
    """Which cells of the catalogue, by name."""
    features: int | tuple[int, ...] = 64
    """Width of the state; several numbers are the widths of several layers."""
    layers: int = 1
    """Layers of the cell, one above the other, where features is one width."""
    bidirectional: bool = False
    """Every layer reads both ways."""
    embedding: int | None = None
    """Width of the learned vector of each token, where inputs are tokens; by default they are one-hot."""
    pooling: Pooling = "every"
    """What is read out: every state, or one for each sequence: its last, their mean, or their mean weighted
    by attention."""
    chrono: float | None = None
    """Forget biases start as Chrono(t_max), where a cell has them: about the longest dependency, in ticks."""
    zoneout: float | None = None
    """Probability of each state to stay as it was, while training (rnncells.Zoneout)."""
    dropout: float | None = None
    """Rate of variational dropout of inputs and states, while training (rnncells.VariationalDropout)."""
    fields: dict[str, int | float | bool | str] = dataclasses.field(default_factory=dict)
    """Other fields of the cell by name, and numbers of its initialisers, such as: order 32 activation relu
    forget_bias 2 recurrent_init.scale .5"""
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    training: Training = dataclasses.field(default_factory=Training)
    placement: Placement = dataclasses.field(default_factory=Placement)
    out: pathlib.Path = pathlib.Path("runs/experiment")
    """Where everything is written."""
    resume: bool = False
    """Go on from the last checkpoint in `out`."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.cells if name not in {*rnncells.CELLS, *self.modules()}]
        if unknown or not self.cells:
            raise ValueError(f"cells: expected names of rnncells.CELLS, got {unknown or 'none'}.")
        if len(set(self.cells)) < len(self.cells):
            raise ValueError(f"cells: expected different names, got {', '.join(self.cells)}.")
        self._check_numbers()
        widths(self.features, self.layers)
        if self.embedding is not None and self.embedding < 1:
            raise ValueError(f"embedding: expected at least 1, got {self.embedding}.")
        if self.pooling not in get_args(Pooling):
            known = ", ".join(get_args(Pooling))
            raise ValueError(f"pooling: expected one of {known}, got {self.pooling!r}.")
        if self.bidirectional and self.training.truncate_every is not None:
            raise ValueError(
                "bidirectional: expected whole sequences, because the future is read as well, got"
                f" truncate_every={self.training.truncate_every}."
            )

    def _check_numbers(self) -> None:
        """No number is given twice, nor is one out of the reach of another."""
        elsewhere = {
            "features": "features",
            **{name: f"optimizer.{name}" for name in numeric(self.optimizer)},
        }
        for name, value in self.fields.items():
            said = f"fields: expected fields of the cell, each given once, got {name} {value}"
            if name in elsewhere:
                raise ValueError(f"{said}, which is {elsewhere[name]}.")
            for option, others in GIVEN.items():
                full = {option, *others, *(other.rpartition(".")[2] for other in others)}
                own = getattr(self, option)
                if own is not None and (name in full or name.rpartition(".")[2] in others):
                    raise ValueError(f"{said} beside {option} {own}, which sets it too; leave one out.")
        for name in ("clip_norm", "clip_value"):
            if getattr(self.optimizer, name) == 0:
                raise ValueError(f"optimizer.{name}: expected more than 0, with which nothing is learned.")
        warmup, updates = self.optimizer.warmup, self.training.updates
        if warmup > updates:
            raise ValueError(f"optimizer.warmup: expected at most the {updates} updates, got {warmup}.")

    @abc.abstractmethod
    def task(self) -> Task:
        """What is learned."""

    def model(self, task: Task) -> ModelFactory:
        """What is trained on it: of (cell, output_size, remat_every=None), a Flax module."""
        known = tokens(task)
        if known is None and self.embedding is not None:
            raise ValueError(f"embedding: expected none for inputs that are no tokens, got {self.embedding}.")
        return functools.partial(Model, tokens=known, embedding=self.embedding, pooling=self.pooling)

    def modules(self) -> Mapping[str, ModelFactory]:
        """What may stand among the cells, by name, and is no cell: factories as `model` gives, which get None
        for the cell."""
        return {}

    def read(self, file: pathlib.Path, task: Task) -> tuple[Any, Any]:
        """Inputs, batch-major, and their lengths or None, from a file of the user, for what was trained."""
        return answers.read(file, task)

    def said(self, outputs: np.ndarray, task: Task) -> list[dict[str, Any]]:
        """What outputs, batch-major, mean to the user: rows of a table."""
        return answers.rows(outputs, task)

    def numbers(self, cell: str) -> Hyperparameters:
        """The numbers of a run of this cell, as they stand in this config."""
        hyper, own = self._hyper(cell), words(cell)
        others = [name for name in self.cells if name != cell]
        elsewhere = set[str]().union(*map(words, others))
        numbers = {}
        for name, value in self.fields.items():
            if hyper.has(name):
                numbers[name] = float(value) if type(value) is int else value
            elif name not in own | elsewhere and not any(self._hyper(other).has(name) for other in others):
                known = ", ".join(sorted({*hyper.names(), *own}))
                raise ValueError(f"{name}: expected one of {known}, got a name that is not there.")
        return hyper.replaced(numbers)

    def _hyper(self, name: str) -> Hyperparameters:
        if name in self.modules():
            return Hyperparameters(self.optimizer, cast(rnncells.Cell, None))  # it has no numbers
        layers = [self._layer(name, width) for width in widths(self.features, self.layers)]
        return Hyperparameters(self.optimizer, stacked(layers, self.bidirectional))

    def _layer(self, name: str, width: int) -> rnncells.Cell:
        bias = {} if self.chrono is None else {"forget_bias": Chrono(self.chrono)}
        chosen = {field: self.fields[field] for field in self.fields if field in words(name)}
        cell = make_cell(name, width, **bias, **chosen)
        if self.dropout is not None:
            cell = rnncells.VariationalDropout(cell, rate=self.dropout, input_rate=self.dropout)
        if self.zoneout is not None:
            cell = rnncells.Zoneout(cell, rate=self.zoneout)
        return cell


def updates_of(epochs: int, sequences: int, batch_size: int) -> int:
    """Updates of so many epochs, the last batch of each filled up from the next."""
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}.")
    return epochs * -(-sequences // batch_size)
