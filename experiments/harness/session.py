"""Training on the host: advance, record, save, report; stop and go on without losing anything."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from types import FrameType

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.harness import processes
from experiments.harness.checkpoint import Checkpoints
from experiments.harness.options import Config, ConfigError, complaints, plain
from experiments.harness.population import Population, Run
from experiments.harness.record import Line, Record, finished
from experiments.harness.train import State


class StopRequested(Exception):  # noqa: N818
    """A signal asked for the end; everything is saved."""


class Session:
    """One experiment while it runs: its record, its progress on the screen, and the wish to stop."""

    def __init__(self, name: str, config: Config, console: Console) -> None:
        self.name, self.config, self.console = name, config, console
        self.active = jax.process_index() == 0
        self.record = Record(config.out, keep=config.resume, active=self.active)
        self.stop = False
        self.populations: dict[str, Population] = {}
        task = config.task()
        where = f"{jax.device_count()} devices"
        if jax.process_count() > 1:
            where += f" of {jax.process_count()} processes"
        console.print(f"{name}: {task}, memoryless baseline {task.baseline:.4g}, {where}")
        columns = [
            TextColumn("{task.description}"),
            BarColumn(None),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:<8} {task.fields[rate]}"),
            TimeRemainingColumn(),
        ]
        self.progress = Progress(*columns, console=console, disable=console.quiet)

    def __enter__(self) -> Session:
        self._handlers = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        self.record.close()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first time: stop after this block. The second time: now."""
        if self.stop:
            raise KeyboardInterrupt
        self.stop = True
        self.console.print("Stopping after this block of updates ...")

    def train(self, cell: str, runs: Sequence[Run], first: int = 0) -> list[Line]:
        """Trains runs of one cell side by side to their end, from their last checkpoint if there is one;
        they are numbered from `first`. Returns the last line of each."""
        own = self.record.of(cell, range(first, first + len(runs)))
        done = [line for line in finished(own) if line["update"] == self.config.training.updates]
        return done if len(done) == len(runs) else Course(self, cell, runs, first).to_the_end()

    def population(self, cell: str, runs: Sequence[Run]) -> Population:
        """The program of the last population of this cell serves the next one, if that is not larger."""
        before = self.populations.get(cell)
        with complaints():
            if before is not None and len(runs) <= len(before.padded):
                return before.again(runs)
            self.populations[cell] = Population(self.config, cell, runs)
        return self.populations[cell]


class Course:
    """Runs of one cell on their way, side by side, from their last checkpoint if there is one."""

    def __init__(self, here: Session, cell: str, runs: Sequence[Run], first: int) -> None:
        self.here, self.cell, self.runs, self.training = here, cell, runs, here.config.training
        self.names = range(first, first + len(runs))
        everything = not first and len(runs) == self.training.seeds
        self.label = cell if everything else f"{cell} {first}-{self.names[-1]}"
        self.population = here.population(cell, runs)
        self.checkpoints = Checkpoints(
            here.config.out / "checkpoints" / f"{cell}-{first}", self.training.keep
        )
        self.update, before, self.state = self._beginning()
        self.stage = self.population.host(self.state.stage)
        self.bar = here.progress.add_task(
            self.label, total=self.training.updates, completed=self.update, loss="", rate=""
        )
        self.start = time.perf_counter() - before

    @property
    def seconds(self) -> float:
        """Spent so far, before a restart included."""
        return time.perf_counter() - self.start

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

        def past(line: Line) -> bool:
            own = line["cell"] == self.cell and line["run"] in self.names
            return own and (line["update"] > update or "test" in line)

        here.record.rewind(lambda line: not past(line))
        return update, seconds, population.init() if state is None else state

    def _runs(self) -> list[list[object]]:
        """The runs as JSON holds them."""
        return [[run.numbers, run.seed] for run in self.runs]

    def to_the_end(self) -> list[Line]:
        """The last line of every run, or StopRequested."""
        while self.update < self.training.updates:
            best = self.advance()
            stop = processes.any_process(self.here.stop)
            last = self.update == self.training.updates
            if stop or last or self.update % self.training.checkpoint_every == 0:
                self.save(best)
            if stop and not last:
                raise StopRequested(
                    f"Stopped at update {self.update} of {self.training.updates} of {self.label};"
                    " all is saved."
                )
        lines = self.tested()
        self.here.record.write(lines)
        self.here.record.flush()
        self._warn(lines)
        return lines

    def advance(self) -> float:
        """A block of updates of every run, recorded and shown; the lowest loss, NaN where none is finite."""
        size, count = self.training.report_every, len(self.runs)
        start = time.perf_counter()
        self.state, losses = self.population.advance(self.state)
        rate = size * count / (time.perf_counter() - start)
        self.update += size
        trained = self.stage
        self.stage, diverged = self.population.host((self.state.stage, self.state.diverged))
        means = losses.mean(1, dtype=np.float64)
        self.here.record.write(
            {
                "cell": self.cell,
                "run": self.names[i],
                "seed": run.seed,
                "numbers": run.numbers,
                "update": self.update,
                "sequences": self.update * self.training.batch_size,
                "length": self.population.train.lengths[int(trained[i])],
                "loss": float(means[i]),
                "diverged": int(diverged[i]) if diverged[i] >= 0 else None,
                "updates_per_second": rate / count,
            }
            for i, run in enumerate(self.runs)
        )
        healthy = means[np.isfinite(means)]
        middle = float(np.median(healthy)) if healthy.size else float("nan")
        self.here.progress.update(
            self.bar,
            completed=self.update,
            loss=f"{middle:.3g}",
            rate=f"{rate:.0f} updates/s, {rate * self.training.batch_size:.0f} sequences/s",
        )
        return float(healthy.min()) if healthy.size else float("nan")

    def save(self, loss: float) -> None:
        """A checkpoint, of which `loss` tells whether it is the best."""
        config = json.loads(json.dumps(plain(self.here.config)))
        about: Line = {"runs": self._runs(), "seconds": self.seconds, "config": config}
        host = self.population.host(self.state)  # takes part in every process
        if self.here.active:
            self.here.record.flush()
            self.checkpoints.save(self.update, host, about, loss)

    def tested(self) -> list[Line]:
        """The last line of every run, with the final test."""
        seconds = self.seconds
        tests, task = self.population.test(self.state), self.population.train.task
        host = self.population.host(self.state)
        parameters = sum(leaf[0].size for leaf in jax.tree.leaves(host.params))
        known = {line["run"]: line for line in self.here.record.of(self.cell, self.names)}
        return [
            {
                **known[name],
                "diverged": int(host.diverged[i]) if host.diverged[i] >= 0 else None,
                "parameters": parameters,
                "seconds": seconds / len(self.runs),
                "test": tests[i],
                "solved": bool(task.solved(tests[i])),
            }
            for i, name in enumerate(self.names)
        ]

    def _warn(self, lines: Sequence[Line]) -> None:
        for line in lines:
            if line["diverged"] is not None:
                numbers = {"seed": line["seed"], **line["numbers"]}
                which = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
                words = f"not finite at update {line['diverged']}, frozen as it was before"
                self.here.console.print(f"[yellow]{line['cell']}, {which}: {words}.")
