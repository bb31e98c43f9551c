"""Training on the host: the record, the screen, and the wish to stop; what its courses share."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Sequence

import jax
from rich.console import Console

from experiments.harness import processes
from experiments.harness.checkpoint import Checkpoints
from experiments.harness.course import Course
from experiments.harness.course import StopRequested as StopRequested
from experiments.harness.folder import Folder
from experiments.harness.interrupts import Interrupts
from experiments.harness.options import Config, complaints, plain
from experiments.harness.population import Population, Run
from experiments.harness.progress import progress
from experiments.harness.record import Line, Record, finished, lines_of
from rnncells.tasks.base import naive


class Session:
    """One experiment while it runs: its record, its progress on the screen, and the wish to stop.

    Args:
        name, config: of the experiment.
        console: the screen.
        folder: begun as soon as something is trained or read; by default `config.out` as it is.
        interrupts: what hears the wish to stop.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        console: Console,
        folder: Folder | None = None,
        interrupts: Interrupts | None = None,
    ) -> None:
        self.name, self.config, self.console, self.folder = name, config, console, folder
        self.interrupts = interrupts or Interrupts(console)
        self.active = jax.process_index() == 0
        self.populations: dict[str, Population] = {}
        self._record: Record | None = None
        task = config.task()
        where = f"{jax.device_count()} devices"
        if jax.process_count() > 1:
            where += f" of {jax.process_count()} processes"
        console.print(f"{name}: {task}, {naive(task)} baseline {task.baseline:.4g}, {where}")
        self.progress = progress(console)

    def __enter__(self) -> Session:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        if self._record is not None:
            self._record.close()

    @property
    def stop(self) -> bool:
        """Whether a signal has asked for the end."""
        return self.interrupts.stop

    @stop.setter
    def stop(self, wish: bool) -> None:
        self.interrupts.stop = wish

    def begin(self) -> Record:
        """The folder with its record: from here on it is that of this experiment."""
        if self._record is None:
            if self.folder is not None:
                self.folder.begin()
            record = Record(self.config.out, keep=self.config.resume, active=self.active)
            for words, _ in record.damage:
                self.console.print(words, soft_wrap=True, highlight=False)
            self._record = record
        return self._record

    @property
    def record(self) -> Record:
        return self.begin()

    def train(
        self, cell: str, runs: Sequence[Run], first: int = 0, config: Config | None = None
    ) -> list[Line]:
        """Trains runs of one cell side by side to their end, from their last checkpoint if there is one;
        they are numbered from `first`. Returns the last line of each.

        Args:
            config: of these runs, where it differs from that of the experiment in what decides shapes.
        """
        return [
            line
            for part, start in self._parts(cell, runs, first)
            for line in self._course(cell, part, start, config or self.config)
        ]

    def _course(self, cell: str, runs: Sequence[Run], first: int, config: Config) -> list[Line]:
        done = self._done(cell, range(first, first + len(runs)))
        if done is not None:
            return done
        population = self.population(cell, runs, config)
        return Course(self, population, config.training, first).to_the_end()

    def _parts(self, cell: str, runs: Sequence[Run], first: int) -> Iterator[tuple[Sequence[Run], int]]:
        """What is trained side by side, and the number of its first run: all, but for runs that were added to
        others, which have come to their end."""
        end = first + len(runs)
        places = [first, *sorted(cut for cut in self._cuts.get(cell, ()) if first < cut < end), end]
        for start, after in itertools.pairwise(places):
            yield runs[start - first : after - first], start

    @functools.cached_property
    def _cuts(self) -> dict[str, set[int]]:
        """Of every cell, where the runs of a checkpoint that is there begin and end."""
        cuts: dict[str, set[int]] = {}
        for path in (self.config.out / "checkpoints").glob("*") if self.config.resume else ():
            cell, _, start = path.name.rpartition("-")
            about = Checkpoints(path).about() if start.isdecimal() else None
            if about is not None:
                cuts.setdefault(cell, set()).update((int(start), int(start) + len(about["runs"])))
        return cuts

    def ready(self, cell: str, runs: Sequence[Run], first: int = 0, config: Config | None = None) -> None:
        """Compiles what `train` will need, so that what is wrong with it is known before anything is trained.
        The arguments are those of `train`."""
        config = config or self.config
        for part, start in self._parts(cell, runs, first):
            if processes.any_process(self.stop):
                raise StopRequested("Stopped while compiling; nothing is lost.")
            before = self.populations.get(program(cell, config))
            if self._done(cell, range(start, start + len(part))) is not None:
                continue
            if before is None or len(part) > len(before.padded):
                self.population(cell, part, config)

    def _done(self, cell: str, names: range) -> list[Line] | None:
        """The last lines of runs that have come to their end before."""
        ended = self._ended(cell, names)
        return list(ended.values()) if len(ended) == len(names) else None

    def _ended(self, cell: str, names: range) -> dict[int, Line]:
        """Those of them that have, by number."""
        lines = self._before if self._record is None else self._record.lines
        own = [line for line in finished(lines) if line["cell"] == cell and line["run"] in names]
        last = self.config.training.updates
        return {
            line["run"]: line for line in own if line["update"] == last or line.get("stopped") is not None
        }

    @functools.cached_property
    def _before(self) -> list[Line]:
        """What the record will hold when it is begun."""
        return lines_of(self.config.out / "metrics.jsonl")[0] if self.config.resume else []

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
