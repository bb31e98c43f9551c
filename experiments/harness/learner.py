"""How one run learns from one batch: pure functions, with numbers that may be traced."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from experiments.harness.data import Arrays, segment, segments, taken
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.model import Net
from experiments.harness.options import Training
from rnncells.parts.arithmetic import select
from rnncells.tasks import Batch, Task


class Best(NamedTuple):
    """What validation has found to be best."""

    params: chex.ArrayTree
    score: jax.Array
    """float32, lower is better; infinite before the first validation."""
    update: jax.Array
    """int32: the update after which it was found, or -1."""


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
    order: chex.PRNGKey
    """Of the order in which finite data are taken; it never changes."""
    carry: Any
    """The states in which streams are; None of other tasks."""
    best: Best
    solved: jax.Array
    """int32: the update of the first validation that counts as solved, or -1."""
    stopped: jax.Array
    """int32: the update at which the run ended early, or -1."""


Learned = tuple[Any, Any, Any]
"""Parameters, state of the optimiser, carry of the model (None at the beginning of a sequence)."""


class Given(NamedTuple):
    """A batch, or a segment of one, and what is known beside it."""

    batch: Batch
    resets: jax.Array | None
    progress: jax.Array


class Seen(NamedTuple):
    """What an optimiser step saw."""

    loss: jax.Array
    counted: jax.Array
    """Ticks that the loss is the mean of; where there are none, nothing is learned."""
    finite: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Learner:
    """How a run learns.

    axis: of `jax.shard_map`, over which every batch is divided.
    """

    net: Net
    task: Task
    optimizer: Optimizer
    training: Training
    axis: str | None = None

    def init(self, key: chex.PRNGKey, like: Batch, streams: int | None) -> State:
        """The beginning, for batches such as `like`, [T, 1]; of a task of streams, so many."""
        init_key, key = jax.random.split(key)
        params = self.net.init(init_key, like)
        moments = self.transformation(jax.random.fold_in(init_key, 1)).init(params)
        carry = None if streams is None else self.beginning(params, like, streams)
        never, zero = jnp.int32(-1), jnp.int32(0)
        best = Best(jax.tree.map(jnp.copy, params), jnp.float32(jnp.inf), never)
        order = jax.random.fold_in(init_key, 2)
        return State(params, moments, key, zero, zero, never, order, carry, best, never, never)

    def beginning(self, params: chex.ArrayTree, like: Batch, streams: int) -> Any:
        """A state of the shape that so many streams have; what it holds is never read."""
        wide = jax.tree.map(lambda a: jnp.zeros((a.shape[0], streams, *a.shape[2:]), a.dtype), like)
        carry, _ = jax.eval_shape(self.net, params, wide)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), carry)

    def update(
        self, state: State, rows: jax.Array | None = None, train: Arrays | None = None
    ) -> tuple[State, jax.Array]:
        """One batch: the new state, and the mean loss on it before it was learned.

        Args:
            rows: which of the training part, int32 [B]; None draws a batch, or takes the next of streams.
            train: the training part of finite data.
        """
        batch_key, noise_key, key = jax.random.split(state.key, 3)
        resets = None
        if train is None:
            batch = self.part(self.task.sample(batch_key, self.training.batch_size))
        elif rows is None:
            place = state.update % segments(train, self.task.length)
            batch, resets = segment(train, place, self.task.length)
        else:
            batch = taken(train, self.part(rows, 0))
        if self.axis is not None:
            noise_key = jax.random.fold_in(noise_key, jax.lax.axis_index(self.axis))
        progress = state.update.astype(jnp.float32) / self.training.updates
        learned, seen = self.learn(state, Given(batch, resets, progress), noise_key)
        carry = learned[2] if resets is not None else None
        healthy = (state.diverged < 0) & seen.finite
        done = state.update + 1
        # A run that is not finite any more keeps its last parameters; its updates are still counted.
        before = state.params, state.optimizer, state.carry
        params, moments, carry = select(healthy, (*learned[:2], carry), before)
        diverged = jnp.where(healthy | (state.diverged >= 0), state.diverged, done)
        changes = {"params": params, "optimizer": moments, "carry": carry, "key": key, "update": done}
        return state._replace(**changes, diverged=diverged), jnp.where(healthy, seen.loss, jnp.nan)

    def learn(self, state: State, given: Given, key: chex.PRNGKey) -> tuple[Learned, Seen]:
        """One optimiser step, or one for every segment of `truncate_every` ticks."""
        step = functools.partial(self.step, self.optimizer.learning_rate * self.schedule()(state.update))
        start = state.params, state.optimizer, state.carry
        every, length = self.training.truncate_every, jax.tree.leaves(given.batch.inputs)[0].shape[0]
        if every is None or every >= length:
            return step(start, (given, key))
        whole, rest = cut(given, every)
        keys = jax.random.split(key, length // every + 1)
        first, others = jax.tree.map(lambda a: a[0], whole), jax.tree.map(lambda a: a[1:], whole)
        # The first by itself: a learned initial state gets its gradient there.
        learned, seen = step(start, (first, keys[0]))
        learned, more = jax.lax.scan(step, learned, (others, keys[1:-1]))
        all_seen = jax.tree.map(lambda a, b: jnp.append(b, a), seen, more)
        if rest is not None:
            learned, seen = step(learned, (rest, keys[-1]))
            all_seen = jax.tree.map(jnp.append, all_seen, seen)
        counted = jnp.sum(all_seen.counted)
        loss = jnp.sum(all_seen.loss * all_seen.counted) / jnp.maximum(counted, 1)
        return learned, Seen(loss, counted, jnp.all(all_seen.finite))

    def step(self, rate: Any, learned: Learned, seen: tuple[Given, chex.PRNGKey]) -> tuple[Learned, Seen]:
        """One step of the optimiser at a learning rate, on the mean loss over the batch of all devices."""
        (params, moments, carry), (given, key) = learned, seen
        batch = given.batch
        own = jnp.sum(batch.mask).astype(jnp.float32)
        counted = self.total(own)
        share = own / jnp.maximum(counted, 1)
        ticks = jax.tree.leaves(batch.inputs)[0].shape[0]
        scale = share * ticks if self.training.scale_loss == "length" else share

        def objective(params: chex.ArrayTree) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            options = {"resets": given.resets, "progress": given.progress, "key": key}
            after, outputs = self.net(params, batch, carry, **options)
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

    def part(self, tree: Any, dim: int = 1) -> Any:
        """This device's sequences, which lie along an axis; of a batch, along that of its kind of leaf."""
        if self.axis is None:
            return tree
        if isinstance(tree, Batch):
            whole = tree.mask.ndim == 1
            rest = {"targets": self.part(tree.targets, 0 if whole else 1), "inputs": self.part(tree.inputs)}
            lengths = None if tree.lengths is None else self.part(tree.lengths, 0)
            return Batch(**rest, mask=self.part(tree.mask, 0 if whole else 1), lengths=lengths)
        index, devices = jax.lax.axis_index(self.axis), jax.lax.axis_size(self.axis)

        def own(a: jax.Array) -> jax.Array:
            size = a.shape[dim] // devices
            return jax.lax.dynamic_slice_in_dim(a, size * index, size, dim)

        return jax.tree.map(own, tree)

    def total(self, tree: Any) -> Any:
        """The sum over the devices that share a batch."""
        return tree if self.axis is None else jax.lax.psum(tree, self.axis)


def cut(given: Given, every: int) -> tuple[Given, Given | None]:
    """Segments of so many ticks, stacked, and what is left."""
    batch, resets, progress = given
    length = batch.mask.shape[0]
    number = length // every
    lengths = batch.lengths
    batch = batch._replace(lengths=None)
    ticks = batch, resets
    whole, within = jax.tree.map(lambda a: a[: number * every].reshape(number, every, *a.shape[1:]), ticks)
    rest, after = jax.tree.map(lambda a: a[number * every :], ticks)
    if lengths is not None:
        starts = every * jnp.arange(number, dtype=lengths.dtype)[:, None]
        whole = whole._replace(lengths=jnp.clip(lengths - starts, 0, every))
        rest = rest._replace(lengths=jnp.maximum(lengths - number * every, 0))
    stacked = Given(whole, within, jnp.full(number, progress))
    return stacked, Given(rest, after, progress) if length > number * every else None
