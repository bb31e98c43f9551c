"""The copying memory problem."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.fields import choice, static
from rnncells.tasks.base import Batch
from rnncells.tasks.scores import Recall


class Copy(Recall):
    """The copying memory problem: repeat ten symbols after a long delay.

    Classes: 0 blank, 1 to 8 symbols, 9 delimiter. Ticks: 10 symbols, blanks, the delimiter, blanks; the
    targets are blanks, then the 10 symbols. Inputs are one-hot [ticks, B, 10], targets int32 [ticks, B],
    outputs 9 logits. The loss is the mean cross-entropy over all ticks, and n of them count.

    Variants, with T = length:
        arjovsky: T - 1 blanks before the delimiter, and 10 after it, at which the symbols are asked;
            n = T + 20 (Arjovsky, Shah & Bengio 2016, arXiv 1511.06464, after Hochreiter & Schmidhuber 1997).
        janet: T blanks before the delimiter; n = T + 21 (van der Westhuizen & Lasenby 2018,
            arXiv 1804.04849, as in their code).
        exprnn: T blanks, and the first symbol is asked at the delimiter itself, so that 9 blanks follow;
            n = T + 20 (Lezcano-Casado & Martinez-Rubio 2019, arXiv 1901.08428, as in their code).
        variable: from 1 to T blanks, at random for every sequence, padded at the end with ticks that do not
            count; n = 21 + (T + 1) / 2 on average (Henaff, Szlam & LeCun 2016, arXiv 1602.06662; Tallec &
            Ollivier 2018, arXiv 1804.11188).

    The baseline is 10 ln 8 / n: blanks until the delimiter has passed, then a uniform guess of 8. Solved:
    99% of the symbols.

    Args:
        length: T, the delay.
        variant: as above.
    """

    length: int = static(default=100, check=checks.positive_int)
    variant: str = choice("arjovsky", "janet", "exprnn", "variable", default="arjovsky")

    input_size = 10
    output_size = 9

    def sample(self, key: chex.PRNGKey, batch_size: int) -> Batch:
        """Batch of inputs [ticks, B, 10], targets [ticks, B], mask [ticks, B]; T + 20 or 21 ticks."""
        symbol_key, blank_key = jax.random.split(key)
        symbols = jax.random.randint(symbol_key, (10, batch_size), 1, 9)
        if self.variant == "variable":
            blanks = jax.random.randint(blank_key, (1, batch_size), 1, self.length + 1)
        else:
            blanks = jnp.full((1, batch_size), self.length - (self.variant == "arjovsky"), symbols.dtype)
        time = jnp.arange(self.length + (21 if self.variant in ("janet", "variable") else 20))[:, None]
        delimiter = 10 + blanks
        classes = jnp.where(time == delimiter, 9, 0).at[:10].set(symbols)
        place = time - delimiter - (0 if self.variant == "exprnn" else 1)
        asked = jnp.take_along_axis(symbols, jnp.clip(place, 0, 9), 0)
        targets = jnp.where((place >= 0) & (place < 10), asked, 0)
        return Batch(jax.nn.one_hot(classes, 10), targets, place < 10)

    @property
    def baseline(self) -> float:
        """Cross-entropy of blanks until the delimiter has passed, then a uniform guess of 8."""
        ticks = {"janet": self.length + 21, "variable": 21 + (self.length + 1) / 2}
        return 10 * math.log(8) / ticks.get(self.variant, self.length + 20)
