"""Many runs side by side: one compiled program, spread over devices and processes.

Runs differ in their key and in their numbers (`Hyperparameters`), stacked along a leading axis. Devices
form a mesh of "runs" x "batch": runs are divided over the first axis, every batch over the second.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.harness import memory
from experiments.harness.hyperparameters import Hyperparameters
from experiments.harness.learner import State
from experiments.harness.model import ModelFactory
from experiments.harness.options import Config
from experiments.harness.train import Train, make_train

RUNS, EVERYWHERE = PartitionSpec("runs"), PartitionSpec()


class Run(NamedTuple):
    """One run of a population: what is set in it, and its seed."""

    numbers: dict[str, float]
    seed: int
    settings: dict[str, Any] = {}  # noqa: RUF012
    """What varies and is the same for all of a population, because it decides shapes; only for the record."""


def padded(runs: Sequence[Run], size: int) -> list[Run]:
    """So many runs; the last one repeated."""
    return [*runs, *[runs[-1]] * (size - len(runs))]


def check_placement(config: Config) -> None:
    """Raises ValueError where runs cannot be divided over the devices that there are."""
    each, devices = config.placement.devices_per_run, jax.device_count()
    if devices % each:
        raise ValueError(f"devices_per_run: expected a divisor of the {devices} devices, got {each}.")
    if config.training.batch_size % each:
        raise ValueError(
            f"batch_size: expected a multiple of devices_per_run ({each}), got {config.training.batch_size}."
        )


class Programs(NamedTuple):
    """The functions of `Train` for all runs at once, jitted."""

    init: Any
    advance: Any
    validate: Any
    test: Any


class Population:
    """The runs of one cell, as one program.

    Args:
        config, cell: of the experiment.
        runs: what is set in each. All set the same numbers, to different values.
        model: as in `make_train`.

    Raises:
        ValueError: for numbers that the cell does not have or that are out of range, and for a placement that
            does not fit the devices.
    """

    def __init__(
        self, config: Config, cell: str, runs: Sequence[Run], model: ModelFactory | None = None
    ) -> None:
        self.config, self.cell, self.runs = config, cell, list(runs)
        check_placement(config)
        placement = config.placement
        devices = np.array(self._devices()).reshape(-1, placement.devices_per_run)
        self.mesh, rows = Mesh(devices, ("runs", "batch")), len(devices)
        self._everywhere = jax.jit(lambda tree: tree, out_shardings=NamedSharding(self.mesh, EVERYWHERE))
        self.padded = padded(self.runs, -(-len(self.runs) // rows) * rows)
        mapped = placement.method == "map" or (placement.method == "auto" and jax.default_backend() == "cpu")
        self.method = "map" if mapped else "vmap"
        self.hyper = self._hyper()
        self.train, self._programs = self._programs_of(model, remat=False)
        self._model, self._parts = model, self._spread(self.train.parts, EVERYWHERE)
        self._ready = False

    def compile(self) -> Population:
        """Compiles all programs but `init`, with less kept where all does not fit. Without it each is
        compiled as it is, at its first use. Returns itself.

        Raises:
            ValueError: for programs that do not fit their memory.
        """
        if not self._ready:
            self.train, self._programs = self._built()
            self._ready = True
        return self

    def _devices(self) -> list[jax.Device]:
        """Of every process as many as its share of the runs needs; all, where a run spans processes."""
        size = self.config.placement.devices_per_run
        each = [list(own) for _, own in itertools.groupby(jax.devices(), lambda device: device.process_index)]
        if any(len(own) % size for own in each):
            return jax.devices()
        needed = -(-len(self.runs) // len(each)) * size
        return [device for own in each for device in own[:needed]]

    def again(self, runs: Sequence[Run]) -> Population:
        """Other runs, at most as many, with the same programs."""
        other = copy.copy(self)
        other.runs, other.padded = list(runs), padded(runs, len(self.padded))
        other.hyper = other._hyper()
        return other

    def _hyper(self) -> Hyperparameters:
        """The numbers of all runs, stacked."""
        each = []
        for run in self.padded:
            hyper = self.config.numbers(self.cell).replaced(run.numbers)
            hyper.check()
            each.append(jax.tree.map(lambda leaf: np.float32(leaf), hyper))
        return self._spread(jax.tree.map(lambda *leaves: np.stack(leaves), *each))

    def _built(self) -> tuple[Train, Programs]:
        """The run and its programs, compiled, that fit."""
        train, programs = self.train, self._compiled(self._programs)
        whole = memory.temporaries(programs.advance)
        if not self._fits(programs):
            train, programs = self._programs_of(self._model, remat=True)
            programs = self._compiled(programs)
            least = memory.temporaries(programs.advance)
            budget = self.config.training.memory
            if budget is not None and least > budget:
                raise ValueError(
                    f"memory: expected at least {least:.3g} gigabytes, what a block of updates takes when"
                    f" it keeps every k-th state only ({whole:.3g} when it keeps all), got {budget:.3g}."
                )
            if not self._fits(programs):
                each = {name: memory.needed(getattr(programs, name)) for name in Programs._fields[1:]}
                takes = ", ".join(f"{name} {size:.3g}" for name, size in each.items())
                raise ValueError(
                    f"memory: expected programs that fit a device of {self._room():.3g} gigabytes, got"
                    f" {takes}; a smaller batch_size, evaluate_at_once, at_once or features takes less."
                )
        return train, programs

    def _fits(self, programs: Programs) -> bool:
        """Whether a block keeps the budget, and everything what the device has."""
        budget, room = self.config.training.memory, self._room()
        most = max(memory.needed(getattr(programs, name)) for name in Programs._fields[1:])
        within = budget is None or memory.temporaries(programs.advance) <= budget
        return within and (room is None or most <= room)

    def _room(self) -> float | None:
        return memory.available(len(self.mesh.local_devices))

    def _programs_of(self, model: ModelFactory | None, remat: bool) -> tuple[Train, Programs]:
        axis = "batch" if self.config.placement.devices_per_run > 1 else None
        train = make_train(self.config, self.cell, axis=axis, remat=remat, model=model)

        def spread(run: Callable[..., Any], data: bool = True, **options: Any) -> Any:
            def several(state: Any, hyper: Hyperparameters, *parts: Any) -> Any:
                if self.method == "map":
                    return jax.lax.map(lambda each: run(*each, *parts), (state, hyper))
                return jax.vmap(lambda *each: run(*each, *parts))(state, hyper)

            # What is equal over the batch axis is so by construction; it cannot be inferred from a scan.
            specs = (RUNS, RUNS, EVERYWHERE) if data else (RUNS, RUNS)
            local = jax.shard_map(several, mesh=self.mesh, in_specs=specs, out_specs=RUNS, check_vma=False)
            return jax.jit(local, **options)

        advance, validate = (spread(each, donate_argnums=0) for each in (train.advance, train.validate))
        return train, Programs(spread(train.init, data=False), advance, validate, spread(train.test))

    def _compiled(self, programs: Programs) -> Programs:
        """All but the first one compiled."""
        state = jax.eval_shape(programs.init, self._keys(), self.hyper)
        sharding = NamedSharding(self.mesh, RUNS)
        state = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), state)
        given = state, self.hyper, self._parts
        compiled = [program.lower(*given).compile() for program in programs[1:]]
        return Programs(programs.init, *compiled)

    def _keys(self) -> jax.Array:
        keys = [jax.random.key_data(jax.random.key(run.seed)) for run in self.padded]
        return jax.random.wrap_key_data(self._spread(np.stack(keys)))

    def _spread(self, tree: Any, spec: PartitionSpec = RUNS) -> Any:
        """Host arrays with a leading axis of runs, or the same everywhere, on the devices."""
        sharding = NamedSharding(self.mesh, spec)

        def place(leaf: Any) -> Any:
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jax.random.wrap_key_data(place(np.asarray(jax.random.key_data(leaf))))
            return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

        return jax.tree.map(place, tree)

    def init(self) -> State:
        """All runs at their beginning."""
        return self._programs.init(self._keys(), self.hyper)

    def advance(self, state: State) -> tuple[State, np.ndarray]:
        """A block of updates of every run; `state` is used up. Returns the losses, [runs, report_every]."""
        state, losses = self._programs.advance(state, self.hyper, self._parts)
        return state, self.host(losses)

    def validate(self, state: State) -> tuple[State, list[dict[str, dict[str, float]]]]:
        """Every run judged by validation; `state` is used up. Returns the states, and scores by part."""
        state, scores = self._programs.validate(state, self.hyper, self._parts)
        host = self.host(scores)
        return state, [
            {part: {name: float(value[i]) for name, value in own.items()} for part, own in host.items()}
            for i in range(len(self.runs))
        ]

    def test(self, state: State) -> list[dict[str, float]]:
        """The metrics of the best weights of every run."""
        metrics = self.host(self._programs.test(state, self.hyper, self._parts))
        return [{name: float(value[i]) for name, value in metrics.items()} for i in range(len(self.runs))]

    def host(self, tree: Any) -> Any:
        """A tree of the devices as NumPy arrays (keys stay keys), in every process, without the padding."""
        if jax.process_count() > 1:
            tree = self._everywhere(tree)

        def fetch(leaf: jax.Array) -> Any:
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jax.random.wrap_key_data(fetch(jax.random.key_data(leaf)))
            local = leaf if leaf.is_fully_addressable else leaf.addressable_data(0)
            return np.asarray(local)[: len(self.runs)]

        return jax.tree.map(fetch, tree)

    def device(self, state: State) -> State:
        """A state from `host`, on the devices again."""
        last = [min(i, len(self.runs) - 1) for i in range(len(self.padded))]
        return self._spread(jax.tree.map(lambda leaf: leaf[np.array(last)], state))

    def like(self) -> State:
        """The shapes and dtypes of `host(state)`."""
        state, runs = jax.eval_shape(self._programs.init, self._keys(), self.hyper), len(self.runs)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((runs, *leaf.shape[1:]), leaf.dtype), state)
