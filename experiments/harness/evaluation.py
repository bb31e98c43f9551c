"""How weights are judged, without noise: on fresh sequences, or on a whole part of finite data, in chunks.

What is summed over chunks are sums and counts, so that a score is exact however it is cut.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness.data import Arrays, count, segment, segments, taken
from experiments.harness.learner import Learner
from rnncells.tasks import Batch
from rnncells.tasks.base import Mean

Means = dict[str, Mean]


def fresh(
    learner: Learner, params: chex.ArrayTree, key: chex.PRNGKey, sequences: int
) -> dict[str, jax.Array]:
    """Scores on at least so many sequences of a task that draws them."""
    chunks = -(-sequences // learner.training.evaluate_at_once)
    size = rounded(learner, -(-sequences // chunks))

    def chunk(key: chex.PRNGKey) -> Means:
        return judged(learner, params, learner.part(learner.task.sample(key, size)))[1]

    if chunks == 1:
        return values(chunk(key))
    return values(summed(jax.lax.map(chunk, jax.random.split(key, chunks))))


def whole(
    learner: Learner, params: chex.ArrayTree, part: Arrays, most: Arrays | None = None
) -> dict[str, jax.Array]:
    """Scores on a part; on as much of it as `most` holds, evenly spread, where that is less."""
    if getattr(learner.task, "stream", False):
        return values(_streams(learner, params, part, most))
    total = count(part)
    number = total if most is None else min(total, count(most))
    size = rounded(learner, min(number, learner.training.evaluate_at_once))
    rows = np.full(-(-number // size) * size, total, np.int32)  # past the last: it does not count
    rows[:number] = np.arange(number) * total // number

    def chunk(own: jax.Array) -> Means:
        return judged(learner, params, taken(part, learner.part(own, 0)))[1]

    return values(summed(jax.lax.map(chunk, jnp.asarray(rows.reshape(-1, size)))))


def _streams(learner: Learner, params: chex.ArrayTree, part: Arrays, most: Arrays | None) -> Means:
    """From the beginning on, segment by segment, the state carried on."""
    length = learner.task.length
    number = segments(part, length) if most is None else min(segments(part, length), segments(most, length))
    like = jax.eval_shape(lambda: segment(part, jnp.int32(0), length)[0])

    def chunk(carry: Any, index: jax.Array) -> tuple[Any, Means]:
        batch, resets = segment(part, index, length)
        return judged(learner, params, batch, carry, resets)

    start = learner.beginning(params, like, count(part))
    return summed(jax.lax.scan(chunk, start, jnp.arange(number))[1])


def judged(
    learner: Learner, params: chex.ArrayTree, batch: Batch, carry: Any = None, resets: jax.Array | None = None
) -> tuple[Any, Means]:
    """The state after a batch, and its metrics as sums and counts, those of all devices together."""
    after, outputs = learner.net(params, batch, carry, resets=resets)
    weight = jnp.sum(batch.mask).astype(jnp.float32)
    metrics = learner.task.metrics(outputs, batch)
    means = {
        name: value if isinstance(value, Mean) else Mean(value * weight, weight)
        for name, value in metrics.items()
    }
    return after, learner.total(means)


def summed(means: Means) -> Means:
    return jax.tree.map(lambda a: jnp.sum(a, 0), means)


def values(means: Means) -> dict[str, jax.Array]:
    return {name: mean.value for name, mean in means.items()}


def rounded(learner: Learner, size: int) -> int:
    """Up to a multiple of the devices that share a batch."""
    devices = 1 if learner.axis is None else jax.lax.axis_size(learner.axis)
    return -(-size // devices) * devices
