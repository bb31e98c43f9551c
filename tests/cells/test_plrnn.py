"""Piecewise linear cells: where they are linear, where they are bounded, and which is which other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import PLRNN, DendriticPLRNN, ShallowPLRNN, unroll
from tests.cases import INPUT, random_like, to_numpy
from tests.cells.common import B, assert_close, params_of, sequence

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)
KINDS = (PLRNN, ShallowPLRNN, DendriticPLRNN)
X = np.zeros((B, INPUT))


def started(cell):
    """Parameters without bias, and a state, in NumPy."""
    params = params_of(cell)
    params |= {"bias": jnp.zeros_like(params["bias"])}
    return to_numpy((params, random_like(cell.initial_carry(params, (B,)))))


def after(cell, params, carry):
    """The state after a tick without input."""
    return np.asarray(cell(params, carry, X)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_plrnn_starts_with_a_largest_eigenvalue_of_1(kind):
    params = kind(20).init(KEY, INPUT, jnp.float64)
    assert not np.any(params["bias"])
    assert np.all((params["decay"] > 0) & (params["decay"] < 1))
    if "recurrent_kernel" in params:
        whole = np.diag(params["decay"]) + params["recurrent_kernel"]
        assert not np.any(np.diag(params["recurrent_kernel"]))
        values = np.linalg.eigvalsh(whole)
        assert values.max() == pytest.approx(1.0)
        assert values.min() > 0


@pytest.mark.parametrize("kind", [PLRNN, DendriticPLRNN])
def test_plrnn_has_no_diagonal_to_train(kind):
    cell = kind(4)
    params = params_of(cell)
    other = params | {"recurrent_kernel": params["recurrent_kernel"] + 3 * jnp.eye(4, dtype=jnp.float64)}
    np.testing.assert_array_equal(unroll(cell, params, sequence())[1], unroll(cell, other, sequence())[1])


def test_plrnn_is_one_linear_map_where_no_unit_is_negative():
    cell = PLRNN(4)
    params, carry = started(cell)
    carry, u = np.abs(carry), params["recurrent_kernel"]
    map_ = np.diag(params["decay"]) + u - np.diag(np.diag(u))
    assert_close(after(cell, params, carry), carry @ map_)
    assert_close(after(cell, params, -carry), -carry * params["decay"])


@pytest.mark.parametrize("linear_units", [2, 4])
def test_plrnn_with_linear_units_is_linear_in_them(linear_units):
    cell = PLRNN(4, linear_units=linear_units)
    params, carry = started(cell)
    ones = np.zeros_like(carry)
    ones[:, :linear_units] = 1
    apart = [after(cell, params, carry + c * ones) - after(cell, params, carry) for c in (1.0, -5.0)]
    assert_close(apart[1], -5 * apart[0])
    with pytest.raises(ValueError, match=r"PLRNN\.linear_units: expected at most 4"):
        PLRNN(4, linear_units=5)
    with pytest.raises(ValueError, match=r"PLRNN\.linear_units: expected an int of at least 0, got -1"):
        PLRNN(4, linear_units=-1)


def test_plrnn_centred_passes_no_common_shift_to_its_kernel():
    cell = PLRNN(4, centre=True)
    params, carry = started(cell)
    assert_close(
        after(cell, params, carry + 3) - after(cell, params, carry), 3 * params["decay"][None] + 0 * carry
    )


def test_shallow_plrnn_clipped_is_bounded_and_linear_without_thresholds():
    cell = ShallowPLRNN(4, clipped=True)
    params, carry = started(cell)
    bound = np.linalg.norm(params["outer_kernel"], 2) * np.linalg.norm(params["inner_bias"])
    bent = after(cell, params, 1e3 * carry) - params["decay"] * 1e3 * carry
    assert np.linalg.norm(bent, axis=-1).max() <= bound
    flat = params | {"inner_bias": np.zeros_like(params["inner_bias"])}
    assert_close(after(cell, flat, carry), params["decay"] * carry)
    assert not np.any(ShallowPLRNN(4).init(KEY, INPUT)["inner_bias"])
    assert np.any(cell.init(KEY, INPUT)["inner_bias"])


def test_dendritic_plrnn_of_one_threshold_at_zero_is_a_plrnn():
    cell = DendriticPLRNN(4, bases=1)
    params, carry = started(cell)
    params |= {"slopes": np.ones(1), "thresholds": np.zeros((4, 1))}
    twin = {name: params[name] for name in ("kernel", "decay", "recurrent_kernel", "bias")}
    assert_close(unroll(cell, params, sequence(), carry)[1], unroll(PLRNN(4), twin, sequence(), carry)[1])
    clipped = DendriticPLRNN(4, bases=1, clipped=True)
    assert_close(after(clipped, params, carry), params["decay"] * carry)


def test_dendritic_plrnn_clipped_is_bounded():
    cell = DendriticPLRNN(4, clipped=True)
    params, carry = started(cell)
    u = cell.prepare(params)["recurrent_kernel"]
    bound = np.linalg.norm(u, 2) * np.linalg.norm(np.abs(params["thresholds"]) @ np.abs(params["slopes"]))
    bent = after(cell, params, 1e3 * carry) - params["decay"] * 1e3 * carry
    assert np.linalg.norm(bent, axis=-1).max() <= bound
