"""What holds of all wrappers. What each computes is in test_wrappers_*.py, their laws in test_wrapped.py."""

import functools
import pickle

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import rnncells
from rnncells import (
    GRU,
    WRAPPERS,
    DropConnect,
    Elman,
    LayerNormLSTM,
    RecurrentDropout,
    Residual,
    Stack,
    StateNoise,
    VariationalDropout,
    Zoneout,
    unroll,
)
from tests.cases import INPUT, B, H, T, agreement, exact, random_params, setup, sparing
from tests.layers import ours
from tests.wrapped import WRAPPED

KEY = jax.random.key(1)


def test_wrappers_without_parameters_leave_the_tree():
    for wrapper in (
        functools.partial(Zoneout, rate=0.1),
        functools.partial(StateNoise, stddev=0.1),
        functools.partial(VariationalDropout, rate=0.1),
        functools.partial(RecurrentDropout, rate=0.1),
        DropConnect,
        Residual,
    ):
        chex.assert_trees_all_equal(wrapper(GRU(H)).init(KEY, H), GRU(H).init(KEY, H))


@exact
@pytest.mark.parametrize("name", sparing(WRAPPERS, 2))
def test_derivatives(name):
    """By params, inputs and every number of the wrapper, with noise and without: nothing is cut off."""
    cell = jax.tree.map(jnp.float64, WRAPPED[f"{name}(gated)"])
    params, xs = setup(cell, INPUT, batch=2, length=3)

    def outputs(cell, params, xs):
        return unroll(cell, params, xs)[1], unroll(cell, params, xs, key=KEY)[1]

    check_grads(outputs, (cell, params, xs), order=1, modes=("rev",), eps=1e-6)


def test_a_wrapper_inside_its_like_draws_its_own_noise():
    size, inner = 64, Elman(64)
    params, xs = inner.init(KEY, size), jnp.ones((1, size, size))
    ys = unroll(Zoneout(Zoneout(inner, rate=0.5), rate=0.5), params, xs, key=KEY)[1]
    assert np.mean(ys == 0) == pytest.approx(0.75, abs=0.03)
    ys = unroll(StateNoise(StateNoise(inner, stddev=0.5), stddev=0.5), params, xs, key=KEY)[1]
    assert np.var(ys - unroll(inner, params, xs)[1]) == pytest.approx(0.5, rel=0.05)
    kernel = DropConnect(DropConnect(inner, rate=0.5), rate=0.5).prepare(params, KEY)["recurrent_kernel"]
    assert np.mean(kernel == 0) == pytest.approx(0.75, abs=0.03)
    twice = VariationalDropout(VariationalDropout(inner, rate=0.5), rate=0.5)
    outer = twice.prepare(params, KEY, (size,))["recurrent_kernel"]
    assert agreement(outer.mask, outer.kernel.mask) == pytest.approx(0.5, abs=0.03)
    drive = RecurrentDropout(RecurrentDropout(inner, rate=0.5), rate=0.5).project(params, xs[0], KEY)
    assert agreement(drive.own.state[0], drive.inner.own.state[0]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.laws
def test_two_wrapped_layers_everywhere():
    """Swept over a rate, tick by tick, in linen and nnx, serialised and restored."""
    cell = Stack([Zoneout(LayerNormLSTM(8), rate=0.1), Residual(GRU(8))])
    params = cell.init(KEY, 3)
    xs = jnp.ones((T, B, 3))
    rates = jnp.array([0.0, 0.5])
    swept = jax.vmap(
        lambda rate: unroll(
            Stack([Zoneout(LayerNormLSTM(8), rate=rate), Residual(GRU(8))]), params, xs, key=KEY
        )[1]
    )(rates)
    assert swept.shape == (2, T, B, 8)
    assert not np.allclose(swept[0], swept[1])
    _, y = cell(params, cell.initial_carry(params, (B,)), xs[0])
    ys = unroll(cell, params, xs)[1]
    np.testing.assert_allclose(y, ys[0], atol=1e-6)
    for layer in ours(cell, params, time_major=True):
        np.testing.assert_allclose(layer(xs), ys, atol=1e-6)
    loaded = flax.serialization.from_bytes(params, flax.serialization.to_bytes(params))
    restored = pickle.loads(pickle.dumps(cell))
    np.testing.assert_array_equal(unroll(restored, loaded, xs)[1], ys)


@exact
def test_a_twin_may_hold_axes():
    """The idiom of vmap: an object of the same class says which leaf is swept."""
    cell = Zoneout(GRU(H), rate=jnp.array([0.0, 0.5]))
    params, xs = setup(GRU(H))
    swept = jax.vmap(lambda cell: unroll(cell, params, xs, key=KEY)[1], in_axes=(Zoneout(None, rate=0),))(
        cell
    )
    np.testing.assert_allclose(swept[1], unroll(Zoneout(GRU(H), rate=0.5), params, xs, key=KEY)[1])


def test_a_wrapper_with_a_tick_of_its_own_is_not_passed_by():
    cell = Clipped(Stack([GRU(H), GRU(H)]))
    params = random_params(cell, input_size=H)
    carry, _ = unroll(cell, params, jnp.ones((T, B, H)))
    assert all(np.abs(leaf).max() <= 0.01 for leaf in jax.tree.leaves(carry))


class Clipped(rnncells.Wrapper):
    """A user's wrapper: the state is kept small."""

    def step(self, weights, carry, drive):
        carry, out = super().step(weights, carry, drive)
        return jax.tree.map(lambda leaf: jnp.clip(leaf, -0.01, 0.01), carry), out
