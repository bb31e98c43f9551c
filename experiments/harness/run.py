"""An experiment from beginning to end, on the host: what ends it early becomes a sentence, and the command
that goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from rich.console import Console

from experiments.harness import memory, plots, processes, tables
from experiments.harness.checkpoint import CheckpointError
from experiments.harness.folder import Folder
from experiments.harness.interrupts import Interrupts
from experiments.harness.options import Config, ConfigError, complaints, plain
from experiments.harness.population import Run, check_placement
from experiments.harness.progress import screen
from experiments.harness.record import Line, write_whole
from experiments.harness.session import Session, StopRequested
from experiments.harness.settings import placed
from experiments.harness.train import make_train
from rnncells.tasks import Task


def main(name: str, config: Config) -> list[Line]:
    """Trains every cell of an experiment with every seed, and leaves in `config.out`: config.json,
    model.json, metrics.jsonl, tensorboard/, checkpoints/, weights/, curves.png and table.md.

    Returns the last line of every run; in processes other than the first none.
    """
    with session(name, config) as here:
        lines = trained(here)
        if not here.active:
            return []
        task = config.task()
        title = f"{name}: {task}, {config.training.updates} updates of {config.training.batch_size}"
        report(title, task, here.record.lines, config.out, here.console)
        here.console.print(f"Everything is in {config.out}: curves.png, table.md, metrics.jsonl, weights/.")
    return lines


def report(title: str, task: Task, lines: Sequence[Line], out: pathlib.Path, console: Console) -> None:
    """curves.png and table.md from the lines of an experiment; the table on the screen, too."""
    plots.curves(title, task, lines, out / "curves.png")
    rows = tables.summarise(task, lines)
    write_whole(out / "table.md", tables.markdown(rows))
    tables.show(console, title, rows)


def trained(here: Session) -> list[Line]:
    """Every cell of an experiment with every seed: the last line of every run."""
    training = here.config.training
    runs = [Run({}, seed) for seed in training.all_seeds]
    for cell in here.config.cells:
        here.ready(cell, runs)
    return [line for cell in here.config.cells for line in here.train(cell, runs)]


@contextlib.contextmanager
def opened(
    name: str,
    config: Config,
    console: Console,
    whole: Any = None,
    points: Sequence[Mapping[str, Any]] = ({},),
    last_words: str | None = None,
) -> Iterator[Session]:
    """The folder and the screen of one experiment, when all that can be checked without training is right.

    Args:
        name: of the experiment, on the screen.
        config: of the experiment.
        console: the screen.
        whole: what config.json shall hold, where the experiment is a part of it.
        points: settings and numbers that its runs will have.
        last_words: as of `Interrupts`.
    """
    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts(console, last_words))
        check(config, points)
        folder = stack.enter_context(Folder(config, console, whole))
        yield stack.enter_context(Session(name, config, console, folder, interrupts))


def check(config: Config, points: Sequence[Mapping[str, Any]]) -> None:
    """All that can be known to be wrong without compiling, as a ConfigError."""
    seen = set()
    with complaints():
        for point in points:
            own, numbers = placed(config, point)
            check_placement(own)
            for cell in [point["cell"]] if "cell" in point else own.cells:
                hyper = own.numbers(cell).replaced(numbers)
                hyper.check()
                program = json.dumps([cell, plain(dataclasses.replace(own, cells=(cell,)))])
                if program not in seen:
                    train = make_train(own, cell)
                    state = jax.eval_shape(train.init, jax.random.key(0), hyper)
                    jax.eval_shape(train.advance, state, hyper)
                    seen.add(program)


@contextlib.contextmanager
def session(
    name: str, config: Config, whole: Any = None, points: Sequence[Mapping[str, Any]] = ({},)
) -> Iterator[Session]:
    """The devices, the folder and the screen of one experiment, as `opened` has them. What ends it early
    becomes a sentence."""
    processes.start(config.placement, command(alone=True))
    console = screen(quiet=jax.process_index() > 0)
    at_once = f"Stopped at once. Go on from the last checkpoint with:\n{command()}"
    try:
        with opened(name, config, console, whole, points, at_once) as here:
            yield here
        processes.finish()
    except StopRequested as stopped:
        console.print(f"{stopped} Go on with:\n{command()}", soft_wrap=True, highlight=False)
        processes.finish()
        processes.leave(130)
    except KeyboardInterrupt:
        console.print(at_once, soft_wrap=True, highlight=False)
        processes.leave(130, at_once=True)
    except (CheckpointError, ConfigError) as error:
        console.print(str(error), soft_wrap=True, highlight=False)
        if isinstance(error, ConfigError):  # in all processes alike
            processes.finish()
        processes.leave(1)
    except OSError as error:
        if error.errno is None:
            raise
        where = f" {error.filename}" if error.filename else ""
        console.print(f"Cannot write{where}: {error.strerror}. Go on with:\n{command()}", soft_wrap=True)
        processes.leave(1)
    except Exception as error:
        lost = processes.said_of_loss(error) or memory.said(error)
        if lost is None:
            raise
        print(f"{lost} Go on with:\n{command(alone=True)}", flush=True)
        processes.leave(1)


def command(*, alone: bool = False) -> str:
    """What starts this script again, and goes on; `alone` without the other processes."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    script = ["-m", spec.name.removesuffix(".__main__")] if spec is not None else sys.argv[:1]
    rest = [word for word in sys.argv[1:] if word not in ("--resume", "--no-resume")]
    return shlex.join(["python", *script, *(processes.alone(rest) if alone else rest), "--resume"])
