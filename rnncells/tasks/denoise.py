"""Symbols among noise."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.fields import choice, static
from rnncells.tasks.base import Batch
from rnncells.tasks.draws import distinct
from rnncells.tasks.scores import Recall


class Denoise(Recall):
    """Denoise, or selective copying: symbols lie at random places among blanks, and are asked in their order.

    A cell must take the symbols and pass over the blanks, at times that it cannot know: a fixed delay does
    not do, as it does for `Copy`. Classes: 0 blank, then the kinds of symbols, then the marker. Places are
    distinct and uniform. Inputs are one-hot [ticks, B, classes], targets int32 [ticks, B], outputs logits of
    the blank and the kinds.

    Variants, with T = length:
        goru: 10 symbols of 9 kinds among the first T + 9 ticks, the marker, and 10 blanks, at which the
            symbols are asked; all T + 20 ticks count. Baseline 10 ln 9 / (T + 20) (Jing et al. 2017,
            arXiv 1706.02761). Deviations: their code draws places with replacement, so that symbols may
            be lost, and gives the marker no input of its own.
        selective: 16 symbols of 14 kinds among the first T + 16 ticks, then 16 markers, at which the symbols
            are asked; only these 16 ticks count. Baseline ln 14 (Gu & Dao 2023, arXiv 2312.00752, with
            T about 4096).

    The baseline is a blank where a blank is right, and otherwise a uniform guess. Solved: 99% of the symbols.

    Args:
        length: T.
        variant: as above.
    """

    length: int = static(default=100, check=checks.positive_int)
    variant: str = choice("goru", "selective", default="goru")

    input_size = output_size = symbols = kinds = 0  # of an instance: as the variant has them

    def __post_init__(self) -> None:
        super().__post_init__()
        symbols, kinds = (10, 9) if self.variant == "goru" else (16, 14)
        sizes = {"symbols": symbols, "kinds": kinds, "input_size": kinds + 2, "output_size": kinds + 1}
        for name, size in sizes.items():
            object.__setattr__(self, name, size)

    def sample(self, key: chex.PRNGKey, batch_size: int) -> Batch:
        """Batch of inputs [ticks, B, kinds + 2], targets [ticks, B], mask [ticks, B]."""
        symbol_key, place_key = jax.random.split(key)
        selective, asked, marker = self.variant == "selective", self.symbols, self.kinds + 1
        symbols = jax.random.randint(symbol_key, (asked, batch_size), 1, marker)
        noise = self.length + (asked if selective else asked - 1)
        places = jnp.sort(distinct(place_key, noise, asked, batch_size), 0)
        blank = jnp.zeros((noise, batch_size), symbols.dtype)
        among = blank.at[places, jnp.arange(batch_size)[None]].set(symbols)
        marked = jnp.zeros((asked if selective else asked + 1, batch_size), symbols.dtype)
        marked = marked.at[: asked if selective else 1].set(marker)
        classes = jnp.concatenate([among, marked])
        targets = jnp.zeros_like(classes).at[-asked:].set(symbols)
        counts = (targets > 0) | (not selective)
        return Batch(jax.nn.one_hot(classes, self.input_size), targets, counts)

    @property
    def baseline(self) -> float:
        """Cross-entropy of blanks until the marker has come, then a uniform guess."""
        guess = math.log(self.kinds)
        return guess if self.variant == "selective" else 10 * guess / (self.length + 20)
