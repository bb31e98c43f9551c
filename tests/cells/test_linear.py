"""Linear cells: MinGRU, MinLSTM, LRU, RWKV-4, causal convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import LRU, RWKV4, CausalConvolution, MinGRU, MinLSTM, Stack, unroll
from tests.cases import FEATURES, INPUT, random_like, run, scored
from tests.cells.common import CLOSED, OPEN, B, T, assert_close, in_numpy, params_of, sequence, with_gate
from tests.references.common import s

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("kind", [MinGRU, MinLSTM])
def test_min_cells_in_log_space_are_the_plain_ones_on_positive_candidates(kind):
    """Where the candidate's pre-activation u is >= 0, g(u) = u + 1/2: a shift of its bias."""
    plain, log = kind(FEATURES), kind(FEATURES, log_space=True)
    params = params_of(plain)
    positive = params | {"bias": params["bias"].at[-FEATURES:].set(100.0)}
    shifted = params | {"bias": params["bias"].at[-FEATURES:].set(100.5)}
    for parallel in (True, False):
        ys = unroll(log, positive, sequence(), parallel=parallel)[1]
        np.testing.assert_allclose(ys, unroll(plain, shifted, sequence())[1], rtol=1e-10)


def test_min_gru_limits():
    cell = MinGRU(FEATURES)
    params = params_of(cell)
    carry = random_like(cell.initial_carry(params, (B,)))
    assert_close(unroll(cell, with_gate(cell, params, "z", CLOSED), sequence(), carry)[0], carry)
    weights, xs = in_numpy(params)
    candidates = xs @ weights["kernel"][:, FEATURES:] + weights["bias"][FEATURES:]
    assert_close(unroll(cell, with_gate(cell, params, "z", OPEN), sequence(), carry)[1], candidates)


def test_min_lstm_gates_are_normalised():
    cell = MinLSTM(FEATURES)
    params = params_of(cell)
    element = cell.project(params, sequence()).element
    weights, xs = in_numpy(params)
    f, i = (s(xs @ weights["kernel"][:, b] + weights["bias"][b]) for b in (slice(0, 4), slice(4, 8)))
    assert_close(element.decay, f / (f + i))
    equal = with_gate(cell, with_gate(cell, params, "f", 0.7), "i", 0.7)
    assert_close(cell.project(equal, sequence()).element.decay, 0.5)


@pytest.mark.laws
def test_min_gru_in_log_space_takes_extreme_gates():
    """Products of a thousand decays of e^-50 neither overflow nor lose the last candidates."""
    cell = MinGRU(FEATURES, log_space=True)
    params = with_gate(cell, cell.init(jax.random.key(0), INPUT), "z", 50.0)
    xs = jax.random.normal(jax.random.key(0), (1000, INPUT), jnp.float32)
    for parallel in (True, False):

        def score(params, parallel=parallel):
            return jnp.sum(unroll(cell, params, xs, parallel=parallel)[1])

        value, slope = jax.jit(jax.value_and_grad(score))(params)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    np.testing.assert_allclose(*(run(cell, params, xs, parallel=way)[1] for way in (True, False)), rtol=1e-5)


def test_lru_decays_whatever_is_trained():
    cell = LRU(FEATURES)
    params = params_of(cell)
    for size in (-17.0, 0.0, 3.0):
        decay = cell.prepare(params | {"log_decay": params["log_decay"] + size})["lambda"]
        assert np.all(np.abs(decay) < 1)


def test_lru_starts_on_its_ring():
    cell = LRU(512, r_min=0.5, r_max=0.9, max_phase=0.3)
    decay = np.asarray(cell.prepare(cell.init(jax.random.key(0), INPUT))["lambda"])
    radius, phase = np.abs(decay), np.angle(decay)
    assert 0.5 <= radius.min() < 0.52
    assert 0.89 < radius.max() <= 0.9
    assert np.mean(radius**2) == pytest.approx((0.25 + 0.81) / 2, abs=0.02)  # uniform in area
    assert 0 < phase.min() < 0.01
    assert 0.29 < phase.max() <= 0.3


def test_lru_on_the_circle_keeps_its_energy():
    """With |lambda| = 1 and no input the state turns, and stays as long as it was."""
    cell = LRU(FEATURES)
    params = params_of(cell) | {"log_decay": jnp.full(FEATURES, -jnp.inf)}
    carry = random_like(cell.initial_carry(params, (B,)))
    last, _ = unroll(cell, params, jnp.zeros((500, B, INPUT)), carry)
    np.testing.assert_allclose(np.abs(last), np.abs(carry), rtol=1e-9)
    assert not np.allclose(last, carry)


def test_lru_answers_an_impulse():
    """y_k = Re(C lambda^k gamma B x), and D x at first."""
    cell = LRU(FEATURES)
    params = params_of(cell)
    p, xs = in_numpy(params)
    x = xs[0]
    b = p["kernel"][:, :FEATURES] + 1j * p["kernel"][:, FEATURES:]
    c = p["output_kernel"][:FEATURES] + 1j * p["output_kernel"][FEATURES:]
    decay = np.exp(-np.exp(p["log_decay"]) + 1j * np.exp(p["log_phase"]))
    expected = np.stack([((decay**k * np.exp(p["log_gain"]) * (x @ b)) @ c).real for k in range(T)])
    expected[0] += x @ p["skip_kernel"]
    impulse = np.zeros_like(xs)
    impulse[0] = x
    for parallel in (True, False):
        assert_close(run(cell, params, impulse, parallel=parallel)[1], expected)


def test_lru_starts_with_states_of_unit_variance():
    cell = LRU(256, r_max=0.98)
    params = cell.init(jax.random.key(0), 8, jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (300, 32, 8), jnp.float64)
    states = unroll(cell, params, xs, return_carries=True)[1][1][-1]
    assert np.mean(np.abs(states) ** 2) == pytest.approx(1, rel=0.1)


def keys_of(cell):
    """Columns of k."""
    return slice(cell.features, 2 * cell.features)


def test_rwkv_does_not_see_a_constant_in_every_key():
    cell = RWKV4(FEATURES, use_bias=True)
    params = params_of(cell)
    shifted = params | {"bias": params["bias"].at[keys_of(cell)].add(7.0)}
    for parallel in (True, False):
        ys = run(cell, params, sequence(), parallel=parallel)[1]
        assert_close(run(cell, shifted, sequence(), parallel=parallel)[1], ys)


def test_rwkv_of_one_tick_is_its_value():
    cell = RWKV4(FEATURES)
    params, xs = in_numpy(params_of(cell))
    r, _, v = np.split(xs[0] @ params["kernel"], 3, -1)
    ys = unroll(cell, params, xs[:1])[1]
    assert_close(ys[0], (s(r) * v) @ params["output_kernel"])


def test_rwkv_of_equal_keys_without_decay_is_the_running_mean():
    """And the tick itself counts as much as those before it, with u = 0."""
    cell = RWKV4(FEATURES)
    params = params_of(cell)
    params["kernel"] = params["kernel"].at[:, keys_of(cell)].set(0.0)
    params |= {"first": jnp.zeros(FEATURES), "log_decay": jnp.full(FEATURES, -jnp.inf)}
    p, xs = in_numpy(params)
    r, _, v = np.split(xs @ p["kernel"], 3, -1)
    mean = np.cumsum(v, 0) / np.arange(1, T + 1)[:, None, None]
    for parallel in (True, False):
        assert_close(run(cell, params, sequence(), parallel=parallel)[1], (s(r) * mean) @ p["output_kernel"])


def test_rwkv_takes_huge_keys():
    cell = RWKV4(FEATURES)
    params = cell.init(jax.random.key(0), INPUT)
    params["kernel"] = params["kernel"].at[:, keys_of(cell)].multiply(1e4)
    xs = sequence().astype(jnp.float32)
    for parallel in (True, False):
        (_, ys), slopes = scored(
            lambda params, way=parallel: unroll(cell, params, xs, parallel=way), (params,)
        )
        assert np.isfinite(ys).all()
        assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_causal_convolution_is_one(width):
    cell = CausalConvolution(FEATURES, width=width, activation="tanh")
    params = params_of(cell)
    p, xs = in_numpy(params)
    taps = p["kernel"].reshape(width, INPUT, FEATURES)
    expected = np.tile(p["bias"], (T, B, 1))
    for t in range(T):
        for back in range(min(width, t + 1)):
            expected[t] += xs[t - back] @ taps[width - 1 - back]
    for parallel in (True, False):
        assert_close(run(cell, params, sequence(), parallel=parallel)[1], np.tanh(expected))


def test_resets_clear_the_window():
    cell = CausalConvolution(FEATURES, width=3)
    params, xs = params_of(cell), sequence()
    resets = np.zeros((T, B), bool)
    resets[2] = True
    alone = np.concatenate([unroll(cell, params, part)[1] for part in (xs[:2], xs[2:])])
    for parallel in (True, False):
        assert_close(run(cell, params, xs, resets=resets, parallel=parallel)[1], alone)


def test_a_convolution_in_front_runs_in_parallel_too():
    """The quasi-recurrent network, and its like."""
    cell = Stack([CausalConvolution(5, width=3), MinGRU(FEATURES)])
    params, resets = params_of(cell), np.random.default_rng(0).random((T, B)) < 0.3
    both = [
        run(cell, params, sequence(), resets=resets, lengths=np.array([T, 0, 4]), parallel=way)
        for way in (True, False)
    ]
    jax.tree.map(assert_close, *both)


def test_the_window_of_a_convolution_needs_the_width_of_its_input():
    cell = CausalConvolution(FEATURES, width=3)
    like = jax.ShapeDtypeStruct((B, INPUT), jnp.float32)
    assert cell.initial_carry(None, (B,), like=like).shape == (B, 3, INPUT)
    with pytest.raises(ValueError, match="params: expected those of the cell, which know the width"):
        cell.initial_carry(None, (B,))
