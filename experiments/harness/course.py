"""Runs of one cell on their way, side by side: advance, validate, record, save; go on where they were."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import numpy as np
from rich.console import Console

from experiments.harness import processes, weights
from experiments.harness.checkpoint import Checkpoints
from experiments.harness.data import count, segments
from experiments.harness.learner import State
from experiments.harness.options import Config, ConfigError, Training, plain
from experiments.harness.population import Population
from experiments.harness.progress import Progress
from experiments.harness.record import Line, Record, finite
from experiments.harness.standing import standing
from experiments.harness.train import Train, streaming


class StopRequested(Exception):  # noqa: N818
    """A signal asked for the end; everything is saved."""


class Host(Protocol):
    """What a course needs of the session that it is in."""

    config: Config
    console: Console
    progress: Progress
    active: bool
    stop: bool

    @property
    def record(self) -> Record: ...


class Course:
    """Runs of one cell on their way, side by side, from their last checkpoint if there is one."""

    def __init__(self, here: Host, population: Population, training: Training, first: int) -> None:
        self.here, self.population, self.cell = here, population, population.cell
        self.runs, self.training = population.runs, training
        self.names = range(first, first + len(self.runs))
        everything = not first and len(self.runs) == self.training.seeds
        which = f"runs {first} to {self.names[-1]}" if len(self.names) > 1 else f"run {first}"
        self.label = self.cell if everything else f"{self.cell}, {which}"
        self.checkpoints = Checkpoints(
            here.config.out / "checkpoints" / f"{self.cell}-{first}", self.training.keep
        )
        self.scores: list[dict[str, dict[str, float]]] = [{} for _ in self.runs]
        self.solved_after: list[float | None] = [None for _ in self.runs]
        self.update, before, self.state = self._beginning()
        self.stage, self.stopped = self._read("stage", "stopped")
        self.batch_size = batch_size(population.train, self.training)
        self.epoch, self.loss = epoch(population.train, self.batch_size), float("nan")
        self.bar = here.progress.add_task(
            self.label, total=self.training.updates, completed=self.update, loss="", rate=""
        )
        self.start = time.perf_counter() - before

    @property
    def seconds(self) -> float:
        """Spent so far, before a restart included, but without compiling."""
        return time.perf_counter() - self.start

    def _read(self, *names: str) -> list[np.ndarray]:
        """Numbers of the state, one for each run."""
        host: list[np.ndarray] = self.population.host([getattr(self.state, name) for name in names])
        return host

    def _beginning(self) -> tuple[int, float, State]:
        """Updates done, seconds spent, and the state to go on from. Lines past it are forgotten."""
        here, population, folder = self.here, self.population, self.checkpoints.folder
        found = self.checkpoints.restore(population.like()) if here.config.resume else None
        if others := processes.different(str(found and found[0])):
            raise ConfigError(f"resume: process {others[0]} sees other checkpoints in {folder}.")
        update, seconds, state = 0, 0.0, None
        if found is not None:
            update, host, about, refused = found
            for each in refused:
                words = f"Refused {each.path}: {each.why}. Going on from update {update}."
                here.console.print(words, soft_wrap=True)
            if about["runs"] != self._runs():
                raise ConfigError(f"resume: expected the runs of {folder}, got others.")
            seconds, state = about["seconds"], population.device(host)
            self.solved_after = about["solved_after"]

        def past(line: Line) -> bool:
            own = line["cell"] == self.cell and line["run"] in self.names
            return own and (line["update"] > update or "test" in line)

        here.record.rewind(lambda line: not past(line))
        return update, seconds, population.init() if state is None else state

    def _runs(self) -> list[list[object]]:
        """The runs as JSON holds them."""
        return [[{**run.settings, **run.numbers}, run.seed] for run in self.runs]

    def to_the_end(self) -> list[Line]:
        """The last line of every run, or StopRequested."""
        while self.update < self.training.updates and (self.stopped < 0).any():
            self.advance()
            stop = processes.any_process(self.here.stop)
            last = self.update == self.training.updates or bool((self.stopped >= 0).all())
            if stop or last or self.update % self.training.checkpoint_every == 0:
                self.save()
            if stop and not last:
                raise StopRequested(
                    f"Stopped at update {self.update} of {self.training.updates} of {self.label};"
                    " all is saved."
                )
        self.here.progress.update(self.bar, completed=self.training.updates)
        lines = self.tested()
        self.here.record.write(lines)
        self.here.record.flush()
        self._warn(lines)
        return lines

    def advance(self) -> None:
        """A block of updates of every run, validated where it is time, recorded and shown."""
        size, number = self.training.report_every, len(self.runs)
        start = time.perf_counter()
        self.state, losses = self.population.advance(self.state)
        rate = size * number / (time.perf_counter() - start)
        self.update += size
        running, trained = self.stopped < 0, self.stage
        judged = self.update % (self.training.validate_every or size) == 0
        if judged:
            self.state, self.scores = self.population.validate(self.state)
        self.stage, self.stopped, diverged, solved = self._read("stage", "stopped", "diverged", "solved")
        for i in np.flatnonzero(solved >= 0):
            if self.solved_after[i] is None:
                self.solved_after[i] = self.seconds / number
        means = losses.mean(1, dtype=np.float64)
        lines = []
        for i in np.flatnonzero(running):
            line = self._line(int(i)) | {
                "length": self.population.train.lengths[int(trained[i])],
                "loss": float(means[i]),
                "diverged": int(diverged[i]) if diverged[i] >= 0 else None,
                "updates_per_second": rate / number,
            }
            lines.append(line | self.scores[i] if judged else line)
        self.here.record.write(lines)
        healthy = means[np.isfinite(means)]
        self.loss = float(np.median(healthy)) if healthy.size else float("nan")
        self.here.progress.update(
            self.bar,
            completed=self.update,
            loss=f"{self.loss:.3g}",
            rate=f"{rate:.0f} updates/s, {rate * self.batch_size:.0f} sequences/s",
        )

    def _line(self, i: int) -> Line:
        """What a line says of a run and of how far it is."""
        run, sequences = self.runs[i], self.update * self.batch_size
        line = {"cell": self.cell, "run": self.names[i], "seed": run.seed}
        line |= {"numbers": {**run.settings, **run.numbers}, "update": self.update, "sequences": sequences}
        if self.epoch is not None:
            line["epochs"] = self.update / self.epoch
        return line

    def standing(self) -> float:
        """How the runs stand at their last validation, lower is better: the median, those that diverged last;
        without a validation their training loss."""
        if not any(score.get("validation") for score in self.scores):
            return self.loss
        task, (diverged,) = self.population.train.task, self._read("diverged")
        each = [
            standing(task, score["validation"][task.score]) if alive else np.inf
            for score, alive in zip(self.scores, diverged < 0, strict=True)
        ]
        middle = float(np.median(each))
        return middle if np.isfinite(middle) else float("nan")

    def save(self) -> None:
        """A checkpoint; its standing tells whether it is the best."""
        config = json.loads(json.dumps(plain(self.here.config)))
        about: Line = {"runs": self._runs(), "seconds": self.seconds, "config": config}
        about["solved_after"] = self.solved_after
        host, loss = self.population.host(self.state), self.standing()  # takes part in every process
        if self.here.active:
            self.here.record.flush()
            self.checkpoints.save(self.update, host, about, loss)

    def tested(self) -> list[Line]:
        """The last line of every run, with the test of its best weights, which are saved."""
        seconds = self.seconds
        tests, host = self.population.test(self.state), self.population.host(self.state)
        parameters = sum(leaf[0].size for leaf in jax.tree.leaves(host.params))
        known = self.here.record.of(self.cell, self.names)
        lines = []
        for i, name in enumerate(self.names):
            own = {line["update"]: line for line in known if line["run"] == name}
            last, best = own[max(own)], int(host.best.update[i])
            judged = own.get(best, {})
            solved = int(host.solved[i]) if host.solved[i] >= 0 else None
            diverged = int(host.diverged[i]) if host.diverged[i] >= 0 else None
            update = best if best >= 0 else last["update"]
            parts = ("validation", "training")
            line = {key: last[key] for key in last if key not in parts}
            line |= {part: judged[part] for part in parts if part in judged}
            line |= {"diverged": diverged, "parameters": parameters, "seconds": seconds / len(self.runs)}
            line |= {"best": update, "test": tests[i], "solved": solved is not None and diverged is None}
            line |= {"solved_at": solved, "seconds_to_solution": self.solved_after[i]}
            line["stopped"] = int(host.stopped[i]) if host.stopped[i] >= 0 else None
            lines.append(line)
            params = jax.tree.map(lambda leaf, i=i: leaf[i], host.best.params if best >= 0 else host.params)
            if self.here.active:
                weights.save(self.here.config.out, params, described(line))
        return lines

    def _warn(self, lines: Sequence[Line]) -> None:
        for line in lines:
            if line["diverged"] is not None:
                numbers = {"seed": line["seed"], **line["numbers"]}
                which = ", ".join(f"{name} {said(value)}" for name, value in numbers.items())
                words = f"not finite at update {line['diverged']}, frozen as it was before"
                self.here.console.print(f"[yellow]{line['cell']}, {which}: {words}.")


def batch_size(train: Train, training: Training) -> int:
    """Sequences of an update; of streams all."""
    whole = train.parts is not None and streaming(train.task)
    return count(train.parts.train) if whole and train.parts is not None else training.batch_size


def epoch(train: Train, batch_size: int) -> float | None:
    """Updates of an epoch, where the data are finite."""
    if train.parts is None:
        return None
    if streaming(train.task):
        return segments(train.parts.train, train.task.length)
    return count(train.parts.train) / batch_size


def described(line: Line) -> dict[str, Any]:
    """What is written beside the weights of a run."""
    kept = ("cell", "run", "seed", "numbers", "best", "validation", "test", "diverged", "solved")
    return {name: finite(line[name]) for name in kept if name in line}


def said(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
