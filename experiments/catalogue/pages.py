"""One page for each family, as Markdown: from the registry, the docstrings, and what can be counted."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pathlib
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import quote

import jax

from experiments.catalogue import equations
from experiments.catalogue.cost import Cost, cost
from experiments.harness.tables import markdown
from experiments.readme import FEATURES, INPUTS, ROOT, state, summary
from rnncells import CELLS, Cell

FOLDER = ROOT / "docs" / "cells"
PICTURES = "impulse"
SHAPE = (16,)
"""Of the states of cells that want one."""
READING = f"""# The catalogue

Every cell of the library, by family; these pages are written from the docstrings by `make catalogue`.

{{table}}
In the equations a prime marks what a tick leaves behind; x is the input, y the output, s the logistic
function where nothing else is said. Products of vectors are elementwise. Vectors are rows, and x W is
`x @ W`; where U stands before h it is a map, applied to h.

Parameters and costs are those at {INPUTS} inputs (I) and {FEATURES} features (H), with everything else at its
default. A cost is that of one tick of one sequence, counted in the jaxpr: multiply-adds of real numbers (a
multiplication or division alone is one of them), and values of tanh, exp, sqrt and their like. The step
runs tick by tick; the rest, `project` and `readout`, runs for all ticks at once where that pays. What
`prepare` does once per sequence is not counted.

The pictures show the output, and what else of the state an impulse changes, over 60 ticks: one input, which
is 1 at the first tick and 0 afterwards, 16 features, parameters as they are initialised, six units each.
Dotted lines, where there are any, are the same units without the impulse.
"""
SPANS = re.compile(
    r"(?P<code>`[^`]+`)|arXiv (?P<arxiv>\d{4}\.\d{4,5})|doi (?P<doi>10\.\d{4,9}/[^\s,;]*[^\s,;.)])"
    r"|\bas (?:for )?(?P<cell>[A-Z]\w+)"
)


class Entry(NamedTuple):
    """A cell of the catalogue, and its numbers."""

    kind: type[Cell]
    cell: Cell
    shape: tuple[int, ...]
    state: str
    parameters: int
    cost: Cost

    @property
    def name(self) -> str:
        return self.kind.__name__


def entry(kind: type[Cell]) -> Entry:
    shape = shape_of(kind)
    cell = instance(kind, FEATURES)
    x = jax.ShapeDtypeStruct((*shape, INPUTS), "float32")
    params = jax.eval_shape(lambda key: cell.init(key, INPUTS), jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Entry(kind, cell, shape, state(cell, params), count, cost(cell, params, x))


def shape_of(kind: type[Cell]) -> tuple[int, ...]:
    """A cell that is not in the registry takes a shape."""
    return () if kind.__name__ in CELLS else SHAPE


def instance(kind: type[Cell], features: int) -> Cell:
    shape = shape_of(kind)
    return kind(features, **({"shape": shape} if shape else {}))  # type: ignore[call-arg]


def families() -> dict[str, list[type[Cell]]]:
    """The cells of every family, in the order of the registry; those that take a shape at last."""
    convolutional = importlib.import_module("rnncells.cells.convolutional")
    shaped = [getattr(convolutional, name) for name in convolutional.__all__]
    found: dict[str, list[type[Cell]]] = {}
    for kind in (*CELLS.values(), *(kind for kind in shaped if issubclass(kind, Cell))):
        found.setdefault(family_of(kind), []).append(kind)
    return found


def family_of(kind: type) -> str:
    """`gated`, of `rnncells.cells.gated.gru`."""
    return kind.__module__.split(".")[2]


def pages() -> dict[str, str]:
    """The text of every page, by the name of its file."""
    made, rows = {}, []
    for family, kinds in families().items():
        idea = _idea(family)
        made[f"{family}.md"] = page(family, idea, [entry(kind) for kind in kinds])
        cells = ", ".join(f"[{kind.__name__}]({family}.md#{kind.__name__.lower()})" for kind in kinds)
        rows.append({"family": f"[{family}]({family}.md)", "idea": marked(idea), "cells": cells})
    return {"index.md": READING.format(table=markdown(rows)), **made}


def _idea(family: str) -> str:
    """What the docstring of a family says before it lists its files."""
    text = inspect.getdoc(importlib.import_module(f"rnncells.cells.{family}")) or ""
    return " ".join(text.split("\n\n")[0].split())


def page(family: str, idea: str, entries: Sequence[Entry]) -> str:
    rows = [
        {
            "cell": f"[{each.name}](#{each.name.lower()})",
            "what it is": marked(summary(each.kind)),
            "parameters": f"{each.parameters:,}",
            "multiply-adds, step": f"{each.cost.step.products:,}",
            "multiply-adds, rest": f"{each.cost.rest.products:,}",
            "parallel in time": _parallel(each.cell),
        }
        for each in entries
    ]
    head = f"# {family.capitalize()} cells\n\n{marked(idea)}\n\n[How to read this page](index.md).\n\n"
    return head + markdown(rows) + "".join(f"\n{section(each)}" for each in entries)


def section(each: Entry) -> str:
    """A cell: what it is, its equations, a picture, its numbers, and the rest of the docstring."""
    picture = f"![What {each.name} does to an impulse]({PICTURES}/{each.name}.png)"
    told, details = [], []
    for paragraph in paragraphs(each.kind):
        first = paragraph[0].partition(" ")[0]
        if first in ("Args:", "Raises:"):
            title = {"Args:": "Arguments", "Raises:": "Errors"}[first]
            details.append(
                f"**{title}**\n\n{signature(each) if first == 'Args:' else ''}{items(paragraph[1:])}"
            )
        elif first in ("Shapes:", "Source:") or details:
            details.append(re.sub(r"^(Shapes|Source)\\?:", r"**\1.**", marked(" ".join(paragraph))))
        elif paragraph[0].startswith("    "):
            told.append(equations.block([line[4:] for line in paragraph]))
        else:
            told.append(marked(" ".join(paragraph)))
    return "\n\n".join((f"## {each.name}", *told, picture, facts(each).rstrip(), *details)) + "\n"


def paragraphs(kind: type) -> Iterator[list[str]]:
    """The docstring of a cell, where empty lines divide it."""
    for paragraph in (inspect.getdoc(kind) or "").split("\n\n"):
        if paragraph.strip():
            yield paragraph.strip("\n").split("\n")


def facts(each: Entry) -> str:
    step, rest = each.cost
    rows = {
        "state": f"`{each.state}`" if each.state else "none",
        "output": f"`[{', '.join(map(str, each.shape))}{', ' if each.shape else ''}{_width(each)}]`",
        "parameters": f"{each.parameters:,}",
        "cost of a tick, step": f"{step.products:,} multiply-adds, {step.values:,} function values",
        "cost of a tick, rest": f"{rest.products:,} multiply-adds, {rest.values:,} function values",
        "parallel in time": _parallel(each.cell) or "no",
        "time between inputs": "taken, as `Timed`" if each.cell.timed else "",
        "file": f"`{pathlib.Path(inspect.getfile(each.kind)).relative_to(ROOT)}`",
    }
    if each.shape:
        rows["with"] = f"`shape={each.shape}`"
    paper = {"source": marked(each.cell.paper)}
    return markdown([{"source": name, paper["source"]: value} for name, value in rows.items() if value])


def _width(each: Entry) -> str:
    size = each.cell.output_size
    return {FEATURES: "H", 2 * FEATURES: "2H"}.get(size, str(size))


def _parallel(cell: Cell) -> str:
    return "yes" if cell.linear or cell.layered else ""


def signature(each: Entry) -> str:
    """How a cell is made, with its defaults, as code."""
    given = []
    for field in dataclasses.fields(each.kind):
        if field.kw_only and "*" not in given:
            given.append("*")
        required = field.default is dataclasses.MISSING
        given.append(field.name if required else f"{field.name}={worded(field.default)}")
    code = textwrap.fill(
        f"{each.name}({', '.join(given)})", 100, subsequent_indent="    ", break_on_hyphens=False
    )
    return f"```py\n{code}\n```\n\n"


def worded(value: object) -> str:
    """A default as one would write it."""
    if isinstance(value, float):
        return repr(float(f"{value:.6g}"))
    return getattr(value, "__name__", None) or repr(value).replace("'", '"')


def items(lines: Sequence[str]) -> str:
    """`a, b: what they are`, one to a point; deeper lines go on."""
    points: list[str] = []
    for line in lines:
        if re.match(r" {4}\S", line):
            points.append(line.strip())
        else:
            points[-1] += " " + line.strip()
    made = []
    for point in points:
        names, colon, text = point.partition(": ")
        parts = re.split("(, | and )", names)  # names, and what stands between them
        coded = "".join(part if i % 2 else _code(part) for i, part in enumerate(parts))
        made.append(f"- {coded}{colon}{marked(text)}")
    return "\n".join(made)


def _code(name: str) -> str:
    """A name as code; words as words."""
    return f"`{name}`" if name.isidentifier() else marked(name)


def marked(text: str) -> str:
    """Plain text as Markdown: its signs stay what they are, sources and other cells are links."""
    made, place = "", 0
    for found in SPANS.finditer(text):
        made += _plain(text[place : found.start()]) + _linked(found)
        place = found.end()
    return made + _plain(text[place:])


def _linked(found: re.Match[str]) -> str:
    if found["arxiv"]:
        return f"[{found[0]}](https://arxiv.org/abs/{found['arxiv']})"
    if found["doi"]:
        return f"[{_plain(found[0])}](https://doi.org/{quote(found['doi'])})"
    name = found["cell"] or found["code"].strip("`")
    if name not in CELLS:
        return found[0] if found["code"] else _plain(found[0])
    place = f"{family_of(CELLS[name])}.md#{name.lower()}"
    return f"[`{name}`]({place})" if found["code"] else f"{found[0][: -len(name)]}[{name}]({place})"


def _plain(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\*_\[\]|])", r"\\\1", text)
