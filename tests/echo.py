"""A task of any length that is learned in a moment, and experiments on it, shared by tests of training."""

import dataclasses
import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from experiments.harness import options, run, session
from experiments.harness.checkpoint import Checkpoints
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.options import Training
from experiments.harness.population import Population, Run
from rnncells.tasks import Batch, Task
from rnncells.tasks.base import masked_mean

TIMES = ("seconds", "seconds_to_solution", "updates_per_second")
POPULATIONS: dict = {}
WILD = {"kind": "sgd", "clip_norm": None}
"""An optimiser that diverges where its rate is large."""


@dataclasses.dataclass(frozen=True)
class Echo:
    """Each output should be the input of the tick before; ticks count at random."""

    length: int = 7
    enough: float = 0.0
    """Solved below this error."""

    input_size = 1
    output_size = 1
    score = "mse"
    baseline = 1.0

    def sample(self, key, batch_size):
        input_key, mask_key = jax.random.split(key)
        inputs = jax.random.normal(input_key, (self.length, batch_size, 1))
        targets = jnp.concatenate([jnp.zeros_like(inputs[:1]), inputs[:-1]])
        return Batch(inputs, targets, jax.random.bernoulli(mask_key, 0.6, (self.length, batch_size)))

    def loss(self, outputs, batch):
        errors = jnp.square(outputs - batch.targets)[..., 0]
        return jnp.sum(errors * batch.mask) / jnp.maximum(jnp.sum(batch.mask), 1)

    def metrics(self, outputs, batch):
        return {"mse": self.loss(outputs, batch)}

    def solved(self, metrics):
        return metrics["mse"] < self.enough


@dataclasses.dataclass(frozen=True)
class Config(options.Config):
    cells: tuple[str, ...] = ("Elman",)
    features: int = 4
    given: Task = dataclasses.field(default_factory=Echo)
    """The task."""

    def task(self) -> Task:
        return self.given


def small(given: Task | None = None, **options) -> Config:
    """An experiment of 10 updates in blocks of 5; options go where they belong."""

    def taken(kind, **defaults):
        names = {field.name for field in dataclasses.fields(kind)}
        return kind(**defaults | {name: options.pop(name) for name in names & set(options)})

    training = taken(
        Training,
        updates=10,
        batch_size=4,
        report_every=5,
        checkpoint_every=5,
        test_sequences=32,
        seeds=2,
    )
    optimizer = taken(Optimizer)
    return Config(given=given or Echo(), training=training, optimizer=optimizer, **options)


def host_config(out, **options) -> Config:
    """20 updates in 4 blocks with 2 lengths, everything in the state that may be there, 2 runs."""
    everything = {"lengths": (4,), "noise": 1e-3, "updates": 20, "checkpoint_every": 10}
    return small(Echo(7, enough=9.0), **everything | options, out=out)


def share_programs(monkeypatch) -> None:
    """Runs that differ only in their seeds, their folder and the number of updates use one program from now
    on."""

    def population(config, cell, runs):
        free = {"updates": 20, "checkpoint_every": 5, "keep": 1, "seeds": 1, "first_seed": 0}
        free["validate_every"] = None
        alike = {"training": dataclasses.replace(config.training, **free), "cells": (cell,), "out": ""}
        key = repr((dataclasses.replace(config, **alike, resume=False), cell, sorted(runs[0].numbers)))
        if key not in POPULATIONS or len(runs) > len(POPULATIONS[key].padded):
            POPULATIONS[key] = Population(config, cell, runs).compile()
        return POPULATIONS[key].again(runs)

    monkeypatch.setattr(session, "Population", population)


def trained(config: Config, **options):
    """Runs an experiment to its end: its lines, but for times, and the arrays of its last state."""
    training = {name: options.pop(name) for name in ("updates", "checkpoint_every") if name in options}
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, **training), **options)
    run.main("echo", config)
    return outcome(config)


def outcome(config):
    lines = [{key: line[key] for key in line if key not in TIMES} for line in read(config.out)]
    like = session.Population(config, "Elman", [Run({}, 0), Run({}, 1)]).like()
    update, state, *_ = Checkpoints(config.out / "checkpoints/Elman-0").restore(like)
    leaves = jax.tree.leaves(state)
    is_key = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    leaves = [jax.random.key_data(leaf) if key else leaf for leaf, key in zip(leaves, is_key, strict=True)]
    return lines, update, [np.asarray(leaf).tolist() for leaf in leaves]


def read(out):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    text = (out / "metrics.jsonl").read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def ended(config: Config, **options) -> int:
    """The exit status of a run that does not come to its end."""
    with pytest.raises(SystemExit) as end:
        run.main("echo", dataclasses.replace(config, **options))
    return end.value.code


def scalars(file):
    """Step and scalars of every event in a file of TensorBoard."""
    content, events = file.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        event, content = Event.FromString(content[12 : 12 + size]), content[16 + size :]
        if event.HasField("summary"):
            events.append((event.step, {value.tag: value.simple_value for value in event.summary.value}))
    return events


def assert_identical(got, want):
    """Two trees of arrays and keys: structure, dtypes, shapes and bytes; `got` is on the host."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for leaf, expected in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (leaf.dtype, leaf.shape) == (expected.dtype, expected.shape)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf, expected = jax.random.key_data(leaf), jax.random.key_data(expected)
        else:
            assert isinstance(leaf, np.ndarray)
            assert leaf.flags.writeable
        assert np.asarray(leaf).tobytes() == np.asarray(expected).tobytes()


@dataclasses.dataclass(frozen=True)
class Likeness(Echo):
    """A higher score is a better one."""

    score = "likeness"
    higher_is_better = True
    naive = "silent"
    fractions = ("likeness",)
    baseline = 0.25

    def metrics(self, outputs, batch):
        errors = jnp.square(outputs - batch.targets)[..., 0]
        return {"likeness": masked_mean(jnp.exp(-errors), batch.mask), "mse": self.loss(outputs, batch)}

    def solved(self, metrics):
        return metrics["likeness"] > self.enough
