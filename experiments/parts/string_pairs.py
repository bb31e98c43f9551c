"""Strings and their answers: dates in many forms, sums, and those of a file."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

from experiments.harness import csv_file

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
FORMS = (
    "{day}.{month}.{year}",
    "{day:02}.{month:02}.{short_year:02}",
    "{month}/{day}/{year}",
    "{year}/{month:02}/{day:02}",
    "{year}{month:02}{day:02}",
    "{day} {name} {year}",
    "{day}-{short_name}-{short_year:02}",
    "{name} {day}, {year}",
    "{short_name} {day}{ending}, {year}",
    "{weekday}, {day} {name} {year}",
    "{weekday:.3}, {day:02} {short_name} {year}",
    "the {day}{ending} of {name} {year}",
    "{weekday} the {day}{ending} of {name} '{short_year:02}",
)
"""How dates are written: with dots the day comes first, with slashes the month, or a year of four digits."""
FIRST, AFTER = datetime.date(1950, 1, 1), datetime.date(2050, 1, 1)


class Pairs(NamedTuple):
    """Strings with their answers."""

    sources: list[str]
    targets: list[str]
    report: str
    """What they are, and what was left out."""


def dates(number: int) -> Pairs:
    """Days from 1950 to 2049 as ISO 8601 has them; no day twice, each in one of the forms.

    Raises:
        ValueError: for more than there are.
    """
    rng = np.random.default_rng(0)
    span = (AFTER - FIRST).days
    if number > span:
        raise ValueError(f"pairs: expected at most the {span} days from 1950 to 2049, got {number}.")
    days = [FIRST + datetime.timedelta(int(i)) for i in rng.permutation(span)[:number]]
    sources = [written(day, rng) for day in days]
    report = f"{number} days from 1950 to 2049, each in one of {len(FORMS)} forms."
    return Pairs(sources, [day.isoformat() for day in days], report)


def written(day: datetime.date, rng: np.random.Generator) -> str:
    """A day in one of the forms; one in four is in capitals, and one in small letters."""
    name = MONTHS[day.month - 1]
    ending = "th" if 10 < day.day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    names = {"name": name, "short_name": name[:3], "weekday": DAYS[day.weekday()], "ending": ending}
    numbers = {"day": day.day, "month": day.month, "year": day.year, "short_year": day.year % 100}
    text = FORMS[rng.integers(len(FORMS))].format(**names, **numbers)
    return (text, text, text.lower(), text.upper())[rng.integers(4)]


def sums(number: int, digits: int) -> Pairs:
    """12+345= and 357: two numbers of 1 to `digits` digits; none twice, not even the other way round.

    Raises:
        ValueError: for more than were found.
    """
    rng = np.random.default_rng(0)
    top = 10 ** rng.integers(1, digits + 1, (4 * number, 2))
    both = np.unique(np.sort((rng.random(top.shape) * top).astype(np.int64), 1), axis=0)
    if len(both) < number:
        raise ValueError(
            f"pairs: expected at most the {len(both)} sums of {digits} digits that were found, got {number}."
        )
    chosen = rng.permuted(rng.permutation(both)[:number], axis=1).tolist()
    sources, targets = [f"{a}+{b}=" for a, b in chosen], [str(a + b) for a, b in chosen]
    return Pairs(sources, targets, f"{number} sums of two numbers with 1 to {digits} digits.")


def from_file(file: pathlib.Path, columns: tuple[str, str]) -> Pairs:
    """Two columns of a CSV file. A source that was there before is left out, so that none is in two parts."""
    table = csv_file.read(file, columns).filled(*columns)
    first = {text: row for row, text in reversed(list(enumerate(table[columns[0]])))}
    again = [first[text] != row for row, text in enumerate(table[columns[0]])]
    table = table.without(again, f"{columns[0]!r} was there before")
    return Pairs(table[columns[0]], table[columns[1]], table.report())


def nearest(train: Pairs, sources: Sequence[str]) -> list[str]:
    """The answer to the most similar source that is known: by its parts of one to three characters."""
    parts = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), lowercase=False)
    neighbours = NearestNeighbors(n_neighbors=1, metric="cosine").fit(parts.fit_transform(train.sources))
    return [train.targets[i] for i in neighbours.kneighbors(parts.transform(sources))[1][:, 0]]
