"""Many runs side by side: one compiled program, spread over devices and processes.

Runs differ in their key and in their numbers (`Hyperparameters`), stacked along a leading axis. Devices
form a mesh of "runs" x "batch": runs are divided over the first axis, every batch over the second.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.harness.hyperparameters import Hyperparameters
from experiments.harness.options import Config
from experiments.harness.train import Model, State, Train, make_train

RUNS, EVERYWHERE = PartitionSpec("runs"), PartitionSpec()


class Run(NamedTuple):
    """One run of a population: what is set in it, and its seed."""

    numbers: dict[str, float]
    seed: int


def padded(runs: Sequence[Run], size: int) -> list[Run]:
    """So many runs; the last one repeated."""
    return [*runs, *[runs[-1]] * (size - len(runs))]


class Programs(NamedTuple):
    """The functions of `Train` for all runs at once, jitted."""

    init: Any
    advance: Any
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
        self, config: Config, cell: str, runs: Sequence[Run], model: Callable[..., nn.Module] = Model
    ) -> None:
        self.config, self.cell, self.runs = config, cell, list(runs)
        placement = config.placement
        if jax.device_count() % placement.devices_per_run:
            raise ValueError(
                f"devices_per_run: expected a divisor of the {jax.device_count()} devices,"
                f" got {placement.devices_per_run}."
            )
        if config.training.batch_size % placement.devices_per_run:
            raise ValueError(
                f"batch_size: expected a multiple of devices_per_run ({placement.devices_per_run}),"
                f" got {config.training.batch_size}."
            )
        devices = np.array(self._devices()).reshape(-1, placement.devices_per_run)
        self.mesh, rows = Mesh(devices, ("runs", "batch")), len(devices)
        self._everywhere = jax.jit(lambda tree: tree, out_shardings=NamedSharding(self.mesh, EVERYWHERE))
        self.padded = padded(self.runs, -(-len(self.runs) // rows) * rows)
        mapped = placement.method == "map" or (placement.method == "auto" and jax.default_backend() == "cpu")
        self.method = "map" if mapped else "vmap"
        self.hyper = self._hyper()
        self.train, self._programs = self._built(model)

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

    def _built(self, model: Callable[..., nn.Module]) -> tuple[Train, Programs]:
        train, programs = self._programs_of(model, remat=False)
        budget = self.config.training.memory
        if budget is None:
            return train, programs
        programs, needed = self._compiled(programs)
        if needed > budget:
            whole, (train, programs) = needed, self._programs_of(model, remat=True)
            programs, needed = self._compiled(programs)
            if needed > budget:
                raise ValueError(
                    f"memory: expected at least {needed:.3g} gigabytes, what a block of updates takes when"
                    f" it keeps every k-th state only ({whole:.3g} when it keeps all), got {budget:.3g}."
                )
        return train, programs

    def _programs_of(self, model: Callable[..., nn.Module], remat: bool) -> tuple[Train, Programs]:
        axis = "batch" if self.config.placement.devices_per_run > 1 else None
        train = make_train(self.config, self.cell, axis=axis, remat=remat, model=model)

        def spread(run: Callable[..., Any], **options: Any) -> Any:
            def several(*args: Any) -> Any:
                if self.method == "map":
                    return jax.lax.map(lambda each: run(*each), args)
                return jax.vmap(run)(*args)

            # What is equal over the batch axis is so by construction; it cannot be inferred from a scan.
            local = jax.shard_map(several, mesh=self.mesh, in_specs=RUNS, out_specs=RUNS, check_vma=False)
            return jax.jit(local, **options)

        return train, Programs(
            spread(train.init), spread(train.advance, donate_argnums=0), spread(train.test)
        )

    def _compiled(self, programs: Programs) -> tuple[Programs, float]:
        """The programs with `advance` compiled, and the gigabytes of its temporaries on each device."""
        state = jax.eval_shape(programs.init, self._keys(), self.hyper)
        sharding = NamedSharding(self.mesh, RUNS)
        state = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), state)
        advance = programs.advance.lower(state, self.hyper).compile()
        return programs._replace(advance=advance), advance.memory_analysis().temp_size_in_bytes / 1e9

    def _keys(self) -> jax.Array:
        keys = [jax.random.key_data(jax.random.key(run.seed)) for run in self.padded]
        return jax.random.wrap_key_data(self._spread(np.stack(keys)))

    def _spread(self, tree: Any) -> Any:
        """Host arrays with a leading axis of runs, on the devices."""
        sharding = NamedSharding(self.mesh, RUNS)

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
        state, losses = self._programs.advance(state, self.hyper)
        return state, self.host(losses)

    def test(self, state: State) -> list[dict[str, float]]:
        """The metrics of every run."""
        metrics = self.host(self._programs.test(state, self.hyper))
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
