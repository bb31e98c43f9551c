"""Gated cells: what open and closed gates do, and which cell is which other in another notation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    GRU,
    LSTM,
    MGU,
    UGRNN,
    CoupledLSTM,
    Elman,
    LSTMCarry,
    OutputGatedGRU,
    PeepholeLSTM,
    unroll,
)
from tests.cases import FEATURES, INPUT, random_like
from tests.cells.common import (
    CLOSED,
    OPEN,
    B,
    assert_close,
    in_numpy,
    params_of,
    sequence,
    with_gate,
    without_recurrence,
)
from tests.references.common import s

pytestmark = pytest.mark.usefixtures("x64")


def test_lstm_counts_with_open_gates_and_keeps_with_closed_ones():
    cell = LSTM(FEATURES)
    params = without_recurrence(params_of(cell))
    counting = with_gate(cell, with_gate(cell, params, "i", OPEN), "f", OPEN)
    block = slice(2 * FEATURES, 3 * FEATURES)
    weights, xs = in_numpy(params)
    g = np.tanh(xs @ weights["kernel"][:, block] + weights["bias"][block])
    _, (_, carries) = unroll(cell, counting, sequence(), return_carries=True)
    assert_close(carries.cell, np.cumsum(g, 0))
    keeping = with_gate(cell, with_gate(cell, params, "i", CLOSED), "f", OPEN)
    carry = random_like(cell.initial_carry(params, (B,)))
    assert_close(unroll(cell, keeping, sequence(), carry)[0].cell, carry.cell)


def test_lstm_with_the_logistic_function_everywhere():
    """i, f, o = s(.), c = f c + i s(.), h = o s(c), as some textbooks print it."""
    cell = LSTM(FEATURES, candidate_activation="sigmoid", output_activation="sigmoid")
    params, xs = in_numpy(params_of(cell))
    c = h = np.zeros((B, FEATURES))
    for x, y in zip(xs, unroll(cell, params, xs)[1], strict=True):
        i, f, g, o = np.split(
            s(x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"]), 4, axis=-1
        )
        c = f * c + i * g
        h = o * s(c)
        assert_close(y, h)


@pytest.mark.parametrize("kind", [LSTM, OutputGatedGRU, Elman])
def test_one_weight_on_the_concatenation_is_the_same_cell(kind):
    """Formulas with W [h, x] + b and formulas with W x + U h + b: stack U over W."""
    cell = kind(FEATURES)
    params, xs = in_numpy(params_of(cell))
    weight = np.concatenate([params["recurrent_kernel"], params["kernel"]])
    c = h = np.zeros((B, FEATURES))
    for x, y in zip(xs, unroll(cell, params, xs)[1], strict=True):
        pre = np.split(np.concatenate([h, x], -1) @ weight + params["bias"], len(cell.gates), -1)
        if kind is Elman:
            h = np.tanh(pre[0])
        elif kind is LSTM:
            i, f, g, o = pre
            c = s(f) * c + s(i) * np.tanh(g)
            h = s(o) * np.tanh(c)
        else:
            z, r, o, g = pre
            c = (1 - s(z)) * c + s(r) * s(g)
            h = s(o) * s(c)
        assert_close(y, h)


def test_peephole_lstm_without_peepholes_is_the_lstm():
    cell = PeepholeLSTM(FEATURES)
    assert not np.any(cell.init(jax.random.key(0), INPUT)["peephole"])
    params = params_of(LSTM(FEATURES))
    none = params | {"peephole": jnp.zeros((3, FEATURES), jnp.float64)}
    assert_close(unroll(cell, none, sequence())[1], unroll(LSTM(FEATURES), params, sequence())[1])


def test_peephole_output_gate_sees_the_new_memory():
    """With i = 1, f = 0 and constant candidates, the old memory must not reach the output."""
    cell = PeepholeLSTM(FEATURES)
    params = without_recurrence(params_of(cell))
    params["peephole"] = params["peephole"].at[:2].set(0.0)
    params = with_gate(cell, with_gate(cell, params, "i", OPEN), "f", CLOSED)
    params["peephole"] = params_of(cell)["peephole"].at[:2].set(0.0)
    zeros, ones = (
        LSTMCarry(jnp.full((B, FEATURES), v, jnp.float64), jnp.zeros((B, FEATURES), jnp.float64))
        for v in (0, 1)
    )
    assert_close(unroll(cell, params, sequence(), zeros)[1], unroll(cell, params, sequence(), ones)[1])
    blind = params | {"peephole": jnp.zeros_like(params["peephole"])}
    assert not np.allclose(unroll(cell, params, sequence())[1], unroll(cell, blind, sequence())[1])


def test_coupled_lstm_is_an_lstm_and_convex():
    cell, params = CoupledLSTM(FEATURES), params_of(CoupledLSTM(FEATURES))

    def as_lstm(array):
        f, g, o = jnp.split(array, 3, -1)
        return jnp.concatenate([-f, f, g, o], -1)

    lstm = LSTM(FEATURES)
    assert_close(
        unroll(cell, params, sequence())[1], unroll(lstm, jax.tree.map(as_lstm, params), sequence())[1]
    )
    _, (_, carries) = unroll(cell, params, 20 * sequence(), return_carries=True)
    assert np.abs(carries.cell).max() <= 1


def test_gru_forms_agree_with_an_open_reset_and_freeze_with_z():
    after, before = GRU(FEATURES), GRU(FEATURES, reset_after=False)
    params = with_gate(after, params_of(before), "r", OPEN)
    with_bias = params | {"recurrent_bias": jnp.zeros(FEATURES, jnp.float64)}
    assert_close(unroll(after, with_bias, sequence())[1], unroll(before, params, sequence())[1])
    carry = random_like(before.initial_carry(params, (B,)))
    for cell, weights in ((after, with_bias), (before, params)):
        assert_close(unroll(cell, with_gate(cell, weights, "z", OPEN), sequence(), carry)[0], carry)
        elman = with_gate(cell, weights, "z", CLOSED)
        tail = {name: array[..., 2 * FEATURES :] for name, array in elman.items() if name != "recurrent_bias"}
        assert_close(unroll(cell, elman, sequence())[1], unroll(Elman(FEATURES), tail, sequence())[1])


def test_output_gated_gru_is_an_lstm_with_other_signs():
    cell = OutputGatedGRU(FEATURES)
    params = params_of(cell)

    def as_lstm(array):
        z, r, o, g = jnp.split(array, 4, -1)
        return jnp.concatenate([r, -z, g, o], -1)

    lstm = LSTM(FEATURES, candidate_activation="sigmoid", output_activation="sigmoid")
    assert_close(
        unroll(cell, params, sequence())[1], unroll(lstm, jax.tree.map(as_lstm, params), sequence())[1]
    )


def test_mgu_limits():
    cell = MGU(FEATURES)
    params = params_of(cell)
    carry = random_like(cell.initial_carry(params, (B,)))
    assert_close(unroll(cell, with_gate(cell, params, "f", CLOSED), sequence(), carry)[0], carry)
    elman = {name: array[..., FEATURES:] for name, array in params.items()}
    opened = unroll(cell, with_gate(cell, params, "f", OPEN), sequence(), carry)[1]
    assert_close(opened, unroll(Elman(FEATURES), elman, sequence(), carry)[1])


def test_ugrnn_limits():
    """With g closed an Elman network, with g open a memory that nothing enters."""
    cell = UGRNN(FEATURES)
    params = params_of(cell)
    carry = random_like(cell.initial_carry(params, (B,)))
    assert_close(unroll(cell, with_gate(cell, params, "g", OPEN), sequence(), carry)[0], carry)
    elman = {name: array[..., FEATURES:] for name, array in params.items()}
    closed = unroll(cell, with_gate(cell, params, "g", CLOSED), sequence(), carry)[1]
    assert_close(closed, unroll(Elman(FEATURES), elman, sequence(), carry)[1])


def test_ugrnn_is_a_gru_that_never_resets():
    cell, gru = UGRNN(FEATURES), GRU(FEATURES, reset_after=False)
    params = params_of(cell)
    with_reset = {
        name: jnp.pad(array, [(0, 0)] * (array.ndim - 1) + [(FEATURES, 0)]) for name, array in params.items()
    }
    open_ = with_gate(gru, with_reset, "r", OPEN)
    assert_close(unroll(cell, params, sequence())[1], unroll(gru, open_, sequence())[1])


def test_arrays_as_fields_are_per_unit():
    biases = jnp.linspace(-1, 1, FEATURES)
    params = dataclasses.replace(LSTM(FEATURES), forget_bias=biases).init(jax.random.key(0), INPUT)
    np.testing.assert_array_equal(params["bias"][FEATURES : 2 * FEATURES], biases.astype(jnp.float32))
