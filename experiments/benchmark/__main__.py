"""Times the chosen sections, one after the other, and writes what they found."""

from __future__ import annotations

import importlib.metadata
import inspect
import itertools
import os
import platform
from collections.abc import Callable, Iterator

import jax
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from experiments.benchmark import cells, layers, report, summary, training
from experiments.benchmark.options import ALL, Config, Section
from experiments.benchmark.report import Row
from experiments.harness.processes import use_every_core

SECTIONS: dict[Section, Callable[[Config, Progress], Iterator[Row]]] = {
    "layers": layers.layers,
    "sharded": layers.sharded,
    "length": layers.length,
    "linear": layers.linear,
    "sweep": training.sweep,
    "train": training.train,
    "cells": cells.cells,
    "scans": cells.scans,
}


def environment() -> Row:
    """Where and with what a measurement was made."""
    names = ("rnncells", "jax", "jaxlib", "flax", "optax", "equinox", "dm-haiku", "keras", "torch", "numpy")
    installed = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    return {
        "versions": {name: installed[name] for name in names if name in installed},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": jax.devices()[0].device_kind,
        "devices": len(jax.devices()),
        "cores": os.cpu_count(),
    }


def main(config: Config) -> None:
    use_every_core()
    config.out.mkdir(parents=True, exist_ok=True)
    console, here, rows = Console(), environment(), report.read(config.out)
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn()
    chosen = tuple(dict.fromkeys(config.sections))
    with Progress(*columns, console=console) as progress:
        for section in chosen:
            before, new = rows, []
            for _, group in itertools.groupby(SECTIONS[section](config, progress), report.place):
                new += [{**row, **here} for row in group]
                rows = sorted(report.renewed(before, new), key=lambda row: ALL.index(row["section"]))
                report.save(rows, config.out)
    captions: dict[str, str] = {section: inspect.getdoc(SECTIONS[section]) or "" for section in ALL}
    report.write(rows, captions, config.out)
    report.show(console, rows, {section: captions[section] for section in chosen})
    text = summary.summarise(rows)
    (config.out / "summary.md").write_text(text)
    console.print(text, f"Everything is in {config.out}.")


if __name__ == "__main__":
    main(tyro.cli(Config))
