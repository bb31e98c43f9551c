"""Sweeps: what varies, which points are tried, and how they are found."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import zlib
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optuna
import sqlalchemy.pool

from experiments.harness.hyperparameters import numeric
from experiments.harness.options import Config, ConfigError
from experiments.harness.population import Run
from experiments.harness.record import number
from experiments.harness.session import Session

Point = dict[str, float]


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
        return [Axis.parse(text, self.search) for text in self.vary]

    def base(self) -> Config:
        """The experiment with every number that varies in its place, in a folder of its own."""
        numbers = {axis.name: axis.values[0] if axis.values else axis.low for axis in self.axes()}
        base = settled(self.experiment, numbers)
        if base.out != type(base)().out:
            return base
        return dataclasses.replace(base, out=base.out.with_name(f"sweep-{base.out.name}"))


class Axis(NamedTuple):
    """One number that varies: over values, or in a range."""

    name: str
    values: tuple[float, ...] = ()
    low: float = math.nan
    high: float = math.nan
    log: bool = False

    @staticmethod
    def parse(text: str, search: str) -> Axis:
        """Reads `name=1,2,3`, `name=low:high[:log|linear][:count]`."""
        name, _, rest = text.partition("=")
        parts = rest.split(":")
        try:
            if len(parts) == 1:
                axis = Axis(name, tuple(float(value) for value in rest.split(",")))
            else:
                log = "log" in parts[2:]
                count = [int(part) for part in parts[2:] if part not in ("log", "linear")]
                axis = Axis(name, (), float(parts[0]), float(parts[1]), log)
                if not axis.low < axis.high or (log and axis.low <= 0) or len(count) != (search == "grid"):
                    raise ValueError
                if count:
                    spaced = np.geomspace if log else np.linspace
                    axis = Axis(name, tuple(float(value) for value in spaced(axis.low, axis.high, count[0])))
            if not name or not all(map(math.isfinite, axis.values)):
                raise ValueError
        except ValueError:
            form = "low:high:log:count" if search == "grid" else "low:high:log"
            raise ValueError(
                f"vary: expected name=value,value,... or name={form} (or linear) with low < high for"
                f" search={search}, got {text!r}."
            ) from None
        return axis

    def draw(self, rng: np.random.Generator) -> float:
        if self.values:
            return self.values[rng.integers(len(self.values))]
        if self.log:
            return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        return float(rng.uniform(self.low, self.high))

    def suggest(self, trial: optuna.Trial) -> float:
        if self.values:
            return trial.suggest_categorical(self.name, self.values)  # type: ignore[return-value]
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)


def settled(experiment: Config, point: Point, cell: str | None = None) -> Config:
    """The experiment with the numbers of a point written into it, so that it runs by itself."""
    own: Any = {name: value for name, value in point.items() if name in ("chrono", "zoneout", "dropout")}
    optimizer: Any = {name: value for name, value in point.items() if name in numeric(experiment.optimizer)}
    rest = {name: value for name, value in point.items() if name not in {**own, **optimizer}}
    return dataclasses.replace(
        experiment,
        **own,
        optimizer=dataclasses.replace(experiment.optimizer, **optimizer),  # type: ignore[type-var]
        fields={**experiment.fields, **rest},
        cells=experiment.cells if cell is None else (cell,),
    )


def points(sweep: Sweep) -> list[Point]:
    """All points of a grid, as many random ones as there are trials, or the corners of what tpe searches."""
    axes = sweep.axes()
    names = [axis.name for axis in axes]
    if sweep.search == "random":
        rng = np.random.default_rng(sweep.search_seed)
        return [{axis.name: axis.draw(rng) for axis in axes} for _ in range(sweep.trials)]
    combined = itertools.product(*(axis.values or (axis.low, axis.high) for axis in axes))
    return [dict(zip(names, values, strict=True)) for values in combined]


def at_once(sweep: Sweep, here: Session, cell: str) -> None:
    """Trains the points of a grid or a random search, with every seed, in populations of about one size."""
    seeds = range(sweep.experiment.training.seeds)
    runs = [Run(point, seed) for point in points(sweep) for seed in seeds]
    size = math.ceil(len(runs) / math.ceil(len(runs) / sweep.at_once))
    for first in range(0, len(runs), size):
        here.train(cell, runs[first : first + size], first)


def adaptively(sweep: Sweep, here: Session, cell: str) -> None:
    """Asks Optuna for a population of points, trains them, tells their scores, and asks again."""
    if jax.process_count() > 1:
        raise ConfigError(
            "search: expected grid or random with several processes of one job, got tpe; start several"
            " jobs with one storage instead."
        )
    logging.getLogger("optuna").setLevel(logging.WARNING)
    worker = str(here.config.out)
    study = optuna.create_study(
        study_name=f"{type(sweep.experiment).__module__}-{cell}",
        storage=opened(sweep.storage or f"sqlite:///{here.config.out / 'study.db'}"),
        load_if_exists=True,
    )
    # Workers, and a worker that goes on, must not draw the same points once more.
    seed = zlib.crc32(f"{sweep.search_seed} {worker} {len(study.trials)}".encode())
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    seeds, score = range(sweep.experiment.training.seeds), here.config.task().score
    axes, size = sweep.axes(), sweep.at_once // len(seeds)

    def asked() -> list[optuna.trial.FrozenTrial]:
        """This worker's points that have no score yet: those of a search that was stopped."""
        running = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
        return [trial for trial in running if trial.user_attrs.get("worker") == worker]

    while True:
        trials = asked()
        if not trials:
            wanted = min(size, sweep.trials - len(study.trials))
            if wanted < 1:
                return
            first = sum(trial.user_attrs.get("worker") == worker for trial in study.trials) * len(seeds)
            for i in range(wanted):
                new = study.ask()
                for axis in axes:
                    axis.suggest(new)
                new.set_user_attr("first", first + i * len(seeds))
                new.set_user_attr("worker", worker)  # last: from now on it is ours to finish
            trials = asked()
        trials.sort(key=lambda trial: trial.user_attrs["first"])
        runs = [Run(dict(trial.params), seed) for trial in trials for seed in seeds]
        lines = here.train(cell, runs, trials[0].user_attrs["first"])
        for i, trial in enumerate(trials):
            of_trial = lines[i * len(seeds) : (i + 1) * len(seeds)]
            value = float(np.mean([number(line["test"][score]) for line in of_trial]))
            if math.isfinite(value):
                study.tell(trial.number, value)
            else:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def opened(storage: str) -> optuna.storages.RDBStorage:
    """A database whose connections are closed after every use."""
    return optuna.storages.RDBStorage(storage, engine_kwargs={"poolclass": sqlalchemy.pool.NullPool})
