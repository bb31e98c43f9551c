"""From one string to another: dates in many forms, sums, or pairs of one's own."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from experiments.harness import command_line, csv_file, options, processes, run
from experiments.harness.data import Arrays, Parts, split
from experiments.harness.encoding import PADDING, UNKNOWN, Vocabulary
from experiments.harness.given import padded
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.model import ModelFactory
from experiments.harness.trained import Trained, load, predict
from experiments.parts import string_pairs
from experiments.parts.encoder_decoder import Answering, Answers, EncoderDecoder
from experiments.parts.string_pairs import Pairs, nearest
from rnncells.tasks import Task
from rnncells.tasks.base import extras

END = "\x04"
"""The symbol that ends an answer."""
LEAST = 20
"""Pairs that are needed, for three parts."""


@dataclasses.dataclass(frozen=True)
class Config(options.Config):
    """Trains an encoder and a decoder with attention to answer strings, against the most similar known one.

    Sums (12+345=) and dates in many forms are drawn with a fixed seed; no sum and no date is in two parts.
    Results go to the folder `out`.
    """

    cells: tuple[options.CellName, ...] = ("GRU",)
    """Which cells of the catalogue, by name: of the encoder and the decoder."""
    features: int | tuple[int, ...] = 128
    """Width of the state; several numbers are the widths of several layers."""
    bidirectional: bool = True
    """The encoder reads both ways."""
    embedding: int = 32
    """Width of the learned vector of each symbol."""
    data: Literal["dates", "addition"] = "dates"
    """What is answered: dates as ISO 8601 has them, or sums."""
    digits: int = 3
    """Of the summands, at most."""
    pairs: int = 10_000
    """How many dates or sums there are in all."""
    csv: pathlib.Path | None = None
    """A file with strings and their answers, in place of `data`."""
    columns: tuple[str, str] = ("source", "target")
    """The names of its two columns."""
    curriculum: float = 0.2
    """The part of the training after which sources of all lengths are learned; shorter ones come first."""
    scheduled_sampling: float = 0.0
    """The share of symbols, growing to this one during training, that the decoder sees as it has said them
    itself."""
    beam: int = 5
    """How many beginnings of an answer are followed; 1 is greedy."""
    optimizer: Optimizer = dataclasses.field(
        default_factory=lambda: Optimizer(learning_rate=3e-3, schedule="cosine")
    )
    training: options.Training = dataclasses.field(
        default_factory=lambda: options.Training(updates=600, batch_size=64, checkpoint_every=300, seeds=1)
    )
    out: pathlib.Path = pathlib.Path("runs/seq2seq")
    """Where everything is written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("digits", 1), ("pairs", LEAST), ("beam", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}.")
        for name in ("curriculum", "scheduled_sampling"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a part between 0 and 1, got {getattr(self, name)}.")

    def task(self) -> Answering:
        return self.lesson().task

    def lesson(self) -> Lesson:
        """What is answered, from what, and how well without a network."""
        return lesson(self.csv, self.columns, self.data, self.pairs, self.digits)

    def model(self, task: Task) -> ModelFactory:
        shortest, longest = task.sources if isinstance(task, Answering) else (1, 1)
        return functools.partial(
            EncoderDecoder,
            embedding=self.embedding,
            longest=task.length,
            end=int(vocabulary(task).encode(END)[0]),
            lengths_from=shortest,
            lengths_to=longest,
            curriculum=self.curriculum,
            sampled=self.scheduled_sampling,
            beam=self.beam,
        )

    def read(self, file: pathlib.Path, task: Task) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """A string in each line."""
        lines = [line.strip() for line in csv_file.text(file).splitlines()]
        if not lines:
            raise ValueError(f"{file}: expected a string in each line, found none.")
        known = set(vocabulary(task).symbols)
        for number, line in enumerate(lines, 1):
            new = [symbol for symbol in line if symbol not in known]
            if new or not line:
                words = (
                    f"expected symbols that were learned, got {new[0]!r}"
                    if new
                    else "expected a string, found none"
                )
                raise ValueError(f"{file}, line {number}: {words}.")
        return asked(lines, vocabulary(task))

    def said(self, outputs: Any, task: Task) -> list[dict[str, Any]]:
        """The most probable answer to each, and its probability."""
        chances = np.exp(outputs.scores[:, 0].astype(np.float64))
        answers = texts(outputs, vocabulary(task))
        return [
            {"answer": answer, "probability": round(float(chance), 4)}
            for answer, chance in zip(answers, chances, strict=True)
        ]


class Lesson(NamedTuple):
    """Strings and their answers: to learn from, to choose by, and to test."""

    pairs: tuple[Pairs, Pairs, Pairs]
    task: Answering
    report: str
    """What was read, and what was left out."""


@functools.cache
def lesson(csv: pathlib.Path | None, columns: tuple[str, str], data: str, number: int, digits: int) -> Lesson:
    """Pairs as tokens, a tenth each for validation and test. Symbols are known from the training part."""
    if csv is not None:
        whole = string_pairs.from_file(csv, columns)
    else:
        whole = string_pairs.dates(number) if data == "dates" else string_pairs.sums(number, digits)
    rows = np.arange(len(whole.sources))
    if len(rows) < LEAST:
        raise ValueError(f"{csv}: expected at least {LEAST} pairs, got {len(rows)}.")
    divided = split(Arrays(rows, rows, np.ones(len(rows), bool)), 0.1, 0.1)
    train, validation, test = (
        Pairs([whole.sources[i] for i in part.inputs], [whole.targets[i] for i in part.inputs], whole.report)
        for part in divided
        if part is not None
    )
    symbols = Vocabulary.of("".join(train.sources + train.targets)).symbols
    known = Vocabulary((END, *symbols))
    longest = max(len(text) for part in (train, validation, test) for text in part.targets) + 1
    arrays = [taught(part, known, longest) for part in (train, validation, test)]
    lengths = [len(text) for text in train.sources]
    baseline = float(np.mean(np.array(nearest(train, test.sources)) == np.array(test.targets)))
    task = Answering(
        parts=Parts(*arrays),
        input_size=len(known),
        output_size=len(known),
        tokens=len(known),
        length=longest,
        sources=(min(lengths), max(lengths)),
        enough=0.99,
        baseline=baseline,
        naive="most similar",
        extras={"vocabulary": known.plain()},
    )
    unknown = [
        int(np.sum(part.inputs["source"] == UNKNOWN) + np.sum(part.targets == UNKNOWN)) for part in arrays
    ]
    sizes = ", ".join(str(len(part.sources)) for part in (train, validation, test))
    report = f"{whole.report} {sizes} to learn from, to choose by and to test; {len(symbols)} symbols"
    report += f", {sum(unknown)} times another one." if sum(unknown) else "."
    return Lesson((train, validation, test), task, report)


def vocabulary(task: Task) -> Vocabulary:
    return Vocabulary.restored(extras(task)["vocabulary"])


def asked(sources: Sequence[str], known: Vocabulary) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Strings as a model takes them, and their lengths."""
    tokens, lengths = padded("source", [known.encode(text) for text in sources])
    return {"source": tokens}, np.full(len(tokens), tokens.shape[1], np.int32) if lengths is None else lengths


def taught(pairs: Pairs, known: Vocabulary, longest: int) -> Arrays:
    """Strings and their answers as a model learns them; answers are `longest` symbols, padding included."""
    inputs, lengths = asked(pairs.sources, known)
    targets = np.full((len(pairs.targets), longest), PADDING, np.int32)
    for row, text in zip(targets, pairs.targets, strict=True):
        row[: len(text) + 1] = known.encode(text + END)
    return Arrays({**inputs, "target": targets}, targets, targets != PADDING, lengths)


def texts(outputs: Answers, known: Vocabulary) -> list[str]:
    """The most probable answer to each source, from tokens [N, T, K]."""
    return ["".join(known.decode(row)).split(END)[0] for row in outputs.tokens[..., 0]]


def answers(model: Trained, sources: Sequence[str], beam: int) -> Answers:
    """What a model says, batch-major."""
    module = model.module.clone(beam=beam)
    outputs: Any = predict(dataclasses.replace(model, module=module), *asked(sources, vocabulary(model.task)))
    return outputs


def main(config: Config) -> None:
    processes.use_every_core()
    lines = run.main("seq2seq", config)
    if lines:
        show(config)


def show(config: Config) -> None:
    """How many answers are right, with beams of 1 and of more; and the picture."""
    own = config.lesson()
    test = own.pairs[2]
    print(own.report)
    print(f"{own.task.naive}: {own.task.baseline:.2%} of {len(test.sources)} answers are right.")
    best, greedy = load(config.out), None
    right: dict[str, np.ndarray] = {}
    for model in [load(config.out, cell) for cell in config.cells]:
        for beam in sorted({1, config.beam}):
            outputs = answers(model, test.sources, beam)
            said = texts(outputs, vocabulary(model.task))
            name = f"{model.cell}, " + ("greedy" if beam == 1 else f"beam of {beam}")
            right[name] = np.array(said) == np.array(test.targets)
            wrong = np.flatnonzero(~right[name])
            example = ""
            if len(wrong):
                first = wrong[0]
                example = f" {test.sources[first]!r} is {test.targets[first]!r}, not {said[first]!r}."
            print(f"{name}: {right[name].mean():.2%} are right.{example}")
            if beam == 1 and model.cell == best.cell:
                greedy = outputs
    assert greedy is not None
    path = config.out / "seq2seq.png"
    draw(own, best, greedy, right, path)
    print(f"The picture is {path}; more answers: python -m experiments.predict {config.out} --input FILE.")


def draw(
    own: Lesson, model: Trained, greedy: Answers, right: dict[str, np.ndarray], path: pathlib.Path
) -> None:
    """Right answers while it learns, and by the length of the source; below, where the decoder looked."""
    figure = plt.figure(figsize=(12, 8), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1, 1.25])
    above, below = halves
    curves, lengths = above.subplots(1, 2)
    for part, style in (("validation", "-"), ("training", ":")):
        known = np.isfinite(model.history[f"{part}/exact"])
        heights = 100 * model.history[f"{part}/exact"][known]
        curves.plot(model.history["update"][known], heights, style, color="C0", label=f"{model.cell}, {part}")
    curves.axhline(100 * own.task.baseline, color="black", ls="--", lw=1, label=own.task.naive)
    curves.set(xlabel="updates", ylabel="right answers (%)", ylim=(-3, 103), title="While it learns")
    sizes = np.array([len(text) for text in own.pairs[2].sources])
    known = np.unique(sizes)
    for i, (name, each) in enumerate(right.items()):
        shares = [100 * each[sizes == size].mean() for size in known]
        lengths.plot(
            known, shares, "os^v"[i % 4] + "-", color=f"C{i}", mfc="none", ms=9 - 3 * (i % 2), label=name
        )
    lengths.set(xlabel="characters of the source", ylim=(-3, 103), title="Test, by the length of the source")
    lengths.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (curves, lengths):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    shown = np.argsort(sizes, kind="stable")[np.linspace(0, len(sizes) - 1, 4).astype(int)]
    said = texts(greedy, vocabulary(model.task))
    for axes, i in zip(below.subplots(1, len(shown)), shown, strict=True):
        source, rows = own.pairs[2].sources[i], [*said[i], "end"]
        weights = greedy.attention[i, : len(rows), 0, : len(source)]
        axes.imshow(weights, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(source)), [*source], family="monospace", fontsize=8)
        axes.set_yticks(range(len(weights)), rows[: len(weights)], family="monospace", fontsize=8)
        wrong = "" if said[i] == own.pairs[2].targets[i] else f" ({own.pairs[2].targets[i]} is right)"
        axes.set_title(f"{source}\n{said[i]}{wrong}", fontsize=9)
    below.suptitle("Where the decoder looks (columns) while it says each symbol (rows)", fontsize=11)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main(command_line.config_of(Config))
