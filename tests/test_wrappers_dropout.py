"""What dropout computes, given its masks; how often it drops; and that no draw repeats another."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    GRU,
    LSTM,
    CausalConvolution,
    DropConnect,
    Elman,
    ExpRNN,
    RecurrentDropout,
    Stack,
    VariationalDropout,
    Zoneout,
    generate,
    unroll,
)
from rnncells.initializers import Identity, Zeros
from tests.cases import B, H, T, agreement, close, exact, setup, to_numpy
from tests.references import gated, simple

KEY = jax.random.key(1)


def masks_of(weights, name="recurrent_kernel"):
    return np.asarray(weights[name].mask)


@exact
def test_variational_dropout_has_one_mask_per_sequence():
    cell = VariationalDropout(LSTM(H), rate=0.25, input_rate=0.5)
    params, xs = setup(cell)
    weights = cell.prepare(params, KEY, (B,))
    on_x, on_h = masks_of(weights, "kernel"), masks_of(weights)
    assert on_x.shape == on_h.shape == (B, H)
    state = (np.zeros((B, H)), np.zeros((B, H)))
    outputs = []
    for x in np.asarray(xs):
        (c, h), _ = gated.lstm(LSTM(H), to_numpy(params), (state[0], state[1] * on_h), x * on_x)
        state = (c, h)
        outputs.append(h)
    close(unroll(cell, params, xs, key=KEY)[1], np.stack(outputs))
    close(unroll(cell, params, xs), unroll(LSTM(H), params, xs))


@exact
def test_variational_dropout_leaves_the_memory_of_a_gru():
    """Only products see the mask: with z = 1 the state stays, however much is dropped."""
    cell = VariationalDropout(GRU(H), rate=1.0)
    params, xs = setup(cell)
    params = {**params, "bias": params["bias"].at[H : 2 * H].set(1e3)}
    carry = jnp.ones((B, H))
    close(unroll(cell, params, xs, carry, key=KEY)[0], carry)


@exact
def test_recurrent_dropout_draws_at_every_tick():
    cell = RecurrentDropout(Elman(H), rate=0.5)
    params, xs = setup(cell)
    keys = [jax.random.fold_in(KEY, t) for t in range(T)]
    masks = [np.asarray(cell.project(params, xs[t], keys[t]).own.state[0]) for t in range(T)]
    assert any(not np.array_equal(masks[0], mask) for mask in masks[1:])
    h, outputs = np.zeros((B, H)), []
    for x, mask in zip(np.asarray(xs), masks, strict=True):
        h, _ = simple.elman(Elman(H), to_numpy(params), h * mask, x)
        outputs.append(h)
    close(unroll(cell, params, xs, key=KEY)[1], np.stack(outputs))
    close(unroll(cell, params, xs), unroll(Elman(H), params, xs))


@exact
def test_recurrent_dropout_of_inputs():
    """Each kernel reads through a mask of its own rate, on the input before anything else happens to it."""
    cell = RecurrentDropout(Elman(H), rate=0.5, input_rate=0.2)
    params, xs = setup(cell)
    shows_masks = {"kernel": jnp.eye(H), "bias": jnp.zeros(H), "recurrent_kernel": params["recurrent_kernel"]}
    h, outputs = np.zeros((B, H)), []
    for t, x in enumerate(np.asarray(xs)):
        drive = cell.project(shows_masks, jnp.ones((B, H)), jax.random.fold_in(KEY, t))
        on_x, on_h = np.asarray(drive.inner), np.asarray(drive.own.state[0])
        assert np.isin(on_x, [0, 1 / (1 - 0.2)]).all()
        assert np.isin(on_h, [0, 1 / (1 - 0.5)]).all()
        h, _ = simple.elman(Elman(H), to_numpy(params), h * on_h, x * on_x)
        outputs.append(h)
    close(unroll(cell, params, xs, key=KEY)[1], np.stack(outputs))


@pytest.mark.parametrize("wrapper", [VariationalDropout, RecurrentDropout])
def test_a_kernel_that_reads_a_window_is_blinded_too(wrapper):
    """It is met after the step, where the state is read."""
    inner = CausalConvolution(H, width=3)
    params, xs = inner.init(KEY, H) | {"bias": jnp.arange(float(H))}, jnp.ones((T, B, H))
    for parallel in (None, True):
        ys = unroll(wrapper(inner, input_rate=1.0), params, xs, key=KEY, parallel=parallel)[1]
        np.testing.assert_array_equal(ys, jnp.broadcast_to(params["bias"], ys.shape))
        some = unroll(wrapper(inner, input_rate=0.5), params, xs, key=KEY, parallel=parallel)[1]
        assert not np.allclose(some, unroll(inner, params, xs)[1])


@exact
def test_drop_connect_is_one_draw_of_weights():
    cell = DropConnect(GRU(H), rate=0.4)
    params, xs = setup(cell)
    weights = cell.prepare(params, KEY, (B,))
    close(unroll(cell, params, xs, key=KEY), unroll(GRU(H), weights, xs))
    close(unroll(cell, params, xs), unroll(GRU(H), params, xs))
    rotated = DropConnect(ExpRNN(H), rate=0.4)  # its kernel is made in prepare, and dropped there
    params, xs = setup(rotated)
    assert np.mean(rotated.prepare(params, KEY)["recurrent_kernel"] == 0) > 0.1


def test_dropout_rates():
    """The share of what is dropped, and that the rest is scaled so that the mean stays."""
    params = Elman(200).init(KEY, 300)
    weights = VariationalDropout(Elman(200), rate=0.25, input_rate=0.6).prepare(params, KEY, (50,))
    for mask, rate in ((masks_of(weights), 0.25), (masks_of(weights, "kernel"), 0.6)):
        np.testing.assert_allclose(np.unique(mask), [0, 1 / (1 - rate)], rtol=1e-6)
        assert np.mean(mask == 0) == pytest.approx(rate, abs=0.02)
    kernel = DropConnect(Elman(200), rate=0.25).prepare(params, KEY, (50,))["recurrent_kernel"]
    dropped = np.asarray(kernel == 0)
    assert dropped.mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(kernel, np.where(dropped, 0, params["recurrent_kernel"] / 0.75), rtol=1e-6)


@pytest.mark.parametrize("rate", [0.003, 0.05])
def test_small_rates_in_16_bits(rate):
    """bfloat16 has no 0.997: rates are compared in 32 bits."""
    xs = jnp.ones((1, 4000, 50), jnp.bfloat16)
    inner = GRU(50)
    params = inner.init(KEY, 50, jnp.bfloat16)
    kept = unroll(Zoneout(inner, rate=rate), params, xs, key=KEY)[1] == 0
    assert float(jnp.mean(kept)) == pytest.approx(rate, rel=0.15)
    dropped = VariationalDropout(inner, rate=rate).prepare(params, KEY, (4000,))["recurrent_kernel"].mask == 0
    assert float(jnp.mean(dropped)) == pytest.approx(rate, rel=0.15)


def test_identity_kernels_pass_through_masks():
    """A mask of rate 1 blinds the kernel: an accumulator forgets everything."""
    inner = Elman(H, activation="identity", recurrent_init=Identity(), kernel_init=Zeros())
    params = inner.init(KEY, H)
    xs, carry = jnp.ones((T, B, H)), jnp.ones((B, H))
    np.testing.assert_array_equal(unroll(inner, params, xs, carry)[0], carry)
    blind = VariationalDropout(inner, rate=1.0)
    np.testing.assert_array_equal(unroll(blind, params, xs, carry, key=KEY)[0], 0 * carry)


def test_masks_are_independent():
    """Those of the two kernels of a cell, and those of the layers of a stack."""
    layers = Stack([Elman(64), Elman(64)])
    params = layers.init(KEY, 64)
    weights = VariationalDropout(layers, rate=0.5, input_rate=0.5).prepare(params, KEY, (64,))
    dropped = [
        masks_of(layer, name) == 0 for layer in weights.values() for name in ("kernel", "recurrent_kernel")
    ]
    for a, b in itertools.combinations(dropped, 2):
        assert agreement(a, b) == pytest.approx(0.5, abs=0.05)
    weights = DropConnect(layers, rate=0.5).prepare(params, KEY)
    dropped = [layer["recurrent_kernel"] == 0 for layer in weights.values()]
    assert agreement(*dropped) == pytest.approx(0.5, abs=0.05)
    cell = RecurrentDropout(Elman(64), rate=0.5, input_rate=0.5)
    shows_masks = params["layer_0"] | {"kernel": jnp.eye(64)}
    drive = cell.project(shows_masks, jnp.ones((64, 64)), KEY)
    assert agreement(drive.inner == 0, drive.own.state[0] == 0) == pytest.approx(0.5, abs=0.05)


def descendants(key):
    """The key, and all that come out of splitting it up to three times."""
    level = [key]
    for _ in range(4):
        yield from level
        level = [child for parent in level for child in jax.random.split(parent)]


def test_noise_of_prepare_of_ticks_and_of_feeding_is_independent():
    """With partitionable keys `split(key)[i]` is `fold_in(key, i)`: no stream may be the other's."""
    inner = VariationalDropout(GRU(64), rate=0.5, input_rate=0.5)
    params = inner.init(KEY, 64)
    weights = inner.prepare(params, KEY, (64,))
    cell = DropConnect(Elman(64), rate=0.5)
    kept = np.asarray(cell.prepare(cell.init(KEY, 64), KEY)["recurrent_kernel"] != 0)
    locked_masks = masks_of(weights, "kernel") != 0, masks_of(weights) != 0, kept
    for t in range(3):
        tick_key = jax.random.fold_in(KEY, t)
        own = masks_of(inner.prepare(params, tick_key, (64,))) != 0
        draws = [jax.random.bernoulli(key, 0.5, (64, 64)) for key in descendants(tick_key)]
        for mask, draw in itertools.product(locked_masks, (own, *draws)):
            assert agreement(mask, draw) == pytest.approx(0.5, abs=0.05)

    def feed(y, key):
        return y, jnp.stack([jax.random.bernoulli(k, 0.5, (64, 64)) for k in (key, *jax.random.split(key))])

    fed = generate(cell, cell.init(KEY, 64), jnp.ones(64), 2, feed, key=KEY)[1]
    for mask in fed.reshape(-1, 64, 64):
        assert agreement(mask, kept) == pytest.approx(0.5, abs=0.05)
