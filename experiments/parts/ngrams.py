"""What follows, by counting: the baseline of a language model."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

LEAST = 0.1
"""The smallest discount, so that nothing is impossible where grams of few counts are missing."""


class Table(NamedTuple):
    """The grams of one order. A gram is a number: its symbols as the digits of a number to base `symbols`."""

    grams: np.ndarray
    """int64 [G], sorted."""
    kept: np.ndarray
    """float64 [G]: how often each came, less its discount."""
    contexts: np.ndarray
    """int64 [C], sorted: grams without their last symbol."""
    totals: np.ndarray
    """float64 [C]: how often each came."""
    freed: np.ndarray
    """float64 [C]: what was discounted in all, which the order below spends."""


@dataclasses.dataclass(frozen=True)
class NGrams:
    """Interpolated n-grams with modified Kneser-Ney smoothing.

        p(w | h) = (max(c(h w) - D, 0) + D(h) p(w | h')) / c(h),        h' is h without its first symbol

    c counts at the highest order how often a gram came, at those below how many different symbols came before
    it. D depends on c (1, 2, 3 or more) and is estimated from how many grams came once, twice, three and four
    times; D(h) is the sum of what was taken from the grams that begin with h. Below the lowest order all
    symbols are alike.

    Source: Chen & Goodman 1999, doi 10.1006/csla.1999.0128.
    """

    symbols: int
    """How many different ones there are."""
    tables: tuple[Table, ...]
    """Of order 1, 2, and so on."""

    @staticmethod
    def counted(tokens: np.ndarray, order: int, symbols: int) -> NGrams:
        """Of a text, ints [L] below `symbols`; an n-gram of order 3 sees two symbols before each.

        Raises:
            ValueError: for an order whose grams are too many to be numbered, or that is longer than the text.
        """
        if not 1 <= order <= longest(symbols):
            raise ValueError(f"order: expected 1 to {longest(symbols)} for {symbols} symbols, got {order}.")
        if len(tokens) < order:
            raise ValueError(f"order: expected at most the {len(tokens)} symbols of the text, got {order}.")
        tables = []
        for n in range(order, 0, -1):
            if n == order:
                grams, counts = np.unique(keys(tokens, n, symbols), return_counts=True)
            else:
                above = np.unique(keys(tokens, n + 1, symbols))
                grams, counts = np.unique(above % symbols**n, return_counts=True)
            tables.append(table(grams, counts, symbols))
        return NGrams(symbols, tuple(reversed(tables)))

    def probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """Of each symbol of a text after those before it, float64 [L]."""
        tokens = np.asarray(tokens)
        found = np.full(len(tokens), 1 / self.symbols)
        for n, own in enumerate(self.tables, 1):
            if len(tokens) < n:
                break
            grams = keys(tokens, n, self.symbols)
            place, known = places(own.contexts, grams // self.symbols)
            row, counted = places(own.grams, grams)
            kept = np.where(counted, own.kept[row], 0)
            below = found[n - 1 :]
            mixed = (kept + own.freed[place] * below) / own.totals[place]
            found[n - 1 :] = np.where(known, mixed, below)
        return found

    def bits(self, tokens: np.ndarray) -> np.ndarray:
        """Of each symbol of a text but the first, float64 [L - 1]."""
        return -np.log2(self.probabilities(tokens)[1:])


def longest(symbols: int) -> int:
    """The highest order whose grams are numbers of 63 bits."""
    order = 1
    while symbols ** (order + 1) < 2**63:
        order += 1
    return order


def keys(tokens: np.ndarray, order: int, symbols: int) -> np.ndarray:
    """All grams of a text, int64 [L - order + 1]."""
    number = len(tokens) - order + 1
    whole = np.zeros(max(number, 0), np.int64)
    for i in range(order):
        whole = whole * symbols + tokens[i : i + number]
    return whole


def table(grams: np.ndarray, counts: np.ndarray, symbols: int) -> Table:
    """Of grams, sorted, and how often each came."""
    once, twice, thrice, four = (max(int(np.sum(counts == i)), 1) for i in (1, 2, 3, 4))
    share = once / (once + 2 * twice)
    each = [1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * four / thrice]
    discount = np.clip(each, LEAST, [1, 2, 3])[np.minimum(counts, 3) - 1]
    contexts, first = np.unique(grams // symbols, return_index=True)
    totals, freed = (np.add.reduceat(own.astype(np.float64), first) for own in (counts, discount))
    return Table(grams, counts - discount, contexts, totals, freed)


def places(known: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where in a sorted array, and whether it is there."""
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return place, known[place] == wanted
