"""Training loops as users of Flax write them, and Flax's layer in ours: an LSTM on the adding problem.

A loop is called for `updates` updates of every run, goes on where its last call ended, and returns the
losses, [runs, updates]. All learn the same: one layer, a linear readout at the last tick, the mean squared
error, Adam behind a clipped norm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.adding import Config
from experiments.harness.model import Model
from experiments.harness.options import Placement, Training
from experiments.harness.population import Population, Run
from rnncells import Cell, convert
from rnncells.tasks import Adding, Batch

CELL, CLIP = "LSTM", 1.0


@dataclasses.dataclass(frozen=True)
class Problem:
    """What every loop trains: one run for each learning rate, with seeds 0, 1, ..."""

    batch: int
    ticks: int
    features: int
    rates: tuple[float, ...]
    updates: int
    """Of every run, each time that a loop is called."""

    @property
    def task(self) -> Adding:
        return Adding(self.ticks, "halves")

    def config(self, devices_per_run: int) -> Config:
        every = self.updates
        training = Training(updates=every, batch_size=self.batch, report_every=every, checkpoint_every=every)
        placement = Placement(devices_per_run=devices_per_run)
        sizes: dict[str, Any] = {"features": self.features, "length": self.ticks}
        return Config(cells=(CELL,), **sizes, training=training, placement=placement)

    def batches(self, keys: jax.Array) -> Iterator[Batch]:
        """What our runs draw in their next `updates` updates, with keys as in their states: [runs, ...]."""

        def draw(key: jax.Array) -> tuple[jax.Array, Batch]:
            batch_key, _, key = jax.random.split(key, 3)
            return key, self.task.sample(batch_key, self.batch)

        several = jax.jit(jax.vmap(draw))
        for _ in range(self.updates):
            keys, batch = several(keys)
            yield batch


class Start(NamedTuple):
    """Where a run of ours begins: a leading axis of runs, on the host."""

    params: Any
    keys: jax.Array


def flax_params(cell: Cell, params: Any) -> Any:
    """The parameters of `Model`, for `FlaxModel` and `Regressor`."""
    layers = params["params"]
    own = convert.to_linen(cell, layers["RNN_0"]["cell"])
    return {"params": {"OptimizedLSTMCell_0": own, "Dense_0": layers["Dense_0"]}}


class FlaxModel(nn.Module):
    """`experiments.harness.model.Model` with Flax's own layer, of the width of the cell."""

    time_major: ClassVar[bool] = True

    cell: Cell
    output_size: int
    remat_every: int | None = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, carry: Any = None, *, deterministic: bool = False
    ) -> tuple[Any, jax.Array]:
        layer = nn.RNN(nn.OptimizedLSTMCell(self.cell.output_size), time_major=True, return_carry=True)
        carry, outputs = layer(inputs, initial_carry=carry)
        return carry, nn.Dense(self.output_size)(outputs)


class OurLoop:
    """That of the experiments: `experiments.harness.population`, with our layer or with another model."""

    def __init__(
        self, problem: Problem, devices_per_run: int = 1, model: Callable[..., nn.Module] = Model
    ) -> None:
        runs = [Run({"learning_rate": rate}, seed) for seed, rate in enumerate(problem.rates)]
        self.population = Population(problem.config(devices_per_run), CELL, runs, model)
        self.state, self.converted = self.population.init(), model is not Model

    def __call__(self) -> np.ndarray:
        self.state, losses = self.population.advance(self.state)
        return losses

    def start(self) -> Start:
        host = self.population.host(self.state)
        return Start(host.params, host.key)

    def follow(self, start: Start) -> np.ndarray:
        """The first losses from where a run of ours begins."""
        params = start.params
        if self.converted:
            cell = self.population.config.numbers(CELL).cell
            params = jax.device_get(jax.vmap(lambda own: flax_params(cell, own))(params))
        host = self.population.host(self.population.init())
        self.state = self.population.device(host._replace(params=params, key=start.keys))
        return self()

    def parameters(self) -> int:
        """Of one run."""
        return size(self.state.params) // len(self.population.runs)


class Regressor(nn.Module):
    """One layer and a readout of its last output, batch-major: [B, T, I] -> [B, 1]."""

    features: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        outputs = cast(jax.Array, nn.RNN(nn.OptimizedLSTMCell(self.features))(inputs))
        return nn.Dense(1)(outputs[:, -1])


Learned = tuple[Any, optax.OptState]


class Script:
    """What both scripts share: the model, its optimiser and the step."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.model = problem, Regressor(problem.features)
        self.rates = jnp.array(problem.rates)

    def optimizer(self, rate: Any) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(rate))

    def init(self, seed: int) -> Learned:
        params = self.model.init(jax.random.key(seed), jnp.zeros((1, 1, Adding.input_size)))
        return params, self.optimizer(0.0).init(params)

    def learn(
        self, learned: Learned, rate: Any, inputs: jax.Array, targets: jax.Array
    ) -> tuple[Learned, jax.Array]:
        """One step on inputs [B, T, 2] and targets [B, 1]."""
        params, moments = learned

        def loss_of(params: Any) -> jax.Array:
            outputs = cast(jax.Array, self.model.apply(params, inputs))
            return jnp.mean(jnp.square(outputs - targets))

        loss, gradient = jax.value_and_grad(loss_of)(params)
        change, moments = self.optimizer(rate).update(gradient, moments, params)
        return (optax.apply_updates(params, change), moments), loss

    def follow(self, start: Start) -> np.ndarray:
        """The first losses from where our runs begin, on the batches that they draw."""
        cell = self.problem.config(1).numbers(CELL).cell
        params = jax.vmap(lambda own: flax_params(cell, own))(start.params)
        learned = params, jax.vmap(self.optimizer(0.0).init)(params)
        learn, losses = jax.jit(jax.vmap(self.learn)), []
        for batch in self.problem.batches(start.keys):
            inputs = batch.inputs.swapaxes(1, 2)
            learned, loss = learn(learned, self.rates, inputs, batch.targets[:, -1])
            losses.append(loss)
        return np.stack(jax.device_get(losses), 1)


class VmappedScript(Script):
    """All runs by `jax.vmap` on one device, which uses every core; batches drawn inside the step.

    The runs are initialised one by one: compiled together, their orthogonal draws can wait for each other
    for ever (jaxlib's batched QR on the CPU's threads)."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        count = len(problem.rates)
        self.learned = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(self.init, range(count)))
        self.keys = jax.random.split(jax.random.key(count), count)
        self.step = jax.jit(jax.vmap(self._step), donate_argnums=(0, 1))

    def _step(
        self, learned: Learned, key: jax.Array, rate: jax.Array
    ) -> tuple[Learned, jax.Array, jax.Array]:
        batch_key, key = jax.random.split(key)
        batch = self.problem.task.sample(batch_key, self.problem.batch)
        learned, loss = self.learn(learned, rate, batch.inputs.swapaxes(0, 1), batch.targets[-1])
        return learned, key, loss

    def __call__(self) -> np.ndarray:
        losses = []
        for _ in range(self.problem.updates):
            self.learned, self.keys, loss = self.step(self.learned, self.keys, self.rates)
            losses.append(loss)
        return np.stack(jax.device_get(losses), 1)

    def parameters(self) -> int:
        return size(self.learned[0]) // len(self.problem.rates)


class HostScript(Script):
    """One run, its batches made by NumPy on the host while the step before them is still running."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        (self.rate,) = problem.rates
        self.learned, self.stream = self.init(0), adding_batches(problem.ticks, problem.batch)
        self.step = jax.jit(self._step, donate_argnums=0)

    def _step(self, learned: Learned, inputs: jax.Array, targets: jax.Array) -> tuple[Learned, jax.Array]:
        return self.learn(learned, self.rate, inputs, targets)

    def __call__(self) -> np.ndarray:
        losses = []
        for _ in range(self.problem.updates):
            self.learned, loss = self.step(self.learned, *next(self.stream))
            losses.append(loss)
        return np.stack(jax.device_get(losses))[None]

    def parameters(self) -> int:
        return size(self.learned[0])


def adding_batches(ticks: int, batch: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The adding problem in NumPy: inputs [B, T, 2], targets [B, 1]."""
    rng, rows = np.random.default_rng(seed), np.arange(batch)
    while True:
        values = rng.random((batch, ticks), np.float32)
        markers = np.zeros_like(values)
        for low, high in ((0, ticks // 2), (ticks // 2, ticks)):
            markers[rows, rng.integers(low, high, batch)] = 1
        yield np.stack([values, markers], -1), np.sum(values * markers, 1, keepdims=True)


def size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


Loop = OurLoop | VmappedScript | HostScript


class Same(NamedTuple):
    """How far a loop does what ours does."""

    difference: float
    """The largest between their losses, from the same parameters on the same batches."""
    parameters: int
    agrees: bool


def compare(ours: OurLoop, others: dict[str, Loop], tolerance: float) -> Iterator[tuple[str, Same]]:
    """Every other loop with ours, over one call."""
    start, parameters = ours.start(), ours.parameters()
    expected = ours()
    for name, loop in others.items():
        difference = float(np.abs(loop.follow(start) - expected).max())
        agrees = difference < tolerance and loop.parameters() == parameters
        yield name, Same(difference, loop.parameters(), agrees)
