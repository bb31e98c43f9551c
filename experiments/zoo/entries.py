"""One cell on one task as an experiment, which leaves a folder as every experiment does."""

from __future__ import annotations

import dataclasses
import functools
import json

from experiments.harness import options, run
from experiments.harness.folder import differences
from experiments.harness.model import ModelFactory
from experiments.harness.options import ConfigError, plain
from experiments.harness.record import Line, finished, parsed
from experiments.zoo.blocks import Blocks
from experiments.zoo.options import Config
from experiments.zoo.published import PUBLISHED, Published, cell_of
from rnncells.tasks import TASKS, Task
from rnncells.tasks.base import tokens


@dataclasses.dataclass(frozen=True)
class Entry(options.Config):
    """One cell on one task."""

    on: str = "adding"
    """The task, a name of rnncells.tasks.TASKS."""
    length: int | None = None
    """Of its sequences; by default what the task has."""
    blocks: bool = False
    """Every layer is a block of a state-space model."""

    def task(self) -> Task:
        task = TASKS[self.on]()
        return task if self.length is None else dataclasses.replace(task, length=self.length)  # type: ignore[type-var]

    def model(self, task: Task) -> ModelFactory:
        if not self.blocks:
            return super().model(task)
        return functools.partial(Blocks, tokens=tokens(task))


def entry(config: Config, name: str, on: str) -> Entry:
    """An entry of the zoo on a task: the common settings, and its own."""
    own = PUBLISHED.get(name, Published())
    plainly = Entry(
        cells=(cell_of(name),),
        features=max(1, round(own.wider * config.features)),
        layers=own.layers,
        optimizer=dataclasses.replace(config.optimizer, **own.optimizer),  # type: ignore[type-var]
        training=dataclasses.replace(config.training, updates=own.longer * config.training.updates),
        out=config.out / on / name,
        resume=config.resume,
        on=on,
        length=config.length,
        blocks=own.blocks,
    )
    length = float(plainly.task().length)
    return dataclasses.replace(
        plainly,
        chrono=length if own.chrono else None,
        fields={**own.fields, own.window: length} if own.window else own.fields,
    )


def trained(name: str, config: Entry) -> list[Line]:
    """All lines of all runs of an entry: read, where it is to be resumed and has come to its end, else of a
    training.

    Raises:
        ConfigError: for a folder that other settings have left.
    """
    before = config.out / "config.json"
    if config.resume and before.exists():
        changed = differences(json.loads(before.read_text()), json.loads(json.dumps(plain(config))))
        if changed:
            raise ConfigError(f"resume: expected the settings of {before}, but {'; '.join(changed)}.")
        lines = written(config)
        if len(ended(config, lines)) == config.training.seeds:
            return lines
    with run.session(f"{name} on {config.on}", config) as here:
        run.trained(here)
    return written(config)


def written(config: Entry) -> list[Line]:
    """What metrics.jsonl of its folder holds."""
    path = config.out / "metrics.jsonl"
    texts = path.read_text().splitlines() if path.exists() else []
    return [line for text in texts if (line := parsed(text)) is not None]


def ended(config: Entry, lines: list[Line]) -> list[Line]:
    """The last lines of runs that have used up their budget or ended early."""
    whole = config.training.updates
    return [line for line in finished(lines) if line["update"] == whole or line["stopped"] is not None]
