"""Which cell to choose? The same number of parameters, the same data: scores, speed, and few examples."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, cast

import flax.linen as nn
import jax
import matplotlib.pyplot as plt
import numpy as np
import tyro
from matplotlib.axes import Axes

import rnncells
from experiments.harness import command_line, options, processes, run, tables
from experiments.harness.data import Arrays, Parts, count
from experiments.harness.hyperparameters import Hyperparameters, Optimizer
from experiments.harness.model import ModelFactory, Net
from experiments.harness.options import plain
from experiments.harness.population import Run
from experiments.harness.record import Line, cells_of, finished, number
from experiments.harness.session import Session
from experiments.harness.standing import score_of, shown, standing
from experiments.harness.supervised import Classification
from experiments.harness.train import batch_like
from experiments.parts.budget import closest
from experiments.parts.transformer import Transformer
from rnncells.tasks import TASKS, SequentialDigits, Task
from rnncells.tasks.base import higher_is_better, naive, tokens

TRANSFORMER = "Transformer"
if TYPE_CHECKING:
    Name = str
    TaskName = str
else:
    Name = Literal[(*rnncells.CELLS, TRANSFORMER)]
    TaskName = Literal[tuple(TASKS)]

MARKERS = "osD^v<>"


@dataclasses.dataclass(frozen=True)
class Config(options.Config):
    """Trains cells of as many parameters on one task, and says what each is good at.

    The width of each cell is chosen so that its model has `budget` parameters, within 2%. Digits are finite
    data: each cell is also trained on fractions of them. The folder `out` gets table.md and compare.png.
    """

    cells: tuple[Name, ...] = ("LSTM", "GRU")
    """Which cells of the catalogue, by name, and Transformer."""
    features: Annotated[int | tuple[int, ...], tyro.conf.Suppress] = 64
    """Not read: widths follow from the budget."""
    problem: Annotated[TaskName, tyro.conf.arg(aliases=["--task"])] = "digits"
    """Of rnncells.tasks.TASKS, by name; digits are taken as finite data, each once an epoch."""
    length: int | None = None
    """Of the task; by default its own."""
    budget: int = 10_000
    """Parameters of every model."""
    transformer: bool = False
    """Beside the cells, causal self-attention with the same budget."""
    fractions: tuple[float, ...] = ()
    """Of the training part of digits that are learned from; by default a tenth, three tenths and all."""
    fraction: Annotated[float, tyro.conf.Suppress] = 1.0
    """That of one training."""
    target: float = 0.85
    """Accuracy of digits that is to be reached; other tasks have their own."""
    optimizer: Optimizer = dataclasses.field(
        default_factory=lambda: Optimizer(learning_rate=5e-3, schedule="cosine")
    )
    training: options.Training = dataclasses.field(
        default_factory=lambda: options.Training(
            updates=1200, batch_size=32, report_every=50, checkpoint_every=1200, seeds=4
        )
    )
    out: pathlib.Path = pathlib.Path("runs/compare")
    """Where everything is written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fractions and self.problem != "digits":
            raise ValueError(f"fractions: expected none for a task that draws afresh, got {self.fractions}.")
        for fraction in (*self.fractions, self.fraction):
            if not 0 < fraction <= 1:
                raise ValueError(f"fractions: expected numbers above 0, at most 1, got {fraction}.")
        if self.pooling != "every":
            raise ValueError(f"pooling: expected every, tasks ask at ticks, got {self.pooling!r}.")

    def task(self) -> Task:
        if self.problem == "digits":
            return cast(Task, digits(self.length or 64, self.fraction, self.target))
        task = TASKS[self.problem]()
        return task if self.length is None else dataclasses.replace(task, length=self.length)  # type: ignore[type-var]

    @property
    def shares(self) -> tuple[float, ...]:
        """The fractions that are trained on; all is always among them."""
        given = self.fractions or ((0.1, 0.3) if self.problem == "digits" else ())
        return tuple(sorted({*given, 1.0}))

    def modules(self) -> Mapping[str, ModelFactory]:
        return {TRANSFORMER: self._transformer}

    def _transformer(self, cell: object, output_size: int, remat_every: int | None = None) -> nn.Module:
        return Transformer.of(self.budget, width(self, TRANSFORMER), output_size, tokens(self.task()))

    def numbers(self, cell: str) -> Hyperparameters:
        if cell in self.modules():
            return super().numbers(cell)
        return options.Config.numbers(dataclasses.replace(self, features=width(self, cell)), cell)


@functools.cache
def digits(length: int, fraction: float, target: float) -> Classification:
    """Sequential digits as finite data, of whose training part a fraction is there."""
    whole = SequentialDigits(length)
    parts = Parts(*(Arrays(part.inputs, part.targets, part.mask) for part in whole.parts))
    order = np.random.default_rng(0).permutation(count(parts.train))
    kept = order[: max(1, round(fraction * len(order)))]
    parts = parts._replace(train=jax.tree.map(lambda a: np.asarray(a)[kept], parts.train))
    return Classification.of(parts, enough=target, baseline=whole.baseline, naive=whole.naive)


WIDTHS: dict[str, int] = {}


def width(config: Config, cell: str) -> int:
    """With which the model of a cell comes closest to the budget: that of every layer, or the inner one of a
    transformer."""
    config = dataclasses.replace(config, cells=(cell,), fraction=1.0)
    key = json.dumps([cell, plain(config)])
    if key not in WIDTHS:
        WIDTHS[key] = closest(lambda width: parameters(config, cell, width), config.budget, cell)
    return WIDTHS[key]


def parameters(config: Config, cell: str, width: int) -> int:
    """Of the model of a cell with this width."""
    task = config.task()
    if cell == TRANSFORMER:
        module: nn.Module = Transformer.of(config.budget, width, task.output_size, tokens(task))
    else:
        hyper = options.Config.numbers(dataclasses.replace(config, features=width), cell)
        module = config.model(task)(hyper.cell, task.output_size)
    shapes = jax.eval_shape(Net(module).init, jax.random.key(0), batch_like(task))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def main(config: Config) -> None:
    processes.use_every_core()
    if config.transformer and TRANSFORMER not in config.cells:
        config = dataclasses.replace(config, cells=(*config.cells, TRANSFORMER))
    with run.session("compare", config) as here:
        for cell, runs, first, own in courses(config):
            here.ready(cell, runs, first, own)
        for cell, runs, first, own in courses(config):
            here.train(cell, runs, first, own)
        if here.active:
            report(here, config)


def courses(config: Config) -> Iterator[tuple[str, list[Run], int, Config]]:
    """What is trained: the whole training part first."""
    seeds = config.training.all_seeds
    for cell in config.cells:
        for i, fraction in enumerate(reversed(config.shares)):
            runs = [Run({}, seed, {"fraction": fraction}) for seed in seeds]
            yield cell, runs, i * len(seeds), dataclasses.replace(config, fraction=fraction)


def report(here: Session, config: Config) -> None:
    """table.md and compare.png; on the screen the table."""
    task, lines = config.task(), here.record.lines
    rows = table(config, task, lines)
    (config.out / "table.md").write_text(tables.markdown(rows))
    title = f"{config.problem}, length {task.length}, {config.training.updates} updates"
    tables.show(here.console, title, rows)
    draw(config, task, lines)
    here.console.print(f"Everything is in {config.out}: compare.png, table.md, metrics.jsonl, weights/.")


def table(config: Config, task: Task, lines: Sequence[Line]) -> list[dict[str, str]]:
    """A row for each cell (medians over its runs), and one for the naive baseline."""
    rows = []
    for cell in cells_of(lines):
        own = of(lines, 1.0, cell)
        done = finished(own)
        reached = [line["solved_at"] for line in done if line["solved"]]
        after = float(np.median(reached)) if reached else None
        row = {"cell": cell, "width": str(width(config, cell)), "weights": f"{done[0]['parameters']:,}"}
        row[f"test {task.score}"] = middle(task, own)
        for share in reversed(config.shares[:-1]):
            row[f"with {share:.0%}"] = middle(task, of(lines, share, cell))
        row["reached target"] = f"{len(reached)} of {len(done)}"
        row["after updates"] = "" if after is None else f"{after:.0f}"
        if "epochs" in done[0]:
            epoch = done[0]["update"] / done[0]["epochs"]
            row["epochs"] = "" if after is None else f"{after / epoch:.1f}"
        rows.append(row | {"s/1000 updates": f"{seconds(own):.3g}"})
    baseline = {"cell": f"({naive(task)})", f"test {task.score}": shown(task, task.score, task.baseline)}
    return [*rows, {name: baseline.get(name, "") for name in rows[0]}]


def of(lines: Sequence[Line], fraction: float, cell: str) -> list[Line]:
    """The lines of a cell that was trained on a fraction."""
    return [line for line in lines if (line["numbers"]["fraction"], line["cell"]) == (fraction, cell)]


def middle(task: Task, lines: Sequence[Line]) -> str:
    """The median test score of runs, in words; those that diverged count as the worst."""
    scores = [standing(task, score_of(task, line, "test")) for line in finished(lines)]
    score = float(np.median(scores)) * (-1 if higher_is_better(task) else 1)
    return shown(task, task.score, score) if np.isfinite(score) else "diverged"


def seconds(lines: Sequence[Line]) -> float:
    """Of 1000 updates, without validation: the median over blocks, shared by runs that go side by side."""
    rates = [line["updates_per_second"] for line in lines if "test" not in line]
    return 1000 / float(np.median(rates)) / len(finished(lines))


def draw(config: Config, task: Task, lines: Sequence[Line]) -> None:
    """compare.png: the course of learning, few examples, and the time that it takes."""
    several = len(config.shares) > 1
    figure, panels = plt.subplots(1, 2 + several, figsize=(7.5 + 4 * several, 4.2), layout="constrained")
    course, *few, speed = panels
    cells = cells_of(lines)
    for i, cell in enumerate(cells):
        own, style = of(lines, 1.0, cell), {"color": f"C{i}", "label": cell}
        updates, scores = learned(task, own)
        course.plot(updates, np.median(scores, 0), **style)
        course.fill_between(updates, scores.min(0), scores.max(0), color=f"C{i}", alpha=0.2, lw=0)
        for axes in few:
            examples(axes, config, task, {share: of(lines, share, cell) for share in config.shares}, i)
        bar = speed.barh(cell, seconds(own), color=f"C{i}")
        speed.bar_label(bar, fmt="%.3g s", padding=3)
    goal = getattr(task, "enough", None)
    if goal is not None:
        course.axhline(goal, color="black", lw=1, ls=":", label=f"target, {shown(task, task.score, goal)}")
    words = f"{naive(task)}, {shown(task, task.score, task.baseline)}"
    course.axhline(task.baseline, color="black", lw=1, ls="--", label=words)
    course.set(xlabel="updates", ylabel=f"validation {task.score}")
    if not higher_is_better(task):
        course.set_yscale("log")
    seeds = config.training.seeds
    kind = f"median and range of {seeds} seeds" if seeds > 1 else "one seed each"
    course.legend(frameon=False, fontsize=8, title=kind, title_fontsize=8)
    speed.set(xlabel="seconds for 1000 updates")
    speed.set_xlim(0, 1.25 * speed.get_xlim()[1])
    speed.invert_yaxis()
    for axes, name in zip(panels, ("learning", *["few examples"] * several, "speed"), strict=True):
        axes.set_title(name, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    results = ", ".join(f"{cell} {middle(task, of(lines, 1.0, cell))}" for cell in cells)
    title = f"{config.problem}, about {config.budget:,} parameters each: test {task.score} of {results}"
    figure.suptitle(title, fontsize=11)
    figure.savefig(config.out / "compare.png", dpi=150)
    plt.close(figure)


def examples(axes: Axes, config: Config, task: Task, runs: dict[float, list[Line]], i: int) -> None:
    """The test scores of a cell over the number of sequences that it has learned from."""
    total = count(digits(config.length or 64, 1.0, config.target).data.train)
    sizes = [round(share * total) for share in runs]
    beside = [1.03**i * size for size in sizes]
    each = np.array([[score_of(task, line, "test") for line in finished(own)] for own in runs.values()])
    centre, low, high = (f(each, 1) for f in (np.median, np.min, np.max))
    reach = np.stack([centre - low, high - centre])
    axes.errorbar(beside, centre, reach, color=f"C{i}", marker=MARKERS[i % len(MARKERS)], capsize=3)
    axes.set(xscale="log", xlabel="training sequences", ylabel=f"test {task.score}")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()


def learned(task: Task, lines: Sequence[Line]) -> tuple[list[int], np.ndarray]:
    """Updates, and the validation score of every run after each; a run that ended early keeps its last."""
    known = {(line["run"], line["update"]): line for line in lines if line.get("validation")}
    updates = sorted({update for _, update in known})
    courses = []
    for name in sorted({name for name, _ in known}):
        scores: list[float] = []
        for update in updates:
            line = known.get((name, update))
            scores.append(scores[-1] if line is None else number(line["validation"][task.score]))
        courses.append(scores)
    return updates, np.array(courses)


if __name__ == "__main__":
    main(command_line.config_of(Config))
