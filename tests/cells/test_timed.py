"""Cells that take the time between their inputs: what becomes of them when it is short, long, or periodic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import CTRNN, LTC, CfC, Elman, PeepholeLSTM, PhasedLSTM, Timed, unroll
from rnncells.parts.arithmetic import inverse_softplus
from tests.cases import INPUT, inputs, random_like, sparing
from tests.cells.common import B, T, assert_close, in_numpy, params_of, sequence

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)


def started(cell, seed=0):
    """Parameters, and a state that is not zero."""
    params = params_of(cell, seed)
    return params, random_like(cell.initial_carry(params, (B,), like=jnp.ones((B, INPUT), jnp.float64)))


@pytest.mark.parametrize(
    "cell", sparing([CTRNN(4), LTC(4), CfC(4), PhasedLSTM(4)]), ids=lambda c: type(c).__name__
)
def test_ticks_without_elapsed_time_are_1_apart(cell):
    params, carry = started(cell)
    x, elapsed = inputs(cell)
    plain = unroll(cell, params, x, carry)
    jax.tree.map(assert_close, unroll(cell, params, Timed(x, jnp.ones_like(elapsed)), carry), plain)
    assert not np.allclose(unroll(cell, params, Timed(x, elapsed), carry)[1], plain[1])
    with pytest.raises(ValueError, match="elapsed: expected a last axis of 1"):
        unroll(cell, params, Timed(x, x), carry)
    with pytest.raises(TypeError, match="elapsed: expected floating point numbers"):
        unroll(cell, params, Timed(x, jnp.ones_like(elapsed, dtype=int)), carry)


def test_ctrnn_of_one_step_is_an_elman():
    cell = CTRNN(4, substeps=1)
    params, carry = started(cell)
    params |= {"raw_tau": jnp.full((4,), inverse_softplus(1.0))}
    twin = {name: params[name] for name in ("kernel", "recurrent_kernel", "bias")}
    assert_close(unroll(cell, params, sequence(), carry)[1], unroll(Elman(4), twin, sequence(), carry)[1])
    assert_close(CTRNN(4).prepare(CTRNN(4).init(KEY, INPUT, jnp.float64))["rate"], 0.6)


@pytest.mark.parametrize(("method", "factor"), [("euler", (1 - 0.1) ** 5), ("exponential", np.exp(-0.5))])
def test_ctrnn_approaches_what_stands_still(method, factor):
    cell = CTRNN(4, substeps=5, method=method)
    params, carry = started(cell)
    still = {"raw_tau": jnp.full((4,), inverse_softplus(2.0)), "bias": params["bias"]}
    params = {name: jnp.zeros_like(leaf) for name, leaf in params.items()} | still
    target = np.tanh(params["bias"])
    last, _ = unroll(cell, params, sequence(), carry)
    assert_close(np.asarray(last) - target, factor**T * (np.asarray(carry) - target))
    nothing = Timed(sequence(), jnp.zeros((T, B, 1), jnp.float64))
    np.testing.assert_array_equal(unroll(cell, params, nothing, carry)[0], carry)


def test_ltc_stays_between_what_it_is_pulled_to():
    """However long the step; and a step of no length changes nothing."""
    cell = LTC(4)
    params, carry = started(cell)
    pulls = np.concatenate([np.ravel(params[n]) for n in ("rest", "reversal", "sense_reversal")])
    low, high = min(pulls.min(), carry.min()), max(pulls.max(), carry.max())
    for elapsed in (0.1, 10.0, 1e6):
        long = Timed(10 * sequence(), jnp.full((T, B, 1), elapsed))
        _, ys = unroll(cell, params, long, carry)
        assert np.all((ys >= low) & (ys <= high))
    nothing = Timed(sequence(), jnp.zeros((T, B, 1), jnp.float64))
    assert_close(unroll(cell, params, nothing, carry)[0], carry)


def test_ltc_without_synapses_leaks():
    cell = LTC(4)
    params, carry = started(cell)
    none = {name: jnp.full_like(params[name], -60.0) for name in ("strength", "sense_strength")}
    p, _ = in_numpy(params)
    capacity, leak = (np.log1p(np.exp(p[name])) for name in ("capacity", "leak"))
    factor = (capacity / (capacity + leak / 6)) ** (6 * T)
    last, _ = unroll(cell, params | none, sequence(), carry)
    assert_close(np.asarray(last) - p["rest"], factor * (np.asarray(carry) - p["rest"]))


def test_ltc_starts_as_published():
    weights = LTC(40).prepare(LTC(40).init(KEY, 20))
    ranges = {"capacity": (0.4, 0.6), "leak": (0.001, 1), "strength": (0.001, 1), "rest": (-0.2, 0.2)}
    ranges |= {"slope": (3, 8), "centre": (0.3, 0.8), "sense_strength": (0.001, 1), "sense_slope": (3, 8)}
    for name, (low, high) in ranges.items():
        drawn, margin = np.asarray(weights[name]), (high - low) / 8
        assert low - 1e-5 <= drawn.min() < low + margin, name
        assert high - margin < drawn.max() <= high + 1e-5, name
    assert set(np.unique(weights["reversal"])) == {-1.0, 1.0}


def test_cfc_is_bounded_and_its_gate_may_forget_the_time():
    cell = CfC(4)
    params, carry = started(cell)
    x, elapsed = inputs(cell)
    assert np.abs(unroll(cell, params, Timed(100 * x, elapsed), carry)[1]).max() < 1
    timeless = params | {
        "head_kernel": params["head_kernel"].at[:, 8:12].set(0.0),
        "head_bias": params["head_bias"].at[8:12].set(0.0),
    }
    assert_close(unroll(cell, timeless, Timed(x, elapsed), carry)[1], unroll(cell, timeless, x, carry)[1])


def test_cfc_in_its_pure_form_relaxes_to_its_limit():
    cell = CfC(4, mode="pure")
    params, carry = started(cell)
    x = sequence()[0]

    def after(time):
        return cell(params, carry, Timed(x, jnp.full((B, 1), time)))[1]

    assert_close(after(1e9), np.broadcast_to(params["limit"], (B, 4)))
    p, _ = in_numpy(params)
    z = np.asarray(x) @ p["kernel"] + np.asarray(carry) @ p["recurrent_kernel"] + p["bias"]
    f = 1.7159 * np.tanh(0.666 * z) @ p["head_kernel"] + p["head_bias"]
    assert_close(after(0.0), p["limit"] * (1 - f))
    start = CfC(4, mode="pure").init(KEY, INPUT)
    np.testing.assert_array_equal(start["limit"], np.ones(4))
    assert np.all(start["decay"])


def test_phased_lstm_open_is_a_peephole_lstm_and_shut_keeps_its_state():
    """Periods of one tick, so that a unit is always in the same phase."""
    cell = PhasedLSTM(4, open_ratio=0.4, leak=0.0)
    params, carry = started(cell)
    carry = carry._replace(clock=jnp.zeros_like(carry.clock))
    params |= {"log_period": jnp.zeros(4, jnp.float64), "shift": jnp.full(4, -0.2, jnp.float64)}
    lstm = {name: params[name] for name in ("kernel", "recurrent_kernel", "bias", "peephole")}
    twin = unroll(PeepholeLSTM(4), lstm, sequence(), (carry.cell, carry.hidden))
    assert_close(unroll(cell, params, sequence(), carry)[1], twin[1])
    shut = params | {"shift": jnp.full(4, -0.7, jnp.float64)}
    last, _ = unroll(cell, shut, sequence(), carry)
    jax.tree.map(assert_close, last, carry._replace(clock=carry.clock + T))


@pytest.mark.laws
def test_phased_lstm_opens_in_a_rhythm():
    cell = PhasedLSTM(3, open_ratio=0.5, leak=0.1)
    weights = {"period": jnp.array([1.0, 4.0, 8.0]), "shift": jnp.array([0.0, 0.0, 2.0])}
    clock = jnp.arange(0.0, 16.0, 0.5)[:, None]
    k = np.asarray(cell.openness(weights, clock))
    np.testing.assert_allclose(k[:8, 1], [0, 0.5, 1, 0.5, 0.05, 0.0625, 0.075, 0.0875])
    assert_close(k[8:], cell.openness(weights, clock - weights["period"][None])[8:])
    assert_close(k[4:, 2], cell.openness({**weights, "shift": jnp.zeros(3)}, clock)[:-4, 2])
    start = PhasedLSTM(200).init(KEY, INPUT)
    assert 1 <= start["log_period"].min() < 1.2 < 4.8 < start["log_period"].max() <= 5
    assert np.all((start["shift"] >= 0) & (start["shift"] <= np.exp(start["log_period"])))
