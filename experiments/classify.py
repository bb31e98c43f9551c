"""Texts, and images read one pixel after the other: which class are they of?"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
from collections import defaultdict
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from babel import Locale
from rich.console import Console
from sklearn.metrics import confusion_matrix

from experiments.harness import command_line, csv_file, given, options, processes, run, tables, trained
from experiments.harness.data import Parts, check_fractions
from experiments.harness.encoding import Vocabulary
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.model import ModelFactory
from experiments.harness.supervised import Classification
from experiments.parts import labelled_texts
from rnncells.tasks import SequentialDigits, Task
from rnncells.tasks.base import extras, tokens

LANGUAGES = ("da", "sv", "de", "nl", "en", "fr", "it", "es", "pt", "pl", "cs", "fi")
"""Of place names: all in Latin letters, relatives side by side."""


@dataclasses.dataclass(frozen=True)
class Config(options.Config):
    """Trains cells to say which class a text is of, and compares them with the majority class.

    The data are place names in twelve languages, character by character, from the locale data that come with
    Babel: which language is it? Or small images of digits, pixel by pixel; or texts with labels from a CSV
    file. Results go to the folder `out`: confusion.png, classes.md, and what every experiment leaves.
    """

    data: Literal["places", "digits", "permuted-digits"] = "places"
    """Place names; or images of 8 x 8 pixels, row by row or in one random order."""
    csv: pathlib.Path | None = None
    """A file of texts and labels in place of these data; its first line names its columns."""
    text: str = "text"
    """Its column of texts."""
    label: str = "label"
    """Its column of classes."""
    group: str | None = None
    """A column, such as of documents or authors: rows that agree in it are in one part together. By default
    only rows of the same text are."""
    units: labelled_texts.Units = "characters"
    """What a text is read in."""
    length: int = 100
    """How many of them are read, the first ones."""
    embedding: int | None = 32
    """Width of the learned vector of each of them; None takes one-hot vectors. Pixels are numbers."""
    bidirectional: bool = True
    """Every layer reads both ways."""
    dropout: float | None = 0.1
    """Rate of variational dropout of inputs and states, while training (rnncells.VariationalDropout)."""
    pooling: options.Pooling = "last"
    """What is read out: the last state, the mean of the states, or their mean weighted by attention."""
    validation: float = 0.15
    """Which fraction of the texts decides about weights."""
    test: float = 0.15
    """Which fraction of the texts is the test."""
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(schedule="cosine"))
    training: options.Training = dataclasses.field(
        default_factory=lambda: options.Training(updates=600, report_every=25, checkpoint_every=300, seeds=2)
    )
    out: pathlib.Path = pathlib.Path("runs/classify")
    """Where everything is written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.csv is not None and self.data != "places":
            raise ValueError(f"csv: expected none beside data={self.data}, got {self.csv}.")
        check_fractions(self.validation, self.test)
        if self.length < 1:
            raise ValueError(f"length: expected at least 1, got {self.length}.")

    def task(self) -> Classification:
        if self.data != "places":
            names = [str(digit) for digit in range(10)]
            return Classification.of(digits(self.data), output_size=10, extras={"classes": names})
        columns = (self.text, self.label, self.group)
        fractions = (self.validation, self.test)
        classes, parts, vocabulary = prepared(self.csv, columns, self.units, self.length, fractions)
        return Classification.of(
            parts,
            input_size=len(vocabulary),
            tokens=len(vocabulary),
            output_size=len(classes),
            extras={"classes": classes, "vocabulary": vocabulary.plain()},
        )

    def model(self, task: Task) -> ModelFactory:
        own = self if tokens(task) is not None else dataclasses.replace(self, embedding=None)
        return options.Config.model(own, task)

    def read(self, file: pathlib.Path, task: Task) -> tuple[Any, Any]:
        if tokens(task) is None:
            return super().read(file, task)
        if self.csv is not None and file.suffix == ".csv":
            table = csv_file.read(file, [self.text])
            lines, found = table.lines, table[self.text]
        else:
            found = csv_file.text(file).splitlines()
            lines = list(range(1, len(found) + 1))
        if not all(text.strip() for text in found) or not found:
            empty = next((line for line, text in zip(lines, found, strict=True) if not text.strip()), 1)
            raise ValueError(f"{file}, line {empty}: expected a text, found none.")
        vocabulary = Vocabulary.restored(extras(task)["vocabulary"])
        return [
            vocabulary.encode(labelled_texts.pieces(text, self.units, self.length)) for text in found
        ], None


@functools.cache
def prepared(
    csv: pathlib.Path | None,
    columns: tuple[str, str, str | None],
    units: labelled_texts.Units,
    length: int,
    fractions: tuple[float, float],
) -> tuple[list[str], Parts, Vocabulary]:
    """The names of the classes, the data, and the vocabulary."""
    examples = places() if csv is None else labelled_texts.read(csv, *columns)
    return examples.classes, *labelled_texts.encoded(examples, units, length, *fractions)


def places() -> labelled_texts.Examples:
    """Names of territories. One that is written alike in several of the languages is of none of them, and is
    left out. The names of one territory belong together."""
    names: dict[str, dict[str, str]] = defaultdict(
        dict
    )  # of each name, the languages, and there the territory
    whole = 0
    for language in LANGUAGES:
        for territory, name in Locale.parse(language).territories.items():
            names[name].setdefault(language, territory)
            whole += 1
    own = [(name, *next(iter(known.items()))) for name, known in names.items() if len(known) == 1]
    alike = sum(len(known) for known in names.values() if len(known) > 1)
    print(
        f"Place names: {whole} read, {len(own)} used; {alike} left out: the same in several languages;"
        f" {whole - alike - len(own)} left out: of several places in one.",
        file=sys.stderr,
    )
    return labelled_texts.Examples(
        "Place names",
        [name for name, _, _ in own],
        [LANGUAGES.index(language) for _, language, _ in own],
        [str(Locale.parse(language).english_name) for language in LANGUAGES],
        [territory for _, _, territory in own],
    )


def digits(variant: str) -> Parts:
    """Images, pixel by pixel."""
    whole = SequentialDigits(variant="permuted" if variant == "permuted-digits" else "plain").parts
    return Parts(*(given.arrays(part.inputs, part.targets[:, -1]) for part in whole))


def main(config: Config) -> None:
    processes.use_every_core()
    lines = run.main("classify", config)
    if not lines:
        return
    console, task, best = Console(), config.task(), trained.load(config.out)
    train, _, test = task.data
    assert test is not None
    classes: list[str] = task.extras["classes"]
    answers = {cell: trained.predict(trained.load(config.out, cell), test).argmax(1) for cell in config.cells}
    counts = confusion_matrix(test.targets, answers[best.cell], labels=range(len(classes)))
    right = {cell: fractions(test.targets, said, len(classes)) for cell, said in answers.items()}
    wrong = counts - np.diag(np.diag(counts))
    learned = np.bincount(train.targets, minlength=len(classes))
    rows = [
        {"class": name, "in training": f"{learned[i]}", "in the test": f"{counts[i].sum()}"}
        | {f"{cell} right": f"{own[i]:.0%}" if counts[i].sum() else "" for cell, own in right.items()}
        | {f"taken by the {best.cell} for": classes[wrong[i].argmax()] if wrong[i].any() else ""}
        for i, name in enumerate(classes)
    ]
    tables.show(console, "Test part; of each cell the best run by validation", rows)
    (config.out / "classes.md").write_text(tables.markdown(rows))
    scores = ", ".join(f"{cell} {(said == test.targets).mean():.1%}" for cell, said in answers.items())
    majority = f"always {classes[int(learned.argmax())]} {task.baseline:.1%}"
    words = f"Right in the test part: {scores}; {majority}."
    console.print(words, soft_wrap=True, highlight=False)
    draw(config, best.cell, counts, right, words)
    words = (
        f"Drawn in {config.out}/confusion.png. More: python -m experiments.predict {config.out} --input FILE"
    )
    console.print(words, soft_wrap=True, highlight=False)


def fractions(targets: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """Of each class, how many are right; NaN of one that is not there."""
    there = np.bincount(targets, minlength=classes)
    return np.where(there, np.bincount(targets[said == targets], minlength=classes), np.nan) / there.clip(1)


def draw(config: Config, cell: str, counts: np.ndarray, right: dict[str, np.ndarray], title: str) -> None:
    """Which class is taken for which by one cell, and how many of each class every cell has right."""
    classes: list[str] = config.task().extras["classes"]
    size = float(np.clip(0.42 * len(classes), 3, 14))
    figure, (left, bars) = plt.subplots(
        1, 2, figsize=(1.55 * size + 3.5, size + 1.6), width_ratios=(2, 1), layout="constrained", sharey=True
    )
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    left.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    places = range(len(classes))
    left.set_xticks(places, classes, rotation=45, ha="right")
    left.set_yticks(places, classes)
    left.set(
        xlabel=f"said by the {cell}",
        ylabel="class",
        title="How many of the test part; darker: more of the row",
    )
    if len(classes) <= 25:
        for i, j in np.argwhere(counts):
            color = "white" if shares[i, j] > 0.55 else "0.2"
            left.text(j, i, counts[i, j], ha="center", va="center", fontsize=8, color=color)
    for i, (name, own) in enumerate(right.items()):
        bars.plot(100 * own, places, "os^Dv"[i % 5], color=f"C{i}", label=name, alpha=0.8)
    bars.set(xlabel="%", xlim=(-3, 103), title="Right of each class")
    bars.grid(axis="y", color="0.9")
    bars.tick_params(axis="y", length=0)
    bars.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    bars.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(config.out / "confusion.png", dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main(command_line.config_of(Config))
