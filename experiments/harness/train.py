"""Training as pure functions: one layer of any cell on any task, from one key.

A block of updates, batches drawn on device included, is one program. What is Python here runs once, while
it is traced; the loop on the host is in session.py.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import rnncells
from experiments.harness.hyperparameters import Hyperparameters, Optimizer
from experiments.harness.options import Config, Training
from rnncells.parts.arithmetic import select
from rnncells.tasks import Batch, Task


class State(NamedTuple):
    """Everything that a run carries from one update to the next."""

    params: chex.ArrayTree
    optimizer: optax.OptState
    key: chex.PRNGKey
    update: jax.Array
    """int32: updates done."""
    stage: jax.Array
    """int32: which length of the curriculum."""
    diverged: jax.Array
    """int32: the update at which the loss or its gradient was not finite and the run froze, or -1."""


class Train(NamedTuple):
    """A run as pure functions of keys and hyperparameters."""

    init: Callable[[chex.PRNGKey, Hyperparameters], State]
    advance: Callable[[State, Hyperparameters], tuple[State, jax.Array]]
    """`report_every` updates: the new state, and the loss of each update (NaN once diverged)."""
    test: Callable[[State, Hyperparameters], dict[str, jax.Array]]
    """The metrics of `test_sequences` fresh sequences of full length, the same for every run."""
    task: Task
    lengths: tuple[int, ...]
    """The curriculum; the last is the length of the task."""


class Model(nn.Module):
    """One recurrent layer and a linear readout at every tick: [T, B, I] -> carry, [T, B, O]."""

    cell: rnncells.Cell
    output_size: int
    remat_every: int | None = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, carry: Any = None, *, deterministic: bool = False
    ) -> tuple[Any, jax.Array]:
        rnn = rnncells.linen.RNN(self.cell, time_major=True, return_carry=True, remat_every=self.remat_every)
        carry, outputs = rnn(inputs, initial_carry=carry, deterministic=deterministic)
        return carry, nn.Dense(self.output_size)(outputs)


def make_train(
    config: Config,
    cell: str | None = None,
    *,
    axis: str | None = None,
    remat: bool = False,
    model: Callable[..., nn.Module] = Model,
) -> Train:
    """The run of one cell on the task of an experiment, as pure functions of (key, hyperparameters).

    Args:
        config: of the experiment. Its numbers are not read here: `config.numbers(cell)` are arguments of what
            is returned, and may be traced, so that runs are swept without compiling again.
        cell: which of `config.cells`; may be left out where there is one.
        axis: the axis of `jax.shard_map` over which every batch is divided. All devices draw the whole batch
            and take their part, so that what is learned does not depend on their number.
        remat: keep every k-th state only, k the root of the number of ticks, and recompute the rest.
        model: of (cell, output_size, remat_every); a module as `Model` is one.

    Raises:
        ValueError: for a cell that the config does not have, or a curriculum that does not end at the task.
    """
    if cell is None and len(config.cells) == 1:
        (cell,) = config.cells
    if cell not in config.cells:
        raise ValueError(f"cell: expected one of {', '.join(config.cells)}, got {cell}.")
    training, task = config.training, config.task()
    if training.lengths and training.lengths[-1] >= task.length:
        raise ValueError(f"lengths: expected lengths below the task's {task.length}, got {training.lengths}.")
    lengths = (*training.lengths, task.length)
    stages = [dataclasses.replace(task, length=length) for length in lengths]  # type: ignore[type-var]

    def learner(hyper: Hyperparameters, task: Task) -> Learner:
        every = math.isqrt(ticks(task)) if remat else None
        built = model(hyper.cell, task.output_size, remat_every=every)
        return Learner(built, task, hyper.optimizer, training, axis)

    def init(key: chex.PRNGKey, hyper: Hyperparameters) -> State:
        return learner(hyper, task).init(key)

    def advance(state: State, hyper: Hyperparameters) -> tuple[State, jax.Array]:
        def block(task: Task, state: State) -> tuple[State, jax.Array]:
            here = learner(hyper, task)
            state, losses = jax.lax.scan(here.update, state, length=training.report_every)
            if task != stages[-1]:
                solved = task.solved(here.metrics(state.params, jax.random.fold_in(state.key, 0)))
                onward = (solved & (state.diverged < 0)).astype(jnp.int32)
                state = state._replace(stage=state.stage + onward)
            return state, losses

        blocks = [functools.partial(block, task) for task in stages]
        return blocks[0](state) if len(blocks) == 1 else jax.lax.switch(state.stage, blocks, state)

    def test(state: State, hyper: Hyperparameters) -> dict[str, jax.Array]:
        return learner(hyper, task).metrics(state.params, jax.random.key(2**31))

    return Train(init, advance, test, task, lengths)


def ticks(task: Task) -> int:
    """Ticks of a sequence, which for some tasks are more than its length."""
    return jax.eval_shape(lambda: task.sample(jax.random.key(0), 1)).mask.shape[0]


Learned = tuple[Any, Any, Any]
"""Parameters, state of the optimiser, carry of the cell (None at the beginning of a sequence)."""


class Seen(NamedTuple):
    """What an optimiser step saw."""

    loss: jax.Array
    counted: jax.Array
    """Ticks that the loss is the mean of; where there are none, nothing is learned."""
    finite: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Learner:
    """How a run learns from one batch, with numbers that may be traced."""

    model: nn.Module
    task: Task
    optimizer: Optimizer
    training: Training
    axis: str | None

    def init(self, key: chex.PRNGKey) -> State:
        init_key, key = jax.random.split(key)
        params = self.model.init(init_key, jnp.zeros((1, 1, self.task.input_size)))
        moments = self.transformation(jax.random.fold_in(init_key, 1)).init(params)
        return State(params, moments, key, jnp.int32(0), jnp.int32(0), jnp.int32(-1))

    def update(self, state: State, _: None = None) -> tuple[State, jax.Array]:
        """One batch: the new state, and the mean loss on it before it was learned."""
        batch_key, noise_key, key = jax.random.split(state.key, 3)
        batch = self.task.sample(batch_key, self.training.batch_size)
        if self.axis is not None:
            noise_key = jax.random.fold_in(noise_key, jax.lax.axis_index(self.axis))
        (params, moments, _), seen = self.learn(state, self.part(batch), noise_key)
        healthy = (state.diverged < 0) & seen.finite
        done = state.update + 1
        # A run that is not finite any more keeps its last parameters; its updates are still counted.
        params, moments = select(healthy, (params, moments), (state.params, state.optimizer))
        diverged = jnp.where(healthy | (state.diverged >= 0), state.diverged, done)
        return State(params, moments, key, done, state.stage, diverged), jnp.where(
            healthy, seen.loss, jnp.nan
        )

    def learn(self, state: State, batch: Batch, key: chex.PRNGKey) -> tuple[Learned, Seen]:
        """One optimiser step, or one for every segment of `truncate_every` ticks."""
        step = functools.partial(self.step, self.optimizer.learning_rate * self.schedule()(state.update))
        start = state.params, state.optimizer, None
        every, length = self.training.truncate_every, batch.mask.shape[0]
        if every is None or every >= length:
            return step(start, (batch, key))
        count = length // every
        segments = jax.tree.map(lambda a: a[: count * every].reshape(count, every, *a.shape[1:]), batch)
        rest = jax.tree.map(lambda a: a[count * every :], batch)
        keys = jax.random.split(key, count + 1)
        first, others = jax.tree.map(lambda a: a[0], segments), jax.tree.map(lambda a: a[1:], segments)
        # The first by itself: a learned initial state gets its gradient there.
        learned, seen = step(start, (first, keys[0]))
        learned, more = jax.lax.scan(step, learned, (others, keys[1:-1]))
        all_seen = jax.tree.map(lambda a, b: jnp.append(b, a), seen, more)
        if rest.mask.shape[0]:
            learned, seen = step(learned, (rest, keys[-1]))
            all_seen = jax.tree.map(jnp.append, all_seen, seen)
        counted = jnp.sum(all_seen.counted)
        loss = jnp.sum(all_seen.loss * all_seen.counted) / jnp.maximum(counted, 1)
        return learned, Seen(loss, counted, jnp.all(all_seen.finite))

    def step(self, rate: Any, learned: Learned, given: tuple[Batch, chex.PRNGKey]) -> tuple[Learned, Seen]:
        """One step of the optimiser at a learning rate, on the mean loss over the batch of all devices."""
        (params, moments, carry), (batch, key) = learned, given
        own = jnp.sum(batch.mask).astype(jnp.float32)
        counted = self.total(own)
        share = own / jnp.maximum(counted, 1)
        scale = share * batch.mask.shape[0] if self.training.scale_loss == "length" else share

        def objective(params: chex.ArrayTree) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            given = params, batch.inputs, carry
            after, outputs = cast(tuple[Any, jax.Array], self.model.apply(*given, rngs={"dropout": key}))
            loss = self.task.loss(outputs, batch)
            return scale * loss, (share * loss, after)

        gradient, (loss, carry) = jax.grad(objective, has_aux=True)(params)
        gradient, loss = self.total((gradient, loss))
        gradient = self.penalised(gradient, params)
        change, after = self.transformation().update(gradient, moments, params)
        change = jax.tree.map(lambda c: -rate * c, change)
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm((gradient, change)))
        params, moments = select(counted > 0, (optax.apply_updates(params, change), after), (params, moments))
        return (params, moments, carry), Seen(loss, counted, finite)

    def penalised(self, gradient: chex.ArrayTree, params: chex.ArrayTree) -> chex.ArrayTree:
        """With the gradient of l2 * sum of squares + l1 * sum of absolute values."""
        l2, l1 = self.optimizer.l2, self.optimizer.l1
        if l2 is not None:
            gradient = jax.tree.map(lambda g, p: g + 2 * l2 * p, gradient, params)
        if l1 is not None:
            gradient = jax.tree.map(lambda g, p: g + l1 * jnp.sign(p), gradient, params)
        return gradient

    def transformation(self, key: chex.PRNGKey | None = None) -> optax.GradientTransformation:
        """What becomes of a gradient before the learning rate; `key` is needed to initialise."""
        own, links = self.optimizer, []
        if own.clip_value is not None:
            links.append(optax.clip(own.clip_value))
        if own.clip_norm is not None:
            links.append(optax.clip_by_global_norm(own.clip_norm))
        if own.noise is not None:
            links.append(optax.add_noise(own.noise, 0.55, jax.random.key(0) if key is None else key))
        kinds = {"adam": optax.scale_by_adam, "rmsprop": optax.scale_by_rms, "sgd": optax.identity}
        links.append(kinds[own.kind]())
        if own.weight_decay is not None:
            links.append(optax.add_decayed_weights(own.weight_decay))
        return optax.chain(*links)

    def schedule(self) -> optax.Schedule:
        """The course of the learning rate over updates, at most 1."""
        warmup = self.optimizer.warmup
        falling = max(1, self.training.updates - warmup)
        shape = {
            "constant": optax.constant_schedule(1.0),
            "linear": optax.linear_schedule(1.0, 0.0, falling),
            "cosine": optax.cosine_decay_schedule(1.0, falling),
        }[self.optimizer.schedule]
        if not warmup:
            return shape
        return optax.join_schedules([lambda count: (count + 1) / warmup, shape], [warmup])

    def metrics(self, params: chex.ArrayTree, key: chex.PRNGKey) -> dict[str, jax.Array]:
        """Scores on fresh sequences."""
        batch = self.task.sample(key, self.training.test_sequences)
        _, outputs = cast(tuple[Any, jax.Array], self.model.apply(params, batch.inputs, deterministic=True))
        return self.task.metrics(outputs, batch)

    def part(self, batch: Batch) -> Batch:
        """This device's sequences."""
        if self.axis is None:
            return batch
        size = batch.mask.shape[1] // jax.lax.axis_size(self.axis)
        start = size * jax.lax.axis_index(self.axis)
        return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, size, 1), batch)

    def total(self, tree: Any) -> Any:
        """The sum over the devices that share a batch."""
        return tree if self.axis is None else jax.lax.psum(tree, self.axis)
