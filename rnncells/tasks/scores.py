"""How outputs are scored over the ticks that count: classes that are named, symbols that are asked back
after a delay, values that are predicted. Each kind of task is a class here, with its loss, metrics and
`solved`."""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rnncells.fields import Pytree
from rnncells.tasks.base import Batch, masked_mean, mean_of


def cross_entropy(logits: jax.Array, batch: Batch) -> jax.Array:
    """Mean cross-entropy, in nats, of logits [T, B, O] against classes [T, B]."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
    return masked_mean(losses, batch.mask)


def accuracy(logits: jax.Array, batch: Batch) -> jax.Array:
    """The fraction of classes [T, B] to which logits [T, B, O] give the highest value."""
    right = jnp.argmax(logits, -1) == batch.targets
    return masked_mean(right.astype(logits.dtype), batch.mask)


def squared_error(outputs: jax.Array, batch: Batch) -> jax.Array:
    """Mean squared error of outputs [T, B, O] against targets [T, B, O]."""
    return masked_mean(jnp.mean(jnp.square(outputs - batch.targets), -1), batch.mask)


class Classification(Pytree):
    """Names a class at every tick that counts. The loss is the cross-entropy, the score is the accuracy."""

    score = "accuracy"
    higher_is_better = True

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """Mean cross-entropy, in nats, of logits [T, B, O]."""
        return cross_entropy(outputs, batch)

    def metrics(self, outputs: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """accuracy, and loss."""
        return {"accuracy": accuracy(outputs, batch), "loss": self.loss(outputs, batch)}

    def solved(self, metrics: dict[str, Any]) -> Any:
        """An accuracy of 99%."""
        return metrics["accuracy"] >= 0.99


class Recall(Pytree):
    """Asks symbols back after a delay. Class 0 is the blank, which is the target of all ticks before.

    The loss is the cross-entropy over all ticks that count, blanks among them, and the score is the loss.
    """

    score = "loss"
    higher_is_better = False

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """Mean cross-entropy, in nats, of logits [T, B, O]."""
        return cross_entropy(outputs, batch)

    def metrics(self, outputs: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """loss, and recall: the fraction of the symbols that are right."""
        symbols = batch._replace(mask=batch.mask & (batch.targets > 0))
        return {"loss": self.loss(outputs, batch), "recall": accuracy(outputs, symbols)}

    def solved(self, metrics: dict[str, Any]) -> Any:
        """A recall of 99%."""
        return metrics["recall"] >= 0.99


class Prediction(Pytree, abc.ABC):
    """Says a value that is yet to come. The loss is the mean squared error, and so is the score."""

    score = "mse"
    higher_is_better = False
    naive = "scaled last value"

    @property
    @abc.abstractmethod
    def variance(self) -> float:
        """Of the targets that count."""

    @property
    @abc.abstractmethod
    def baseline(self) -> float:
        """Mean squared error of the best line through the last value."""

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """Mean squared error of outputs [T, B, O]."""
        return squared_error(outputs, batch)

    def metrics(self, outputs: jax.Array, batch: Batch) -> dict[str, Any]:
        """mse, and nrmse: the root of mse over the variance of the targets."""
        errors = jnp.mean(jnp.square(outputs - batch.targets), -1)
        nrmse = mean_of(errors / self.variance, batch.mask, jnp.sqrt)
        return {"mse": masked_mean(errors, batch.mask), "nrmse": nrmse}

    def solved(self, metrics: dict[str, Any]) -> Any:
        """A hundredth of the baseline: an error a tenth of the naive one."""
        return metrics["mse"] < self.baseline / 100
