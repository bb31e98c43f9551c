"""How contenders are timed: in turns, in every round, so that a machine that drifts favours none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.progress import Progress

from experiments.benchmark.report import Row

WARM_UP = 2
PAUSE = 0.005
"""Seconds before every measurement, in which the threads of the one before go to sleep."""


class Shape(NamedTuple):
    """One layer on one batch."""

    batch: int
    ticks: int
    inputs: int
    features: int

    @staticmethod
    def parse(text: str) -> Shape:
        sizes = text.split(",")
        if len(sizes) != 4 or not all(size.strip().isdigit() and int(size) for size in sizes):
            raise ValueError(f"shapes: expected four positive numbers 'B,T,I,H', got {text!r}.")
        return Shape(*map(int, sizes))

    def __str__(self) -> str:
        return ",".join(map(str, self))


class Contender(NamedTuple):
    """A function to time."""

    run: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    base: str = "ours"
    """The contender that it is compared with."""
    jit: bool = True
    ticks: int = 1
    """Times are compared per tick where the lengths differ."""
    says_loss: bool = False
    """What it returns begins with a number that all contenders must agree on."""


def race(
    progress: Progress,
    what: Row,
    contenders: dict[str, Contender],
    rounds: int,
    memory_limit: float | None = None,
) -> Iterator[Row]:
    """Compiles every contender, then times each once per round; a row for each.

    One whose temporaries need more gigabytes than `memory_limit` is not run, and its row has no times.

    Raises:
        ValueError: where that is one that others are compared with.
    """
    label = "{section} {cell} {shape} {pass}".format(**what)
    bar = progress.add_task(f"{label}: compiling", total=len(contenders))
    programs: dict[str, Callable[..., Any]] = {}
    facts: dict[str, Row] = {}
    for name, contender in contenders.items():
        programs[name], facts[name] = contender.run, {}
        if contender.jit:
            start = time.perf_counter()
            programs[name] = program = jax.jit(contender.run).lower(*contender.arguments).compile()
            facts[name]["compile_seconds"] = time.perf_counter() - start
            if memory := program.memory_analysis():
                facts[name]["temp_bytes"] = memory.temp_size_in_bytes
        progress.advance(bar)
    too_large = [
        name
        for name in contenders
        if memory_limit is not None and facts[name].get("temp_bytes", 0) > 1e9 * memory_limit
    ]
    entered = {name: contender for name, contender in contenders.items() if name not in too_large}
    for needed in {contender.base for contender in contenders.values()} & set(too_large):
        size = facts[needed]["temp_bytes"] / 1e9
        raise ValueError(f"memory: expected {size:.3g} gigabytes for {needed}, {label}, got {memory_limit}.")
    progress.reset(bar, description=label, total=WARM_UP + rounds)
    times: dict[str, list[float]] = {name: [] for name in entered}
    for _ in range(WARM_UP + rounds):
        for name, contender in entered.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            made = jax.block_until_ready(programs[name](*contender.arguments))
            times[name].append(time.perf_counter() - start)
            if contender.says_loss:
                facts[name]["loss"] = float(made[0])
        progress.advance(bar)
    progress.remove_task(bar)
    shown = []
    for name, contender in contenders.items():
        if name in too_large:
            yield {**what, "name": name, "base": contender.base, "fits": False, **facts[name]}
            shown.append(f"{name} needs {facts[name]['temp_bytes'] / 1e9:.3g} GB")
            continue
        ms, base = (1e3 * np.array(times[each][WARM_UP:]) for each in (name, contender.base))
        ratio = float(np.median(ms / contender.ticks / (base / contenders[contender.base].ticks)))
        spread = dict(zip(("p10_ms", "median_ms", "p90_ms"), np.percentile(ms, (10, 50, 90)), strict=True))
        yield {**what, "name": name, "base": contender.base, "ratio": ratio, **spread, **facts[name]}
        shown.append(f"{name} " + (f"{ratio:.2f}x" if name != contender.base else f"{np.median(ms):.3g} ms"))
    progress.console.print(f"[dim]{label}: {', '.join(shown)}[/dim]", highlight=False)
