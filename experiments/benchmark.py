"""One recurrent layer against the same layer in other libraries, and training against the loops that users of
Flax write, timed in one interleaved run."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import inspect
import itertools
import math
import os
import pathlib
import platform
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from experiments import loops, peers, report
from experiments.config import make_cell
from experiments.report import COMPILE, FORWARD, GRADIENT, PEERS, TRAINING, Row
from experiments.run import use_every_core
from experiments.timing import Contender, Shape, race
from rnncells import Cell

if TYPE_CHECKING:
    PeerName = str
else:
    PeerName = Literal[PEERS]
Section = Literal["layers", "sharded", "length", "linear", "sweep", "train"]
ALL: tuple[Section, ...] = ("layers", "sharded", "length", "linear", "sweep", "train")
RATES = (1e-3, 2e-3, 3e-3, 5e-3)
"""Learning rates of the sweep section."""
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Config:
    """Times one recurrent layer, forward and with its gradient, against the same layer elsewhere, and
    training against the loops that users of Flax write.

    Every output is compared with ours first. All contenders take turns in every round, and a ratio
    is the median of the ratios within each round, so that a machine that drifts does not favour one.
    What `out` holds of other sections stays.
    """

    sections: tyro.conf.Positional[tuple[Section, ...]] = ALL
    """layers: against every peer; sharded: one layer over all cores; length: long sequences;
    linear: the scans of MinGRU; sweep: many runs at once; train: one run, end to end."""
    cells: tuple[Literal["LSTM", "GRU", "MinGRU"], ...] = ("LSTM", "GRU", "MinGRU")
    """Cells of the layers section."""
    shapes: tuple[str, ...] = (
        "64,200,2,128",
        "32,1000,2,64",
        "16,200,2,32",
        "64,200,128,256",
        "128,50,512,512",
    )
    """Batch, ticks, inputs and features of the layers section."""
    peers: tuple[PeerName, ...] = PEERS
    """What to compare with: libraries for LSTM and GRU, plain JAX for MinGRU."""
    sharded_shapes: tuple[str, ...] = ("64,200,2,128", "32,1000,2,64")
    """Batch, ticks, inputs and features of the sharded section."""
    compile_ticks: int = 10_000
    """Ticks of the sequence that the length section compiles."""
    long_ticks: int = 100_000
    """Ticks of its longest sequence; `remat_every` is the root of it, and a hundredth the yardstick."""
    linear_ticks: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    """Ticks of the linear section."""
    sweep_shapes: tuple[str, ...] = ("16,200,2,128", "16,200,2,32")
    """Batch, ticks, inputs (always 2) and features of the sweep section."""
    sweep_seeds: int = 4
    """Its runs with each of 4 learning rates."""
    train_shapes: tuple[str, ...] = ("64,200,2,128",)
    """Batch, ticks, inputs (always 2) and features of the train section."""
    updates: int = 10
    """Updates of every run in one measurement of the sweep and train sections."""
    rounds: int = 15
    """Measurements of every contender (a fifth of it, at least 2, in the length section, a third in the
    linear, sweep and train ones)."""
    out: pathlib.Path = pathlib.Path("runs/benchmark")
    """Where results.jsonl, table.md, summary.md, benchmark.png and training.png are written."""

    def __post_init__(self) -> None:
        for name in ("rounds", "sweep_seeds", "updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}.")
        for shape in (*self.shapes, *self.sharded_shapes):
            Shape.parse(shape)
        for shape in (*self.sweep_shapes, *self.train_shapes):
            if Shape.parse(shape).inputs != 2:
                raise ValueError(f"shapes: expected 2 inputs, as the adding problem has, got {shape!r}.")


def problem(name: str, shape: Shape) -> tuple[Cell, dict[str, Any], np.ndarray]:
    """A cell of ours with parameters and inputs, from fixed seeds."""
    cell, rng = make_cell(name, shape.features), np.random.default_rng(0)
    params = {name: np.array(leaf) for name, leaf in cell.init(jax.random.key(0), shape.inputs).items()}
    params["bias"] += 0.1 * rng.standard_normal(params["bias"].shape, np.float32)
    return cell, params, rng.standard_normal((shape.ticks, shape.batch, shape.inputs), np.float32)


def gradient_of(layer: peers.Layer, **options: Any) -> Contender:
    return Contender(layer.loss_and_gradient, (layer.params, layer.xs), **options)


def layers(config: Config, progress: Progress) -> Iterator[Row]:
    """One layer on one device. Ratio: time of the peer over ours, more than 1 where ours is faster.
    Floor: the matrix products of the layer and nothing else. Memory is what XLA reserves for
    temporaries; memory and compile time are of forward+gradient. Haiku's GRU resets before the
    product, and is compared with ours of that kind."""
    for shape, name in itertools.product(map(Shape.parse, config.shapes), config.cells):
        cell, params, xs = problem(name, shape)
        what = {"section": "layers", "cell": name, "shape": str(shape)}
        entered = {"ours": (peers.ours(cell, params, xs), "ours")}
        builders = peers.LINEAR if cell.linear else peers.RECURRENT
        for peer in [peer for peer in config.peers if peer in builders]:
            layer, base = builders[peer](cell, params, xs), "ours"
            twin = entered["ours"]
            if layer.cell != cell:
                base = f"ours as in {peer}"
                twin = peers.ours(layer.cell, params, xs), base
            difference = float(np.abs(layer.numpy() - twin[0].numpy()).max())
            agrees = difference < TOLERANCE
            yield {**what, "pass": "outputs", "name": peer, "max_difference": difference, "agrees": agrees}
            if agrees:
                entered |= {base: twin, peer: (layer, base)}
            else:
                progress.console.print(f"[red]{peer} is wrong by {difference:.2g}: {name}, {shape}")
        start = entered["ours"][0].params, entered["ours"][0].xs
        for label in (FORWARD, GRADIENT):
            contenders = {}
            for peer, (layer, base) in entered.items():
                run = layer.outputs if label == FORWARD else layer.loss_and_gradient
                contenders[peer] = Contender(run, (layer.params, layer.xs), base, layer.gradient is None)
            contenders["floor"] = Contender(functools.partial(products, label == GRADIENT), start)
            yield from race(progress, {**what, "pass": label}, contenders, config.rounds)


def products(gradient: bool, params: Any, xs: jax.Array) -> Any:
    """Only the matrix products of a layer: two per tick forward, one backward, one for the weights.

    Sums of blocks stand for the gates, scaled so that states neither grow nor vanish."""
    kernel, flat = params["kernel"], xs.reshape(-1, xs.shape[-1])
    if "recurrent_kernel" not in params:
        drive = flat @ kernel
        return (drive, flat.T @ drive) if gradient else drive
    recurrent = params["recurrent_kernel"]
    features, gates = recurrent.shape[0], recurrent.shape[1] // recurrent.shape[0]
    scale = 0.9 / math.sqrt(gates)

    def tick(h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        z = x @ kernel + h @ recurrent
        h = scale * z.reshape(-1, gates, features).sum(1)
        return h, h

    def tick_back(dh: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        dz = jnp.tile(scale * (dh + dy), (1, gates))
        return dz @ recurrent.T, dz

    start = jnp.zeros((xs.shape[1], features))
    _, hs = jax.lax.scan(tick, start, xs)
    if not gradient:
        return hs
    _, dzs = jax.lax.scan(tick_back, start, hs, reverse=True)
    rows = dzs.reshape(-1, gates * features)
    return hs.reshape(-1, features).T @ rows, flat.T @ rows


def shard_batch(xs: Any, batch_axis: int) -> jax.Array:
    """xs with its batch spread over the devices (on CPU: one per core, after `use_every_core`).

    Uses as many devices as divide the batch; `.sharding` of the result names them."""
    count = math.gcd(len(jax.devices()), xs.shape[batch_axis])
    mesh = Mesh(np.array(jax.devices()[:count]), ("batch",))
    return jax.device_put(xs, NamedSharding(mesh, PartitionSpec(*[None] * batch_axis, "batch")))


def data_parallel(loss_and_gradient: Callable[..., Any], params: Any, xs: Any) -> Contender:
    """Each device runs its part of the batch: with the batch sharded and the parameters on every
    device, `jax.jit` divides the work and adds up the gradients by itself."""
    everywhere = NamedSharding(xs.sharding.mesh, PartitionSpec())
    return Contender(loss_and_gradient, (jax.device_put(params, everywhere), xs))


def sharded(config: Config, progress: Progress) -> Iterator[Row]:
    """The batch spread over one device per core, against one device as users have it. Ratio: time
    over ours, sharded."""
    for shape, name in itertools.product(map(Shape.parse, config.sharded_shapes), ("LSTM", "GRU")):
        given = problem(name, shape)
        ours, linen = peers.ours(*given), peers.flax_linen(*given)
        contenders = {
            "ours": data_parallel(ours.loss_and_gradient, ours.params, shard_batch(ours.xs, 1)),
            "ours on one device": gradient_of(ours),
            "linen on one device": gradient_of(linen),
        }
        what = {"section": "sharded", "cell": name, "shape": str(shape), "pass": GRADIENT}
        yield from race(progress, what, contenders, config.rounds)


def length(config: Config, progress: Progress) -> Iterator[Row]:
    """Long sequences (LSTM). Compile: forward+gradient, from Python to program; ratio: time over ours.
    With `remat_every`, the ratio is of times per tick, over the short sequence without it."""
    rounds = max(2, config.rounds // 5)
    shape = Shape(8, config.compile_ticks, 2, 64)
    given = problem("LSTM", shape)

    def compiling(layer: peers.Layer) -> Contender:
        def run() -> None:
            jax.jit(lambda *args: layer.loss_and_gradient(*args)).lower(layer.params, layer.xs).compile()

        return Contender(run, jit=False)

    what = {"section": "length", "cell": "LSTM", "shape": str(shape), "pass": COMPILE}
    contenders = {"ours": compiling(peers.ours(*given)), "linen": compiling(peers.flax_linen(*given))}
    yield from race(progress, what, contenders, rounds)

    long, every = shape._replace(ticks=config.long_ticks), math.isqrt(config.long_ticks)
    short = shape._replace(ticks=max(1, config.long_ticks // 100))
    base = f"T = {short.ticks:,}"
    plain = peers.ours(*problem("LSTM", short))
    remat = peers.ours(*problem("LSTM", long), remat_every=every)
    contenders = {
        base: gradient_of(plain, base=base, ticks=short.ticks),
        f"T = {long.ticks:,}, remat_every = {every}": gradient_of(remat, base=base, ticks=long.ticks),
    }
    yield from race(progress, {**what, "shape": str(long), "pass": GRADIENT}, contenders, rounds)


def linear(config: Config, progress: Progress) -> Iterator[Row]:
    """The scans of MinGRU, one sequence of 64 features. Ratio: time over the sequential one
    (`parallel=False`). One loop: plain `jax.lax.scan`; k is the root of T."""
    for ticks in config.linear_ticks:
        shape, every = Shape(1, ticks, 2, 64), math.isqrt(ticks)
        given = problem("MinGRU", shape)
        layers = {
            "sequential": peers.ours(*given, parallel=False),
            "sequential, remat_every=k": peers.ours(*given, parallel=False, remat_every=every),
            "associative": peers.ours(*given, parallel=True),
            "associative, remat_every=k": peers.ours(*given, parallel=True, remat_every=every),
            "one loop": peers.plain_scan(*given),
        }
        contenders = {label: gradient_of(layer, base="sequential") for label, layer in layers.items()}
        what = {"section": "linear", "cell": "MinGRU", "shape": str(shape), "pass": GRADIENT}
        yield from race(progress, what, contenders, max(2, config.rounds // 3))


def sweep(config: Config, progress: Progress) -> Iterator[Row]:
    """Many runs of the adding problem, with learning rates and seeds of their own: sampling, gradient and
    optimiser. Ratio: time per update over ours. Flax script: `jax.vmap` over nn.RNN(OptimizedLSTMCell),
    batches drawn inside the jitted step, a Python loop, one device that uses every core. Flax in our loop:
    its RNN as the model of `experiments.population`, spread over the devices as ours. Updates of all runs
    together count."""
    rates = RATES * config.sweep_seeds
    for shape in map(Shape.parse, config.sweep_shapes):
        problem = loops.Problem(shape.batch, shape.ticks, shape.features, rates, config.updates)
        others: dict[str, loops.Loop] = {
            "flax script": loops.VmappedScript(problem),
            "flax in our loop": loops.OurLoop(problem, model=loops.FlaxModel),
        }
        what = {"section": "sweep", "cell": loops.CELL, "shape": str(shape), "runs": len(rates)}
        yield from training(config, progress, what, problem, loops.OurLoop(problem), others)


def train(config: Config, progress: Progress) -> Iterator[Row]:
    """One run of the adding problem end to end: sampling, gradient and optimiser. Ratio: time per update
    over ours, whose batches are drawn on the devices and divided over them. Flax script: nn.RNN, optax, a
    jitted step with donated state, a Python loop that makes the next batch in NumPy while the step runs.
    Flax in our loop: its RNN in `experiments.train`, every batch divided as ours."""
    for shape in map(Shape.parse, config.train_shapes):
        problem = loops.Problem(shape.batch, shape.ticks, shape.features, (3e-3,), config.updates)
        devices = math.gcd(jax.device_count(), shape.batch)
        others: dict[str, loops.Loop] = {
            "flax script": loops.HostScript(problem),
            "flax in our loop": loops.OurLoop(problem, devices, loops.FlaxModel),
            "ours on one device": loops.OurLoop(problem),
        }
        what = {"section": "train", "cell": loops.CELL, "shape": str(shape), "runs": 1}
        yield from training(config, progress, what, problem, loops.OurLoop(problem, devices), others)


def training(
    config: Config,
    progress: Progress,
    what: Row,
    problem: loops.Problem,
    ours: loops.OurLoop,
    others: dict[str, loops.Loop],
) -> Iterator[Row]:
    """Times the loops that lose what ours loses, from the same parameters on the same batches."""
    entered: dict[str, loops.Loop] = {"ours": ours}
    for name, same in loops.compare(ours, others, TOLERANCE):
        said = {"max_difference": same.difference, "parameters": same.parameters, "agrees": same.agrees}
        yield {**what, "pass": "outputs", "name": name, **said}
        if same.agrees:
            entered[name] = others[name]
        else:
            label = "{section}, {shape}".format(**what)
            progress.console.print(f"[red]{name} is wrong by {same.difference:.2g}: {label}")
    contenders = {name: Contender(loop, jit=False) for name, loop in entered.items()}
    updates = problem.updates * len(problem.rates)
    timed = {**what, "pass": TRAINING, "updates": updates}
    for row in race(progress, timed, contenders, max(2, config.rounds // 3)):
        each = {name: row[name] / updates for name in ("p10_ms", "median_ms", "p90_ms")}
        yield {**row, **each, "updates_per_second": 1e3 / each["median_ms"]}


SECTIONS: dict[Section, Callable[[Config, Progress], Iterator[Row]]] = {
    "layers": layers,
    "sharded": sharded,
    "length": length,
    "linear": linear,
    "sweep": sweep,
    "train": train,
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
            new = [{**row, **here} for row in SECTIONS[section](config, progress)]
            others = [row for row in rows if row["section"] != section]
            rows = sorted([*others, *new], key=lambda row: ALL.index(row["section"]))
            report.save(rows, config.out)
    captions: dict[str, str] = {section: inspect.getdoc(SECTIONS[section]) or "" for section in ALL}
    report.write(rows, captions, config.out)
    report.show(console, rows, {section: captions[section] for section in chosen})
    console.print(report.summarise(rows), f"Everything is in {config.out}.")


if __name__ == "__main__":
    main(tyro.cli(Config))
