"""One run as pure functions: what it learns equals a plain loop, and every number does what it says."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnncells
from experiments import adding
from experiments.harness.options import Training
from experiments.harness.train import make_train
from rnncells.tasks import Adding
from tests.echo import Echo, small

pytestmark = pytest.mark.usefixtures("standard_promotion")


def started(config, **numbers):
    """The functions of a run, its numbers and its beginning."""
    train = make_train(config)
    hyper = config.numbers(config.cells[0]).replaced(numbers)
    return train, hyper, jax.jit(train.init)(jax.random.key(0), hyper)


def elman(params, inputs, h=None):
    """An Elman layer and its readout, tick by tick: the last state, and the outputs."""
    cell, dense = params["params"]["RNN_0"]["cell"], params["params"]["Dense_0"]
    if h is None:
        h = jnp.zeros((inputs.shape[1], 4)) + cell.get("carry", {"state": 0.0})["state"]
    cell, outputs = cell.get("cell", cell), []
    for x in inputs:
        h = jnp.tanh(x @ cell["kernel"] + h @ cell["recurrent_kernel"] + cell["bias"])
        outputs.append(h @ dense["kernel"] + dense["bias"])
    return h, jnp.stack(outputs)


def course(config):
    """The learning rate of every update."""
    own, updates = config.optimizer, config.training.updates
    done = np.maximum(0, np.arange(updates) - own.warmup) / (updates - own.warmup)
    fall = {"constant": done**0, "linear": 1 - done, "cosine": np.cos(done * np.pi / 2) ** 2}[own.schedule]
    rise = np.minimum(1, (np.arange(updates) + 1) / max(own.warmup, 1))
    return own.learning_rate * fall * rise


def plainly(config, state):
    """All updates as a Python loop over batches and their segments: params, the loss of every batch, and how
    many steps the optimiser made."""
    own, training, task = config.optimizer, config.training, config.task()
    kinds = {"adam": optax.adam(1.0), "rmsprop": optax.rmsprop(1.0, decay=0.9), "sgd": optax.sgd(1.0)}
    optimizer = kinds[own.kind]

    @jax.jit
    def step(params, moments, segment, h, rate):
        def objective(params):
            after, outputs = elman(params, segment.inputs, h)
            errors = jnp.square(outputs - segment.targets)[..., 0]
            loss = jnp.sum(jnp.where(segment.mask, errors, 0.0)) / jnp.sum(segment.mask)
            whole = loss * (len(outputs) if training.scale_loss == "length" else 1)
            for p in jax.tree.leaves(params):  # the slope of |0| is 0
                whole += (own.l2 or 0.0) * jnp.sum(p**2) + (own.l1 or 0.0) * jnp.sum(p * jnp.sign(p))
            return whole, (loss, after)

        slope, (loss, h) = jax.grad(objective, has_aux=True)(params)
        if own.clip_value is not None:
            slope = jax.tree.map(lambda g: jnp.clip(g, -own.clip_value, own.clip_value), slope)
        if own.clip_norm is not None:
            norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(slope)))
            slope = jax.tree.map(lambda g: g * jnp.minimum(1, own.clip_norm / norm), slope)
        change, moments = optimizer.update(slope, moments)
        decay = own.weight_decay or 0.0
        return jax.tree.map(lambda p, c: p + rate * (c - decay * p), params, change), moments, h, loss

    sample = jax.jit(lambda key: (jax.random.split(key, 3)[2], task.sample(jax.random.split(key, 3)[0], 4)))
    params, key, losses, steps = state.params, state.key, [], 0
    moments = optimizer.init(params)
    for rate in course(config):
        key, batch = sample(key)
        batch = jax.tree.map(np.asarray, batch)
        every, h, total = training.truncate_every or len(batch.mask), None, 0.0
        for start in range(0, len(batch.mask), every):
            segment = type(batch)(*(array[start : start + every] for array in batch[:3]))
            changed, new_moments, h, loss = step(params, moments, segment, h, rate)
            if segment.mask.any():
                params, moments, steps = changed, new_moments, steps + 1
                total += float(loss) * segment.mask.sum()
        losses.append(total / batch.mask.sum())
    return params, np.array(losses), steps


EVERYTHING = {
    "learning_rate": 0.02,
    "kind": "rmsprop",
    "schedule": "linear",
    "warmup": 3,
    "clip_value": 0.1,
    "clip_norm": 0.2,
    "weight_decay": 0.1,
    "l2": 0.02,
    "l1": 0.02,
    "scale_loss": "length",
}


@pytest.mark.parametrize(
    ("task", "options"),
    [
        pytest.param(
            Echo(), {"clip_norm": 0.3, "weight_decay": 0.1, "schedule": "cosine"}, marks=pytest.mark.laws
        ),
        pytest.param(
            Echo(),
            {"kind": "sgd", "clip_value": 0.3, "clip_norm": None, "warmup": 4, "l2": 0.1, "l1": 0.05},
            marks=pytest.mark.laws,
        ),
        (Echo(), {"truncate_every": 3}),
        pytest.param(Adding(6), {"truncate_every": 3, "weight_decay": 0.1}, marks=pytest.mark.laws),
        (Echo(), EVERYTHING),
        pytest.param(Echo(), EVERYTHING | {"truncate_every": 3}, marks=pytest.mark.laws),
        pytest.param(Echo(6), {"truncate_every": 2, "kind": "sgd"}, marks=pytest.mark.laws),
        pytest.param(Echo(6), {"truncate_every": 9}, marks=pytest.mark.laws),
        pytest.param(Echo(), {"kind": "sgd", "scale_loss": "length"}, marks=pytest.mark.laws),
    ],
    ids=["decay", "penalties", "segments", "silent", "everything", "all", "even", "long", "length"],
)
def test_what_is_learned_equals_a_plain_loop(task, options):
    """Segments in which nothing counts are no steps; a learned beginning gets its gradient from the first."""
    config = small(task, **{"learning_rate": 0.05, **options})
    train, hyper, _ = started(config)
    if "truncate_every" in options:
        hyper = hyper._replace(cell=rnncells.LearnedCarry(hyper.cell))
    start = jax.jit(train.init)(jax.random.key(0), hyper)
    params, losses, steps = plainly(config, start)
    advance, seen, state = jax.jit(train.advance), [], start
    for _ in range(2):
        state, block = advance(state, hyper)
        seen += list(block)
    np.testing.assert_allclose(seen, losses, rtol=1e-5)
    chex.assert_trees_all_close(state.params, params, atol=2e-6)
    changes = jax.tree.map(lambda a, b: np.abs(a - b).max(), start.params, params)
    assert min(jax.tree.leaves(changes)) > 1e-4 or task == Adding(6)  # whose beginning learns nothing
    if config.optimizer.kind == "adam":
        assert optax.tree.get(state.optimizer, "count") == steps
    segments = -(-task.length // (config.training.truncate_every or 99))
    assert steps == (10 if task == Adding(6) else 10 * segments)
    assert (int(state.update), int(state.diverged)) == (10, -1)


def test_gradient_noise_has_the_variance_that_it_should():
    config = small(kind="sgd", noise=0.5, clip_norm=None, learning_rate=1e-3, features=64, report_every=1)
    train, hyper, state = started(config)
    silent, advance, drawn = hyper.replaced({"noise": 0.0}), jax.jit(train.advance), []
    for update in range(1, 33):
        still, (state, _) = advance(state, silent)[0], advance(state, hyper)
        noise = jax.tree.map(lambda a, b: np.ravel(a - b) / 1e-3, state.params, still.params)
        noise = np.concatenate(jax.tree.leaves(noise))
        assert np.mean(noise**2) == pytest.approx(0.5 * update**-0.55, rel=0.1)
        drawn.append(noise / np.std(noise))
    drawn = np.stack(drawn)
    assert np.abs(drawn.mean()) < 0.01
    assert np.abs(np.corrcoef(drawn) - np.eye(32)).max() < 0.08


@dataclasses.dataclass(frozen=True)
class Still(Echo):
    """The same batch at every update."""

    def sample(self, key, batch_size):
        return super().sample(jax.random.key(0), batch_size)


@pytest.mark.laws
def test_noise_of_the_cell_is_drawn_at_every_update():
    def losses(**options):
        train, hyper, state = started(small(Still(), **options), learning_rate=0.0)
        return jax.jit(train.advance)(state, hyper)[1]

    assert len(np.unique(losses())) == 1
    assert len(np.unique(losses(zoneout=0.5))) == 5
    assert len(np.unique(losses(zoneout=0.5, truncate_every=4))) == 5


def test_the_final_test_is_without_noise_and_the_same_for_every_seed():
    config = small(zoneout=0.5)
    train, hyper, state = started(config)
    test, cell = jax.jit(train.test), hyper.cell
    metrics = test(state, hyper)
    assert test(state._replace(key=jax.random.key(5)), hyper) == metrics
    batch, params = config.task().sample(jax.random.key(2**31), 32), state.params["params"]
    _, ys = rnncells.unroll(cell, params["RNN_0"]["cell"], batch.inputs)
    outputs = ys @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    assert float(metrics["mse"]) == pytest.approx(float(config.task().loss(outputs, batch)), rel=1e-5)


def test_a_run_that_diverges_keeps_its_last_finite_parameters():
    options = {"kind": "sgd", "clip_norm": None, "learning_rate": 1e2, "truncate_every": 3, "report_every": 1}
    train, hyper, state = started(small(**options, l2=0.0))
    advance, states, losses = jax.jit(train.advance), [state], []
    while len(states) < 20:
        state, loss = advance(states[-1], hyper)
        states.append(state)
        losses.append(float(loss[0]))
    end = int(state.diverged)
    assert 2 < end < 18
    assert np.isfinite(losses[: end - 1]).all()
    assert np.isnan(losses[end - 1 :]).all()
    for state in states[end:]:
        chex.assert_trees_all_equal(state[:2], states[end - 1][:2])
        assert int(state.diverged) == end
    chex.assert_tree_all_finite(state.params)
    assert int(state.update) == 19
    assert np.isfinite(jax.jit(train.test)(state, hyper)["mse"])


@pytest.mark.laws
def test_a_curriculum_goes_on_when_a_run_has_solved_its_length():
    config = small(Echo(7, enough=0.9), kind="sgd", lengths=(3,), learning_rate=0.3)
    train = make_train(config)
    assert train.lengths == (3, 7)
    hyper = jax.tree.map(lambda leaf: jnp.full(2, leaf), config.numbers("Elman"))
    hyper = hyper.replaced({"learning_rate": jnp.array([0.3, 0.0])})
    state = jax.jit(jax.vmap(train.init))(jax.random.split(jax.random.key(0), 2), hyper)
    advance, validate, stages = jax.jit(jax.vmap(train.advance)), jax.jit(jax.vmap(train.validate)), []
    for _ in range(6):
        stages.append(state.stage.tolist())
        first = jax.tree.map(lambda leaf: leaf[0], state)
        state, seen = advance(state, hyper)
        learned, (state, _) = state, validate(state, hyper)
        if stages[-1] not in stages[:-1]:
            block = Training(5, 4, 5, checkpoint_every=5)
            length = train.lengths[stages[-1][0]]
            params, losses, _ = plainly(
                dataclasses.replace(config, given=Echo(length), training=block), first
            )
            np.testing.assert_allclose(seen[0], losses, rtol=1e-4)
            chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[0], learned.params), params, atol=1e-5)
    assert stages[0] == [0, 0]
    assert stages[-1] == [1, 0]


def test_training_learns():
    config = adding.Config(cells=("GRU",), features=16, length=6)
    config = dataclasses.replace(config, training=Training(300, 32, 300, checkpoint_every=300))
    train, hyper, state = started(config, learning_rate=1e-2)
    state, losses = jax.jit(train.advance)(state, hyper)
    assert losses.shape == (300,)
    assert float(jax.jit(train.test)(state, hyper)["mse"]) < train.task.baseline / 10


@pytest.mark.parametrize(
    ("options", "cell", "words"),
    [
        ({}, "GRU", "cell: expected one of Elman, got GRU"),
        ({"cells": ("Elman", "GRU")}, None, "cell: expected one of Elman, GRU, got None"),
        ({"lengths": (3, 7)}, None, r"lengths: expected lengths below the task's 7, got \(3, 7\)"),
    ],
)
def test_what_a_run_cannot_be(options, cell, words):
    with pytest.raises(ValueError, match=words):
        make_train(small(**options), cell)
