"""Training: one layer of any cell on any task, from one key to a table and a picture.

`make_train` returns pure functions. A whole block of optimisation steps, batches drawn on device
included, is one jitted scan; the host only reports, writes and draws. Runs are spread over the
devices, one at a time on each (on CPU: one device per core).
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import rnncells
from rnncells.tasks import Batch, Task

matplotlib.use("Agg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    CellName = str
else:
    CellName = Literal[tuple(rnncells.CELLS)]


@dataclasses.dataclass(frozen=True)
class Training:
    """How every run is trained."""

    updates: int = 2000
    """Optimisation steps of a run."""
    batch_size: int = 64
    """Sequences drawn afresh for every step."""
    learning_rate: float = 3e-3
    """Of Adam, constant."""
    clip_norm: float = 1.0
    """Gradients longer than this are scaled down to it."""
    report_every: int = 50
    """Steps in one compiled block; after each, a line of metrics and the progress bar move on."""
    test_sequences: int = 2048
    """Fresh sequences of the final test, the same for every run."""
    seeds: int = 3
    """Runs of each cell, with seeds 0, 1, ..."""

    def __post_init__(self) -> None:
        for name in ("updates", "batch_size", "report_every", "test_sequences", "seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}.")
        if self.updates % self.report_every:
            raise ValueError(
                f"report_every: expected a divisor of updates ({self.updates}), got {self.report_every}."
            )


def make_cell(name: str, features: int, **optional: Any) -> rnncells.Cell:
    """A cell of the catalogue; optional fields are set where the cell has them."""
    kind = rnncells.CELLS[name]
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(features, **{field: value for field, value in optional.items() if field in known})  # type: ignore[call-arg]


class Hyperparameters(NamedTuple):
    """The numbers of a run that may be traced."""

    learning_rate: chex.Numeric
    clip_norm: chex.Numeric


class State(NamedTuple):
    """Everything that a run carries from one update to the next."""

    params: chex.ArrayTree
    optimizer: optax.OptState
    key: chex.PRNGKey


class Train(NamedTuple):
    """A run as pure functions of keys and hyperparameters."""

    init: Callable[[chex.PRNGKey, Hyperparameters], State]
    advance: Callable[[State, Hyperparameters], tuple[State, jax.Array]]
    """`report_every` updates: the new state, and the loss of each update."""
    test: Callable[[chex.ArrayTree, chex.PRNGKey], dict[str, jax.Array]]


class Model(nn.Module):
    """One recurrent layer and a linear readout at every tick: [T, B, I] -> [T, B, O]."""

    cell: rnncells.Cell
    output_size: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> Any:
        return nn.Dense(self.output_size)(rnncells.linen.RNN(self.cell, time_major=True)(inputs))


def make_train(task: Task, cell: rnncells.Cell, config: Training) -> Train:
    """The run of one cell on one task."""
    model = Model(cell, task.output_size)

    def optimizer(hyper: Hyperparameters) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(hyper.clip_norm), optax.adam(hyper.learning_rate))

    def init(key: chex.PRNGKey, hyper: Hyperparameters) -> State:
        init_key, key = jax.random.split(key)
        params = model.init(init_key, jnp.zeros((1, 1, task.input_size)))
        return State(params, optimizer(hyper).init(params), key)

    def outputs(params: chex.ArrayTree, batch: Batch) -> Any:
        return model.apply(params, batch.inputs)

    def update(state: State, hyper: Hyperparameters) -> tuple[State, jax.Array]:
        batch_key, key = jax.random.split(state.key)
        batch = task.sample(batch_key, config.batch_size)

        def loss(params: chex.ArrayTree) -> jax.Array:
            return task.loss(outputs(params, batch), batch)

        value, gradient = jax.value_and_grad(loss)(state.params)
        change, moments = optimizer(hyper).update(gradient, state.optimizer, state.params)
        return State(optax.apply_updates(state.params, change), moments, key), value

    def advance(state: State, hyper: Hyperparameters) -> tuple[State, jax.Array]:
        return jax.lax.scan(lambda state, _: update(state, hyper), state, length=config.report_every)

    def test(params: chex.ArrayTree, key: chex.PRNGKey) -> dict[str, jax.Array]:
        batch = task.sample(key, config.test_sequences)
        return task.metrics(outputs(params, batch), batch)

    return Train(init, advance, test)


class Result(NamedTuple):
    """One finished run."""

    cell: str
    seed: int
    parameters: int
    losses: np.ndarray
    """The training loss of every update."""
    test: dict[str, float]
    solved: bool
    seconds: float


def use_every_core() -> None:
    """One CPU device per core; call before anything computes."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


def experiment(
    name: str, task: Task, cells: dict[str, rnncells.Cell], config: Any, training: Training, out: pathlib.Path
) -> list[Result]:
    """Trains every cell with every seed, and leaves in `out`: config.json, metrics.jsonl (a line per
    block and one per finished run), curves.png and table.md."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=2, default=str) + "\n")
    console = Console()
    console.print(f"{name}: {task}, memoryless baseline {task.baseline:.4g}, {len(jax.devices())} devices")
    jobs = [(label, seed) for label in cells for seed in range(training.seeds)]
    trains = {label: _compiled(make_train(task, cell, training)) for label, cell in cells.items()}
    devices: queue.SimpleQueue[jax.Device] = queue.SimpleQueue()
    for device in jax.devices():
        devices.put(device)
    stop = threading.Event()
    columns = [
        TextColumn("{task.description:<18}"),
        BarColumn(None),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:<9} {task.fields[rate]:>6} updates/s"),
        TimeRemainingColumn(),
    ]
    with (
        (out / "metrics.jsonl").open("w") as log,
        Progress(*columns, console=console) as progress,
        ThreadPoolExecutor(len(jax.devices())) as pool,
    ):

        def job(label: str, seed: int) -> Result | None:
            device = devices.get()
            try:
                with jax.default_device(device):
                    bar = progress.add_task(f"{label} seed {seed}", total=training.updates, loss="", rate="")
                    for line in _run(trains[label], task, label, seed, training):
                        if stop.is_set():
                            return None
                        if isinstance(line, Result):
                            log.write(json.dumps({"done": True, **_plain(line)}) + "\n")
                            return line
                        log.write(json.dumps(line) + "\n")
                        log.flush()
                        loss, rate = f"{line['loss']:.3g}", f"{line['updates_per_second']:.0f}"
                        progress.update(bar, completed=line["update"], loss=loss, rate=rate)
            finally:
                devices.put(device)
            return None

        futures = [pool.submit(job, *each) for each in jobs]
        try:
            results = [result for future in futures if (result := future.result()) is not None]
        except KeyboardInterrupt:
            stop.set()
            pool.shutdown(cancel_futures=True)
            console.print(f"Stopped. What was seen so far is in {out / 'metrics.jsonl'}.")
            raise SystemExit(130) from None
    draw(name, task, results, out / "curves.png")
    rows = summarise(task, results)
    (out / "table.md").write_text(markdown(rows))
    table = Table(title=f"{name}: {task}, {training.updates} updates of {training.batch_size} sequences")
    for heading in rows[0]:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    console.print(f"Learning curves: {out / 'curves.png'}; every number: {out / 'metrics.jsonl'}")
    return results


def _compiled(train: Train) -> Train:
    """The run with each function jitted; a state given to `advance` is used up."""
    return Train(jax.jit(train.init), jax.jit(train.advance, donate_argnums=0), jax.jit(train.test))


def _run(
    train: Train, task: Task, label: str, seed: int, config: Training
) -> Iterator[dict[str, Any] | Result]:
    """Trains; yields a line of metrics after each block, and the result at the end."""
    hyper = Hyperparameters(config.learning_rate, config.clip_norm)
    state = train.init(jax.random.key(seed), hyper)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    start = time.perf_counter()
    losses: list[np.ndarray] = []
    for update in range(config.report_every, config.updates + 1, config.report_every):
        block_start = time.perf_counter()
        state, block = train.advance(state, hyper)
        losses.append(np.asarray(block))
        yield {
            "cell": label,
            "seed": seed,
            "update": update,
            "sequences": update * config.batch_size,
            "loss": float(losses[-1].mean()),
            "updates_per_second": config.report_every / (time.perf_counter() - block_start),
        }
    test = {name: float(value) for name, value in train.test(state.params, jax.random.key(2**31)).items()}
    seconds = time.perf_counter() - start
    yield Result(label, seed, parameters, np.concatenate(losses), test, bool(task.solved(test)), seconds)


def _plain(result: Result) -> dict[str, Any]:
    return {name: value for name, value in result._asdict().items() if name != "losses"}


def summarise(task: Task, results: list[Result]) -> list[dict[str, str]]:
    """One row per cell (medians over seeds), and one for the memoryless baseline."""
    others = [metric for metric in results[0].test if metric != task.score]
    rows = []
    for label in dict.fromkeys(result.cell for result in results):
        runs = [result for result in results if result.cell == label]
        scores = [run.test[task.score] for run in runs]
        row = {
            "cell": label,
            "weights": f"{runs[0].parameters:,}",
            f"test {task.score}": f"{np.median(scores):.4f}",
            "worst seed": f"{max(scores):.4f}",
        }
        row |= {metric: f"{np.median([run.test[metric] for run in runs]):.1%}" for metric in others}
        row["solved"] = f"{sum(run.solved for run in runs)} of {len(runs)}"
        row["s per run"] = f"{np.median([run.seconds for run in runs]):.0f}"
        rows.append(row)
    baseline = {"cell": "(memoryless)", f"test {task.score}": f"{task.baseline:.4f}"}
    return [*rows, {heading: baseline.get(heading, "") for heading in rows[0]}]


def markdown(rows: list[dict[str, str]]) -> str:
    """The rows as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def draw(name: str, task: Task, results: list[Result], path: pathlib.Path, window: int = 50) -> None:
    """Training loss against updates: the median over seeds, and their range."""
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for label in dict.fromkeys(result.cell for result in results):
        runs = np.stack([result.losses for result in results if result.cell == label])
        size = min(window, runs.shape[1])
        blocks = runs[:, : runs.shape[1] // size * size].reshape(len(runs), -1, size).mean(-1)
        updates = size * (1 + np.arange(blocks.shape[1]))
        (line,) = axes.plot(updates, np.median(blocks, 0), label=label)
        axes.fill_between(updates, blocks.min(0), blocks.max(0), alpha=0.2, color=line.get_color(), lw=0)
    axes.axhline(task.baseline, color="black", lw=1, ls="--", label="memoryless baseline")
    axes.set(title=f"{name}: {task}", xlabel="updates", ylabel="training loss", yscale="log")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
