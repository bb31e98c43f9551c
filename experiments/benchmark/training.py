"""Training against the loops that users of Flax write: the sections sweep and train. What a section says of
itself is the caption of its table."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
from rich.progress import Progress

from experiments.benchmark import loops
from experiments.benchmark.options import TOLERANCE, Config
from experiments.benchmark.report import TRAINING, Row
from experiments.benchmark.timing import Contender, Shape, race

RATES = (1e-3, 2e-3, 3e-3, 5e-3)
"""Learning rates of the sweep section."""


def sweep(config: Config, progress: Progress) -> Iterator[Row]:
    """Many runs of the adding problem, with learning rates and seeds of their own: sampling, gradient and
    optimiser. Ratio: time per update over ours. Flax script: `jax.vmap` over nn.RNN(OptimizedLSTMCell),
    batches drawn inside the jitted step, a Python loop, one device that uses every core. Flax in our loop:
    its RNN as the model of `experiments.harness.population`, spread over the devices as ours. Updates of
    all runs together count."""
    rates = RATES * config.sweep_seeds
    for shape in map(Shape.parse, config.sweep_shapes):
        problem = loops.Problem(shape.batch, shape.ticks, shape.features, rates, config.updates)
        others: dict[str, loops.Loop] = {
            "flax script": loops.VmappedScript(problem),
            "flax in our loop": loops.OurLoop(problem, model=loops.FlaxModel),
        }
        what = {"section": "sweep", "cell": loops.CELL, "shape": str(shape), "runs": len(rates)}
        yield from training(config, progress, what, problem, loops.OurLoop(problem), others)


def train(config: Config, progress: Progress) -> Iterator[Row]:
    """One run of the adding problem end to end: sampling, gradient and optimiser. Ratio: time per update
    over ours, whose batches are drawn on the devices and divided over them. Flax script: nn.RNN, optax, a
    jitted step with donated state, a Python loop that makes the next batch in NumPy while the step runs.
    Flax in our loop: its RNN in `experiments.harness.train`, every batch divided as ours."""
    for shape in map(Shape.parse, config.train_shapes):
        problem = loops.Problem(shape.batch, shape.ticks, shape.features, (3e-3,), config.updates)
        devices = math.gcd(jax.device_count(), shape.batch)
        others: dict[str, loops.Loop] = {
            "flax script": loops.HostScript(problem),
            "flax in our loop": loops.OurLoop(problem, devices, loops.FlaxModel),
            "ours on one device": loops.OurLoop(problem),
        }
        what = {"section": "train", "cell": loops.CELL, "shape": str(shape), "runs": 1}
        yield from training(config, progress, what, problem, loops.OurLoop(problem, devices), others)


def training(
    config: Config,
    progress: Progress,
    what: Row,
    problem: loops.Problem,
    ours: loops.OurLoop,
    others: dict[str, loops.Loop],
) -> Iterator[Row]:
    """Times the loops that lose what ours loses, from the same parameters on the same batches."""
    entered: dict[str, loops.Loop] = {"ours": ours}
    for name, same in loops.compare(ours, others, TOLERANCE):
        said = {"max_difference": same.difference, "parameters": same.parameters, "agrees": same.agrees}
        yield {**what, "pass": "outputs", "name": name, **said}
        if same.agrees:
            entered[name] = others[name]
        else:
            label = "{section}, {shape}".format(**what)
            progress.console.print(f"[red]{name} is wrong by {same.difference:.2g}: {label}")
    contenders = {name: Contender(loop, jit=False) for name, loop in entered.items()}
    updates = problem.updates * len(problem.rates)
    timed = {**what, "pass": TRAINING, "updates": updates}
    for row in race(progress, timed, contenders, max(2, config.rounds // 3)):
        each = {name: row[name] / updates for name in ("p10_ms", "median_ms", "p90_ms")}
        yield {**row, **each, "updates_per_second": 1e3 / each["median_ms"]}
