"""What a task is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import chex
import flax.struct
import jax
import jax.numpy as jnp


class Batch(NamedTuple):
    """One draw of B sequences of T ticks."""

    inputs: jax.Array
    """float32 [T, B, I], or tokens, int32 [T, B]."""
    targets: jax.Array
    """[T, B, ...]: what the output should be, or should be classified as, at each tick; or [B, ...], once for
    each sequence."""
    mask: jax.Array
    """bool [T, B]: the ticks whose output counts; or [B]: the sequences."""
    lengths: jax.Array | None = None
    """int32 [B]: ticks of each sequence, where they differ; a model must not look past them."""


@flax.struct.dataclass
class Mean:
    """A metric as a sum and the number of its terms, so that it is exact over a set read in parts.

        value = then(total / count)

    `then` is a function by name, such as `jnp.sqrt` for the root of a mean square; None leaves the mean.
    """

    total: jax.Array
    count: jax.Array
    then: Callable[[jax.Array], jax.Array] | None = flax.struct.field(pytree_node=False, default=None)

    @property
    def value(self) -> jax.Array:
        """The metric; of nothing, that of a mean of 0."""
        mean = self.total / jnp.maximum(self.count, 1)
        return mean if self.then is None else self.then(mean)


class Task(Protocol):
    """What the experiments need of a task.

    Beside what follows, a task may say: `higher_is_better`, True where a higher score is a better one;
    `fractions`, names of metrics that are shown in percent; `naive`, what `baseline` is the score of;
    `tokens`, the number of different inputs where these are integers; `extras`, JSON that is saved with what
    was trained, such as a vocabulary.
    """

    @property
    def input_size(self) -> int:
        """I, or how many tokens there are."""

    @property
    def output_size(self) -> int:
        """O."""

    @property
    def score(self) -> str:
        """The metric that decides whether the task is solved, and that tables report first."""

    @property
    def length(self) -> int:
        """The dependency, in ticks: `dataclasses.replace` makes the same task at another length."""

    def sample(self, key: chex.PRNGKey, batch_size: int) -> Batch:
        """Draws sequences."""

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """The training loss of outputs [T, B, O], a scalar: the mean over the ticks that count."""

    def metrics(self, outputs: jax.Array, batch: Batch) -> dict[str, Any]:
        """Scores of outputs [T, B, O]: scalars that are means over the ticks that count, or `Mean`s."""

    @property
    def baseline(self) -> float:
        """The best expected score without memory, in closed form."""

    def solved(self, metrics: dict[str, Any]) -> Any:
        """Whether these scores count as a solution."""


def higher_is_better(task: Task) -> bool:
    """Whether a higher score is a better one; lower, where a task does not say."""
    return bool(getattr(task, "higher_is_better", False))


def is_fraction(task: Task, metric: str) -> bool:
    """Whether a metric lies between 0 and 1 and is shown in percent."""
    return metric in getattr(task, "fractions", ("accuracy", "correct", "recall", "exact"))


def naive(task: Task) -> str:
    """What has the score `baseline`."""
    return str(getattr(task, "naive", "memoryless"))


def tokens(task: Task) -> int | None:
    """How many different inputs there are, where these are integers."""
    return getattr(task, "tokens", None)


def extras(task: Task) -> dict[str, Any]:
    """JSON that is saved with what was trained."""
    return getattr(task, "extras", {})


def mean_of(values: jax.Array, mask: jax.Array, then: Callable[[jax.Array], jax.Array] | None = None) -> Mean:
    """Over the values that count; both of one shape."""
    return Mean(jnp.sum(jnp.where(mask, values, 0)), jnp.sum(mask).astype(values.dtype), then)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """0 where nothing counts, as in a segment before the answer."""
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1).astype(values.dtype)
