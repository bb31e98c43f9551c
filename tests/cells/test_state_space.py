"""State-space cells: S4D, S5, S6, and the rules by which continuous time becomes ticks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from rnncells import S4D, S5, S6
from rnncells.parts import hippo
from rnncells.parts.diagonal import discretised, legs_frequencies
from tests.cases import FEATURES, INPUT, run, sparing
from tests.cells.common import B, T, assert_close, outputs, params_of, random_state, sequence, ticks

pytestmark = pytest.mark.usefixtures("x64")
over_rules = pytest.mark.parametrize("rule", ["zero_order_hold", "bilinear"])


@over_rules
def test_one_tick_is_a_step_of_the_differential_equation(rule):
    """The diagonal rules are those of matrices, and for small steps a step of Euler's."""
    a = np.array([-0.5 + 3j, -2 - 1j, -1e-9 + 1e-9j, -40.0])
    for step in (0.3, 1e-6):
        decay, gain = discretised(rule, jnp.asarray(a), jnp.full(4, step))
        for n in range(4):
            real = np.array([[a[n].real, -a[n].imag], [a[n].imag, a[n].real]])
            kept, added = getattr(hippo, rule)(real, np.array([1.0, 0.0]), step)
            np.testing.assert_allclose(decay[n], kept[0, 0] + 1j * kept[1, 0], rtol=1e-12)
            np.testing.assert_allclose(gain[n], added[0] + 1j * added[1], rtol=1e-12)
    np.testing.assert_allclose(gain, 1e-6, rtol=1e-4)
    np.testing.assert_allclose(decay, 1 + 1e-6 * a, rtol=1e-8)


@over_rules
def test_rules_are_exact_at_small_steps_and_have_slopes_at_zero(rule):
    """In single precision, where e^z - 1 would lose every digit."""
    a, step = jnp.asarray([-0.5 + 3j, 0.0], jnp.complex64), jnp.full(2, 1e-6, jnp.float32)
    np.testing.assert_allclose(discretised(rule, a, step)[1], 1e-6, rtol=2e-6)
    slope = jax.grad(lambda step: jnp.sum(discretised(rule, a, step)[1].real))(step)
    np.testing.assert_allclose(slope, 1, rtol=1e-5)


def test_frequencies_of_legs_are_those_of_its_normal_part():
    size = 16
    root = np.sqrt(2 * np.arange(size) + 1.0)
    normal = hippo.legs(size)[0] + np.outer(root, root) / 2
    found = np.linalg.eigvals(normal)
    np.testing.assert_allclose(found.real, -0.5, atol=1e-9)
    np.testing.assert_allclose(legs_frequencies(size), np.sort(found.imag[found.imag > 0]), rtol=1e-9)


def poles(params):
    return -np.exp(np.asarray(params["log_decay"])) + 1j * np.asarray(params["frequency"])


def halves(array, axis=-1):
    re, im = np.split(np.asarray(array), 2, axis)
    return re + 1j * im


@over_rules
def test_s4d_is_a_convolution(rule):
    """With the kernel 2 Re sum over n of C_n gain_n decay_n^t, by FFT."""
    cell = S4D(FEATURES, states=6, discretisation=rule)
    params, xs = params_of(cell), sequence()
    step = np.exp(np.asarray(params["log_step"]))[:, None]
    decay, gain = (
        np.asarray(part) for part in discretised(rule, poles(params), np.broadcast_to(step, (4, 3)))
    )
    powers = decay[None] ** np.arange(T)[:, None, None]
    kernel = 2 * (powers * gain * halves(params["output_kernel"])).sum(-1).real
    u = np.asarray(xs @ params["kernel"])
    spectrum = np.fft.rfft(kernel, 2 * T, axis=0)[:, None] * np.fft.rfft(u, 2 * T, axis=0)
    expected = np.fft.irfft(spectrum, 2 * T, axis=0)[:T] + xs @ params["skip_kernel"]
    for parallel in (True, False):
        assert_close(run(cell, params, xs, parallel=parallel)[1], expected)


def test_s4d_settles_where_the_differential_equation_does():
    """Under a constant input s = -u / a, exactly."""
    cell = S4D(FEATURES, states=6)
    params = params_of(cell) | {"log_step": jnp.full(FEATURES, 2.0)}
    xs = jnp.broadcast_to(sequence()[:1], (60, B, INPUT))
    u = np.asarray(xs[0] @ params["kernel"])
    read = 2 * (halves(params["output_kernel"]) / -poles(params)).sum(-1).real
    assert_close(run(cell, params, xs)[1][-1], read * u + xs[0] @ params["skip_kernel"])


@pytest.mark.parametrize(
    ("spectrum", "expected"),
    [
        ("lin", np.pi * np.arange(4)),
        ("inv", 8 / np.pi * (8 / np.array([1, 3, 5, 7]) - 1)),
        ("legs", legs_frequencies(8)),
    ],
)
def test_s4d_starts_with_its_spectrum_and_steps_of_every_length(spectrum, expected):
    cell = S4D(512, states=8, spectrum=spectrum)
    params = cell.init(jax.random.key(0), INPUT, jnp.float64)
    np.testing.assert_allclose(poles(params), np.broadcast_to(-0.5 + 1j * expected, (512, 4)))
    share = (params["log_step"] - np.log(1e-3)) / np.log(100)
    assert share.min() >= 0
    assert share.max() <= 1
    assert np.quantile(share, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.08)
    c = halves(params["output_kernel"])
    assert np.mean(np.abs(c) ** 2) == pytest.approx(1, rel=0.1)


def test_states_come_in_pairs():
    with pytest.raises(ValueError, match=r"S4D.states: expected an even int, .* got 5"):
        S4D(FEATURES, states=5)
    with pytest.raises(ValueError, match=r"S5.states: expected a multiple of 2 \* blocks=4, got 6"):
        S5(FEATURES, states=6, blocks=2)
    with pytest.raises(ValueError, match=r"S6.rank: expected a positive int, got 0"):
        S6(FEATURES, rank=0)
    assert [S5(5, blocks=blocks).pairs for blocks in (1, 2, 3)] == [3, 4, 3]


def test_s5_is_a_dense_model_of_twice_as_many_real_states():
    """Those of the normal matrix whose eigenvectors it leaves out, discretised as a matrix."""
    cell = S5(FEATURES, states=4)
    params, xs = params_of(cell), sequence()
    a, b, c = poles(params), halves(params["kernel"]), halves(params["output_kernel"], 0)
    step = np.exp(np.asarray(params["log_step"]))
    states, ys = np.zeros((2, B, 4)), []
    turns = [np.array([[p.real, -p.imag], [p.imag, p.real]]) * t for p, t in zip(a, step, strict=True)]
    for x in np.asarray(xs):
        for n, turn in enumerate(turns):
            block = np.zeros((4, 4))
            block[:2, :2], block[:2, 2:] = turn, np.eye(2) * step[n]
            kept, added = np.split(scipy.linalg.expm(block)[:2], 2, -1)
            u = np.stack([(x @ b[:, n]).real, (x @ b[:, n]).imag])
            part = np.stack([states[0, :, n], states[1, :, n]])
            states[0, :, n], states[1, :, n] = kept @ part + added @ u
        y = 2 * (states[0, :, :2] @ c.real - states[1, :, :2] @ c.imag)
        ys.append(y + x @ np.asarray(params["skip_kernel"]))
    assert_close(outputs(cell, params), np.stack(ys))


def test_s5_takes_inputs_at_another_rate():
    """Two ticks of half the time under the same input are one."""
    cell = S5(FEATURES)
    params, xs = params_of(cell), sequence()
    finer = dataclasses.replace(cell, rescale=0.5)
    twice = jnp.repeat(xs, 2, 0)
    assert_close(outputs(finer, params, twice)[1::2], outputs(cell, params))
    coarse = dataclasses.replace(cell, rescale=2.0)
    assert_close(outputs(coarse, params, twice[::2])[0], outputs(cell, params, twice)[1])


def test_s5_of_one_input_is_a_channel_of_s4d():
    """With B = 1, the same times and the same spectrum."""
    s4d, s5 = S4D(1, states=6), S5(1, states=6)
    of_s4d = params_of(s4d)
    params = {
        "kernel": jnp.repeat(jnp.array([1.0, 0.0]), 3)[None] * of_s4d["kernel"].reshape(INPUT, 1),
        "log_decay": of_s4d["log_decay"][0],
        "frequency": of_s4d["frequency"][0],
        "log_step": jnp.repeat(of_s4d["log_step"], 3),
        "output_kernel": of_s4d["output_kernel"].T,
        "skip_kernel": of_s4d["skip_kernel"],
    }
    assert_close(outputs(s5, params), outputs(s4d, of_s4d))


def test_s5_starts_as_the_normal_part_of_legs_in_its_basis():
    """B = V^-1 B_0 with Gaussian B_0 is what is drawn: parts of equal size, not correlated."""
    size = 64
    cell = S5(size, blocks=2)
    params = cell.init(jax.random.key(0), 512, jnp.float64)
    np.testing.assert_allclose(poles(params), -0.5 + 1j * np.tile(legs_frequencies(32), 2))
    root = np.sqrt(np.arange(32) + 0.5)
    normal = hippo.legs(32)[0] + np.outer(root, root)
    vectors = np.linalg.eigh(-1j * (normal + np.eye(32) / 2))[1][:, :16]
    drawn = np.random.default_rng(0).standard_normal((32, 512)) / np.sqrt(512)
    for b in (vectors.conj().T @ drawn, halves(params["kernel"])):
        assert b.real.std() == pytest.approx((2 * 512) ** -0.5, rel=0.05)
        assert b.imag.std() == pytest.approx((2 * 512) ** -0.5, rel=0.05)
        assert abs(np.corrcoef(b.real.ravel(), b.imag.ravel())[0, 1]) < 0.05
    assert halves(params["output_kernel"], 0).real.std() == pytest.approx(size**-0.5, rel=0.05)


def test_s6_keeps_or_forgets_by_its_step():
    """No time passes: the state stays. Much time passes: nothing is left, and the input is all there is."""
    cell = S6(FEATURES, states=3)
    params = params_of(cell)
    carry = random_state(cell, params)
    still = params | {"step_bias": jnp.full(FEATURES, -700.0)}
    assert_close(ticks(cell, still, carry=carry)[0][-1], carry)
    gone = params | {"step_bias": jnp.full(FEATURES, 1e4)}
    assert_close(outputs(cell, gone, carry=carry), outputs(cell, gone))


def test_s6_with_nothing_to_select_is_a_real_s4d_by_eulers_rule():
    """One constant step, B and C: a convolution."""
    cell = S6(FEATURES, states=3, use_bias=True)
    params, xs = params_of(cell), sequence()
    params |= {name: jnp.zeros_like(params[name]) for name in ("kernel", "step_up")}
    b, c = np.split(np.asarray(params["bias"]), 2)
    step = np.log1p(np.exp(np.asarray(params["step_bias"])))[:, None]
    rates = np.exp(np.asarray(params["log_rate"]))
    kernel = np.stack([(np.exp(-t * step * rates) * step * b * c).sum(-1) for t in range(T)])
    u = np.asarray(xs @ params["input_kernel"])
    expected = [
        sum(kernel[t - k] * u[k] for k in range(t + 1)) + np.asarray(params["skip"]) * u[t] for t in range(T)
    ]
    for parallel in (True, False):
        assert_close(run(cell, params, xs, parallel=parallel)[1], np.stack(expected))


def test_s6_starts_as_mamba_does():
    cell = S6(512)
    params = cell.init(jax.random.key(0), 512, jnp.float64)
    assert "input_kernel" not in params
    assert params["step_down"].shape == (512, 16)
    np.testing.assert_allclose(np.exp(params["log_rate"]), np.broadcast_to(np.arange(1.0, 17), (512, 16)))
    step = np.log1p(np.exp(params["step_bias"]))
    assert 1e-3 <= step.min() < 1.1e-3
    assert 0.09 < step.max() <= 0.1
    assert np.median(step) == pytest.approx(1e-2, rel=0.3)
    np.testing.assert_array_equal(params["skip"], 1)


@pytest.mark.parametrize("cell", sparing([S4D(FEATURES), S5(FEATURES), S6(FEATURES)]))
def test_nothing_of_a_decay_is_lost_in_half_precision(cell):
    """Decays near one are kept in single precision, where bfloat16 would round them to one."""
    params = cell.init(jax.random.key(0), INPUT, jnp.bfloat16)
    element = cell.project(cell.prepare(params), jnp.ones((B, INPUT), jnp.bfloat16)).element
    size = np.abs(element.decay)
    assert size.dtype == np.float32
    assert 0.99 < size.max() < 1
