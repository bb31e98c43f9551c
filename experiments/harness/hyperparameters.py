"""The numbers of a run: of its optimiser, and of its cell down to wrappers, initialisers and activations.
Any of them may be set by name, traced and swept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import rnncells
from rnncells.fields import Pytree, check_numbers, fields, number, static


def check_words(owner: Any) -> None:
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
        check_words(self)
        if self.warmup < 0:
            raise ValueError(f"warmup: expected at least 0, got {self.warmup}.")


ALIASES = {
    "chrono": ("Chrono.t_max",),
    "zoneout": ("Zoneout.rate",),
    "dropout": ("VariationalDropout.rate", "VariationalDropout.input_rate"),
    "init_scale": tuple(
        f"{kind}.scale" for kind in ("Glorot", "He", "Identity", "LeCun", "Orthogonal", "Uniform")
    ),
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
        check_numbers(self.optimizer)
        if isinstance(self.cell, rnncells.Cell):  # a module in its place has no numbers
            check_numbers(self.cell)

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
    return [field.name for field in fields(node) if "low" in field.metadata]


def words(cell: str) -> set[str]:
    """The fields of a cell of the catalogue that are no numbers, but decide what is computed, and that a word
    or a number may be."""
    kind = rnncells.CELLS.get(cell)
    own = {field.name for field in fields(kind) if not field.name.endswith("_init")} if kind else set()
    return own - {"features", *(numeric(kind) if kind else ())}


def _children(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [(str(i), child) for i, child in enumerate(node)]
    if isinstance(node, Pytree):
        return [(field.name, getattr(node, field.name)) for field in fields(node)]
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
