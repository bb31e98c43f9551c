"""The copying memory problem."""

from __future__ import annotations

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from rnncells import checks
from rnncells.fields import Pytree, static
from rnncells.tasks.base import Batch, masked_mean


class Copy(Pytree):
    """The copying memory problem: repeat ten symbols after a long delay.

    Classes: 0 blank, 1 to 8 symbols, 9 delimiter. Ticks: 10 symbols, length - 1 blanks, the
    delimiter, 10 blanks; the targets are blanks, then the 10 symbols at the last 10 ticks. With
    T = length, inputs are one-hot [T + 20, B, 10], targets int32 [T + 20, B], outputs 9 logits. The loss is
    the mean cross-entropy over all ticks, and its memoryless baseline is 10 ln 8 / (T + 20).

    Source: Arjovsky, Shah & Bengio 2016, arXiv 1511.06464, after Hochreiter & Schmidhuber 1997. Other
    papers differ in the number of blanks and in which ticks count: name this variant when comparing.

    Args:
        length: T, the delay.
    """

    length: int = static(default=100, check=checks.positive_int)

    input_size = 10
    output_size = 9
    score = "loss"

    def sample(self, key: chex.PRNGKey, batch_size: int) -> Batch:
        """Batch of inputs [T + 20, B, 10], targets [T + 20, B], mask [T + 20, B]."""
        symbols = jax.random.randint(key, (10, batch_size), 1, 9)
        blank = jnp.zeros((self.length + 10, batch_size), symbols.dtype)
        classes = jnp.concatenate([symbols, blank.at[self.length - 1].set(9)])
        targets = jnp.concatenate([blank, symbols])
        return Batch(jax.nn.one_hot(classes, 10), targets, jnp.ones(targets.shape, bool))

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """Mean cross-entropy, in nats, of logits [T + 20, B, 9]."""
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, batch.targets)
        return masked_mean(losses, batch.mask)

    def metrics(self, outputs: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """loss, and recall: the fraction of the last ten symbols that are right."""
        right = jnp.argmax(outputs[-10:], -1) == batch.targets[-10:]
        return {"loss": self.loss(outputs, batch), "recall": jnp.mean(right.astype(outputs.dtype))}

    @property
    def baseline(self) -> float:
        """Cross-entropy of blanks until the delimiter has passed, then a uniform guess of 8."""
        return 10 * math.log(8) / (self.length + 20)

    def solved(self, metrics: dict[str, Any]) -> Any:
        return metrics["recall"] >= 0.99
