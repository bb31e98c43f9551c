"""Texts with a class each: from the columns of a file; as tokens, divided by what belongs together."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections import Counter, defaultdict
from typing import Any, Literal

import jax
import numpy as np

from experiments.harness import csv_file, given
from experiments.harness.data import Arrays, Parts, split
from experiments.harness.encoding import UNKNOWN, Vocabulary

Units = Literal["characters", "words"]


@dataclasses.dataclass(frozen=True)
class Examples:
    """Texts, and the class of each."""

    source: str
    """What they are called."""
    texts: list[str]
    labels: list[int]
    """Of each text, which of the classes."""
    classes: list[str]
    groups: list[str]
    """Of each text, what it belongs to: no group is in two parts."""


def read(file: pathlib.Path, text: str, label: str, group: str | None = None) -> Examples:
    """Two columns of a CSV file, rows with both; says on the standard error stream what was read, and what
    was left out and why.

    Args:
        file: to read.
        text, label: names of the columns.
        group: a column of what texts belong to; by default those that are the same belong together.

    Raises:
        ValueError: for what is wrong with the file, and where there are too few classes or texts of one.
    """
    names = (text, label) if group is None else (text, label, group)
    table = csv_file.read(file, names).filled(*names)
    print(table.report(), file=sys.stderr)
    groups, classes = table[group or text], sorted(set(table[label]))
    if len(classes) < 2:
        raise ValueError(
            f"{file}, column {label!r}: expected two classes or more, found {classes[0]!r} only."
        )
    of_class = defaultdict(list)
    for row, name in enumerate(table[label]):
        of_class[name].append(row)
    for name in classes:
        different = len({groups[row] for row in of_class[name]})
        if different < 3:
            words = (
                f"expected 3 different values of {group or text!r} with {name!r}, one for each part, or more"
            )
            raise ValueError(f"{table.place(of_class[name][0], label)}: {words}; found {different}.")
    labels = [classes.index(name) for name in table[label]]
    return Examples(file.name, table[text], labels, classes, groups)


def pieces(text: str, units: Units, length: int) -> list[str]:
    """The first characters or words of a text."""
    return (text.split() if units == "words" else list(text))[:length]


def encoded(
    examples: Examples, units: Units, length: int, validation: float, test: float
) -> tuple[Parts, Vocabulary]:
    """Texts as tokens, divided by groups, with a vocabulary of the training part; says on the standard error
    stream what is not seen of them, and which cannot be told apart.

    Raises:
        ValueError: where a part would be empty, or training lack a class.
    """
    texts = [pieces(text, units, length) for text in examples.texts]
    labels = np.array(examples.labels)
    numbers = Arrays(np.arange(len(texts)), labels, np.ones(len(texts), bool))
    dealt = split(numbers, validation, test, groups=examples.groups)
    missing = set(examples.labels) - set(dealt.train.targets.tolist())
    if missing:
        words = f"expected texts of {examples.classes[min(missing)]!r} in the training part, got none"
        raise ValueError(f"{examples.source}: {words}; more texts of it are needed.")
    vocabulary = Vocabulary.of(piece for row in dealt.train.inputs for piece in texts[row])
    whole = given.arrays([vocabulary.encode(text) for text in texts], labels)

    def of(part: Arrays | None) -> Any:
        return part and jax.tree.map(lambda a: np.asarray(a)[part.inputs], whole)

    parts = Parts(*map(of, dealt))
    remarks = said(examples, texts, units, length, parts, dealt.test)
    if remarks:
        print(f"{examples.source}: {'; '.join(remarks)}.", file=sys.stderr)
    return parts, vocabulary


def said(
    examples: Examples, texts: list[list[str]], units: Units, length: int, parts: Parts, test: Arrays | None
) -> list[str]:
    """What is not seen of texts, and how many of the test part can be right at best."""
    remarks = []
    longer = sum(len(pieces(text, units, length + 1)) > length for text in examples.texts)
    if longer:
        remarks.append(f"{longer} texts have more than {length} {units}, of which the first are read")
    unknown = sum(int((part.inputs == UNKNOWN).sum()) for part in parts if part is not None)
    if unknown:
        remarks.append(f"{unknown} {units} of validation and test are not in training, and read as unknown")
    known: dict[tuple[str, ...], Counter[int]] = defaultdict(Counter)
    for text, label in zip(texts, examples.labels, strict=True):
        known[tuple(text)][label] += 1
    several = sum(len(counts) > 1 for counts in known.values())
    if several and test is not None:
        tested: dict[tuple[str, ...], Counter[int]] = defaultdict(Counter)
        for row in test.inputs:
            tested[tuple(texts[row])][examples.labels[row]] += 1
        best = sum(max(counts.values()) for counts in tested.values()) / len(test.inputs)
        remarks.append(
            f"{several} texts stand under several classes: at best {best:.1%} of the test part can be right"
        )
    return remarks
