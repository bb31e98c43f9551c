"""Trains what is to be trained, entry by entry, and writes what became of all."""

from __future__ import annotations

import sys

import jax
import tyro
from rich.console import Console

from experiments.harness.options import ConfigError
from experiments.zoo import picture, report
from experiments.zoo.entries import entry, trained
from experiments.zoo.options import Config
from experiments.zoo.published import ENTRIES


def use_devices(count: int) -> None:
    """So many CPU devices, one for each seed: of a device that has a seed more, the others would wait."""
    jax.config.update("jax_num_cpu_devices", count)


def main(config: Config) -> None:
    use_devices(config.training.seeds)
    for on in config.tasks:
        for name in config.cells:
            one = entry(config, name, on)
            try:
                lines = trained(name, one)
            except ConfigError as error:
                sys.exit(str(error))
            rows = [own for own in report.read(config.out) if (own["task"], own["entry"]) != (on, name)]
            rows = [*rows, report.row(name, one, lines)]
            report.save(sorted(rows, key=lambda own: ENTRIES.index(own["entry"])), config.out)
            jax.clear_caches()  # a process may hold only so many programs
    rows = report.read(config.out)
    (config.out / "table.md").write_text(report.page(rows))
    for on, own in report.by_task(rows).items():
        picture.draw(own, config.out / f"{on}.png")
        if on in config.tasks:
            Console().print(report.sentence(own), highlight=False)
    print(f"Everything is in {config.out}: table.md, results.jsonl, a picture and the runs of each task.")


if __name__ == "__main__":
    main(tyro.cli(Config))
