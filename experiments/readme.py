"""Writes the generated parts of the README: the table of cells, and the results of
`make results` and `make benchmark`."""

from __future__ import annotations

import pathlib
import re

from experiments.harness.tables import markdown
from rnncells import CELLS, WRAPPERS

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"


def cells() -> str:
    """The registry as a table."""
    rows = []
    for name, cell in CELLS.items():
        rows.append(
            {
                "cell": f"`{name}`",
                "what it is": summary(cell),
                "parallel in time": "yes" if cell.linear else "",
                "source": cell.paper,
            }
        )
    return markdown(rows)


def wrappers() -> str:
    """The wrappers as a table."""
    rows = []
    for name, wrapper in WRAPPERS.items():
        rows.append({"wrapper": f"`{name}`", "what it does": summary(wrapper), "source": wrapper.paper})
    return markdown(rows)


def summary(kind: type) -> str:
    """The first sentence of a docstring."""
    first = (kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    return re.sub(" +", " ", first).rstrip(".:;")


def adding() -> str:
    """The table that `experiments.adding --out docs/results/adding` left."""
    return (ROOT / "docs/results/adding/table.md").read_text()


def benchmark() -> str:
    """The table that `experiments.benchmark --out docs/results/benchmark` left."""
    return (ROOT / "docs/results/benchmark/summary.md").read_text()


def write(text: str) -> str:
    """The README with every block between `<!-- name -->` and `<!-- end -->` made anew."""
    for name, make in {
        "cells": cells,
        "wrappers": wrappers,
        "adding": adding,
        "benchmark": benchmark,
    }.items():
        found = re.search(rf"<!-- {name}\b.*?-->\n(.*?)<!-- end -->", text, re.DOTALL)
        if found is None:
            raise ValueError(f"README.md: expected a block '<!-- {name} ... -->' to '<!-- end -->'.")
        text = text[: found.start(1)] + make() + text[found.end(1) :]
    return text


if __name__ == "__main__":
    README.write_text(write(README.read_text()))
