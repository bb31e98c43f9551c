"""Runs on finite data: what is learned, placed, resumed and refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.harness import data, given
from experiments.harness.data import Parts
from experiments.harness.options import Placement
from experiments.harness.population import Population, Run
from experiments.harness.supervised import Classification
from experiments.harness.train import make_train
from tests.echo import small

pytestmark = pytest.mark.usefixtures("standard_promotion")

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(60, 5, 2)).astype(np.float32)
LENGTHS = RNG.integers(1, 6, 60)
FIRST = (INPUTS[:, 0, 0] > 0).astype(int)
PARTS = data.split(given.arrays(INPUTS, FIRST, LENGTHS), 0.2, 0.2)
FINITE = Classification.of(PARTS)
TOKENS = RNG.integers(0, 3, 120)
STREAMS = Classification.of(
    Parts(data.streams(TOKENS[:80], 4), data.streams(TOKENS[80:], 2)), stream=True, length=6, language=True
)


def finite_config(task, **options):
    return small(task, **{"pooling": "every" if task.stream else "last", "learning_rate": 0.05, **options})


@pytest.mark.laws
@pytest.mark.parametrize("task", [STREAMS, FINITE], ids=["streams", "sequences"])
def test_a_run_on_finite_data_goes_on_bit_for_bit(task):
    """One block of ten, or two of five with the state saved in between; and with data as constants."""
    states, losses = [], []
    for every in (10, 5):
        config = finite_config(task, report_every=every, checkpoint_every=10)
        population = Population(config, "Elman", [Run({}, 0), Run({}, 1)])
        state, seen = population.init(), []
        for _ in range(10 // every):
            state, block = population.advance(state)
            state = population.device(population.host(state))
            seen.append(block)
        states.append(population.host(state))
        losses.append(np.concatenate(seen, 1))
    np.testing.assert_array_equal(losses[0], losses[1])
    for one, other in zip(jax.tree.leaves(states[0].params), jax.tree.leaves(states[1].params), strict=True):
        np.testing.assert_array_equal(one, other)
    train, hyper = make_train(config), config.numbers("Elman")
    state = jax.jit(train.init)(jax.random.key(1), hyper)
    state, first = jax.jit(train.advance)(state, hyper)
    np.testing.assert_allclose(first, losses[0][1, :5], rtol=1e-5)


def test_what_is_learned_is_what_the_order_says():
    """With a learning rate of 0 the losses of an epoch are those of the sequences in their order."""
    config = finite_config(FINITE, learning_rate=0.0, batch_size=6, report_every=10, checkpoint_every=10)
    train, hyper = make_train(config), config.numbers("Elman")
    state = jax.jit(train.init)(jax.random.key(0), hyper)
    _, losses = jax.jit(train.advance)(state, hyper)
    rows = np.asarray(data.order(state.order, 36, jnp.int32(0), 60)).reshape(10, 6)
    cell, dense = state.params["params"]["RNN_0"]["cell"], state.params["params"]["Dense_0"]
    part = PARTS.train
    for loss, own in zip(losses, rows, strict=True):
        outputs = []
        for i in own:
            h = np.zeros(4)
            for x in part.inputs[i][: part.lengths[i]]:
                h = np.tanh(x @ cell["kernel"] + h @ cell["recurrent_kernel"] + cell["bias"])
            outputs.append(h @ dense["kernel"] + dense["bias"])
        logs = np.asarray(jax.nn.log_softmax(np.array(outputs)))
        assert loss == pytest.approx(-logs[np.arange(6), part.targets[own]].mean(), rel=1e-4)


def test_segments_of_sequences_with_lengths():
    """What is learned from segments reads each sequence within its own length."""
    ticks = (INPUTS.cumsum(1)[..., 0] > 0).astype(int)
    whole = Classification.of(Parts(given.arrays(INPUTS, ticks, LENGTHS)))
    config = finite_config(
        whole, pooling="every", truncate_every=2, learning_rate=0.0, batch_size=60, report_every=1
    )
    train, hyper = make_train(config), config.numbers("Elman")
    state = jax.jit(train.init)(jax.random.key(0), hyper)
    _, losses = jax.jit(train.advance)(state, hyper)
    plain = make_train(
        dataclasses.replace(config, training=dataclasses.replace(config.training, truncate_every=None))
    )
    _, expected = jax.jit(plain.advance)(state, hyper)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.laws
@pytest.mark.parametrize(
    "placement", [Placement(devices_per_run=2), Placement(method="vmap")], ids=["divided", "vmap"]
)
def test_placement_changes_nothing_of_finite_data(placement):
    config = finite_config(FINITE)
    runs = [Run({"learning_rate": 0.02 * (i + 1)}, i) for i in range(2)]
    found = []
    for own in (config, dataclasses.replace(config, placement=placement)):
        population = Population(own, "Elman", runs)
        state, losses = population.advance(population.init())
        state, scores = population.validate(state)
        found.append((losses, scores, population.test(state)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    for one, other in zip(found[0][1] + found[0][2], found[1][1] + found[1][2], strict=True):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        (FINITE, {"lengths": (2,)}, r"lengths: expected none for a task with data of its own, got \(2,\)"),
        (FINITE, {"updates": 10**9}, "updates: expected fewer than 2 .. 31 sequences in all"),
        (
            FINITE,
            {"truncate_every": 2},
            "truncate_every: expected none, because each sequence has one output, got 2",
        ),
        (FINITE, {"pooling": "every"}, "pooling: expected outputs for every sequence"),
        (STREAMS, {"bidirectional": True}, "bidirectional: expected sequences, got streams"),
        (
            STREAMS,
            {"placement": Placement(devices_per_run=2)},
            "devices_per_run: expected 1 for streams, got 2",
        ),
    ],
)
def test_what_finite_data_cannot_be(task, options, words):
    with pytest.raises(ValueError, match=words):
        Population(finite_config(task, **options), "Elman", [Run({}, 0)]).compile()
