"""A language model: which word, or character, comes next in English text?"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from experiments.harness import command_line, options, processes, run
from experiments.harness.data import Parts, streams
from experiments.harness.encoding import Vocabulary
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.supervised import Classification
from experiments.harness.trained import Trained, load, predict
from experiments.parts import text as texts
from experiments.parts.corpus import Corpus, corpus
from experiments.parts.text import Level
from rnncells.tasks import Task
from rnncells.tasks.base import extras

ROOM = 50_000_000
"""Probabilities that are held at once, for the picture."""


@dataclasses.dataclass(frozen=True)
class Config(options.Config):
    """Trains cells to say what comes next in a text, against the best n-gram.

    The text is read in streams side by side, with truncated backpropagation and the state carried on. By
    default it is that of the interpreter's own documentation (`pydoc_data.topics`, which differs between
    versions of Python), divided by document; a file is divided in its order. Results go to the folder `out`.
    """

    cells: tuple[options.CellName, ...] = ("GRU",)
    """Which cells of the catalogue, by name."""
    features: int | tuple[int, ...] = 256
    """Width of the state; several numbers are the widths of several layers."""
    embedding: int | None = 64
    """Width of the learned vector of each symbol; None: one-hot."""
    dropout: float | None = 0.4
    """Rate of variational dropout of inputs and states, while training (rnncells.VariationalDropout)."""
    text: pathlib.Path | None = None
    """A file with other text, in UTF-8."""
    level: Level = "word"
    """What a symbol is: a word or sign, or a character."""
    least: int = 2
    """Symbols that come less often in the training part are taken as one, the unknown one."""
    prompt: str = "The "
    """How the sample begins."""
    sample: int = 100
    """Symbols of the sample."""
    temperature: float = 0.7
    """Of the sample: 1 draws as the model believes, less more boldly, 0 takes the most probable symbol."""
    optimizer: Optimizer = dataclasses.field(
        default_factory=lambda: Optimizer(learning_rate=2e-3, schedule="cosine")
    )
    training: options.Training = dataclasses.field(
        default_factory=lambda: options.Training(
            updates=1200,
            batch_size=16,
            truncate_every=64,
            report_every=100,
            checkpoint_every=600,
            seeds=1,
        )
    )
    out: pathlib.Path = pathlib.Path("runs/language_model")
    """Where everything is written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training.truncate_every is None:
            raise ValueError("truncate_every: expected the ticks of a segment of the streams, got none.")

    def task(self) -> Classification:
        own = corpus(self.text, self.level, self.least)
        number, size = self.training.batch_size, len(own.vocabulary)
        best, bits = own.by_order[len(own.counted.tables) - 1]
        characters = self.level == "character"
        return Classification.of(
            Parts(*(streams(part, min(number, len(part) - 1)) for part in own.tokens)),
            language=True,
            stream=True,
            length=self.training.truncate_every,
            score="bits" if characters else "perplexity",
            tokens=size,
            input_size=size,
            output_size=size,
            enough=best if characters else 2**best,
            baseline=bits if characters else 2**bits,
            naive=f"{len(own.counted.tables)}-gram",
            extras={
                "vocabulary": own.vocabulary.plain(),
                "classes": ["(padding)", "(unknown)", *own.vocabulary.symbols],
            },
        )

    def read(self, file: pathlib.Path, task: Task) -> tuple[np.ndarray, None]:
        """A text, as one sequence; what is said is the symbol that most probably follows each."""
        vocabulary = Vocabulary.restored(extras(task)["vocabulary"])
        return vocabulary.encode(texts.symbols(texts.read(file), self.level))[None], None


def main(config: Config) -> None:
    processes.use_every_core()
    lines = run.main("language model", config)
    if lines:
        show(config)


def show(config: Config) -> None:
    """What was read, how the cells stand to the n-grams, and how each goes on; and the picture."""
    own = corpus(config.text, config.level, config.least)
    counted = own.counted.bits(own.tokens[2])
    order, orders = len(own.counted.tables), len(own.by_order)
    print(own.report)
    print(f"{order}-grams: {said(counted.mean())} on the test part; the best of orders 1 to {orders}.")
    models = [load(config.out, cell) for cell in config.cells]
    begun = own.tokens[2][: ROOM // len(own.vocabulary)]
    each = {model.cell: surprise(model, begun) for model in models}
    for model in models:
        both = together(each[model.cell], counted)
        where = f" (of its first {len(begun):,} symbols)" if len(begun) < len(own.tokens[2]) else ""
        print(
            f"{model.cell}: {said(model.test['bits'])}; the mean of both probabilities: {said(both)}{where}."
        )
        if model.test["bits"] >= counted.mean():
            print(f"{model.cell} is not better than counting here.")
        print(f"After {config.prompt!r} it goes on:")
        print(texts.told(model, config.prompt, config.level, config.sample, config.temperature), "\n")
    path = config.out / "language_model.png"
    draw(config, own, models, each, path)
    print(f"The picture is {path}; more text: python -m experiments.sample {config.out} --prompt ...")


def said(bits: float) -> str:
    return f"{bits:.3f} bits a symbol, perplexity {2**bits:.2f}"


def surprise(model: Trained, tokens: np.ndarray) -> np.ndarray:
    """Bits of each symbol of a text but the first, read in one stream, float64 [L - 1]."""
    logits = predict(model, tokens[None, :-1])[0]
    logits = logits - logits.max(-1, keepdims=True)
    nats = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(logits)), tokens[1:]]
    return nats.astype(np.float64) / np.log(2)


def together(network: np.ndarray, counted: np.ndarray) -> float:
    """Bits of a symbol whose probability is the mean of two."""
    return float(-np.log2((2.0**-network + 2.0 ** -counted[: len(network)]) / 2).mean())


def draw(
    config: Config, own: Corpus, models: list[Trained], each: dict[str, np.ndarray], path: pathlib.Path
) -> None:
    """Bits against updates, and against the order of n-grams; below, a held-out passage, each symbol in the
    colour of its bits, and of what the network saves."""
    counted = own.counted.bits(own.tokens[2])
    figure = plt.figure(figsize=(13, 8.4), layout="constrained")
    panels = figure.subplot_mosaic([["curves", "orders"], ["bits", "saved"]], height_ratios=[1, 1.3])
    for i, model in enumerate(models):
        for part, style in (("validation", "-"), ("training", ":")):
            known = np.isfinite(model.history[f"{part}/bits"])
            heights = model.history[f"{part}/bits"][known]
            label = f"{model.cell}, {part}"
            panels["curves"].plot(model.history["update"][known], heights, style, color=f"C{i}", label=label)
        both = together(each[model.cell], counted)
        panels["orders"].axhline(model.test["bits"], color=f"C{i}", label=f"{model.cell}, test")
        panels["orders"].axhline(
            both, color=f"C{i}", ls=":", label=f"{model.cell} and best n-gram, their mean"
        )
    panels["curves"].axhline(
        min(own.by_order)[0], color="black", ls="--", lw=1, label="best n-gram, validation"
    )
    panels["curves"].set(xlabel="updates", title="What a symbol costs while the network learns")
    orders, tests = range(1, len(own.by_order) + 1), [test for _, test in own.by_order]
    panels["orders"].plot(orders, tests, "o--", color="black", label="n-grams, test")
    panels["orders"].set(xlabel=f"n: {config.level}s counted together", title="What it costs by counting")
    panels["orders"].xaxis.set_major_locator(MaxNLocator(integer=True))
    for name in ("curves", "orders"):
        panels[name].set_ylabel("bits per " + config.level)
        panels[name].spines[["top", "right"]].set_visible(False)
        panels[name].legend(frameon=False)
    network = each[models[0].cell]
    saved = counted[: len(network)] - network
    start = len(network) // 2  # somewhere within
    shown = own.vocabulary.decode(own.tokens[2][start + 1 : len(network) + 1])
    panels["bits"].set_title(f"A held-out passage: bits that {models[0].cell} needs")
    panels["saved"].set_title("Bits it saves against counting (purple), or loses")
    for name, values, colours, (low, high) in (
        ("bits", network, "YlOrRd", (0, 8 if config.level == "character" else 14)),
        ("saved", saved, "PuOr", (-4, 4)),
    ):
        scale = plt.cm.ScalarMappable(Normalize(low, high), colours)
        coloured(panels[name], shown, scale.to_rgba(values[start:]), config.level)
        figure.colorbar(scale, ax=panels[name], label="bits", extend="both", shrink=0.8, pad=0.01)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def coloured(
    axes: Any, symbols: list[str], colours: np.ndarray, level: Level, width: int = 74, rows: int = 18
) -> None:
    """Text in rows, each symbol on its colour."""
    row = column = 0
    for symbol, colour in zip(symbols, colours, strict=True):
        shown = "\N{DOWNWARDS ARROW WITH TIP LEFTWARDS}" if symbol.isspace() and symbol != " " else symbol
        if column + len(shown) > width:
            row, column = row + 1, 0
        if row == rows:
            break
        axes.add_patch(Rectangle((column, row), len(shown), 1, color=colour, lw=0))
        dark = np.dot(colour[:3], [0.3, 0.6, 0.1]) < 0.5
        for j, letter in enumerate(shown):
            style = {"color": "white" if dark else "black", "family": "monospace", "size": 7}
            axes.text(column + j + 0.5, row + 0.55, letter, ha="center", va="center", **style)
        column += len(shown) + (level == "word")
        if shown != symbol:
            row, column = row + 1, 0
    axes.set(xlim=(0, width), ylim=(rows, 0))
    axes.axis("off")


if __name__ == "__main__":
    main(command_line.config_of(Config))
