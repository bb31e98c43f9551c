"""The adding problem."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.fields import Pytree, choice, static
from rnncells.tasks.base import Batch, masked_mean
from rnncells.tasks.scores import squared_error


class Adding(Pytree):
    """The adding problem: remember two marked numbers, give their sum at the last tick.

    Each tick shows (value, marker), so inputs are [T, B, 2]; targets are [T, B, 1], and the mask is
    True at the last tick only. The loss is the mean squared error.

    Variants:
        halves: values U[0, 1]; one marker 1 uniform in the first half, one in the second; the target
            is the sum. Baseline 1/6 (Arjovsky, Shah & Bengio 2016, arXiv 1511.06464). Solved: MSE < 0.01.
        anywhere: both markers uniform over the sequence, so that lags are shorter (Bai, Kolter &
            Koltun 2018, arXiv 1803.01271). Baseline 1/6. Solved: MSE < 0.01.
        original: values U[-1, 1]; lengths uniform in {T, ..., 1.1 T}, padded with zeros; the first
            marker within the first 10 ticks, the second among the first T/2 - 1 unmarked ones; marker
            -1 at both ends unless marked; a marked first value is zeroed; target 0.5 + (v1 + v2) / 4
            (Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735). Baseline about 1/24.
            Solved: an error below 0.04 on 99% of the sequences.

    Args:
        length: T, at least 2 (original: at least 20).
        variant: as above.
    """

    length: int = static(default=100)
    variant: str = choice("halves", "anywhere", "original", default="halves")

    input_size = 2
    output_size = 1
    score = "mse"
    higher_is_better = False

    def __post_init__(self) -> None:
        super().__post_init__()
        shortest = 20 if self.variant == "original" else 2
        if checks.positive_int("Adding.length", self.length) < shortest:
            raise ValueError(f"Adding.length: expected at least {shortest}, got {self.length}.")

    def sample(self, key: chex.PRNGKey, batch_size: int) -> Batch:
        """Batch of inputs [T, B, 2], targets [T, B, 1], mask [T, B] (original: T is 1.1 length)."""
        draw = self._original if self.variant == "original" else self._sum
        values, markers, target, last = draw(key, batch_size)
        mask = jnp.arange(values.shape[0])[:, None] == last[None]
        targets = jnp.where(mask, target[None], 0.0)[..., None]
        return Batch(jnp.stack([values, markers], -1), targets, mask)

    def _sum(self, key: chex.PRNGKey, batch_size: int) -> tuple[jax.Array, ...]:
        value_key, first_key, second_key = jax.random.split(key, 3)
        length, shape = self.length, (batch_size,)
        values = jax.random.uniform(value_key, (length, batch_size))
        if self.variant == "halves":
            first = jax.random.randint(first_key, shape, 0, length // 2)
            second = jax.random.randint(second_key, shape, length // 2, length)
        else:
            first = jax.random.randint(first_key, shape, 0, length)
            second = (first + jax.random.randint(second_key, shape, 1, length)) % length
        time = jnp.arange(length)[:, None]
        markers = ((time == first[None]) | (time == second[None])).astype(values.dtype)
        return values, markers, jnp.sum(values * markers, 0), jnp.full(shape, length - 1)

    def _original(self, key: chex.PRNGKey, batch_size: int) -> tuple[jax.Array, ...]:
        value_key, length_key, first_key, second_key = jax.random.split(key, 4)
        longest, shape = int(1.1 * self.length), (batch_size,)
        last = jax.random.randint(length_key, shape, self.length, longest + 1) - 1
        first = jax.random.randint(first_key, shape, 0, 10)
        second = jax.random.randint(second_key, shape, 0, self.length // 2 - 1)
        second = second + (second >= first).astype(second.dtype)  # the marked tick is passed over
        time = jnp.arange(longest)[:, None]
        marked = (time == first[None]) | (time == second[None])
        ends = (time == 0) | (time == last[None])
        values = jax.random.uniform(value_key, (longest, batch_size), minval=-1.0, maxval=1.0)
        values = jnp.where((marked & (time == 0)) | (time > last[None]), 0.0, values)
        markers = jnp.where(marked, 1.0, jnp.where(ends, -1.0, 0.0))
        target = 0.5 + jnp.sum(jnp.where(marked, values, 0.0), 0) / 4
        return values, markers, target, last

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """Mean squared error of outputs [T, B, 1] at the last tick."""
        return squared_error(outputs, batch)

    def metrics(self, outputs: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """mse, and the fraction of sequences with an error below 0.04."""
        error = jnp.abs(outputs - batch.targets)[..., 0]
        correct = masked_mean((error < 0.04).astype(outputs.dtype), batch.mask)
        return {"mse": self.loss(outputs, batch), "correct": correct}

    @property
    def baseline(self) -> float:
        """MSE of the constant prediction that is best."""
        if self.variant != "original":
            return 1 / 6
        zeroed = 1 / 10 + 9 / 10 / (self.length // 2 - 1)  # how often a marker falls on the first tick
        return (2 - zeroed) / 3 / 16

    def solved(self, metrics: dict[str, Any]) -> Any:
        if self.variant == "original":
            return metrics["correct"] >= 0.99
        return metrics["mse"] < 0.01
