"""Multi-query associative recall."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.fields import static
from rnncells.tasks.base import Batch
from rnncells.tasks.draws import distinct
from rnncells.tasks.scores import Classification


class MQAR(Classification):
    """Multi-query associative recall: keys with their values, then every key once more, which asks its value.

    Tokens: 0, keys 1, ..., V / 2 - 1, values V / 2, ..., V - 1, with V = vocabulary. The first 2 P ticks are
    P pairs, a key and then its value; keys are distinct, and so are values, all uniform. Of the ticks 2 P,
    2 P + 2, ... that follow, P are queries, one for each key; the g-th of these places is drawn with weight
    (g + 1)^-0.99, the law of gaps between repeated words, without repetition. All other ticks show uniform
    tokens. The target of a query, at its own tick, is the value of its key.

    Shapes: inputs one-hot [length, B, V], targets int32 [length, B], mask True at the P queries, V logits.
    Baseline: a uniform guess among the values, as a key by itself tells nothing of its value.

    Args:
        length: ticks, even and at least 4 P.
        pairs: P, at most V / 2 - 1.
        vocabulary: V.

    Source: Arora et al. 2023, Zoology, arXiv 2312.04927, with the published code's law of gaps and random
    tokens between the queries. There V is 8192, lengths are 64 to 512, with 4 to 64 pairs.
    """

    length: int = static(default=64, check=checks.positive_int)
    pairs: int = static(default=4, check=checks.positive_int)
    vocabulary: int = static(default=32, check=checks.positive_int)

    input_size = output_size = 0  # of an instance: V

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length % 2 or self.length < 4 * self.pairs:
            raise ValueError(
                f"MQAR.length: expected an even number of at least 4 x {self.pairs} pairs, got {self.length}."
            )
        if self.vocabulary < 2 * self.pairs + 2:
            raise ValueError(
                f"MQAR.vocabulary: expected at least {2 * self.pairs + 2} for {self.pairs} distinct keys,"
                f" got {self.vocabulary}."
            )
        object.__setattr__(self, "input_size", self.vocabulary)
        object.__setattr__(self, "output_size", self.vocabulary)

    def sample(self, key: chex.PRNGKey, batch_size: int) -> Batch:
        """Batch of inputs [length, B, V], targets [length, B], mask [length, B]."""
        key_key, value_key, place_key, noise_key = jax.random.split(key, 4)
        half, context = self.vocabulary // 2, 2 * self.pairs
        keys = 1 + distinct(key_key, half - 1, self.pairs, batch_size)
        values = half + distinct(value_key, self.vocabulary - half, self.pairs, batch_size)
        space = (self.length - context) // 2
        weights = -0.99 * jnp.log(jnp.arange(1, space + 1, dtype=jnp.float32))
        places = context + 2 * distinct(place_key, space, self.pairs, batch_size, weights)
        each = jnp.arange(batch_size)[None]
        tokens = jax.random.randint(noise_key, (self.length, batch_size), 0, self.vocabulary)
        tokens = tokens.at[:context].set(jnp.stack([keys, values], 1).reshape(context, batch_size))
        tokens = tokens.at[places, each].set(keys)
        targets = jnp.zeros_like(tokens).at[places, each].set(values)
        return Batch(jax.nn.one_hot(tokens, self.vocabulary), targets, targets > 0)

    @property
    def baseline(self) -> float:
        """Accuracy of any one value: each of the upper half is as likely as the others."""
        return 1 / math.ceil(self.vocabulary / 2)
