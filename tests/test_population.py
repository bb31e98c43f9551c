"""Many runs in one program: none touches another, and each learns the same wherever it is placed."""

import dataclasses
import re

import chex
import jax
import numpy as np
import pytest

from experiments.harness.options import Placement
from experiments.harness.population import Population, Run
from tests.echo import Echo, small

pytestmark = pytest.mark.usefixtures("standard_promotion")


def trained(population, state=None, blocks=2):
    """State and losses after some blocks, on the host."""
    losses, state = [], population.init() if state is None else population.device(state)
    for _ in range(blocks):
        state, block = population.advance(state)
        losses.append(block)
    return population.host(state), np.concatenate(losses, 1)


def only(tree, i):
    """One run."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


def without(tree, i):
    """All runs but one."""
    return jax.tree.map(lambda leaf: np.delete(np.asarray(data(leaf)), i, 0), tree)


def data(leaf):
    return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


@pytest.mark.laws
@pytest.mark.parametrize("method", ["map", "vmap"])
def test_a_run_that_is_not_finite_does_not_touch_the_others(method):
    config = small(placement=Placement(method=method))
    runs = [Run({"learning_rate": 0.01 * (i + 1)}, i) for i in range(16)]
    population = Population(config, "Elman", runs)
    start = population.host(population.init())
    state, losses = trained(population, start)
    assert (state.diverged == -1).all()
    assert len(np.unique(losses[:, -1])) == 16

    broken = jax.tree.map(np.array, start.params)
    broken["params"]["Dense_0"]["kernel"][5] = np.nan
    hyper = population.hyper
    rates = np.array(hyper.optimizer.learning_rate)
    rates[5] = np.nan
    for params, numbers in [
        (broken, hyper),
        (start.params, hyper.replaced({"learning_rate": rates})),
    ]:
        population.hyper = numbers
        after, seen = trained(population, start._replace(params=params))
        chex.assert_trees_all_equal(without((after, seen), 5), without((state, losses), 5))
        assert np.isnan(seen[5]).all()
        assert after.diverged.tolist() == [-1] * 5 + [1] + [-1] * 10
        chex.assert_trees_all_equal(only(after.params, 5), only(params, 5))


@pytest.mark.laws
@pytest.mark.parametrize(
    ("placement", "options"),
    [
        (Placement(devices_per_run=2), {}),
        (Placement(method="vmap"), {}),
        (Placement(devices_per_run=2), {"truncate_every": 3, "l2": 0.01}),
    ],
    ids=["divided", "vmap", "segments"],
)
def test_placement_changes_nothing(placement, options):
    """One after the other or side by side, alone or with others; every batch on one device, or divided over
    two, where different numbers of ticks count."""
    config = small(scale_loss="length", noise=1e-3, clip_norm=0.2, **options)
    runs = [Run({"learning_rate": 0.02 * (i + 1)}, i) for i in range(3)]
    mapped = Population(config, "Elman", runs)
    assert (mapped.method, mapped.mesh.shape["runs"], len(mapped.padded)) == ("map", 2, 4)
    state, losses = trained(mapped)
    for i, run in enumerate(runs):
        one, own = trained(mapped.again([run]))
        np.testing.assert_array_equal(own[0], losses[i])
        chex.assert_trees_all_equal(only(one.params, 0), only(state.params, i))
    other = Population(dataclasses.replace(config, placement=placement), "Elman", runs)
    assert other.mesh.shape["batch"] == placement.devices_per_run
    after, seen = trained(other)
    np.testing.assert_allclose(seen, losses, rtol=1e-5)
    chex.assert_trees_all_close(after.params, state.params, atol=2e-6)


@pytest.mark.laws
def test_a_budget_of_memory_chooses_what_is_kept():
    config, runs = small(Echo(200), features=16), [Run({}, 0)]

    def within(memory):
        training = dataclasses.replace(config.training, memory=memory)
        return Population(dataclasses.replace(config, training=training), "Elman", runs).compile()

    with pytest.raises(ValueError, match="memory: expected at least") as error:
        within(1e-9)
    words = r"expected at least (\S+) gigabytes.* \((\S+) when it keeps all\), got 1e-09"
    least, most = map(float, re.search(words, str(error.value)).groups())
    assert least < 0.7 * most
    whole, tight = within(2 * most), within((least + most) / 2)  # too little for all
    state, losses = trained(whole)
    other, seen = trained(tight)
    np.testing.assert_allclose(seen, losses, rtol=1e-5)
    chex.assert_trees_all_close(other.params, state.params, atol=2e-6)


@pytest.mark.parametrize(
    ("options", "numbers", "words"),
    [
        (
            {"placement": Placement(devices_per_run=3)},
            {},
            "devices_per_run: expected a divisor of the 2 devices, got 3",
        ),
        (
            {"placement": Placement(devices_per_run=2), "batch_size": 5},
            {},
            r"batch_size: expected a multiple of devices_per_run \(2\), got 5",
        ),
        ({"zoneout": 1.5}, {}, "Zoneout.rate: expected at most 1, got 1.5"),
        ({"learning_rate": -1.0}, {}, "Optimizer.learning_rate: expected at least 0"),
        ({}, {"learning_rate": float("nan")}, "Optimizer.learning_rate: expected finite numbers, got nan"),
        ({}, {"forget_bias": 1.0}, "forget_bias: expected one of .*, got a name that is not there"),
        (
            {"fields": {"bias_init": 1.0}},
            {},
            "bias_init: expected one of activation, .*, recurrent_init.scale, use_bias, weight_decay, got",
        ),
        ({"features": 0}, {}, "features: expected a positive int, got 0"),
    ],
)
def test_what_a_population_cannot_be(options, numbers, words):
    with pytest.raises(ValueError, match=words):
        Population(small(**options), "Elman", [Run(numbers, 0)])
