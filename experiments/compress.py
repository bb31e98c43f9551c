"""A trained model made smaller: what it costs in score, and what it saves in bytes and time."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

from experiments.harness import processes, tables, trained, weights
from experiments.harness.data import Parts, count, order
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.learner import Learner
from experiments.harness.model import Net
from experiments.harness.record import finite
from experiments.harness.standing import shown
from experiments.harness.train import TEST, batch_like, streaming
from experiments.parts import compression
from rnncells.tasks import Batch, Task
from rnncells.tasks.base import higher_is_better

TRAINED_ON = "trained-on"
"""The original with further training: what the others gain by that alone."""
TICKS = 512
"""Of the sequence that is timed."""
ROUNDS = 30


@dataclasses.dataclass(frozen=True)
class Config:
    """Factorises, prunes and rounds the best weights of a run, and says what each is worth.

    Recurrent kernels become products of two narrow matrices (singular values, then further training); the
    smallest entries of all kernels become zero, more and more of them in further training; kernels become
    integers of 8 bits with a scale for each column. Scores are of the test part. The folder `out` gets
    table.md and the weights of every form, which `python -m experiments.export` takes.
    """

    run: tyro.conf.Positional[pathlib.Path]
    """The folder that a run has left."""
    ranks: tuple[int, ...] = ()
    """Of the factors; by default a half, a quarter and an eighth of the narrowest layer."""
    sparsities: tuple[float, ...] = (0.5, 0.8)
    """Which fractions of the kernels become zero."""
    updates: int = 500
    """Of further training, for each."""
    learning_rate: float = 1e-3
    """Of further training, falling to 0."""
    cell: str | None = None
    """Which of the run's cells; by default the one of the best run."""
    number: int | None = None
    """Which run of it; by default the best one by validation."""
    out: pathlib.Path | None = None
    """By default the folder `compressed` in that of the run."""

    def __post_init__(self) -> None:
        for name in ("updates", *(["ranks"] if self.ranks else [])):
            if np.min(getattr(self, name)) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}.")
        for sparsity in self.sparsities:
            if not 0 < sparsity < 1:
                raise ValueError(f"sparsities: expected fractions between 0 and 1, got {sparsity}.")


@dataclasses.dataclass(frozen=True)
class Form:
    """One way to hold the model."""

    name: str
    params: Any
    before: float
    """Score without further training."""
    after: float | None
    """And with it."""


def main(config: Config) -> None:
    processes.use_every_core()
    console = Console()
    try:
        best = trained.load(config.run, config.cell, config.number)
        bench = Bench(config, best)
        made, refused = forms(config, bench)
    except ValueError as error:
        sys.exit(str(error))
    out = config.out or config.run / "compressed"
    for form in made:
        about = {"score": {"before": form.before, "after": form.after}, **best.about, "cell": form.name}
        weights.save(out, form.params, finite(about))
    rows = table(bench, made)
    (out / "table.md").write_text(tables.markdown(rows))
    better = "a higher score is better" if higher_is_better(best.task) else "a lower score is better"
    tables.show(console, f"{best.cell}, run {best.about['run']}, of {config.run}; {better}", rows)
    for words in refused:
        console.print(words, soft_wrap=True, highlight=False)
    console.print(f"Zeros save bytes where they are stored as bits, no time. Everything is in {out}.")


class Bench:
    """Where forms of a model are judged and trained further: on the data of its task."""

    def __init__(self, config: Config, best: trained.Trained) -> None:
        self.config, self.best = config, best
        self.task: Task = best.config.task()
        self.parts: Parts | None = getattr(self.task, "parts", None)
        self.training = dataclasses.replace(
            best.config.training,
            updates=config.updates,
            report_every=config.updates,
            checkpoint_every=config.updates,
            validate_every=None,
            patience=None,
            lengths=(),
        )
        self.optimizer = Optimizer(learning_rate=config.learning_rate, schedule="cosine")
        part = next((name for name in ("test", "validation") if getattr(self.parts, name, None)), "train")
        self.part = part if self.parts is not None else "test"
        self.programs: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}

    def form(self, name: str, params: Any, sparsity: float | None) -> Form:
        """A form, judged; with a sparsity, trained further while so much becomes zero."""
        kind = "original" if name == TRAINED_ON or name.startswith("pruned") else name
        if kind not in self.programs:
            model = dataclasses.replace(self.best, module=compression.module_of(self.best.module, name))
            learner = Learner(Net(model.module), self.task, self.optimizer, self.training)
            score = trained.judge(model, self.task, self.part)
            self.programs[kind] = score, jax.jit(self._tuned(learner))
        score, tune = self.programs[kind]
        if sparsity is None:
            return Form(name, params, score(params)[self.task.score], None)
        before = score(compression.pruned(params, sparsity))[self.task.score]
        params = tune(params, jnp.float32(sparsity), self.parts)
        return Form(name, params, before, score(params)[self.task.score])

    def _tuned(self, learner: Learner) -> Callable[..., Any]:
        like = batch_like(self.task)
        one = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)

        def tuned(params: Any, sparsity: jax.Array, parts: Parts | None) -> Any:
            train = None if parts is None else parts.train
            streams = count(train) if train is not None and streaming(self.task) else None
            state = learner.init(jax.random.key(TEST), one, streams)
            moments = learner.transformation(jax.random.key(TEST)).init(params)
            state = state._replace(params=params, optimizer=moments)
            rows, updates = None, self.config.updates
            if train is not None and streams is None:
                size = self.training.batch_size
                rows = order(state.order, count(train), jnp.int32(0), updates * size).reshape(updates, size)

            def update(state: Any, own: Any) -> tuple[Any, None]:
                state, _ = learner.update(state, own, train)
                # After Zhu & Gupta 2017, arXiv 1710.01878: fast at first; the last third recovers.
                left = 1 - jnp.minimum(1.5 * state.update / updates, 1)
                return state._replace(params=compression.pruned(state.params, sparsity * (1 - left**3))), None

            return jax.lax.scan(update, state, rows, length=updates)[0].params

        return tuned


def forms(config: Config, bench: Bench) -> tuple[list[Form], list[str]]:
    """What was made, the original first; and what could not be made, as sentences."""
    module, params = bench.best.module, bench.best.params
    made, refused = [bench.form("original", params, None), bench.form(TRAINED_ON, params, 0.0)], []
    makers: dict[str, Callable[[nn.Module, Any], Any]] = {
        f"low-rank-{rank}": functools.partial(compression.low_rank, rank=rank)
        for rank in config.ranks or default_ranks(params)
    }
    for name, make in {**makers, "int8": compression.int8}.items():
        try:
            changed = make(module, params)
        except ValueError as error:
            refused.append(f"{name}: {error}")
            continue
        made.append(bench.form(name, changed, None if name == "int8" else 0.0))
    made += [bench.form(f"pruned-{100 * sparsity:g}", params, sparsity) for sparsity in config.sparsities]
    return made, refused


def default_ranks(params: Any) -> tuple[int, ...]:
    """A half, a quarter and an eighth of the narrowest recurrent kernel."""
    flat = jax.tree_util.tree_leaves_with_path(params)
    widths = [leaf.shape[0] for path, leaf in flat if path[-1].key == "recurrent_kernel" and leaf.ndim == 2]
    return tuple(dict.fromkeys(max(1, min(widths) // part) for part in (2, 4, 8))) if widths else (1,)


def table(bench: Bench, made: list[Form]) -> list[dict[str, str]]:
    """A row for each form."""
    task, whole = bench.task, compression.size(made[0].params)
    times = ticks(bench.best, made)
    rows = []
    for form in made:
        size, own = compression.size(form.params), times[form.name]
        row = {"form": form.name, "bytes": f"{size:,}", "ratio": f"{size / whole:.2f}"}
        row[f"{bench.part} {task.score}"] = shown(task, task.score, form.before)
        row["trained on"] = "" if form.after is None else shown(task, task.score, form.after)
        row["us per tick"] = f"{1e6 * np.median(own):.3g}"
        rows.append(row | {"time ratio": f"{np.median(own / times['original']):.2f}"})
    return rows


def ticks(best: trained.Trained, made: list[Form]) -> dict[str, np.ndarray]:
    """Seconds of a tick of every form, in turns, round by round: one sequence, or one batch of streams."""
    like = best.config.task().sample(jax.random.key(0), 1)
    inputs = jax.tree.map(lambda a: jnp.resize(a, (TICKS, *a.shape[1:])) if a.ndim > 1 else a, like.inputs)
    size = like.mask.shape[-1]
    lengths = None if like.lengths is None else jnp.full(size, TICKS)
    batch = Batch(inputs, jnp.zeros(size), jnp.ones(size, bool), lengths)

    def forward(net: Net) -> Callable[[Any], Any]:
        return jax.jit(lambda params: net(params, batch)[1])

    nets = {form.name: Net(compression.module_of(best.module, form.name)) for form in made}
    programs: dict[nn.Module, Callable[[Any], Any]] = {}
    runs = {name: programs.setdefault(net.module, forward(net)) for name, net in nets.items()}
    times: dict[str, list[float]] = {form.name: [] for form in made}
    for _ in range(2 + ROUNDS):
        for form in made:
            start = time.perf_counter()
            jax.block_until_ready(runs[form.name](form.params))
            times[form.name].append((time.perf_counter() - start) / TICKS)
    return {name: np.array(each[2:]) for name, each in times.items()}


if __name__ == "__main__":
    main(tyro.cli(Config))
