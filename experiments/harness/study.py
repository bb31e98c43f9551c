"""What Optuna proposes: points of a sweep from the scores so far, for one worker or several."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optuna
import sqlalchemy.exc
import sqlalchemy.pool

from experiments.harness.axes import Point
from experiments.harness.folder import FREE
from experiments.harness.options import ConfigError, plain
from experiments.harness.provenance import MUST_STAY, provenance
from experiments.harness.record import Line
from experiments.harness.search import Sweep, grouped
from experiments.harness.session import Session
from experiments.harness.settings import settings
from experiments.harness.standing import deciding, score_of
from rnncells.tasks import Task
from rnncells.tasks.base import higher_is_better

PATIENCE = 60.0
"""Seconds that a worker waits for another one that is writing."""


class Found(NamedTuple):
    """The best point of a study, whoever has trained it."""

    cell: str
    point: Point
    score: float
    worker: str
    points: int
    """Of the study that have a score."""
    workers: int


def adaptively(sweep: Sweep, here: Session) -> list[Found]:
    """Asks Optuna for a population of points, trains them, tells their scores, and asks again; one study for
    each cell, or one for all where the cell varies. Returns the best of each study."""
    if jax.process_count() > 1:
        raise ConfigError(
            "search: expected grid or random with several processes of one job, got tpe; start several"
            " jobs with one storage instead."
        )
    logging.getLogger("optuna").setLevel(logging.WARNING)
    varies = any(axis.name == "cell" for axis in sweep.axes())
    if sweep.storage is None:
        here.begin()
    storage = sweep.storage or f"sqlite:///{here.config.out / 'study.db'}"
    with sentences(storage):
        return [_study(sweep, here, cell, storage) for cell in ([None] if varies else here.config.cells)]


def _study(sweep: Sweep, here: Session, cell: str | None, storage: str) -> Found:
    worker, task = str(here.config.out), here.config.task()
    higher = higher_is_better(task)
    study = optuna.create_study(
        study_name=study_name(sweep, cell),
        storage=opened(storage),
        direction="maximize" if higher else "minimize",
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
            wanted = min(size, sweep.count - len(study.trials))
            if wanted < 1:
                return best_of(study, cell)
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


def best_of(study: optuna.Study, cell: str | None) -> Found:
    """Of all workers."""
    best, every = study.best_trial, study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    workers = {trial.user_attrs["worker"] for trial in every}
    point = dict(best.params)
    return Found(
        cell or point.pop("cell"), point, best.values[0], best.user_attrs["worker"], len(every), len(workers)
    )


@contextlib.contextmanager
def sentences(storage: str) -> Iterator[None]:
    """What a database says becomes a ConfigError."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, ImportError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        why = str(getattr(cause, "orig", None) or cause or error).splitlines()[0].rstrip(".")
        words = f"storage: expected a database that can be read and written, got {storage}"
        raise ConfigError(f"{words}: {why}.") from error


def told(task: Task, lines: Sequence[Line]) -> float:
    """The score of a point, the mean over its seeds; where one diverged, the worst that there is."""
    scores = [score_of(task, line, deciding(lines)) for line in lines]
    worst = -math.inf if higher_is_better(task) else math.inf
    return float(np.mean(scores)) if np.isfinite(scores).all() else worst


def study_name(sweep: Sweep, cell: str | None) -> str:
    """Of everything that decides a score, so that workers share a study exactly where they do the same."""
    made = provenance(sweep.experiment.task())
    own = without(plain(sweep.experiment), FREE - {"updates"})
    decides = json.dumps([own, sorted(sweep.vary), {name: made[name] for name in MUST_STAY}])
    digest = hashlib.sha256(decides.encode()).hexdigest()[:12]
    return f"{type(sweep.experiment).__module__}-{cell or 'cells'}-{digest}"


def without(config: Any, names: Iterable[str]) -> Any:
    """A config as JSON without some of its entries."""
    if not isinstance(config, dict):
        return config
    return {name: without(value, names) for name, value in config.items() if name not in names}


def opened(storage: str) -> optuna.storages.RDBStorage:
    """A database whose connections are closed after every use."""
    options: dict[str, Any] = {"poolclass": sqlalchemy.pool.NullPool}
    if storage.startswith("sqlite"):
        options["connect_args"] = {"timeout": PATIENCE}
    return optuna.storages.RDBStorage(storage, engine_kwargs=options)
