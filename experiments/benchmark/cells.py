"""Every cell against its own ticks in a plain scan, and the scans of linear cells: the sections cells and
scans. What a section says of itself is the caption of its table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import Progress

import rnncells
from experiments.benchmark.options import TOLERANCE, Config
from experiments.benchmark.peers import Layer
from experiments.benchmark.report import CHUNKS, GRADIENT, PLAIN, Row
from experiments.benchmark.timing import Contender, Shape, race
from experiments.harness.options import make_cell
from rnncells import Cell

Outputs = Callable[[Any, Any], Any]


def cells(config: Config, progress: Progress) -> Iterator[Row]:
    """Every cell of the catalogue, forward and gradient with respect to its parameters: `unroll` over
    `jax.lax.scan` of the same ticks under `jax.grad`, in time and in what XLA reserves for temporaries. Less
    than 1: `unroll` is faster, or holds less. What is above 1.05 in one of them is marked."""
    for name, shape in itertools.product(config.catalogue, map(Shape.parse, config.cell_shapes)):
        cell = make_cell(name, shape.features)
        forms = {PLAIN: tick_by_tick(cell), "unroll": unrolled(cell)}
        what = {"section": "cells", "cell": name, "shape": str(shape), "pass": GRADIENT}
        yield from compared(config, progress, what, forms, PLAIN, shape, max(2, config.rounds // 2))


def scans(config: Config, progress: Progress) -> Iterator[Row]:
    """Linear cells, matrix memories among them, forward and gradient: in chunks, as `unroll` runs them on a
    CPU; all ticks at once, by `jax.lax.associative_scan` over the elements; tick by tick, by `jax.lax.scan`.
    Ratio: time over that in chunks. What would need more memory than there is, as the compiler says, is not
    run."""
    for name, ticks in itertools.product(config.scan_cells, config.scan_ticks):
        shape, cell = Shape(1, ticks, 64, 64), make_cell(name, 64)
        forms = {CHUNKS: unrolled(cell), "associative": at_once(cell), PLAIN: tick_by_tick(cell)}
        what = {"section": "scans", "cell": name, "shape": str(shape), "pass": GRADIENT}
        yield from compared(config, progress, what, forms, CHUNKS, shape, max(2, config.rounds // 5))


def compared(
    config: Config,
    progress: Progress,
    what: Row,
    forms: dict[str, Outputs],
    base: str,
    shape: Shape,
    rounds: int,
) -> Iterator[Row]:
    """Times forms of one cell; a form whose loss is another one is said to be wrong."""
    xs = np.random.default_rng(0).standard_normal((shape.ticks, shape.batch, shape.inputs), np.float32)
    cell = make_cell(what["cell"], shape.features)
    params = cell.init(jax.random.key(0), shape.inputs)
    contenders = {}
    for name, outputs in forms.items():
        layer = Layer(outputs, params, jnp.asarray(xs), cell)
        contenders[name] = Contender(layer.loss_and_gradient, (layer.params, layer.xs), base, says_loss=True)
    rows = list(race(progress, what, contenders, rounds, config.memory))
    (right,) = [row["loss"] for row in rows if row["name"] == base]
    for row in rows:
        difference = abs(row["loss"] - right) / max(abs(right), 1e-30) if "loss" in row else 0.0
        yield {**row, "max_difference": difference, "agrees": difference < TOLERANCE}
        if not difference < TOLERANCE:
            said = "{cell}, {shape}".format(**what)
            progress.console.print(f"[red]{row['name']} is wrong by {difference:.2g}: {said}")


def unrolled(cell: Cell) -> Outputs:
    """`rnncells.unroll`."""
    return lambda params, xs: rnncells.unroll(cell, params, xs)[1]


def tick_by_tick(cell: Cell) -> Outputs:
    """What a cell means: its weights once, then one tick after the other."""

    def outputs(params: Any, xs: Any) -> Any:
        weights = cell.prepare(params, like=xs[0])

        def tick(carry: Any, x: Any) -> tuple[Any, Any]:
            return cell.tick(weights, carry, x)

        return jax.lax.scan(tick, cell.initial_carry(params, xs.shape[1:-1], like=xs[0]), xs)[1]

    return outputs


def at_once(cell: Any) -> Outputs:
    """What a linear cell means as well: its elements combined, and each prefix applied to the first state."""

    def outputs(params: Any, xs: Any) -> Any:
        weights, monoid = cell.prepare(params, like=xs[0]), cell.monoid
        carry = cell.initial_carry(params, xs.shape[1:-1], like=xs[0])
        drive = jax.vmap(cell.project, (None, 0))(weights, xs)
        prefix = jax.lax.associative_scan(monoid.combine, jax.vmap(monoid.lift)(drive.element))
        states = jax.vmap(monoid.apply, (0, None))(prefix, carry)
        if cell.reads == "before":
            states = jax.tree.map(lambda first, s: jnp.concatenate([first[None], s[:-1]]), carry, states)
        outs = jax.vmap(cell.read, (None, 0, 0))(weights, states, drive)
        return jax.vmap(cell.readout, (None, 0, 0))(weights, outs, drive)

    return outputs
