"""Decaying traces of the input: RG-LRU, HGRN, recurrent trace units, fast and forgetful memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import FFM, HGRN, LRU, RGLRU, RTU, NonlinearRTU, unroll
from tests.cases import FEATURES, INPUT, run, scored
from tests.cells.common import (
    CLOSED,
    OPEN,
    B,
    T,
    assert_close,
    blocks,
    in_numpy,
    outputs,
    params_of,
    random_state,
    sequence,
    ticks,
    with_gate,
)
from tests.references.common import s

pytestmark = pytest.mark.usefixtures("x64")


def test_rg_lru_limits():
    """With r closed the state is frozen; with r open it is an LRU of real decays."""
    cell = RGLRU(FEATURES)
    params = params_of(cell)
    carry = random_state(cell, params)
    closed = with_gate(cell, params, "r", 10 * CLOSED)
    assert_close(ticks(cell, closed, carry=carry)[0][-1], carry)
    opened = with_gate(cell, with_gate(cell, params, "r", OPEN), "i", OPEN)
    a, h = s(np.asarray(params["decay_logit"])) ** 8, np.asarray(carry)
    value = np.asarray(sequence() @ params["input_kernel"])
    for x, y in zip(value, outputs(cell, opened, carry=carry), strict=True):
        h = a * h + np.sqrt(1 - a**2) * x
        assert_close(y, h)


def test_rg_lru_has_slopes_where_its_gate_has_closed_entirely():
    """There sqrt(1 - a^2) is 0, and the derivative of the root infinite."""
    cell = RGLRU(FEATURES)
    params = with_gate(cell, params_of(cell), "r", -1e4)
    _, slopes = scored(lambda params: unroll(cell, params, sequence())[1], (params,))
    assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.laws
def test_rg_lru_gives_noise_its_own_variance_and_starts_between_its_decays():
    cell = RGLRU(512)
    params = cell.init(jax.random.key(0), 512, jnp.float64)
    decay = s(np.asarray(params["decay_logit"])) ** 8
    assert np.quantile(decay, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx(
        [0.9, 0.92475, 0.9495, 0.97425, 0.999], abs=0.01
    )
    quick = with_gate(cell, with_gate(cell, params, "r", OPEN), "i", OPEN)
    xs = jax.random.normal(jax.random.key(1), (400, 8, 512), jnp.float64)
    last, _ = run(cell, quick | {"decay_logit": jnp.full(512, 4.0)}, xs)
    assert np.var(last) == pytest.approx(1, rel=0.1)
    np.testing.assert_array_equal(RGLRU(3, forget_bias=2.0).init(jax.random.key(0), 3)["bias"][:3], -2)


def test_hgrn_without_rotation_is_real_and_with_a_bound_of_one_keeps():
    cell = HGRN(FEATURES)
    params, xs = in_numpy(params_of(cell))
    real = params | {"theta": np.zeros(FEATURES)}
    kernel, bias = (blocks(cell, params, name) for name in ("kernel", "bias"))
    pre = {name: xs @ kernel[name] + bias[name] for name in cell.gates}
    h = np.zeros((B, FEATURES))
    states, _ = ticks(cell, real)
    for t in range(T):
        f = s(pre["f"][t])
        h = f * h + (1 - f) * pre["re"][t] * s(pre["re"][t])
        assert_close(states[t + 1].real, h)
    carry = random_state(cell, params)
    bound = dataclasses.replace(cell, lower_bound=1.0)
    states, _ = ticks(bound, params, carry=carry)
    turned = np.asarray(carry) * np.exp(1j * T * params["theta"])
    assert_close(states[-1], turned)


def test_hgrn_forgets_no_faster_than_its_bound():
    bound = jnp.linspace(0.2, 0.8, FEATURES)
    cell = HGRN(FEATURES, lower_bound=bound)
    params = with_gate(cell, params_of(cell), "f", CLOSED)
    decay = cell.project(params, sequence()).element.decay
    assert_close(np.abs(decay), np.broadcast_to(bound, decay.shape))
    start = cell.init(jax.random.key(0), INPUT, jnp.float64)["theta"]
    np.testing.assert_allclose(start, [1, 1e-2, 1e-4, 1e-6])


def test_hgrn_output_has_mean_and_size_of_its_norm():
    """With open gates of one and an identity behind it."""
    cell = HGRN(FEATURES)
    params = params_of(cell) | {
        "norm_scale": jnp.full(2 * FEATURES, 3.0),
        "norm_bias": jnp.full(2 * FEATURES, 0.5),
    }
    one = 1.2784645427610738  # silu(one) = 1
    params = with_gate(cell, with_gate(cell, params, "p", one), "q", one)
    read = jnp.concatenate([jnp.eye(FEATURES), jnp.zeros((FEATURES, FEATURES))])
    first = outputs(cell, params | {"output_kernel": read, "output_bias": jnp.zeros(FEATURES)})
    rest = outputs(cell, params | {"output_kernel": read[::-1], "output_bias": jnp.zeros(FEATURES)})
    both = np.concatenate([first, rest], -1)
    np.testing.assert_allclose(both.mean(-1), 0.5, atol=1e-7)
    np.testing.assert_allclose(both.std(-1), 3, rtol=1e-3)


def test_rtu_is_an_lru_whose_gain_follows_its_decay():
    """And that gives out the state itself."""
    cell = RTU(FEATURES, activation="identity")
    params = params_of(cell)
    lru = LRU(FEATURES)
    r = np.exp(-np.exp(np.asarray(params["log_decay"])))
    same = params | {"log_gain": jnp.log(np.sqrt(1 - r**2)), "skip_kernel": jnp.zeros((INPUT, FEATURES))}
    re, im = np.split(np.asarray(outputs(cell, params)), 2, -1)
    eye, none = jnp.eye(FEATURES), jnp.zeros((FEATURES, FEATURES))
    assert_close(re, outputs(lru, same | {"output_kernel": jnp.concatenate([eye, none])}))
    assert_close(im, outputs(lru, same | {"output_kernel": jnp.concatenate([none, -eye])}))
    assert cell.output_size == 2 * FEATURES


def test_rtus_with_and_without_a_nonlinearity():
    """Without one both are the same; relu within the recurrence keeps every trace positive."""
    params = params_of(RTU(FEATURES))
    linear, within = RTU(FEATURES, activation="identity"), NonlinearRTU(FEATURES, activation="identity")
    assert_close(outputs(linear, params), outputs(within, params))
    states, ys = ticks(NonlinearRTU(FEATURES), params)
    assert np.all(ys >= 0)
    assert_close(ys[-1], np.concatenate([states[-1].real, states[-1].imag], -1))
    outside = outputs(RTU(FEATURES), params)
    assert_close(outside, np.maximum(outputs(linear, params), 0))
    assert not np.allclose(outside, ys)


def test_rtu_takes_decays_near_one():
    """n = sqrt(1 - r^2) is exact, and has a slope, where r rounds to one."""
    cell = RTU(FEATURES)
    params = cell.init(jax.random.key(0), INPUT) | {"log_decay": jnp.full(FEATURES, -30.0, jnp.float32)}
    scaled = cell.prepare(params)["kernel"] / params["kernel"]
    np.testing.assert_allclose(scaled, np.sqrt(2) * np.exp(-15), rtol=1e-6)
    _, slopes = scored(lambda params: unroll(cell, params, sequence().astype(jnp.float32))[1], (params,))
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_ffm_sums_where_nothing_decays_or_turns():
    cell = FFM(FEATURES, traces=5, contexts=2)
    params, xs = in_numpy(params_of(cell))
    params |= {"decay": np.zeros(5), "frequency": np.array([0.0, np.pi])}
    u, g = np.split(xs @ params["kernel"] + params["bias"], 2, -1)
    states, _ = ticks(cell, params)
    for t in range(T):
        now = (u * s(g))[: t + 1]
        assert_close(states[t + 1][..., 0], now.sum(0))
        signs = (-1.0) ** np.arange(t, -1, -1)
        assert_close(states[t + 1][..., 1], (signs[:, None, None] * now).sum(0))


@pytest.mark.laws
def test_ffm_lets_its_input_pass_or_normalises():
    cell = FFM(64, traces=5)
    params = params_of(cell)
    kernel, bias = params["readout_kernel"], params["readout_bias"]
    passing = {"readout_kernel": kernel.at[:, :64].set(0), "readout_bias": bias.at[:64].set(CLOSED)}
    assert_close(
        outputs(cell, params | passing), np.asarray(sequence() @ kernel[:, 64:]) + np.asarray(bias[64:])
    )
    reading = {"readout_kernel": kernel.at[:, :64].set(0), "readout_bias": bias.at[:64].set(OPEN)}
    ys = outputs(cell, params | reading)
    np.testing.assert_allclose(ys.mean(-1), 0, atol=1e-7)
    np.testing.assert_allclose(ys.std(-1), 1, rtol=1e-3)


def test_ffm_starts_with_traces_of_every_length():
    """The slowest is down to a hundredth after 1024 ticks; periods from one tick to 1024."""
    params = FFM(FEATURES).init(jax.random.key(0), INPUT, jnp.float64)
    assert np.exp(-1024 * params["decay"][-1]) == pytest.approx(0.01)
    assert params["decay"][0] == pytest.approx(0.673)
    np.testing.assert_allclose(np.diff(params["decay"], 2), 0, atol=1e-12)
    np.testing.assert_allclose(2 * np.pi / params["frequency"], [1, 342, 683, 1024])
