"""Sweeps: what varies, which points are tried, and how they are found."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from experiments.harness.axes import Axis, Point, settled
from experiments.harness.hyperparameters import ALIASES
from experiments.harness.options import Config
from experiments.harness.population import Run
from experiments.harness.session import Session
from experiments.harness.settings import placed, settings


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One experiment with many settings; `Axis.parse` reads what varies."""

    experiment: Config
    """The experiment and its other settings."""
    vary: tuple[str, ...] = ("learning_rate=1e-4:1e-1:log:7",)
    """What varies, as above."""
    search: Literal["grid", "random", "tpe"] = "grid"
    """All combinations; points drawn independently; or points proposed by Optuna's tree-structured Parzen
    estimator from the results so far, a population at a time."""
    trials: int | None = None
    """Points to try (random, tpe), 32 by default; each with every seed of the experiment."""
    at_once: int = 64
    """Runs that are trained side by side; more go one population after the other."""
    search_seed: int = 0
    """Of the points that are drawn; for tpe together with `out`, so that workers draw different ones."""
    storage: str | None = None
    """A database that Optuna knows, such as sqlite:///study.db, for tpe: several workers, each started with
    the same storage and an `out` of its own, search together. By default one file in `out`."""

    def __post_init__(self) -> None:
        for name in ("trials", "at_once"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}.")
        if self.trials is not None and self.search == "grid":
            raise ValueError(f"trials: expected none with search=grid, which tries all, got {self.trials}.")
        if self.storage is not None and self.search != "tpe":
            raise ValueError(f"storage: expected none with search={self.search}, got {self.storage!r}.")
        if self.search == "tpe" and self.at_once < self.experiment.training.seeds:
            raise ValueError(f"at_once: expected at least one point with all its seeds, got {self.at_once}.")
        names = [axis.name for axis in self.axes()]
        full = [each for name in names for each in ALIASES.get(name, (name,))]
        if not names or len(set(full)) < len(full):
            raise ValueError(f"vary: expected different names, got {self.vary}.")
        self.base()

    @property
    def count(self) -> int:
        """Of points that are drawn or proposed."""
        return 32 if self.trials is None else self.trials

    def axes(self) -> list[Axis]:
        known = settings(self.experiment)
        return [Axis.parse(text, self.search, known) for text in self.vary]

    def base(self) -> Config:
        """The experiment with everything that varies in its place, in a folder of its own."""
        axes = self.axes()
        base = settled(
            self.experiment, {axis.name: axis.values[0] if axis.values else axis.low for axis in axes}
        )
        cells = [axis.values for axis in axes if axis.name == "cell"]
        base = dataclasses.replace(base, cells=cells[0] if cells else self.experiment.cells)
        if base.out != type(base)().out:
            return base
        return dataclasses.replace(base, out=base.out.with_name(f"sweep-{base.out.name}"))


def points(sweep: Sweep) -> list[Point]:
    """All points of a grid, as many random ones as there are trials, or the corners of what tpe searches."""
    axes = sweep.axes()
    names = [axis.name for axis in axes]
    if sweep.search == "random":
        rng = np.random.default_rng(sweep.search_seed)
        return [{axis.name: axis.draw(rng) for axis in axes} for _ in range(sweep.count)]
    combined = itertools.product(*(axis.values or (axis.low, axis.high) for axis in axes))
    return [dict(zip(names, values, strict=True)) for values in combined]


class Group(NamedTuple):
    """Points that one program trains."""

    cell: str
    config: Config
    settings: Point
    points: list[Point]
    """Their numbers."""

    def runs(self, seeds: range) -> list[Run]:
        """Every point with every seed."""
        return [Run(numbers, seed, self.settings) for numbers in self.points for seed in seeds]


def grouped(base: Config, points: Sequence[Point]) -> list[Group]:
    """By cell and settings, in the order in which they come first; points keep theirs."""
    groups: dict[str, Group] = {}
    for cell in base.cells:
        for point in points:
            if (point.get("cell") or cell) != cell:
                continue
            config, numbers = placed(base, point)
            own = {name: value for name, value in point.items() if name not in {*numbers, "cell"}}
            new = Group(cell, config, own, [])
            groups.setdefault(json.dumps([cell, own]), new).points.append(numbers)
    return list(groups.values())


def at_once(sweep: Sweep, here: Session) -> None:
    """Trains all points with every seed, in populations of about one size, at most `at_once` large."""
    numbered, courses = dict.fromkeys(here.config.cells, 0), []
    for group in grouped(here.config, points(sweep)):
        runs = group.runs(sweep.experiment.training.all_seeds)
        size = math.ceil(len(runs) / math.ceil(len(runs) / sweep.at_once))
        for first in range(0, len(runs), size):
            part = runs[first : first + size]
            courses.append((group.cell, part, numbered[group.cell], group.config))
            numbered[group.cell] += len(part)
    for course in courses:
        here.ready(*course)
    for course in courses:
        here.train(*course)
