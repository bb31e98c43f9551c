"""Writes the generated parts of the README: the tables of cells and wrappers, and the results of
`make results`, `make ranking`, `make benchmark` and `make costs`."""

from __future__ import annotations

import inspect
import pathlib
import re

import jax

from experiments.harness.model import make_cell
from experiments.harness.tables import markdown
from experiments.zoo import report
from rnncells import CELLS, WRAPPERS, Cell

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
INPUTS, FEATURES = 32, 128
"""The sizes at which parameters are counted."""


def cells() -> str:
    """The registry as a table."""
    rows = []
    for name, kind in CELLS.items():
        cell = make_cell(name, FEATURES)
        params = jax.eval_shape(lambda key, cell=cell: cell.init(key, INPUTS), jax.random.key(0))
        rows.append(
            {
                "cell": f"[`{name}`]({pathlib.Path(inspect.getfile(kind)).relative_to(ROOT)})",
                "what it is": summary(kind),
                "state": state(cell, params),
                "parameters": f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,}",
                "parallel in time": "yes" if cell.linear or cell.layered else "",
                "source": cell.paper,
            }
        )
    return markdown(rows)


def state(cell: Cell, params: dict[str, jax.ShapeDtypeStruct]) -> str:
    """The shapes of a state, with H for the features and I for the inputs: `cell [H], hidden [H]`."""
    letters = {FEATURES: "H", INPUTS: "I", FEATURES + 1: "H + 1", FEATURES * FEATURES: "H^2"}
    carry = cell.carry_shape(params, (), jax.ShapeDtypeStruct((INPUTS,), "float32"))
    words = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(carry):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        kind = "" if leaf.dtype == "float32" else f" {leaf.dtype}"
        shape = ", ".join(letters.get(size, str(size)) for size in leaf.shape)
        words.append(f"{name} [{shape}]{kind}".strip())
    return ", ".join(words)


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


def costs() -> str:
    """The table that `experiments.benchmark cells scans --out docs/results/cells` left."""
    return (ROOT / "docs/results/cells/summary.md").read_text()


def zoo() -> str:
    """What `experiments.zoo` found of every cell on the adding problem."""
    return f"{report.sentence(report.by_task(report.read(ROOT / 'docs/results/zoo'))['adding'])}\n"


def write(text: str) -> str:
    """The README with every block between `<!-- name -->` and `<!-- end -->` made anew."""
    for name, make in {
        "cells": cells,
        "wrappers": wrappers,
        "adding": adding,
        "zoo": zoo,
        "benchmark": benchmark,
        "costs": costs,
    }.items():
        found = re.search(rf"<!-- {name}\b.*?-->\n(.*?)<!-- end -->", text, re.DOTALL)
        if found is None:
            raise ValueError(f"README.md: expected a block '<!-- {name} ... -->' to '<!-- end -->'.")
        text = text[: found.start(1)] + make() + text[found.end(1) :]
    return text


if __name__ == "__main__":
    README.write_text(write(README.read_text()))
