"""Delayed recall."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.fields import static
from rnncells.tasks.base import Batch
from rnncells.tasks.scores import Classification


class DelayedRecall(Classification):
    """Delayed recall: at every tick, say the symbol of k = length ticks ago.

    A new symbol comes at every tick, uniform and independent of all others, so that k of them must be held
    in their order all the time. The first k ticks do not count; `answers` ticks follow.

    Shapes: inputs one-hot [k + answers, B, symbols], targets int32 [k + answers, B], logits of the symbols.
    Baseline: 1 / symbols, as the symbol that is seen tells nothing of the one that is asked.

    Args:
        length: k.
        symbols: kinds of symbols, at least 2.
        answers: ticks that count.

    Source: the delay line by which Jaeger 2001 (GMD Report 152, Short term memory in echo state networks)
    measures the memory of a network, with symbols in place of numbers, as in Repeat Previous of Morad et al.
    2023, arXiv 2303.01859.
    """

    length: int = static(default=20, check=checks.positive_int)
    symbols: int = static(default=8, check=checks.positive_int)
    answers: int = static(default=40, check=checks.positive_int)

    input_size = output_size = 0  # of an instance: symbols

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.symbols < 2:
            raise ValueError(f"DelayedRecall.symbols: expected at least 2, got {self.symbols}.")
        object.__setattr__(self, "input_size", self.symbols)
        object.__setattr__(self, "output_size", self.symbols)

    def sample(self, key: chex.PRNGKey, batch_size: int) -> Batch:
        """Batch of inputs [k + answers, B, symbols], targets [k + answers, B], mask [k + answers, B]."""
        shown = jax.random.randint(key, (self.length + self.answers, batch_size), 0, self.symbols)
        targets = jnp.zeros_like(shown).at[self.length :].set(shown[: self.answers])
        counts = jnp.broadcast_to(jnp.arange(self.length + self.answers)[:, None] >= self.length, shown.shape)
        return Batch(jax.nn.one_hot(shown, self.symbols), targets, counts)

    @property
    def baseline(self) -> float:
        """Accuracy of a guess."""
        return 1 / self.symbols
