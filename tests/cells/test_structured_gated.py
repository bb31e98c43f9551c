"""Structured recurrences with gates: RHN, multiplicative integration, FastSlowRNN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    GRU,
    LSTM,
    MIGRU,
    MILSTM,
    MIRNN,
    RHN,
    UGRNN,
    Elman,
    FastSlowRNN,
    LayerNormLSTM,
)
from tests.cases import INPUT
from tests.cells.common import (
    CLOSED,
    OPEN,
    B,
    assert_close,
    blocks,
    outputs,
    params_of,
    random_state,
    sequence,
    ticks,
)

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)


@pytest.mark.parametrize("coupled", [True, False])
def test_rhn_of_closed_gates_keeps_its_state(coupled):
    cell = RHN(4, coupled=coupled)
    params = params_of(cell)
    bias = blocks(cell, params, "bias")
    fixed = {"t": CLOSED, "c": OPEN}
    params["bias"] = jnp.concatenate(
        [np.full(4, fixed[gate[0]]) if gate[0] in fixed else value for gate, value in bias.items()]
    )
    carry = random_state(cell, params)
    assert_close(ticks(cell, params, carry=carry)[0][-1], carry)


def test_rhn_of_one_layer_is_a_ugrnn():
    cell = RHN(4, depth=1)
    params = params_of(cell)

    def relabelled(array):
        h, t = jnp.split(array, 2, -1)
        return jnp.concatenate([-t, h], -1)

    assert_close(outputs(cell, params), outputs(UGRNN(4), jax.tree.map(relabelled, params)))


def test_rhn_starts_by_keeping_its_state_in_every_layer():
    params = RHN(64, depth=2).init(KEY, INPUT)
    np.testing.assert_array_equal(params["bias"], np.repeat([0.0, -2.0, 0.0, -2.0], 64))
    uncoupled = RHN(4, depth=2, coupled=False, forget_bias=4.0).init(KEY, INPUT)
    np.testing.assert_array_equal(uncoupled["bias"], np.repeat([0.0, -4.0, 4.0, 0.0, -4.0, 4.0], 4))
    assert 0.12 < np.abs(params["recurrent_kernel"]).max() <= 0.125
    assert params["recurrent_kernel"].shape == (64, 2 * 2 * 64)


@pytest.mark.parametrize(
    ("cell", "additive"),
    [(MIRNN(4), Elman(4)), (MILSTM(4), LSTM(4)), (MIGRU(4), GRU(4, reset_after=False))],
    ids=["RNN", "LSTM", "GRU"],
)
def test_integration_without_products_is_additive(cell, additive):
    start = cell.init(KEY, INPUT)
    for name, value in (("product_scale", 1), ("recurrent_scale", 0.5), ("kernel_scale", 0.5)):
        np.testing.assert_array_equal(start[name], np.full(len(cell.gates) * 4, value))
    params = params_of(cell)
    sums = params | {
        "product_scale": jnp.zeros_like(params["product_scale"]),
        "recurrent_scale": jnp.ones_like(params["recurrent_scale"]),
        "kernel_scale": jnp.ones_like(params["kernel_scale"]),
    }
    assert_close(
        outputs(cell, sums),
        outputs(additive, {name: params[name] for name in ("kernel", "recurrent_kernel", "bias")}),
    )
    assert not np.allclose(outputs(cell, params), outputs(cell, sums))


def test_integration_in_its_simple_form_never_leaves_zero():
    cell = MIRNN(4, beta1=0.0, beta2=0.0)
    params = cell.init(KEY, INPUT, jnp.float64)
    assert not np.any(outputs(cell, params))


def test_fast_slow_by_hand():
    """Four cells of their own kinds: the slow one moves once a tick, the fast ones share a state."""
    fast, slow = [GRU(4), Elman(4), UGRNN(4)], LSTM(3)
    cell = FastSlowRNN(4, fast=fast, slow=slow)
    params, xs = params_of(cell), sequence()
    assert {name: part["kernel"].shape[0] for name, part in params.items()} == {
        "fast_1": INPUT,
        "slow": 4,
        "fast_2": 3,
        "fast_3": 1,
    }
    state, memory = jnp.zeros((B, 4)), slow.initial_carry(params["slow"], (B,))
    for x, y in zip(xs, outputs(cell, params), strict=True):
        state, out = fast[0](params["fast_1"], state, x)
        memory, seen = slow(params["slow"], memory, out)
        state, _ = fast[1](params["fast_2"], state, seen)
        state, out = fast[2](params["fast_3"], state, jnp.zeros((B, 1)))
        assert_close(y, out)


def test_fast_slow_cells():
    assert FastSlowRNN(4, fast=[GRU(4)] * 2) == FastSlowRNN(4, fast=(GRU(4),) * 2)
    assert [type(cell) for cell in FastSlowRNN(4).children.values()] == [LayerNormLSTM] * 3
    with pytest.raises(ValueError, match=r"FastSlowRNN.fast\[1\]: expected a cell with 4 outputs"):
        FastSlowRNN(4, fast=[GRU(4), GRU(5)])
    for fast, kind, words in (
        ([GRU(4)], TypeError, "expected a list of at least two cells"),
        ([GRU(4), 3], TypeError, "expected a rnncells cell, got 3"),
        ([GRU(4), LSTM(4)], ValueError, "expected in fast_2, as in fast_1, float32"),
    ):
        with pytest.raises(kind, match=f"FastSlowRNN.fast.*{words}"):
            FastSlowRNN(4, fast=fast).init(KEY, INPUT)
