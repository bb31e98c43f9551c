"""What a benchmark found, as tables and pictures."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from experiments.benchmark import peers
from experiments.harness.record import write_whole
from experiments.harness.tables import markdown

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Row = dict[str, Any]
FORWARD, GRADIENT, COMPILE, TRAINING = "forward", "forward+gradient", "compile", "training"
PLAIN, CHUNKS = "plain scan", "in chunks"
MARK = 1.05
"""A ratio above which a cell is marked; what is below may be noise."""
LOOPS: dict[str, dict[str, str]] = {
    "flax script": {
        "sweep": "a plain Flax script of vmapped nn.RNN(OptimizedLSTMCell)",
        "train": "the loop that a Flax user writes",
    },
    "flax in our loop": dict.fromkeys(("sweep", "train"), "Flax's RNN under our loop and placement"),
    "ours on one device": {"train": "ours on one device"},
}
"""What the loops are compared with, in words."""


def find(rows: list[Row], **what: Any) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if all(row.get(key) == value for key, value in what.items())]


def read(out: pathlib.Path) -> list[Row]:
    """What is there from earlier."""
    path = out / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def save(rows: list[Row], out: pathlib.Path) -> None:
    write_whole(out / "results.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def place(row: Row) -> tuple[str, ...]:
    """What is measured together: a cell at a shape, in a section."""
    return row["section"], row["cell"], row["shape"]


def renewed(rows: list[Row], new: list[Row]) -> list[Row]:
    """What was measured again takes the place of all that was there of it."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for some in (rows, new):
        groups |= {where: [row for row in some if place(row) == where] for where in map(place, some)}
    return [row for group in groups.values() for row in group]


def write(rows: list[Row], captions: Mapping[str, str], out: pathlib.Path) -> None:
    """table.md with a caption for each section, and the pictures."""
    tables = []
    for section, caption in captions.items():
        if own := find(rows, section=section):
            tables.append(f"## {section}\n\n{caption}\n\n{measured(own)}\n\n{markdown(tabulate(own))}\n")
    (out / "table.md").write_text("".join(tables))
    draw(rows, out / "benchmark.png")
    draw_training(rows, out / "training.png")


def show(console: Console, rows: list[Row], captions: Mapping[str, str]) -> None:
    """The tables of some sections on the screen."""
    for section, caption in captions.items():
        lines = tabulate(find(rows, section=section))
        table = Table(*lines[0], box=SIMPLE_HEAD, pad_edge=False)
        for line in lines:
            table.add_row(*line.values())
        console.print(f"[bold]{section}[/bold]: {caption}", table)


def measured(rows: list[Row]) -> str:
    """Where the measurements of a section were made."""
    said = "Measured with jax {jax}, flax {flax} and Python {python} on {cores} cores."
    return " ".join(dict.fromkeys(said.format(**row["versions"], **row) for row in rows))


def tabulate(rows: list[Row]) -> list[dict[str, str]]:
    """The measurements of one section, a line for each contender; or for each cell."""
    if rows[0]["section"] in ("cells", "scans"):
        return costs(rows) if rows[0]["section"] == "cells" else forms(rows)
    passes = [label for label in (FORWARD, GRADIENT, COMPILE, TRAINING) if find(rows, **{"pass": label})]
    loops = TRAINING in passes
    lines = []
    for shape, cell in dict.fromkeys((row["shape"], row["cell"]) for row in rows):
        group = find(rows, shape=shape, cell=cell)
        for name in dict.fromkeys(row["name"] for row in [*find(group, name="ours"), *group]):
            own = {row["pass"]: row for row in find(group, name=name)}
            wrong = "" if own.get("outputs", {}).get("agrees", True) else " (wrong)"
            line = {"B,T,I,H": shape, "cell": cell, "loop" if loops else "layer": name + wrong}
            for label in passes:
                text = "{median_ms:.4g} ({p10_ms:.3g}–{p90_ms:.3g}), {ratio:.2f}x"
                heading = "ms per update, ratio" if loops else f"{label}: ms, ratio"
                line[heading] = text.format(**own[label]) if label in own else ""
            if loops:
                line["runs"] = str(group[0]["runs"])
                line["updates/s"] = f"{own[TRAINING]['updates_per_second']:.4g}" if TRAINING in own else ""
            else:
                facts = own.get(GRADIENT, {})
                line["temp MB"] = f"{facts['temp_bytes'] / 1e6:.2f}" if "temp_bytes" in facts else ""
                line["compile s"] = f"{facts['compile_seconds']:.2f}" if "compile_seconds" in facts else ""
            lines.append(line)
    return lines


def costs(rows: list[Row]) -> list[dict[str, str]]:
    """A line for each cell, the one that gains least first; `unroll` over the plain scan."""

    def heading(shape: str) -> str:
        return f"{shape}: ms, MB (ratios)"

    shapes = dict.fromkeys(row["shape"] for row in rows)
    lines: dict[str, dict[str, str]] = {}
    for row in sorted(find(rows, name="unroll"), key=lambda row: -row["ratio"]):
        (plain,) = find(rows, name=PLAIN, cell=row["cell"], shape=row["shape"])
        line = lines.setdefault(row["cell"], {"cell": row["cell"]} | {heading(s): "" for s in shapes})
        time, memory = (
            f"{text} ({ratio:.2f}{', **above**' if ratio > MARK else ''})"
            for text, ratio in (
                (f"{row['median_ms']:.3g}", row["ratio"]),
                (f"{row['temp_bytes'] / 1e6:.3g}", row["temp_bytes"] / max(plain["temp_bytes"], 1)),
            )
        )
        line[heading(row["shape"])] = f"{time}, {memory}{'' if row['agrees'] else ' (wrong)'}"
    return list(lines.values())


def forms(rows: list[Row]) -> list[dict[str, str]]:
    """A line for each cell and length, a column for each form."""
    lines = []
    for cell, shape in dict.fromkeys((row["cell"], row["shape"]) for row in rows):
        line = {"cell": cell, "T": f"{int(shape.split(',')[1]):,}"}
        for row in find(rows, cell=cell, shape=shape):
            gigabytes = row["temp_bytes"] / 1e9
            said = f"does not fit: {gigabytes:.3g} GB"
            if "median_ms" in row:
                wrong = "" if row["agrees"] else " (wrong)"
                ratio = "" if row["name"] == row["base"] else f", {row['ratio']:.3g}x"
                said = f"{row['median_ms']:.3g} ms{ratio}, {gigabytes:.2g} GB{wrong}"
            line[row["name"]] = said
        lines.append(line)
    return lines


def draw(rows: list[Row], path: pathlib.Path) -> None:
    """Forward+gradient of every peer over ours: bars up from 1 where ours is faster."""
    rows = [row for row in find(rows, section="layers", **{"pass": GRADIENT}) if row["name"] in peers.PEERS]
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    if not cells:
        return
    figure, panels = plt.subplots(
        len(cells), figsize=(9, 0.5 + 2.6 * len(cells)), layout="constrained", squeeze=False
    )
    for axes, cell in zip(panels.flat, cells, strict=True):
        bars(axes, cell, find(rows, cell=cell), peers.PEERS)
    axes.set_xlabel("B,T,I,H")
    figure.suptitle("One layer, forward and gradient: above 1, rnncells is faster")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_training(rows: list[Row], path: pathlib.Path) -> None:
    """Time per update of every other loop over ours."""
    rows = [row for row in find(rows, **{"pass": TRAINING}) if row["name"] in LOOPS]
    titles = {
        (row["section"], row["runs"]): "one run" if row["runs"] == 1 else f"{row['runs']} runs"
        for row in rows
    }
    if not titles:
        return
    figure, panels = plt.subplots(1, len(titles), figsize=(12, 3.3), layout="constrained", squeeze=False)
    for axes, ((section, runs), title) in zip(panels.flat, titles.items(), strict=True):
        bars(axes, title, find(rows, section=section, runs=runs), tuple(LOOPS))
        axes.set_xlabel("B,T,I,H")
    figure.suptitle("Training an LSTM on the adding problem: above 1, rnncells is faster")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def bars(axes: Any, title: str, rows: list[Row], known: Sequence[str]) -> None:
    """One panel: a group of bars for each shape, one bar for each name; colours as in `known`."""
    shapes, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("shape", "name"))
    width = 0.86 / len(names)
    for i, name in enumerate(names):
        heights = {shapes.index(row["shape"]): row["ratio"] for row in find(rows, name=name)}
        left = np.array(list(heights)) + width * (i - (len(names) - 1) / 2)
        ratios = np.array(list(heights.values()))
        color = f"C{known.index(name)}"
        drawn = axes.bar(left, ratios - 1, 0.92 * width, bottom=1, label=name, color=color)
        axes.bar_label(drawn, [f"{ratio:.2f}" for ratio in ratios], padding=2, fontsize=6)
    axes.axhline(1, color="black", lw=1)
    axes.set_yscale("log", base=2)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.8), max(high * 1.1, 2))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(title, loc="left")
    axes.set(ylabel="time / our time", xticks=range(len(shapes)), xticklabels=shapes)
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
    axes.legend(frameon=False, ncols=len(names), fontsize="small", **place)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
