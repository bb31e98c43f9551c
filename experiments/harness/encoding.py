"""How numbers and symbols of the world become those of a model, and back; saved with what was trained."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Scaler:
    """Numbers with mean 0 and deviation 1, column by column: x -> (x - mean) / deviation.

    Fit it on the training part only, or what is known of the test enters the training.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @staticmethod
    def fitted(values: Any) -> Scaler:
        """Of values [..., I], over all axes but the last. A column that never changes is only shifted."""
        rows = np.asarray(values, np.float64).reshape(-1, np.shape(values)[-1])
        deviation = rows.std(0)
        deviation[deviation == 0] = 1.0
        return Scaler(tuple(map(float, rows.mean(0))), tuple(map(float, deviation)))

    def apply(self, values: Any) -> np.ndarray:
        """float32 [..., I]."""
        return ((np.asarray(values, np.float64) - self.mean) / self.deviation).astype(np.float32)

    def invert(self, values: Any) -> np.ndarray:
        """float64 [..., I], in the original unit."""
        return np.asarray(values, np.float64) * self.deviation + self.mean

    def columns(self, places: Sequence[int]) -> Scaler:
        """Of some of the columns, in this order."""
        return Scaler(tuple(self.mean[i] for i in places), tuple(self.deviation[i] for i in places))

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"mean": list(self.mean), "deviation": list(self.deviation)}

    @staticmethod
    def restored(plain: Mapping[str, Any]) -> Scaler:
        """From `plain`."""
        return Scaler(tuple(plain["mean"]), tuple(plain["deviation"]))


PADDING, UNKNOWN = 0, 1


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Symbols, such as characters or words, as numbers: 0 is padding, 1 what is not known, 2 the first."""

    symbols: tuple[str, ...]

    @staticmethod
    def of(text: Iterable[str], size: int | None = None, least: int = 1) -> Vocabulary:
        """The symbols of a text (a string is its characters), the most frequent first, equals in their order.

        Args:
            text: the training part, symbol by symbol.
            size: keep so many of them.
            least: keep those that occur so often.
        """
        counts = collections.Counter(text)
        kept = sorted((symbol for symbol in counts if counts[symbol] >= least), key=lambda s: (-counts[s], s))
        return Vocabulary(tuple(kept[:size]))

    def __len__(self) -> int:
        return len(self.symbols) + 2

    def encode(self, text: Iterable[str]) -> np.ndarray:
        """int32 [L]."""
        known = {symbol: i for i, symbol in enumerate(self.symbols, 2)}
        return np.array([known.get(symbol, UNKNOWN) for symbol in text], np.int32)

    def decode(self, numbers: Iterable[int], unknown: str = "\N{REPLACEMENT CHARACTER}") -> list[str]:
        """The symbols; padding is left out."""
        names = ["", unknown, *self.symbols]
        return [names[int(number)] for number in numbers if int(number) != PADDING]

    def plain(self) -> Sequence[str]:
        """As JSON holds it."""
        return list(self.symbols)

    @staticmethod
    def restored(plain: Sequence[str]) -> Vocabulary:
        """From `plain`."""
        return Vocabulary(tuple(plain))
