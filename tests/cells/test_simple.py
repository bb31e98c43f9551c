"""Simple recurrent networks: Elman, the IRNN, FastRNN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import Elman, FastRNN, LowRank, unroll
from tests.cases import INPUT, random_like
from tests.cells.common import (
    CLOSED,
    OPEN,
    B,
    assert_close,
    in_numpy,
    params_of,
    sequence,
    without_recurrence,
)
from tests.references.common import s

pytestmark = pytest.mark.usefixtures("x64")


def test_elman_as_a_sum_and_without_memory():
    cell = Elman(INPUT, activation="identity")
    eye = jnp.eye(INPUT, dtype=jnp.float64)
    params = {"kernel": eye, "recurrent_kernel": eye, "bias": jnp.zeros(INPUT, jnp.float64)}
    assert_close(unroll(cell, params, sequence())[1], np.cumsum(sequence(), 0))
    params, xs = in_numpy(without_recurrence(params_of(Elman(4))))
    assert_close(unroll(Elman(4), params, xs)[1], np.tanh(xs @ params["kernel"] + params["bias"]))


@pytest.mark.parametrize("activation", ["relu", "sigmoid", jax.nn.relu])
def test_elman_activations(activation):
    cell = Elman(4, activation=activation)
    params, xs = in_numpy(params_of(cell))
    function = s if activation == "sigmoid" else lambda v: np.maximum(v, 0)
    h = np.zeros((B, 4))
    for x, y in zip(xs, unroll(cell, params, xs)[1], strict=True):
        h = function(x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"])
        assert_close(y, h)


def test_irnn_keeps_what_is_not_negative():
    cell = Elman.irnn(5)
    params = cell.init(jax.random.key(0), INPUT)
    np.testing.assert_array_equal(params["recurrent_kernel"], np.eye(5))
    assert not np.any(params["bias"])
    assert 0 < np.abs(params["kernel"]).max() < 0.005
    carry = jnp.array([[0.3, 0.0, 2.0, -1.0, 7.0]])
    last, _ = unroll(cell, params, jnp.zeros((50, 1, INPUT)), carry)
    np.testing.assert_array_equal(last, jnp.maximum(carry, 0))
    half = Elman.irnn(5, scale=0.5).init(jax.random.key(0), INPUT)
    np.testing.assert_array_equal(half["recurrent_kernel"], np.eye(5) / 2)


def test_fast_rnn_keeps_its_state_or_is_an_elman():
    """The two logits at their ends: nothing comes in and all stays, or the other way round."""
    cell = FastRNN(4)
    params = params_of(cell)
    carry = random_like(cell.initial_carry(params, (B,)))
    keeping = params | {"alpha": jnp.float64(CLOSED), "beta": jnp.float64(OPEN)}
    assert_close(unroll(cell, keeping, sequence(), carry)[0], carry)
    open_ = params | {"alpha": jnp.float64(OPEN), "beta": jnp.float64(CLOSED)}
    elman = {name: params[name] for name in ("kernel", "recurrent_kernel", "bias")}
    expected = unroll(Elman(4), elman, sequence(), carry)
    np.testing.assert_allclose(unroll(cell, open_, sequence(), carry)[1], expected[1], atol=1e-10)


def test_fast_rnn_starts_as_a_slow_average():
    params = FastRNN(4).init(jax.random.key(0), INPUT)
    assert params["alpha"].shape == params["beta"].shape == ()
    weights = FastRNN(4).prepare(params)
    assert float(weights["alpha"]) == pytest.approx(0.0474, abs=1e-4)
    assert float(weights["beta"]) == pytest.approx(0.9526, abs=1e-4)
    np.testing.assert_array_equal(params["bias"], np.ones(4))
    assert FastRNN(64).init(jax.random.key(0), 64)["recurrent_kernel"].std() == pytest.approx(0.1, rel=0.1)


def test_fast_rnn_of_low_rank_is_the_product():
    cell = LowRank(FastRNN(4), rank=2)
    params = params_of(cell)
    factors = params["recurrent_kernel"]
    whole = params | {"recurrent_kernel": factors["left"] @ factors["right"]}
    assert_close(unroll(cell, params, sequence())[1], unroll(FastRNN(4), whole, sequence())[1])
