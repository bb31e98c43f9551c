"""What a reader wants to know first, as one table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from experiments.benchmark import peers
from experiments.benchmark.report import COMPILE, GRADIENT, LOOPS, PLAIN, TRAINING, Row, find
from experiments.harness.tables import markdown

NAMES = {
    "linen": "flax.linen",
    "nnx": "flax.nnx",
    "equinox": "Equinox",
    "haiku": "Haiku",
    "keras": "Keras (JAX)",
}


class Finding(NamedTuple):
    """One workload against one rival."""

    workload: str
    rival: str
    ratios: Sequence[float]
    """Of the rival over ours."""


def summarise(rows: list[Row]) -> str:
    """A sentence, and a row for each workload and rival; what was not measured is left out."""
    found = [
        *layers(rows),
        *sharded(rows),
        *lengths(rows),
        *linear(rows),
        *training(rows),
        *cells(rows),
        *scans(rows),
    ]
    if not found:
        return ""
    lines = []
    for workload, rival, ratios in found:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        low, high = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
        around = "" if low == high else f"{low} to {high}"
        lines.append({"workload": workload, "rival": rival, "ratio": f"{mean:.2f}", "range": around})
    here = rows[0]
    where = f", {here['cores']} cores" if "cores" in here else ""
    where += f", jax {here['versions']['jax']}" if "versions" in here else ""
    said = (
        f"The rival's time over ours (or its memory), float32{where}: above 1, rnncells is ahead. A ratio is"
        " the geometric mean over cells and shapes."
    )
    return f"{said}\n\n{markdown(lines)}"


def layers(rows: list[Row]) -> Iterator[Finding]:
    gradients = [row for row in find(rows, section="layers", **{"pass": GRADIENT}) if row["cell"] != "MinGRU"]
    work = "one layer (LSTM and GRU), forward and gradient"
    for name in peers.RECURRENT:
        if name != "torch" and (own := find(gradients, name=name)):
            yield Finding(work, NAMES.get(name, name), [row["ratio"] for row in own])
    for cell in ("LSTM", "GRU"):
        if torch := find(gradients, name="torch", cell=cell):
            yield Finding(f"one {cell} layer, forward and gradient", "PyTorch", [r["ratio"] for r in torch])
    if linen := find(gradients, name="linen"):
        pairs = [(find(gradients, name="ours", cell=r["cell"], shape=r["shape"])[0], r) for r in linen]
        memory = [peer["temp_bytes"] / ours["temp_bytes"] for ours, peer in pairs if ours["temp_bytes"]]
        yield Finding("one layer (LSTM and GRU), temporary memory", NAMES["linen"], memory)


def sharded(rows: list[Row]) -> Iterator[Finding]:
    if apart := find(rows, section="sharded", name="linen on one device"):
        rival = f"{NAMES['linen']} on one device"
        yield Finding("one layer, its batch over all cores", rival, [row["ratio"] for row in apart])


def lengths(rows: list[Row]) -> Iterator[Finding]:
    for row in find(rows, section="length", name="linen", **{"pass": COMPILE}):
        yield Finding(f"compiling T = {_ticks(row):,}", NAMES["linen"], [row["ratio"]])
    for row in find(rows, section="length", **{"pass": GRADIENT}):
        if row["name"] != row["base"]:
            memory = f"{row['temp_bytes'] / 1e6:,.0f} MB"
            yield Finding(f"a tick of {row['name']} ({memory})", f"ours at {row['base']}", [1 / row["ratio"]])


def linear(rows: list[Row]) -> Iterator[Finding]:
    own = find(rows, section="linear")
    for name, rival in (("one loop", "plain jax.lax.scan"), ("associative", "associative scan")):
        if scans := find(own, name=name):
            ticks = sorted(_ticks(row) for row in scans)
            work = f"MinGRU, forward and gradient, T = {ticks[0]:,} to {ticks[-1]:,}"
            yield Finding(work, rival, [row["ratio"] for row in scans])


def training(rows: list[Row]) -> Iterator[Finding]:
    for ours in find(rows, name="ours", **{"pass": TRAINING}):
        what = "training one LSTM" if ours["section"] == "train" else f"a sweep of {ours['runs']} LSTMs"
        rate = f"{ours['updates_per_second']:.4g} updates/s"
        work = f"{what} on the adding problem, {ours['shape']} ({rate})"
        same = {key: ours[key] for key in ("section", "shape", "cell", "pass")}
        for name, words in LOOPS.items():
            for row in find(rows, name=name, **same):
                yield Finding(work, words[ours["section"]], [row["ratio"]])


def cells(rows: list[Row]) -> Iterator[Finding]:
    pairs = [
        (row, find(rows, section="cells", name=PLAIN, cell=row["cell"], shape=row["shape"])[0])
        for row in find(rows, section="cells", name="unroll")
    ]
    if pairs:
        work, rival = f"{len({row['cell'] for row, _ in pairs})} cells", "plain jax.lax.scan of their ticks"
        yield Finding(f"{work}, forward and gradient", rival, [1 / row["ratio"] for row, _ in pairs])
        memory = [plain["temp_bytes"] / row["temp_bytes"] for row, plain in pairs if row["temp_bytes"]]
        yield Finding(f"{work}, temporary memory", rival, memory)


def scans(rows: list[Row]) -> Iterator[Finding]:
    own = find(rows, section="scans")
    for name, rival in (("associative", "associative scan"), (PLAIN, "plain jax.lax.scan")):
        if timed := [row for row in find(own, name=name) if "ratio" in row]:
            ticks, kinds = sorted(_ticks(row) for row in timed), len({row["cell"] for row in timed})
            work = f"{kinds} linear cells in chunks, T = {ticks[0]:,} to {ticks[-1]:,}"
            yield Finding(work, rival, [row["ratio"] for row in timed])


def _ticks(row: Row) -> int:
    return int(str(row["shape"]).split(",")[1])
