"""Cells whose recurrence mixes no units: the strongly typed ones, and ELSTM."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import ELSTM, TGRU, TLSTM, TRNN, MinGRU, unroll
from tests.cases import FEATURES, random_like
from tests.cells.common import (
    CLOSED,
    OPEN,
    B,
    T,
    assert_close,
    in_numpy,
    outputs,
    params_of,
    sequence,
    with_gate,
)
from tests.references.common import s

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)


def test_trnn_is_a_min_gru_with_its_gate_turned():
    cell, params = TRNN(FEATURES), params_of(TRNN(FEATURES))
    z, f = jnp.split(params["kernel"], 2, -1)
    turned = {
        "kernel": jnp.concatenate([-f, z], -1),
        "bias": jnp.concatenate([-params["bias"], jnp.zeros_like(params["bias"])]),
    }
    for parallel in (True, False):
        ys = unroll(cell, params, sequence(), parallel=parallel)[1]
        assert_close(ys, outputs(MinGRU(FEATURES), turned))
    carry = random_like(cell.initial_carry(params, (B,)))
    frozen = params | {
        "kernel": params["kernel"].at[:, FEATURES:].set(0.0),
        "bias": params["bias"] * 0 + OPEN,
    }
    assert_close(unroll(cell, frozen, sequence(), carry)[0], carry)


@pytest.mark.parametrize("kind", [TGRU, TLSTM])
def test_typed_gates_see_two_inputs_and_nothing_else(kind):
    """Without a memory, an output is made of this input and the one before."""
    cell = kind(FEATURES)
    params = with_gate(cell, params_of(cell), "f", CLOSED)
    weights, xs = in_numpy(params)
    before = np.concatenate([np.zeros_like(xs[:1]), xs[:-1]])
    gates = xs @ weights["kernel"] + before @ weights["previous_kernel"] + weights["bias"]
    z, _, o = np.split(gates, 3, -1)
    for parallel in (True, False):
        assert_close(unroll(cell, params, sequence(), parallel=parallel)[1], z * np.tanh(o))


@pytest.mark.parametrize("kind", [TGRU, TLSTM])
def test_typed_cells_forget_the_input_before_a_reset(kind):
    cell = kind(FEATURES)
    params = params_of(cell)
    resets = np.zeros((T, B), bool)
    resets[2] = True
    alone = np.concatenate([outputs(cell, params, part) for part in (sequence()[:2], sequence()[2:])])
    for parallel in (True, False):
        assert_close(unroll(cell, params, sequence(), resets=resets, parallel=parallel)[1], alone)


def test_tlstm_without_the_input_before_reads_a_trnn():
    cell = TLSTM(FEATURES)
    params = params_of(cell)
    params["previous_kernel"] = jnp.zeros_like(params["previous_kernel"])
    params["bias"] = params["bias"].at[:FEATURES].set(0.0)
    average = {"kernel": params["kernel"][:, : 2 * FEATURES], "bias": params["bias"][FEATURES : 2 * FEATURES]}
    weights, xs = in_numpy(params)
    o = np.split(xs @ weights["kernel"] + weights["bias"], 3, -1)[2]
    assert_close(outputs(cell, params), np.tanh(o) * outputs(TRNN(FEATURES), average))


def test_elstm_cells_see_nothing_of_each_other():
    cell = ELSTM(FEATURES)
    params = params_of(cell)
    carry = random_like(cell.initial_carry(params, ()))
    slope = jax.jacobian(lambda carry: unroll(cell, params, sequence()[:, 0], carry)[0])(carry)
    assert_close(slope, np.diag(np.diag(slope)))
    assert np.all(np.abs(np.diag(slope)) > 0)
    _, (_, carries) = unroll(cell, params, 20 * sequence(), return_carries=True)
    assert np.abs(carries).max() <= 1


def test_elstm_without_recurrence_is_an_average_that_a_gate_reads():
    cell = ELSTM(FEATURES)
    params = params_of(cell)
    params["recurrent_scale"] = jnp.zeros_like(params["recurrent_scale"])
    weights, xs = in_numpy(params)
    f, z = np.split(xs @ weights["kernel"] + weights["bias"], 2, -1)
    c = np.zeros((B, FEATURES))
    for x, keep, new, y in zip(xs, s(f), np.tanh(z), outputs(cell, params), strict=True):
        c = keep * c + (1 - keep) * new
        o = s(np.concatenate([x, c], -1) @ weights["output_kernel"] + weights["output_bias"])
        assert_close(y, o * c)


def test_elstm_starts_as_the_authors():
    params = ELSTM(256, forget_bias=2.0).init(KEY, 32)
    f, z = np.split(params["bias"], 2, -1)
    assert f.mean() == pytest.approx(2, abs=0.03)
    for numbers in (params["kernel"], params["recurrent_scale"], f, z):
        assert np.std(numbers) == pytest.approx(0.1, rel=0.15)
    edge = 1 / np.sqrt(32 + 256)
    for numbers in (params["output_kernel"], params["output_bias"]):
        assert 0.9 * edge < np.abs(numbers).max() <= edge
        assert np.std(numbers) == pytest.approx(edge / np.sqrt(3), rel=0.15)
