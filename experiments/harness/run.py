"""An experiment from beginning to end, on the host: what ends it early becomes a sentence, and the command
that goes on."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from rich.console import Console

from experiments.harness import plots, processes, tables
from experiments.harness.checkpoint import CheckpointError
from experiments.harness.folder import prepare
from experiments.harness.options import Config, ConfigError, complaints
from experiments.harness.population import Run
from experiments.harness.session import Session, StopRequested
from experiments.harness.train import make_train


def main(name: str, config: Config) -> None:
    """Trains every cell of an experiment with every seed, and leaves in `config.out`: config.json,
    metrics.jsonl, tensorboard/, checkpoints/, curves.png and table.md."""
    with session(name, config) as here:
        for cell in config.cells:
            here.train(cell, [Run({}, seed) for seed in range(config.training.seeds)])
        if here.active:
            task, lines = config.task(), here.record.lines
            title = f"{name}: {task}, {config.training.updates} updates of {config.training.batch_size}"
            plots.curves(title, task, lines, config.out / "curves.png")
            rows = tables.summarise(task, lines)
            (config.out / "table.md").write_text(tables.markdown(rows))
            tables.show(here.console, title, rows)
            here.console.print(f"Everything is in {config.out}: curves.png, table.md, metrics.jsonl.")


@contextlib.contextmanager
def session(
    name: str, config: Config, whole: Any = None, points: Sequence[Mapping[str, float]] = ({},)
) -> Iterator[Session]:
    """The devices, the folder and the screen of one experiment. What ends it early becomes a sentence.

    Args:
        name: of the experiment, on the screen.
        config: of the experiment.
        whole: what config.json shall hold, where the experiment is a part of it.
        points: numbers that will be set in its runs; checked before anything is touched.
    """
    processes.start(config.placement, command(alone=True))
    console = Console(quiet=jax.process_index() > 0)
    try:
        with complaints():
            for cell in config.cells:
                numbers = config.numbers(cell)
                for point in points:
                    numbers.replaced(point).check()
                jax.eval_shape(make_train(config, cell).init, jax.random.key(0), numbers)
        prepare(config, console, config if whole is None else whole)
        with Session(name, config, console) as here:
            yield here
        processes.finish()
    except StopRequested as stopped:
        console.print(f"{stopped} Go on with:\n{command()}", soft_wrap=True, highlight=False)
        processes.finish()
        processes.leave(130)
    except KeyboardInterrupt:
        console.print(f"Stopped at once. Go on from the last checkpoint with:\n{command()}", soft_wrap=True)
        processes.leave(130)
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
        lost = processes.said_of_loss(error)
        if lost is None:
            raise
        print(f"{lost} Go on with:\n{command(alone=True)}", flush=True)
        processes.leave(1)


def command(*, alone: bool = False) -> str:
    """What starts this script again, and goes on; `alone` without the other processes."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    script = ["-m", spec.name] if spec is not None else sys.argv[:1]
    rest = [word for word in sys.argv[1:] if word not in ("--resume", "--no-resume")]
    return shlex.join(["python", *script, *(processes.alone(rest) if alone else rest), "--resume"])
