"""One recurrent layer against the same layer in other libraries: the sections layers, sharded, length and
linear. What a section says of itself is the caption of its table."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.progress import Progress

from experiments.benchmark import peers
from experiments.benchmark.options import TOLERANCE, Config
from experiments.benchmark.report import COMPILE, FORWARD, GRADIENT, Row
from experiments.benchmark.timing import Contender, Shape, race
from experiments.harness.options import make_cell
from rnncells import Cell


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
