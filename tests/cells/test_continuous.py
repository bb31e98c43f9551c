"""Continuous cells: steps of no length, closed forms, bounds, and which is which other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from rnncells import (
    LEM,
    AntisymmetricRNN,
    CoRNN,
    EchoState,
    GatedAntisymmetricRNN,
    LipschitzRNN,
    UnICORNN,
    unroll,
)
from rnncells.cells.continuous.echo_state import reservoir
from tests.cases import INPUT, random_like
from tests.cells.common import OPEN, B, T, assert_close, in_numpy, params_of, sequence
from tests.references.common import s

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)


def started(cell, seed=0):
    """Parameters, and a state that is not zero."""
    params = params_of(cell, seed)
    return params, random_like(cell.initial_carry(params, (B,), like=jnp.ones((B, INPUT), jnp.float64)))


def silent(params, *kept):
    """The parameters, all but those named zero."""
    return {name: leaf if name in kept else jnp.zeros_like(leaf) for name, leaf in params.items()}


@pytest.mark.parametrize(
    "kind", [AntisymmetricRNN, GatedAntisymmetricRNN, CoRNN, UnICORNN, LEM, LipschitzRNN]
)
def test_a_step_of_no_length_changes_nothing(kind):
    cell = kind(4, dt=0.0)
    params, carry = started(cell)
    last, _ = unroll(cell, params, sequence(), carry)
    jax.tree.map(np.testing.assert_array_equal, last, carry)


def test_antisymmetric_eigenvalues():
    """-gamma and something imaginary, whatever the parameters."""
    cell = AntisymmetricRNN(7, gamma=0.3)
    values = np.linalg.eigvals(cell.prepare(params_of(cell))["recurrent_kernel"])
    np.testing.assert_allclose(values.real, -0.3, atol=1e-12)
    assert np.abs(values.imag).max() > 0.5
    start = AntisymmetricRNN(100, skew_std=2.0).init(KEY, 50)
    assert start["skew"].std() == pytest.approx(0.2, rel=0.05)
    assert start["kernel"].std() == pytest.approx(50**-0.5, rel=0.05)


def test_gated_antisymmetric_between_its_limits():
    cell = GatedAntisymmetricRNN(4, dt=0.2)
    params, carry = started(cell)

    def gate_at(value):  # more than the state, which the gate reads too, can make up for
        kernel, bias = params["kernel"].at[:, 4:].set(0.0), params["bias"].at[4:].set(value)
        return params | {"kernel": kernel, "bias": bias}

    assert_close(unroll(cell, gate_at(-1e4), sequence(), carry)[0], carry)
    open_ = gate_at(1e4)
    plain = {"kernel": params["kernel"][:, :4], "bias": params["bias"][:4], "skew": params["skew"]}
    expected = unroll(AntisymmetricRNN(4, dt=0.2), plain, sequence(), carry)[1]
    assert_close(unroll(cell, open_, sequence(), carry)[1], expected)
    _, ys = unroll(cell, params, 100 * sequence(), carry)
    assert np.abs(np.diff(ys, axis=0, prepend=carry[None])).max() <= 0.2 + 1e-12


@pytest.mark.parametrize("implicit", [False, True])
def test_cornn_without_force_is_a_damped_oscillator(implicit):
    dt, gamma, epsilon = 0.1, 2.0, 3.0
    cell = CoRNN(4, dt=dt, gamma=gamma, epsilon=epsilon, implicit_damping=implicit)
    params, carry = started(cell)
    shrink = 1 / (1 + dt * epsilon) if implicit else 1.0
    kick = [-dt * gamma * shrink, shrink if implicit else 1 - dt * epsilon]
    map_ = np.array([[1 + dt * kick[0], dt * kick[1]], kick])
    last, _ = unroll(cell, silent(params), sequence(), carry)
    assert_close(np.stack(last), np.einsum("ij,jbh->ibh", np.linalg.matrix_power(map_, T), np.stack(carry)))


def test_cornn_starts_as_one_linear_layer():
    params = CoRNN(40).init(KEY, 20)
    for name in ("kernel", "recurrent_kernel", "velocity_kernel", "bias"):
        assert 0.09 < np.abs(params[name]).max() <= 0.1, name


def test_unicornn_can_be_run_backwards_and_keeps_volumes():
    cell = UnICORNN(4)
    params, carry = started(cell)
    p, xs = in_numpy(params)
    y, z = map(np.asarray, unroll(cell, params, sequence(), carry)[0])
    d = cell.dt * s(p["step_logit"])
    for x in xs[::-1]:
        y = y - d * z
        z = z + d * (np.tanh(p["frequency"] * y + x @ p["kernel"] + p["bias"]) + cell.alpha * y)
    np.testing.assert_allclose([y, z], np.stack(carry), atol=1e-8)

    def flat(state):
        return jnp.stack(cell(params, type(carry)(*state), sequence()[0, 0])[0])

    jacobian = np.asarray(jax.jacobian(flat)(jnp.stack(carry)[:, 0])).reshape(8, 8)
    assert np.linalg.det(jacobian) == pytest.approx(1.0)
    others = ~np.tile(np.eye(4, dtype=bool), (2, 2))
    assert not jacobian[others].any()


def test_unicornn_starts_as_published():
    params = UnICORNN(500).init(KEY, 30)
    assert 0 <= params["frequency"].min() < 0.02 < 0.98 < params["frequency"].max() < 1
    assert -0.1 <= params["step_logit"].min() < -0.09 < 0.09 < params["step_logit"].max() < 0.1
    assert np.abs(params["kernel"]).max() == pytest.approx((6 / (65 * 30)) ** 0.5, rel=0.01)


def test_lem_reads_the_new_memory():
    """With both gates open nothing is remembered, and y is a network of two layers on x."""
    cell = LEM(4)
    params, carry = started(cell)
    still = params | {"recurrent_kernel": jnp.zeros_like(params["recurrent_kernel"])}
    for gate in ("p", "q"):
        block = slice(cell.gates.index(gate) * 4, (cell.gates.index(gate) + 1) * 4)
        still["kernel"] = still["kernel"].at[:, block].set(0.0)
        still["bias"] = still["bias"].at[block].set(OPEN)
    p, xs = in_numpy(still)
    fed = xs @ p["kernel"] + p["bias"]
    z = np.tanh(fed[..., 8:12])
    last, ys = unroll(cell, still, sequence(), carry)
    assert_close(ys, np.tanh(fed[..., 12:] + z @ p["memory_kernel"]))
    assert_close(last.z, z[-1])


def test_lem_stays_bounded_and_starts_uniform():
    cell = LEM(4)
    (y, z), ys = unroll(cell, params_of(cell), 100 * sequence())
    assert 0.9 < np.abs(ys).max() <= 1
    assert max(np.abs(y).max(), np.abs(z).max()) <= 1
    for leaf in LEM(100).init(KEY, 30).values():
        assert np.abs(leaf).max() == pytest.approx(0.1, rel=0.05)


def test_lipschitz_matrices_and_the_constant_of_a_step():
    cell = LipschitzRNN(5, dt=0.3, beta_a=1.0, gamma_a=0.2)
    params, carry = started(cell)
    weights = cell.prepare(params)
    a, u = np.asarray(weights["linear_kernel"]), np.asarray(weights["recurrent_kernel"])
    assert_close(a + a.T, -0.4 * np.eye(5))
    bound = np.linalg.norm(np.eye(5) + 0.3 * a, 2) + 0.3 * np.linalg.norm(u, 2)
    other = carry + random_like(carry, 5)
    x = sequence()[0]
    apart = np.linalg.norm(cell(params, carry, x)[0] - cell(params, other, x)[0], axis=-1)
    assert np.all(apart <= bound * np.linalg.norm(carry - other, axis=-1))


def test_lipschitz_without_its_linear_part_is_antisymmetric():
    cell = LipschitzRNN(4, dt=0.2, beta_u=1.0, gamma_u=0.1, gamma_a=0.0)
    params, carry = started(cell)
    params |= {"linear_matrix": jnp.zeros_like(params["linear_matrix"])}
    m = np.asarray(params["recurrent_matrix"])
    twin = {"kernel": params["kernel"], "bias": params["bias"], "skew": (m - m.T)[np.triu_indices(4, 1)]}
    expected = unroll(AntisymmetricRNN(4, dt=0.2, gamma=0.1), twin, sequence(), carry)[1]
    assert_close(unroll(cell, params, sequence(), carry)[1], expected)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_lipschitz_methods_have_their_orders(method, order):
    params, carry = started(LipschitzRNN(4))
    p, xs = in_numpy(params)
    weights = {k: np.asarray(v) for k, v in LipschitzRNN(4).prepare(params).items()}

    def slope(_, h):
        return h @ weights["linear_kernel"] + np.tanh(
            h @ weights["recurrent_kernel"] + xs[0, 0] @ p["kernel"] + p["bias"]
        )

    def error(dt):
        solved = scipy.integrate.solve_ivp(slope, (0, dt), carry[0], rtol=1e-12, atol=1e-14, method="DOP853")
        found = LipschitzRNN(4, dt=dt, method=method)(params, carry[0], sequence()[0, 0])[1]
        return np.linalg.norm(found - solved.y[:, -1])

    assert np.log2(error(0.08) / error(0.04)) == pytest.approx(order + 1, abs=0.35)


def test_echo_state_forgets_how_it_began():
    cell = EchoState(30, leak=0.5, spectral_radius=0.8)
    assert cell.init(KEY, INPUT) == {}
    xs = sequence(300)
    first = unroll(cell, {}, xs, jnp.ones((B, 30), jnp.float64))[1]
    second = unroll(cell, {}, xs, -jnp.ones((B, 30), jnp.float64))[1]
    assert np.abs(first[0] - second[0]).max() > 0.5
    assert np.abs(first[-1] - second[-1]).max() < 1e-8
    still = dataclasses.replace(cell, leak=0.0)
    np.testing.assert_array_equal(unroll(still, {}, xs, jnp.ones((B, 30), jnp.float64))[0], np.ones((B, 30)))
    with pytest.raises(ValueError, match="like: expected the input of one tick"):
        cell.prepare({})


def test_reservoirs_are_sparse_and_of_radius_1():
    signs, weights, bias = reservoir(3, 20, 50, 0.1)
    np.testing.assert_array_equal((signs != 0).sum(0), 2)
    np.testing.assert_array_equal((weights != 0).sum(0), 5)
    assert set(np.unique(signs)) == {-1.0, 0.0, 1.0}
    assert np.abs(np.linalg.eigvals(weights)).max() == pytest.approx(1.0)
    assert np.abs(bias).max() <= 1
    assert not np.array_equal(weights, reservoir(4, 20, 50, 0.1)[1])
    scaled = EchoState(50, seed=3, spectral_radius=0.5).prepare({}, like=jnp.ones((B, 20), jnp.float64))
    assert_close(scaled["recurrent_kernel"], 0.5 * weights)
