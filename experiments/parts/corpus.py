"""A text divided into training, validation and test part; and counting as an opponent."""

from __future__ import annotations

import functools
import pathlib
import pydoc_data.topics
import re
from typing import NamedTuple

import numpy as np

from experiments.harness.encoding import UNKNOWN, Vocabulary
from experiments.parts import text
from experiments.parts.ngrams import NGrams, longest
from experiments.parts.text import Level

END = "\f"
"""The symbol after a document."""
MOST = 9
"""The highest order of n-grams that is tried."""
LEAST = 20
"""Symbols that a part must have."""


class Corpus(NamedTuple):
    """A text as symbols: training, validation and test part."""

    vocabulary: Vocabulary
    tokens: tuple[np.ndarray, np.ndarray, np.ndarray]
    counted: NGrams
    """Of the training part, of the order that is best on the validation part."""
    by_order: list[tuple[float, float]]
    """Bits for each symbol that n-grams need on validation and test part, order by order."""
    report: str
    """What was read, and what was left out."""


@functools.cache
def corpus(file: pathlib.Path | None, level: Level, least: int) -> Corpus:
    """A file, in its order, or the documentation of the interpreter, document by document.

    Args:
        file: UTF-8.
        level: what a symbol is.
        least: symbols that come less often in the training part are not known.

    Raises:
        ValueError: for a file that cannot be read, or is too short.
    """
    parts, report = topics() if file is None else cut(file)
    train, *others = (text.symbols(part, level) for part in parts)
    shortest = min(len(train), *map(len, others))
    if shortest < LEAST:
        raise ValueError(f"{file}: expected at least {LEAST} {level}s in each part, got {shortest}.")
    vocabulary = Vocabulary.of(train, least=least)
    learned, validation, test = (vocabulary.encode(part) for part in (train, *others))
    orders = range(1, min(longest(len(vocabulary)), MOST, len(learned)) + 1)
    candidates = [NGrams.counted(learned, order, len(vocabulary)) for order in orders]
    by_order = [(own.bits(validation).mean().item(), own.bits(test).mean().item()) for own in candidates]
    best = min(range(len(candidates)), key=lambda i: by_order[i][0])
    unknown = ", ".join(f"{np.mean(part == UNKNOWN):.2%}" for part in (learned, validation, test))
    sizes = ", ".join(f"{len(part):,}" for part in (learned, validation, test))
    report += (
        f"\n{sizes} {level}s to learn from, to choose by and to test; {len(vocabulary.symbols):,} symbols."
    )
    report += f"\nNot known, because they come less than {least} times in the first part: {unknown}."
    return Corpus(vocabulary, (learned, validation, test), candidates[best], by_order, report)


def topics() -> tuple[list[str], str]:
    """The documentation of the interpreter: training, validation and test part. A tenth for each of the
    latter, whole documents in a fixed random order; those that would be a third of such a part stay in
    training.

    What was learned must not be in the test: a paragraph that a longer document holds is left out.
    """
    own = pydoc_data.topics.topics
    seen: set[str] = set()
    documents = []
    for document in sorted(own.values(), key=lambda each: (-len(each), each)):
        paragraphs = re.split(r"\n\n+", document.strip())
        new = [each for each in paragraphs if " ".join(each.split()) not in seen]
        seen.update(" ".join(each.split()) for each in paragraphs)
        documents.append("\n\n".join([*new, END]) if new else "")
    whole = sum(map(len, documents))
    parts: list[list[str]] = [[], [], []]
    for i in np.random.default_rng(0).permutation(len(documents)):
        length = len(documents[i])
        fits = [length < whole / 30 and length + sum(map(len, part)) <= whole / 10 for part in parts[1:]]
        parts[fits.index(True) + 1 if any(fits) else 0].append(documents[i])
    gone = sum(map(len, own.values())) - whole
    report = (
        f"pydoc_data.topics: {', '.join(str(len(part)) for part in parts)} documents to learn from, to choose"
        f" by and to test; {gone:,} characters left out: paragraphs that a longer document holds."
    )
    return ["".join(part) for part in parts], report


def cut(file: pathlib.Path) -> tuple[list[str], str]:
    """Training, validation and test part of a file, in the order of its text: 80, 10 and 10 percent."""
    whole = text.read(file)
    ends = [len(whole) * 8 // 10, len(whole) * 9 // 10]
    return [
        whole[: ends[0]],
        whole[ends[0] : ends[1]],
        whole[ends[1] :],
    ], f"{file.name}, divided in its order."
