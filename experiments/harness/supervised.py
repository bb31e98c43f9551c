"""Tasks on finite data: classes and numbers, for each sequence or each tick."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, Self

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.harness.data import Arrays, Parts, count, taken, time_major
from rnncells.tasks import Batch
from rnncells.tasks.base import Mean, mean_of


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Finite(abc.ABC):
    """What tasks on finite data share. A class of one's own adds `loss` and `metrics`."""

    parts: Parts | None = dataclasses.field(default=None, metadata={"saved": False})
    """The data; None in a task that was loaded with what was trained."""
    input_size: int
    """I, or how many tokens there are."""
    output_size: int
    tokens: int | None = None
    """How many tokens there are, where inputs are tokens."""
    length: int
    """Ticks of the longest sequence, or of a segment of streams."""
    stream: bool = False
    """The sequences are streams (`data.streams`): all are read side by side, a segment an update, and the
    state is carried on to the end of the epoch."""
    score: str = "loss"
    higher_is_better: bool = False
    enough: float | None = None
    """Solved at this score, or a better one."""
    baseline: float = math.nan
    naive: str = "naive"
    """What has the score `baseline`."""
    extras: dict[str, Any] = dataclasses.field(default_factory=dict)
    """JSON that is saved with what was trained."""

    @abc.abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> jax.Array:
        """The training loss: a mean over what counts."""

    @abc.abstractmethod
    def metrics(self, outputs: Any, batch: Batch) -> dict[str, Mean]:
        """Scores, as sums and counts."""

    def sample(self, key: chex.PRNGKey, batch_size: int) -> Batch:
        """Sequences of the training part, with replacement; training itself takes each once an epoch."""
        train = self.data.train
        if self.stream:
            return time_major(jax.tree.map(lambda a: a[:, : self.length], train._replace(lengths=None)))
        return taken(train, jax.random.randint(key, (batch_size,), 0, count(train)))

    @property
    def data(self) -> Parts:
        """The parts, which must be there."""
        if self.parts is None:
            raise ValueError("parts: expected data, got none: a task that was loaded has them no more.")
        return self.parts

    def solved(self, metrics: dict[str, Any]) -> Any:
        """Whether the score is good enough."""
        if self.enough is None:
            return False
        score = metrics[self.score]
        return score >= self.enough if self.higher_is_better else score <= self.enough

    def __repr__(self) -> str:
        if self.parts is None:
            return f"{type(self).__name__}()"
        sizes = ", ".join(
            f"{name} {count(part)}"
            for name, part in zip(Parts._fields, self.parts, strict=True)
            if part is not None
        )
        return f"{type(self).__name__}({sizes})"


def shape_of(parts: Parts) -> dict[str, Any]:
    """Of inputs that are one array: input_size, tokens and length."""
    inputs = [part.inputs for part in parts if part is not None]
    if inputs[0].dtype.kind == "f":
        size, tokens = inputs[0].shape[-1], None
    else:
        size = tokens = 1 + max(int(each.max()) for each in inputs)
    return {"input_size": size, "tokens": tokens, "length": inputs[0].shape[1]}


def judged(parts: Parts) -> Arrays:
    """The part that a naive score is of: the test part, or what is there in its place."""
    return parts.test or parts.validation or parts.train


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Classification(Finite):
    """Which class: outputs [..., C] are logits, targets [...] ints, for each sequence or each tick.

    The loss is the mean cross-entropy in nats. Metrics: loss and accuracy; for language also perplexity,
    exp(loss), and bits, loss / ln 2 for each symbol.
    """

    score: str = "accuracy"
    higher_is_better: bool = True
    language: bool = False
    """Symbols that follow each other."""

    @classmethod
    def of(cls, parts: Parts, *, language: bool = False, **fields: Any) -> Self:
        """Sizes and the naive score (that of the classes' frequencies) from the data; `fields` override."""
        judge, train = judged(parts), parts.train
        here = [part for part in parts if part is not None]
        classes = fields.get("output_size", 1 + max(int(part.targets[part.mask].max()) for part in here))
        own: dict[str, Any] = {**shape_of(parts), "output_size": classes, "language": language}
        own |= {"score": "perplexity", "higher_is_better": False} if language else {}
        own |= fields
        counts = np.bincount(train.targets[train.mask], minlength=classes)
        wanted = judge.targets[judge.mask]
        nats = -np.log((counts + 1) / (counts.sum() + classes))[wanted].mean()
        scores = {"accuracy": np.mean(wanted == counts.argmax()), "loss": nats}
        scores |= {"perplexity": np.exp(nats), "bits": nats / math.log(2)}
        own.setdefault(
            "naive", "majority class" if own.get("score", cls.score) == "accuracy" else "frequencies"
        )
        own.setdefault("baseline", float(scores[own.get("score", cls.score)]))
        return cls(parts=parts, **own)

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        return mean_of(self._losses(outputs, batch), batch.mask).value

    def metrics(self, outputs: jax.Array, batch: Batch) -> dict[str, Mean]:
        losses, mask = self._losses(outputs, batch), batch.mask
        right = (jnp.argmax(outputs, -1) == batch.targets).astype(losses.dtype)
        found = {"accuracy": mean_of(right, mask), "loss": mean_of(losses, mask)}
        if self.language:
            found = {
                "perplexity": mean_of(losses, mask, jnp.exp),
                "bits": mean_of(losses, mask, in_bits),
                **found,
            }
        return found

    def _losses(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        fitting("targets", outputs.shape[:-1], batch)
        if outputs.shape[-1] != self.output_size:
            raise ValueError(f"model: expected {self.output_size} classes, got {list(outputs.shape)}.")
        return optax.softmax_cross_entropy_with_integer_labels(outputs, batch.targets)


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Regression(Finite):
    """Which numbers: outputs and targets [..., O], for each sequence or each tick.

    The loss is the mean squared error. Metrics: rmse and mae, times `scale`, and loss.
    """

    score: str = "rmse"
    scale: tuple[float, ...] = (1.0,)
    """Units of a target in those of the data, one for all or for each of O: a Scaler's deviation."""

    @classmethod
    def of(cls, parts: Parts, **fields: Any) -> Self:
        """Sizes and the naive score (that of the training part's mean) from the data; `fields` override."""
        judge, train = judged(parts), parts.train
        errors = judge.targets[judge.mask] - train.targets[train.mask].mean(0)
        scaled = errors * np.asarray(fields.get("scale", cls.scale))
        scores = {"rmse": np.sqrt(np.mean(scaled**2)), "mae": np.mean(np.abs(scaled))}
        scores["loss"] = np.mean(errors**2)
        own = {**shape_of(parts), "output_size": train.targets.shape[-1], "naive": "mean"}
        own["baseline"] = float(scores[fields.get("score", cls.score)])
        return cls(parts=parts, **own | fields)

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        return self._mean(jnp.square(self._errors(outputs, batch)), batch).value

    def metrics(self, outputs: jax.Array, batch: Batch) -> dict[str, Mean]:
        errors = self._errors(outputs, batch)
        scaled = errors * jnp.asarray(self.scale, errors.dtype)
        return {
            "rmse": self._mean(jnp.square(scaled), batch, jnp.sqrt),
            "mae": self._mean(jnp.abs(scaled), batch),
            "loss": self._mean(jnp.square(errors), batch),
        }

    def _errors(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        fitting("targets", outputs.shape[:-1], batch)
        if outputs.shape != batch.targets.shape:
            raise ValueError(
                f"targets: expected as many numbers as the {outputs.shape[-1]} of an output, got"
                f" {batch.targets.shape[-1]}."
            )
        return outputs - batch.targets

    def _mean(self, values: jax.Array, batch: Batch, then: Any = None) -> Mean:
        return mean_of(jnp.mean(values, -1), batch.mask, then)


def check_classes(part: Arrays, classes: int) -> None:
    """Targets are among the classes that were learned."""
    wanted = np.asarray(part.targets)[np.asarray(part.mask)]
    if not np.issubdtype(wanted.dtype, np.integer):
        raise TypeError(f"targets: expected classes from 0 to {classes - 1}, got {wanted.dtype}.")
    if wanted.size and not 0 <= wanted.min() <= wanted.max() < classes:
        raise ValueError(
            f"targets: expected classes from 0 to {classes - 1}, got {wanted.min()} to {wanted.max()}."
        )


def in_bits(nats: jax.Array) -> jax.Array:
    return nats / math.log(2)


def fitting(name: str, shape: tuple[int, ...], batch: Batch) -> None:
    """Outputs come as often as targets are wanted."""
    if shape != batch.mask.shape:
        wanted = "every sequence" if batch.mask.ndim == 1 else "every tick"
        raise ValueError(
            f"pooling: expected outputs for {wanted}, as {name} are {list(batch.mask.shape)}, got outputs for"
            f" {list(shape)}; pooling=every gives one a tick, last, mean and attention one a sequence."
        )
