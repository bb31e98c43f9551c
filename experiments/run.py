"""The host's side of training: advance, record, save, report; stop and go on without losing anything."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments import results, scale
from experiments.checkpoint import CheckpointError, Checkpoints
from experiments.config import Config, plain
from experiments.population import Population, Run
from experiments.record import Line, Record, write_whole
from experiments.train import make_train

FREE = {"resume", "out", "placement", "checkpoint_every", "keep", "memory", "updates"}
"""What a resumed experiment may change. The number of updates may only grow, at a constant learning rate."""


class StopRequested(Exception):  # noqa: N818
    """A signal asked for the end; everything is saved."""


def main(name: str, config: Config) -> None:
    """Trains every cell of an experiment with every seed, and leaves in `config.out`: config.json,
    metrics.jsonl, tensorboard/, checkpoints/, curves.png and table.md."""
    with session(name, config) as here:
        for cell in config.cells:
            here.train(cell, [Run({}, seed) for seed in range(config.training.seeds)])
        if here.active:
            task, lines = config.task(), here.record.lines
            title = f"{name}: {task}, {config.training.updates} updates of {config.training.batch_size}"
            results.curves(title, task, lines, config.out / "curves.png")
            rows = results.summarise(task, lines)
            (config.out / "table.md").write_text(results.markdown(rows))
            results.show(here.console, title, rows)
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
    scale.start(config.placement, command(alone=True))
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
        scale.finish()
    except StopRequested as stopped:
        console.print(f"{stopped} Go on with:\n{command()}", soft_wrap=True, highlight=False)
        scale.finish()
        scale.leave(130)
    except KeyboardInterrupt:
        console.print(f"Stopped at once. Go on from the last checkpoint with:\n{command()}", soft_wrap=True)
        scale.leave(130)
    except (CheckpointError, ConfigError) as error:
        console.print(str(error), soft_wrap=True, highlight=False)
        if isinstance(error, ConfigError):  # in all processes alike
            scale.finish()
        scale.leave(1)
    except OSError as error:
        if error.errno is None:
            raise
        where = f" {error.filename}" if error.filename else ""
        console.print(f"Cannot write{where}: {error.strerror}. Go on with:\n{command()}", soft_wrap=True)
        scale.leave(1)
    except Exception as error:
        if not scale.lost_a_process(error):
            raise
        print(f"{scale.loss(error)} Go on with:\n{command(alone=True)}", flush=True)
        scale.leave(1)


def command(*, alone: bool = False) -> str:
    """What starts this script again, and goes on; `alone` without the other processes."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    script = ["-m", spec.name] if spec is not None else sys.argv[:1]
    rest = [word for word in sys.argv[1:] if word not in ("--resume", "--no-resume")]
    return shlex.join(["python", *script, *(scale.alone(rest) if alone else rest), "--resume"])


class ConfigError(Exception):
    """One sentence for the user."""


@contextlib.contextmanager
def complaints() -> Iterator[None]:
    """What is wrong with the numbers of an experiment becomes a ConfigError."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error


def prepare(config: Config, console: Console, whole: Any) -> None:
    """The folder: a new one, or the one to go on in. What another experiment left is moved aside."""
    path = config.out / "config.json"
    now = json.loads(json.dumps(plain(whole)))
    before = [file.read_text() if file.exists() else None for file in (path, config.out / "metrics.jsonl")]
    if others := scale.different(json.dumps([common(now), before])):
        raise ConfigError(
            f"Process {others[0]} was started with other options than process 0, or sees other files in"
            f" {config.out}; all processes need the same."
        )
    if config.resume and before[0] is not None:
        changed = differences(json.loads(before[0]), now)
        if changed:
            raise ConfigError(f"resume: expected the config of {path}, but {'; '.join(changed)}.")
    if jax.process_index() > 0:
        return
    if not config.resume and (config.out / "metrics.jsonl").exists():
        count = 1
        while (aside := config.out.with_name(f"{config.out.name}-{count}")).exists():
            count += 1
        config.out.rename(aside)
        console.print(f"{config.out} was there; it is {aside} now. (--resume would have gone on in it.)")
    config.out.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(now, indent=2) + "\n")


def common(config: Any) -> Any:
    """What must be the same in every process."""
    if not isinstance(config, dict):
        return config
    return {name: common(value) for name, value in config.items() if name not in ("process", "devices")}


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two configs and must not, as words."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in {**before, **now} if key not in FREE]
        found = [differences(before.get(key), now.get(key), f"{name}.{key}".strip(".")) for key in keys]
        if (then := before.get("updates")) is not None and then != now["updates"]:
            fixed = then > now["updates"]
            found.append([f"updates was {then} and is {now['updates']}, and may only grow"] if fixed else [])
        if "training" in now and before["optimizer"]["schedule"] != "constant":
            then, new = before["training"]["updates"], now["training"]["updates"]
            words = f"updates was {then} and is {new}, and the learning rate depends on it"
            found.append([words] if then < new else [])
        return [words for each in found for words in each]
    return [] if before == now else [f"{name} was {before} and is {now}"]


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
        names = range(first, first + len(runs))
        own = [line for line in self.record.lines if line["cell"] == cell and line["run"] in names]
        done = [line for line in results.finished(own) if line["update"] == self.config.training.updates]
        if len(done) == len(runs):
            return done
        config, population = self.config.training, self._population(cell, runs)
        label = cell if not first and len(runs) == config.seeds else f"{cell} {first}-{names[-1]}"
        checkpoints = Checkpoints(self.config.out / "checkpoints" / f"{cell}-{first}", config.keep)
        update, before, state = self._start(population, checkpoints, cell, names)
        bar = self.progress.add_task(label, total=config.updates, completed=update, loss="", rate="")
        start = time.perf_counter() - before
        stage = population.host(state.stage)
        while update < config.updates:
            block_start = time.perf_counter()
            state, losses = population.advance(state)
            update += config.report_every
            rate = config.report_every * len(runs) / (time.perf_counter() - block_start)
            trained, (stage, diverged) = stage, population.host((state.stage, state.diverged))
            mean = losses.mean(1, dtype=np.float64)
            self.record.write(
                {
                    "cell": cell,
                    "run": first + i,
                    "seed": run.seed,
                    "numbers": run.numbers,
                    "update": update,
                    "sequences": update * config.batch_size,
                    "length": population.train.lengths[int(trained[i])],
                    "loss": float(mean[i]),
                    "diverged": int(diverged[i]) if diverged[i] >= 0 else None,
                    "updates_per_second": rate / len(runs),
                }
                for i, run in enumerate(runs)
            )
            healthy = mean[np.isfinite(mean)]
            middle = float(np.median(healthy)) if healthy.size else float("nan")
            self.progress.update(
                bar,
                completed=update,
                loss=f"{middle:.3g}",
                rate=f"{rate:.0f} updates/s, {rate * config.batch_size:.0f} sequences/s",
            )
            stop = scale.any_process(self.stop)
            if stop or update % config.checkpoint_every == 0 or update == config.updates:
                best = float(healthy.min()) if healthy.size else float("nan")
                about = self._about(population, time.perf_counter() - start)
                host = population.host(state)  # takes part in every process
                if self.active:
                    self.record.flush()
                    checkpoints.save(update, host, about, best)
            if stop and update < config.updates:
                raise StopRequested(
                    f"Stopped at update {update} of {config.updates} of {label}; all is saved."
                )
        seconds = time.perf_counter() - start
        last = self._last(population, cell, names, state, seconds)
        self.record.write(last)
        self.record.flush()
        self._warn(last)
        return last

    def _population(self, cell: str, runs: Sequence[Run]) -> Population:
        """The program of the last population of this cell serves the next one, if that is not larger."""
        before = self.populations.get(cell)
        with complaints():
            if before is not None and len(runs) <= len(before.padded):
                return before.again(runs)
            self.populations[cell] = Population(self.config, cell, runs)
        return self.populations[cell]

    def _start(
        self, population: Population, checkpoints: Checkpoints, cell: str, names: range
    ) -> tuple[int, float, Any]:
        """Updates done, seconds spent, and the state to go on from."""
        found = checkpoints.restore(population.like()) if self.config.resume else None
        if others := scale.different(str(found and found[0])):
            raise ConfigError(f"resume: process {others[0]} sees other checkpoints in {checkpoints.folder}.")
        update, seconds, state = 0, 0.0, None
        if found is not None:
            update, host, about, refused = found
            for each in refused:
                words = f"Refused {each.path}: {each.why}. Going on from update {update}."
                self.console.print(words, soft_wrap=True)
            expected = [[run.numbers, run.seed] for run in population.runs]
            if about["runs"] != expected:
                raise ConfigError(f"resume: expected the runs of {checkpoints.folder}, got others.")
            seconds, state = about["seconds"], population.device(host)
        own = [line for line in self.record.lines if line["cell"] == cell and line["run"] in names]
        beyond = {id(line) for line in own if line["update"] > update or "test" in line}
        self.record.rewind(lambda line: id(line) not in beyond)
        return update, seconds, population.init() if state is None else state

    def _about(self, population: Population, seconds: float) -> Line:
        """What is written beside a state."""
        runs = [[run.numbers, run.seed] for run in population.runs]
        return {"runs": runs, "seconds": seconds, "config": json.loads(json.dumps(plain(self.config)))}

    def _last(
        self, population: Population, cell: str, names: range, state: Any, seconds: float
    ) -> list[Line]:
        """The final test."""
        tests, task = population.test(state), population.train.task
        host = population.host(state)
        parameters = sum(leaf[0].size for leaf in jax.tree.leaves(host.params))
        known = {line["run"]: line for line in self.record.lines if line["cell"] == cell}
        return [
            {
                **known[name],
                "diverged": int(host.diverged[i]) if host.diverged[i] >= 0 else None,
                "parameters": parameters,
                "seconds": seconds / len(population.runs),
                "test": tests[i],
                "solved": bool(task.solved(tests[i])),
            }
            for i, name in enumerate(names)
        ]

    def _warn(self, last: Sequence[Line]) -> None:
        for line in last:
            if line["diverged"] is not None:
                numbers = {"seed": line["seed"], **line["numbers"]}
                which = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
                words = f"not finite at update {line['diverged']}, frozen as it was before"
                self.console.print(f"[yellow]{line['cell']}, {which}: {words}.")


def use_every_core() -> None:
    """One CPU device per core that this process may use; call before anything computes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jax.config.update("jax_num_cpu_devices", cores or 1)
