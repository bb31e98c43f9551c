"""What wrappers of the state compute: zoneout, noise, a learned beginning."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    GRU,
    LSTM,
    LayerNormLSTM,
    LearnedCarry,
    LSTMCarry,
    MinGRU,
    StateNoise,
    Wrapper,
    Zoneout,
    unroll,
)
from rnncells.fields import static
from rnncells.linear_scan import DiagonalElement
from rnncells.parts.arithmetic import dense
from rnncells.parts.linear import LinearCell, LinearDrive
from tests import references
from tests.cases import B, H, T, close, exact, floating, over, run, setup, sparing, tick_of, to_numpy
from tests.traits import TRAITS, Counting, Heads, Wandering
from tests.wrapped import REFUSES

KEY = jax.random.key(1)
QUIET = {name: TRAITS[name] for name in TRAITS if name not in REFUSES["Zoneout"] and "noisy" not in name}


def ticks(cell, params, xs, change):
    """The bare cell's reference, with `change(old, new) -> state` after every tick; states, outputs."""
    step = references.REFERENCES[type(cell).__name__]
    state = to_numpy(cell.initial_carry(params, xs.shape[1:2]))
    states = []
    for t, x in enumerate(np.asarray(xs)):
        new, _ = step(cell, to_numpy(params), state, x)
        state = jax.tree.map(functools.partial(change, t), tuple(state), tuple(new))
        states.append(state)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def every_tick(cell, params, xs, **options):
    """The state before every tick, what the cell inside makes of it, the state after it; the outputs."""
    _, (ys, after) = unroll(cell, params, xs, return_carries=True, **options)
    start = cell.initial_carry(params, xs.shape[1:2])
    before = jax.tree.map(lambda leaf, first: jnp.concatenate([first[None], leaf[:-1]]), after, start)
    made = jax.vmap(lambda carry, x: cell.cell(params, carry, x)[0])(before, xs)
    return before, made, after, ys


@exact
def test_zoneout_without_a_key_is_the_expectation():
    cell = Zoneout(LSTM(H), rate=LSTMCarry(cell=0.5, hidden=0.05))
    params, xs = setup(cell)
    _, (ys, carries) = unroll(cell, params, xs, return_carries=True)
    rates = iter([0.5, 0.05] * T)
    expected = ticks(LSTM(H), params, xs, lambda t, old, new: (p := next(rates)) * old + (1 - p) * new)
    close(tuple(carries), expected)
    close(ys, expected[1])


@exact
@pytest.mark.parametrize("inner", [LSTM(H), GRU(H), MinGRU(H), LayerNormLSTM(H), MinGRU(H, log_space=True)])
def test_zoneout_keeps_units_at_its_rate(inner):
    """With a key every unit is its old value or what the cell makes of the old state, and often enough; each
    part of the state by itself."""
    cell = Zoneout(inner, rate=0.3)
    params, xs = setup(cell, batch=40)
    *states, ys = every_tick(cell, params, xs, key=KEY)
    zoned = []
    for old, made, now in zip(*map(jax.tree.leaves, states), strict=True):
        kept, taken = np.abs(now - old) < 1e-12, np.abs(now - made) < 1e-12
        assert (kept | taken).all()
        assert np.mean(kept) == pytest.approx(0.3, abs=0.03)
        zoned.append(kept)
    assert np.mean(np.all(zoned, 0)) == pytest.approx(0.3 ** len(zoned), abs=0.03)
    np.testing.assert_array_equal(ys, jax.tree.leaves(states[-1])[-1])


@exact
@pytest.mark.parametrize("key", [None, KEY], ids=["", "key"])
@over(QUIET, ["gated", "diagonal"])
def test_zoneout_at_its_ends(cell, key):
    """At rate 0 it is the cell; at rate 1 nothing moves that is a number."""
    params, xs = setup(cell)
    close(run(Zoneout(cell, rate=0.0), params, xs, key=key), run(cell, params, xs))
    last, _ = run(Zoneout(cell, rate=1.0), params, xs, key=key)
    close(floating(last), floating(cell.initial_carry(params, (B,), like=tick_of(xs))))


@exact
@pytest.mark.parametrize("key", [None, KEY], ids=["", "key"])
@pytest.mark.parametrize("cell", [LSTM(H), GRU(H), MinGRU(H)], ids=["LSTM", "GRU", "MinGRU"])
def test_a_frozen_state_is_the_output_too(cell, key):
    """Inside jit and outside, and no slope is left."""
    params, xs = setup(cell)
    frozen = Zoneout(cell, rate=1.0)
    last, ys = unroll(frozen, params, xs, key=key)
    y, pull = jax.vjp(lambda params: frozen(params, last, xs[0], key)[1], params)
    for leaf in jax.tree.leaves((last, ys, y, pull(jnp.ones_like(y)))):
        assert not np.any(leaf)


@exact
def test_zoneout_of_a_linear_cell_is_its_own_mean():
    """s is linear in each mask, and masks are independent: the mean over keys is the run without."""
    cell = Zoneout(MinGRU(H), rate=0.4)
    params, xs = setup(cell)
    ys = jax.vmap(lambda key: unroll(cell, params, xs, key=key)[1])(jax.random.split(KEY, 4000))
    error = ys.std(0) / np.sqrt(len(ys))
    assert (np.abs(ys.mean(0) - unroll(cell, params, xs)[1]) < 5 * error + 1e-12).all()


@exact
@pytest.mark.parametrize("inner", sparing([MinGRU(H), GRU(H), LSTM(H)]))
def test_state_noise(inner):
    """What a tick adds to the state of the bare cell is normal, accumulates in it, and differs from part to
    part and from tick to tick."""
    cell = StateNoise(inner, stddev=0.5)
    params, xs = setup(cell, batch=400)
    _, made, after, ys = every_tick(cell, params, xs, key=KEY)
    noise = np.stack(jax.tree.leaves(jax.tree.map(jnp.subtract, after, made)))
    for part in noise:
        assert part.mean() == pytest.approx(0, abs=0.02)
        assert part.std() == pytest.approx(0.5, rel=0.02)
    draws = noise.reshape(-1, noise[0, 0].size)
    assert np.abs(np.corrcoef(draws) - np.eye(len(draws))).max() < 0.1
    np.testing.assert_array_equal(ys, jax.tree.leaves(after)[-1])
    close(unroll(cell, params, xs), unroll(inner, params, xs))
    slope = jax.grad(lambda s: jnp.sum(unroll(StateNoise(inner, stddev=s), params, xs, key=KEY)[1]))(0.5)
    assert np.isfinite(slope)
    assert slope != 0


@exact
def test_learned_carry():
    cell = LearnedCarry(LSTM(H))
    params, xs = setup(cell)
    learned = params["carry"]
    start = LSTMCarry(*(jnp.broadcast_to(learned[name], (B, H)) for name in LSTMCarry._fields))
    close(unroll(cell, params, xs), unroll(LSTM(H), params["cell"], xs, start))
    resets = np.zeros((T, B), bool)
    resets[3] = True
    close(unroll(cell, params, xs, resets=resets)[1][3:], unroll(cell, params, xs[3:])[1])
    slope = jax.grad(lambda params: jnp.sum(unroll(cell, params, xs)[1]))(params)["carry"]
    assert all(np.any(leaf) for leaf in slope.values())
    fresh = cell.init(KEY, H, jnp.float64)
    assert not any(map(np.any, fresh["carry"].values()))


class Turning(LinearCell):
    """A user's linear cell with a complex state, s' = 0.9 e^(i angle) s + u: from 0.2 + 0.1 i; y is its real
    part."""

    features: int = static()

    def init(self, key, input_size, dtype=jnp.float32):
        parts = jax.random.normal(key, (2, input_size, self.features), dtype)
        return {"real": parts[0], "imag": parts[1], "angle": jnp.arange(1, self.features + 1, dtype=dtype)}

    def initial_carry(self, params, batch_shape=()):
        like = jnp.ones((*batch_shape, self.features), params["angle"].dtype)
        return jax.lax.complex(0.2 * like, 0.1 * like)

    def project(self, weights, x, key=None):
        update = jax.lax.complex(dense(x, weights["real"]), dense(x, weights["imag"]))
        turn = 0.9 * jax.lax.complex(jnp.cos(weights["angle"]), jnp.sin(weights["angle"]))
        return LinearDrive(DiagonalElement(jnp.broadcast_to(turn, update.shape), update))

    def readout(self, weights, out, drive):
        return out.real


class Bounded(Wrapper):
    """A user's wrapper that ends linearity."""

    linear = False

    def step(self, weights, carry, drive):
        new, _ = super().step(weights, carry, drive)
        new = jax.lax.complex(jnp.tanh(new.real), jnp.tanh(new.imag))
        return new, new


over_complex_cells = pytest.mark.parametrize("inner", [Turning(H), Bounded(Turning(H))], ids=["linear", ""])


@exact
@over_complex_cells
def test_zoneout_of_complex_states(inner):
    cell = Zoneout(inner, rate=0.3)
    params, xs = setup(cell, batch=40)
    before, made, after, ys = every_tick(cell, params, xs)
    close(after, 0.3 * np.asarray(before) + 0.7 * np.asarray(made))
    close(ys, after.real)
    before, made, after, ys = every_tick(cell, params, xs, key=KEY)
    kept, taken = np.abs(after - before) < 1e-12, np.abs(after - made) < 1e-12
    assert (kept | taken).all()
    assert np.mean(kept) == pytest.approx(0.3, abs=0.03)
    close(ys, after.real)


@exact
@over_complex_cells
def test_noise_of_complex_states(inner):
    """Real and imaginary part are independent, and their variances add up."""
    cell = StateNoise(inner, stddev=0.5)
    params, xs = setup(cell, batch=400)
    _, made, after, _ = every_tick(cell, params, xs, key=KEY)
    noise = np.asarray(after - made).ravel()
    np.testing.assert_allclose(np.cov(noise.real, noise.imag), 0.125 * np.eye(2), atol=0.005)


@exact
@over_complex_cells
def test_learned_carry_of_complex_states(inner):
    cell = LearnedCarry(inner)
    fresh = cell.init(KEY, H, jnp.float64)["carry"]["state"]
    np.testing.assert_array_equal(fresh, np.tile([0.2, 0.1], (H, 1)))
    params, xs = setup(cell)
    pair = np.asarray(params["carry"]["state"])
    start = jnp.asarray(np.broadcast_to(pair[:, 0] + 1j * pair[:, 1], (B, H)))
    close(unroll(cell, params, xs), unroll(inner, params["cell"], xs, start))


@exact
@pytest.mark.parametrize(
    "wrapper", [functools.partial(Zoneout, rate=0.3), functools.partial(StateNoise, stddev=0.5)]
)
def test_noise_has_the_shape_of_the_state(wrapper):
    """Not of an element that is the same along some of its axes: a decay [*B, h, 1, 1] of a state
    [*B, h, K, V]."""
    cell = wrapper(Heads(H))
    params, xs = setup(cell, batch=200)
    before, made, after, _ = every_tick(cell, params, xs, key=KEY)
    assert cell.linear
    if isinstance(cell, Zoneout):
        kept, taken = np.abs(after - before) < 1e-12, np.abs(after - made) < 1e-12
        moves = np.abs(before - made) > 1e-9
        assert (kept | taken).all()
        noise = np.where(moves, kept - 0.3, np.nan)
        assert np.nanmean(kept[moves]) == pytest.approx(0.3, abs=0.02)
        noise = noise[1:]  # at first the old state is zero
    else:
        noise = np.asarray(after - made)
        assert noise.std() == pytest.approx(0.5, rel=0.02)
    entries = noise.reshape(-1, noise[0, 0].size)
    correlation = np.corrcoef(entries[np.isfinite(entries).all(-1)].T)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 0.12


@exact
@pytest.mark.parametrize("key", [None, KEY], ids=["", "key"])
@pytest.mark.parametrize("parallel", [None, True], ids=["", "parallel"])
def test_noise_of_a_broadcast_decay_is_that_of_its_ticks(key, parallel):
    """At its ends a rate for every unit is felt by that unit alone."""
    rate = np.zeros((2, 3, H))
    rate[1, 2, 0] = 1.0
    cell = Zoneout(Heads(H), rate=jnp.asarray(rate))
    params, xs = setup(cell)
    plain = run(Heads(H), params, xs, parallel=parallel)[0]
    zoned = run(cell, params, xs, key=key, parallel=parallel)[0]
    close(zoned, jnp.where(rate == 1, 0, plain))


@exact
@pytest.mark.parametrize("inner", [Counting(H), Wandering(H)], ids=["counter", "key"])
def test_what_is_no_number_survives(inner):
    """Counters count, and keys stay keys, under every wrapper of the state."""
    for wrapper in (
        functools.partial(Zoneout, rate=0.5),
        functools.partial(StateNoise, stddev=0.5),
        LearnedCarry,
    ):
        cell = wrapper(inner)
        params, xs = setup(cell)
        for key in (None, KEY):
            last, expected = run(cell, params, xs, key=key)[0], run(inner, cell.inside(params), xs)[0]
            close(last[0], expected[0], atol=0)
            assert last[0].dtype == expected[0].dtype
    assert set(LearnedCarry(inner).init(KEY, H)["carry"]) <= {"mean", "1"}
