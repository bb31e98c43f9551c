"""Training on the host: the record, the screen, and the wish to stop; what its courses share."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Sequence
from types import FrameType

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.harness.course import Course
from experiments.harness.course import StopRequested as StopRequested
from experiments.harness.options import Config, complaints, plain
from experiments.harness.population import Population, Run
from experiments.harness.record import Line, Record, finished
from rnncells.tasks.base import naive


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
        console.print(f"{name}: {task}, {naive(task)} baseline {task.baseline:.4g}, {where}")
        columns = [
            TextColumn("{task.description}"),
            BarColumn(None),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:<8} {task.fields[rate]}"),
            TimeRemainingColumn(),
        ]
        self.progress = Progress(*columns, console=console, disable=console.quiet)

    def __enter__(self) -> Session:
        numbers = (signal.SIGINT, signal.SIGTERM)
        alone = threading.current_thread() is threading.main_thread()  # only there may signals be handled
        self._handlers = {number: signal.signal(number, self._on_signal) for number in numbers if alone}
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

    def train(
        self, cell: str, runs: Sequence[Run], first: int = 0, config: Config | None = None
    ) -> list[Line]:
        """Trains runs of one cell side by side to their end, from their last checkpoint if there is one;
        they are numbered from `first`. Returns the last line of each.

        Args:
            config: of these runs, where it differs from that of the experiment in what decides shapes.
        """
        done = self._done(cell, range(first, first + len(runs)))
        if done is not None:
            return done
        config = self.config if config is None else config
        population = self.population(cell, runs, config)
        return Course(self, population, config.training, first).to_the_end()

    def ready(self, cell: str, runs: Sequence[Run], first: int = 0, config: Config | None = None) -> None:
        """Compiles what `train` will need, so that what is wrong with it is known before anything is trained.
        The arguments are those of `train`."""
        config = config or self.config
        before = self.populations.get(program(cell, config))
        if self._done(cell, range(first, first + len(runs))) is not None:
            return
        if before is None or len(runs) > len(before.padded):
            self.population(cell, runs, config)

    def _done(self, cell: str, names: range) -> list[Line] | None:
        """The last lines of runs that have come to their end before."""
        updates, own = self.config.training.updates, finished(self.record.of(cell, names))
        done = [line for line in own if line["update"] == updates or line.get("stopped") is not None]
        return done if len(done) == len(names) else None

    def population(self, cell: str, runs: Sequence[Run], config: Config) -> Population:
        """The program of the last population of this cell and config serves the next one, if that is not
        larger."""
        name = program(cell, config)
        before = self.populations.get(name)
        with complaints():
            if before is not None and len(runs) <= len(before.padded):
                return before if before.runs == list(runs) else before.again(runs)
            self.populations[name] = Population(config, cell, runs).compile()
        return self.populations[name]


def program(cell: str, config: Config) -> str:
    """What runs of one program have in common."""
    return json.dumps([cell, plain(config)])
