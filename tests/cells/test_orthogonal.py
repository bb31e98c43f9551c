"""Orthogonal cells: rotations, and when they are made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import ExpRNN, unroll
from tests.cases import INPUT, random_like
from tests.cells.common import B, assert_close, params_of

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("size", [2, 5, 8])
def test_exprnn_is_a_rotation(size):
    cell = ExpRNN(size)
    params = params_of(cell)
    weights = cell.prepare(params)
    kernel = weights["recurrent_kernel"]
    assert_close(kernel.T @ kernel, np.eye(size))
    assert np.linalg.det(kernel) == pytest.approx(1.0)
    still = {name: jnp.zeros_like(array) for name, array in params.items()} | {"skew": params["skew"]}
    carry = random_like(cell.initial_carry(params, (B,)))
    last, _ = unroll(cell, still, jnp.zeros((500, B, INPUT), jnp.float64), carry)
    np.testing.assert_allclose(np.linalg.norm(last, axis=-1), np.linalg.norm(carry, axis=-1), rtol=1e-9)


def test_exprnn_of_two_units_turns_by_its_angle():
    cell = ExpRNN(2)
    params = cell.init(jax.random.key(0), INPUT, jnp.float64)
    angle = params["skew"][0]
    turn = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    assert_close(cell.prepare(params)["recurrent_kernel"], turn)


@pytest.mark.parametrize(("scheme", "low", "high"), [("henaff", -np.pi, np.pi), ("cayley", -1.0, 0.0)])
def test_exprnn_starts_block_diagonal(scheme, low, high):
    cell = ExpRNN(9, skew_init=scheme)
    params = cell.init(jax.random.key(0), INPUT)
    upper = np.zeros((9, 9))
    upper[np.triu_indices(9, 1)] = params["skew"]
    angles = np.diag(upper, 1)
    assert np.all((angles[::2] > low) & (angles[::2] < high))
    assert np.count_nonzero(upper) == 4
    assert not np.any(angles[1::2])


def test_exprnn_takes_the_exponential_once_per_sequence(monkeypatch):
    calls, expm = [], jax.scipy.linalg.expm
    monkeypatch.setattr(jax.scipy.linalg, "expm", lambda a: calls.append(1) or expm(a))
    cell = ExpRNN(6)
    params = cell.init(jax.random.key(0), INPUT)
    text = (
        jax.jit(lambda p, xs: unroll(cell, p, xs)[1])
        .lower(params, jnp.ones((9, INPUT), jnp.float32))
        .as_text()
    )
    assert calls == [1]
    assert "while" in text
