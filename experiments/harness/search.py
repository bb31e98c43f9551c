"""Sweeps: what varies, which points are tried, and how they are found."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optuna
import sqlalchemy.pool

from experiments.harness.axes import Axis, Point, settled
from experiments.harness.folder import FREE
from experiments.harness.options import Config, ConfigError, plain
from experiments.harness.population import Run
from experiments.harness.record import Line
from experiments.harness.session import Session
from experiments.harness.settings import placed, settings
from experiments.harness.standing import deciding, score_of
from rnncells.tasks import Task
from rnncells.tasks.base import higher_is_better


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
    trials: int = 32
    """Points to try (random, tpe); each with every seed of the experiment."""
    at_once: int = 64
    """Runs that are trained side by side; more go one population after the other."""
    search_seed: int = 0
    """Of the points that are drawn; for tpe together with `out`, so that workers draw different ones."""
    storage: str | None = None
    """A database that Optuna knows, such as sqlite:///study.db, for tpe: several workers, each started with
    the same storage and an `out` of its own, search together. By default one file in `out`."""

    def __post_init__(self) -> None:
        for name in ("trials", "at_once"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}.")
        if self.storage is not None and self.search != "tpe":
            raise ValueError(f"storage: expected none with search={self.search}, got {self.storage!r}.")
        if self.search == "tpe" and self.at_once < self.experiment.training.seeds:
            raise ValueError(f"at_once: expected at least one point with all its seeds, got {self.at_once}.")
        names = [axis.name for axis in self.axes()]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"vary: expected different names, got {self.vary}.")

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
        return [{axis.name: axis.draw(rng) for axis in axes} for _ in range(sweep.trials)]
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


def adaptively(sweep: Sweep, here: Session) -> None:
    """Asks Optuna for a population of points, trains them, tells their scores, and asks again; one study for
    each cell, or one for all where the cell varies."""
    if jax.process_count() > 1:
        raise ConfigError(
            "search: expected grid or random with several processes of one job, got tpe; start several"
            " jobs with one storage instead."
        )
    logging.getLogger("optuna").setLevel(logging.WARNING)
    varies = any(axis.name == "cell" for axis in sweep.axes())
    for cell in [None] if varies else here.config.cells:
        _study(sweep, here, cell)


def _study(sweep: Sweep, here: Session, cell: str | None) -> None:
    worker, task = str(here.config.out), here.config.task()
    study = optuna.create_study(
        study_name=study_name(sweep, cell),
        storage=opened(sweep.storage or f"sqlite:///{here.config.out / 'study.db'}"),
        direction="maximize" if higher_is_better(task) else "minimize",
        load_if_exists=True,
    )
    # Workers, and a worker that goes on, must not draw the same points once more.
    seed = zlib.crc32(f"{sweep.search_seed} {worker} {len(study.trials)}".encode())
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    seeds, axes = sweep.experiment.training.all_seeds, sweep.axes()
    size = sweep.at_once // len(seeds)

    def asked() -> list[optuna.trial.FrozenTrial]:
        """This worker's points that have no score yet: those of a search that was stopped."""
        running = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
        own = [trial for trial in running if trial.user_attrs.get("worker") == worker]
        return sorted(own, key=lambda trial: trial.user_attrs["first"])

    def program(trial: optuna.Trial | optuna.trial.FrozenTrial) -> str:
        known = settings(here.config)
        return json.dumps({name: value for name, value in sorted(trial.params.items()) if name in known})

    while True:
        if not asked():
            wanted = min(size, sweep.trials - len(study.trials))
            if wanted < 1:
                return
            first = sum(trial.user_attrs.get("worker") == worker for trial in study.trials) * len(seeds)
            new = []
            for _ in range(wanted):
                new.append(study.ask())
                for axis in axes:
                    axis.suggest(new[-1])
            for i, asked_for in enumerate(sorted(new, key=program)):  # runs of one program lie together
                asked_for.set_user_attr("first", first + i * len(seeds))
                asked_for.set_user_attr("worker", worker)  # last: from now on it is ours to finish
        for _, together in itertools.groupby(asked(), key=program):
            trials = list(together)
            (group,) = grouped(here.config, [{"cell": cell, **trial.params} for trial in trials])
            lines = here.train(group.cell, group.runs(seeds), trials[0].user_attrs["first"], group.config)
            for i, trial in enumerate(trials):
                study.tell(trial.number, told(task, lines[i * len(seeds) : (i + 1) * len(seeds)]))


def told(task: Task, lines: Sequence[Line]) -> float:
    """The score of a point, the mean over its seeds; where one diverged, the worst that there is."""
    scores = [score_of(task, line, deciding(lines)) for line in lines]
    worst = -math.inf if higher_is_better(task) else math.inf
    return float(np.mean(scores)) if np.isfinite(scores).all() else worst


def study_name(sweep: Sweep, cell: str | None) -> str:
    """Of everything that decides a score, so that workers share a study exactly where they do the same."""
    decides = json.dumps([without(plain(sweep.experiment), FREE - {"updates"}), sorted(sweep.vary)])
    digest = hashlib.sha256(decides.encode()).hexdigest()[:12]
    return f"{type(sweep.experiment).__module__}-{cell or 'cells'}-{digest}"


def without(config: Any, names: Iterable[str]) -> Any:
    """A config as JSON without some of its entries."""
    if not isinstance(config, dict):
        return config
    return {name: without(value, names) for name, value in config.items() if name not in names}


def opened(storage: str) -> optuna.storages.RDBStorage:
    """A database whose connections are closed after every use."""
    return optuna.storages.RDBStorage(storage, engine_kwargs={"poolclass": sqlalchemy.pool.NullPool})
