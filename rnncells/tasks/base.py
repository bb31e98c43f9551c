"""What a task is."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp


class Batch(NamedTuple):
    """One draw of B sequences of T ticks."""

    inputs: jax.Array
    """float32 [T, B, I]."""
    targets: jax.Array
    """[T, B, ...]: what the output should be, or should be classified as, at each tick."""
    mask: jax.Array
    """bool [T, B]: the ticks whose output counts."""


class Task(Protocol):
    """What the experiments need of a task."""

    input_size: int
    output_size: int
    score: str
    """The metric that decides whether the task is solved, and that tables report first."""

    @property
    def length(self) -> int:
        """The dependency, in ticks: `dataclasses.replace` makes the same task at another length."""

    def sample(self, key: chex.PRNGKey, batch_size: int) -> Batch:
        """Draws sequences."""

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """The training loss of outputs [T, B, O], a scalar: the mean over the ticks that count."""

    def metrics(self, outputs: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Scores of outputs [T, B, O], scalars."""

    @property
    def baseline(self) -> float:
        """The best expected loss without memory, in closed form."""

    def solved(self, metrics: dict[str, Any]) -> Any:
        """Whether these scores count as a solution."""


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """0 where nothing counts, as in a segment before the answer."""
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1).astype(values.dtype)
