"""Regular languages, on which length generalisation is measured."""

from __future__ import annotations

import abc
from typing import TypeAlias

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rnncells import checks
from rnncells.fields import static
from rnncells.tasks.base import Batch
from rnncells.tasks.scores import Classification

Pair: TypeAlias = tuple[jax.Array, jax.Array]


class Regular(Classification, abc.ABC):
    """One question about a whole word, answered at its last tick.

    Lengths are uniform in {shortest, ..., length}, at random for every sequence. Words are one-hot, padded
    with zeros: inputs [length, B, input_size], targets int32 [length, B], and the mask is True at the last
    tick of each word. Generalisation: the parameters that were trained on short words are tested on longer
    ones, those of `dataclasses.replace(task, length=500, shortest=41)`.

    Source: Deletang et al. 2023, arXiv 2207.02098, who train on lengths U{1, ..., 40} and test on 41 to 500;
    there all words of a batch have one length.
    """

    length: int = static(default=40, check=checks.positive_int)
    shortest: int = static(default=1, check=checks.positive_int)

    input_size = 2
    output_size = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shortest > self.length:
            name = type(self).__name__
            raise ValueError(
                f"{name}.shortest: expected at most the length, {self.length}, got {self.shortest}."
            )

    def sample(self, key: chex.PRNGKey, batch_size: int) -> Batch:
        """Batch of inputs [length, B, input_size], targets [length, B], mask [length, B]."""
        length_key, key = jax.random.split(key)
        drawn = jax.random.randint(length_key, (1, batch_size), self.shortest, self.length + 1)
        letters, answers = self.words(key, batch_size)
        last = self.last(drawn)
        time = jnp.arange(self.length)[:, None]
        mask = time == last
        inputs = jnp.where((time <= last)[..., None], jax.nn.one_hot(letters, self.input_size), 0)
        return Batch(inputs, jnp.where(mask, answers, 0), mask)

    @abc.abstractmethod
    def words(self, key: chex.PRNGKey, batch_size: int) -> tuple[jax.Array, jax.Array]:
        """int32 [length, B] letters, and the answer for the word that ends at each tick."""

    def last(self, length: jax.Array) -> jax.Array:
        """The last tick of a word of this length."""
        return length - 1

    @property
    def baseline(self) -> float:
        """Accuracy from the last letter alone: words of one letter are read off it, and of all others half
        have either answer, whatever their last letter is."""
        return (1 + (self.shortest == 1) / (self.length - self.shortest + 1)) / 2


class Parity(Regular):
    """Is the number of ones odd? Letters 0 and 1, uniform; class 1 where it is odd.

    Args:
        length: of the longest words.
        shortest: length of the shortest words.

    Source and the rest: see `Regular`. The baseline is 1/2, and certainty where a word has one letter.
    """

    def words(self, key: chex.PRNGKey, batch_size: int) -> tuple[jax.Array, jax.Array]:
        letters = jax.random.randint(key, (self.length, batch_size), 0, 2)
        return letters, jnp.cumsum(letters, 0) % 2


class EvenPairs(Regular):
    """Is the number of 01 and 10 together even? Letters 0 and 1, uniform; class 1 where it is odd.

    That is, do the first and the last letter differ: a word is as long a memory as it has letters.

    Args:
        length: of the longest words.
        shortest: length of the shortest words.

    Source and the rest: see `Regular`. The baseline is 1/2, and certainty where a word has one letter.
    """

    def words(self, key: chex.PRNGKey, batch_size: int) -> tuple[jax.Array, jax.Array]:
        letters = jax.random.randint(key, (self.length, batch_size), 0, 2)
        return letters, letters ^ letters[:1]


class ModularArithmetic(Regular):
    """What is 2 - 3 * 4 + 1, modulo 5? Numbers 0 to 4 and operators +, -, *, uniform; * binds more tightly.

    Letters: 0 to 4 the numbers, 5 to 7 the operators +, -, *. Words have odd lengths: of an even length that
    is drawn, the last tick is left out, as the authors do.

    Args:
        length: of the longest words.
        shortest: length of the shortest words.

    Source and the rest: see `Regular`.
    """

    input_size = 8
    output_size = 5

    def words(self, key: chex.PRNGKey, batch_size: int) -> tuple[jax.Array, jax.Array]:
        number_key, operator_key = jax.random.split(key)
        shape = ((self.length + 1) // 2, batch_size)
        numbers = jax.random.randint(number_key, shape, 0, 5)
        after = jax.random.randint(operator_key, shape, 0, 3)
        before = jnp.concatenate([jnp.zeros_like(after[:1]), after[:-1]])

        def read(state: Pair, now: Pair) -> tuple[Pair, jax.Array]:
            (total, term), (number, operator) = state, now
            times, signed = operator == 2, jnp.where(operator == 1, -number, number)
            total = jnp.where(times, total, total + term) % 5
            term = jnp.where(times, term * number, signed) % 5
            return (total, term), (total + term) % 5

        nothing = jnp.zeros_like(numbers[0])
        _, values = jax.lax.scan(read, (nothing, nothing), (numbers, before))
        letters = jnp.stack([numbers, 5 + after], 1).reshape(-1, batch_size)
        return letters[: self.length], jnp.repeat(values, 2, 0)[: self.length]

    def last(self, length: jax.Array) -> jax.Array:
        return (length + 1) // 2 * 2 - 2

    @property
    def baseline(self) -> float:
        """Accuracy of the best answer to each last number, which is all that a memoryless predictor sees.

        Before the last number a word is a sum so far and a last term, a Markov chain over 25 states; the
        three ways to go on give the probability of each answer to each last number, averaged over lengths.
        """
        lengths = np.arange(self.shortest, self.length + 1)
        counts = np.bincount((lengths + 1) // 2) / len(lengths)
        total, term, number = np.indices((5, 5, 5))
        chain, answers = np.zeros((5, 5, 5)), np.zeros((5, 5))
        chain[0, number[0, 0], number[0, 0]] = 1 / 5  # sum, last term, last number
        for count in counts[1:]:
            np.add.at(answers, ((total + term) % 5, number), count * chain)
            before = chain.sum(2)[total, term] / 15
            chain = np.zeros((5, 5, 5))
            for s, t in ((total + term, number), (total + term, -number), (total, term * number)):
                np.add.at(chain, (s % 5, t % 5, number), before)
        return float(answers.max(0).sum())
