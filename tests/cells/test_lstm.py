"""Relatives of the LSTM: which cell each is in a limit, and where it starts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    JANET,
    LSTM,
    LSTMP,
    MCLSTM,
    NAS,
    UGRNN,
    URLSTM,
    WMCLSTM,
    CoupledLSTM,
    LSTMCarry,
    MultiplicativeLSTM,
    OriginalLSTM,
    PeepholeLSTM,
    Projection,
    unroll,
)
from rnncells.initializers import Chrono, Zeros
from tests import references
from tests.cases import FEATURES, INPUT, random_like
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
    without_recurrence,
)
from tests.references.common import s

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)


def test_original_lstm_is_an_lstm_that_never_forgets():
    cell = OriginalLSTM(FEATURES)
    params = params_of(cell)
    squashes = {
        "candidate_activation": cell.candidate_activation,
        "output_activation": cell.output_activation,
    }
    lstm = LSTM(FEATURES, **squashes)

    def with_f(array):
        i, g, o = jnp.split(array, 3, -1)
        return jnp.concatenate([i, jnp.zeros_like(i), g, o], -1)

    open_ = with_gate(lstm, jax.tree.map(with_f, params), "f", OPEN)
    assert_close(outputs(cell, params), outputs(lstm, open_))


def test_original_lstm_adds_up_what_lies_between_minus_2_and_2():
    cell = OriginalLSTM(FEATURES)
    params = with_gate(cell, without_recurrence(params_of(cell)), "i", OPEN)
    weights, xs = in_numpy(params)
    g = np.split(xs @ weights["kernel"] + weights["bias"], 3, -1)[1]
    _, (ys, carries) = unroll(cell, params, sequence(), return_carries=True)
    assert_close(carries.cell, np.cumsum(4 * s(g) - 2, 0))
    assert np.abs(ys).max() < 1
    i, g, o = np.split(cell.init(KEY, INPUT)["bias"], 3, -1)
    assert (i == -3).all()
    assert not np.any([g, o])


def test_lstmp_is_a_projected_peephole_lstm():
    cell = LSTMP(FEATURES, size=2)
    params = params_of(cell)
    wrapper = Projection(PeepholeLSTM(FEATURES), 2)
    inside = {name: leaf for name, leaf in params.items() if name != "projection_kernel"}
    assert_close(
        outputs(cell, params), outputs(wrapper, {"cell": inside, "projection": params["projection_kernel"]})
    )
    whole = LSTMP(FEATURES, size=FEATURES)
    params = params_of(whole) | {"projection_kernel": jnp.eye(FEATURES, dtype=jnp.float64)}
    peephole = {name: leaf for name, leaf in params.items() if name != "projection_kernel"}
    assert_close(outputs(whole, params), outputs(PeepholeLSTM(FEATURES), peephole))


def test_lstmp_gives_out_both_projections():
    cell = LSTMP(FEATURES, size=2, direct=3)
    params = params_of(cell)
    assert params["recurrent_kernel"].shape == (2, 4 * FEATURES)
    assert params["direct_kernel"].shape == (FEATURES, 3)
    ys = outputs(cell, params)
    assert ys.shape == (T, B, cell.output_size) == (T, B, 5)
    assert_close(ys, references.run(cell, params, sequence(), cell.initial_carry(params, (B,)))[1])
    first = {name: leaf for name, leaf in params.items() if name != "direct_kernel"}
    assert_close(ys[..., :2], outputs(LSTMP(FEATURES, size=2), first))
    assert LSTMP(64).output_size == 16
    with pytest.raises(ValueError, match=r"LSTMP.size: expected a positive int, got 0"):
        LSTMP(FEATURES, size=0)


def test_janet_without_beta_is_a_ugrnn():
    cell = JANET(FEATURES, beta=0.0)
    params = params_of(cell)
    assert_close(outputs(cell, params), outputs(UGRNN(FEATURES), params))
    assert not np.allclose(outputs(JANET(FEATURES), params), outputs(cell, params))


def test_janet_freezes_with_f_open_and_starts_with_chrono():
    cell = JANET(FEATURES)
    params = params_of(cell)
    carry = random_like(cell.initial_carry(params, (B,)))
    assert_close(unroll(cell, with_gate(cell, params, "f", OPEN), sequence(), carry)[0], carry)
    for wide, t_max in ((JANET(4096), 100), (JANET(4096, forget_bias=Chrono(500.0)), 500)):
        f, g = np.split(dataclasses.replace(wide, recurrent_init=Zeros()).init(KEY, 1)["bias"], 2, -1)
        spans = np.exp(f)
        assert np.quantile(spans, [0.25, 0.5, 0.75]) == pytest.approx(
            1 + (t_max - 2) * np.array([0.25, 0.5, 0.75]), rel=0.06
        )
        assert not np.any(g)


def test_multiplicative_lstm_with_a_constant_factor_is_an_lstm():
    """A column of ones makes x W_m = 1, and U_m = 1 makes m = h."""
    cell = MultiplicativeLSTM(FEATURES)
    params = params_of(cell)
    xs = sequence().at[..., 0].set(1.0)
    kernel = params["kernel"].at[:, :FEATURES].set(0.0).at[0, :FEATURES].set(1.0)
    recurrent = params["recurrent_kernel"].at[:, :FEATURES].set(jnp.eye(FEATURES))
    lstm = {"kernel": kernel[:, FEATURES:], "recurrent_kernel": recurrent[:, FEATURES:]}
    constant = params | {"kernel": kernel, "recurrent_kernel": recurrent}
    assert_close(outputs(cell, constant, xs), outputs(LSTM(FEATURES), lstm | {"bias": params["bias"]}, xs))


def test_multiplicative_lstm_starts_as_the_authors():
    cell = MultiplicativeLSTM(FEATURES)
    params = params_of(cell)
    first = outputs(cell, params)[0]
    assert_close(first, outputs(cell, without_recurrence(params))[0])
    assert not np.allclose(outputs(cell, params)[1], outputs(cell, without_recurrence(params))[1])
    params = cell.init(KEY, FEATURES)
    assert_close(params["bias"], np.repeat([0, 3, 0, 0], FEATURES))
    for block in (*np.split(params["kernel"], 5, -1), *np.split(params["recurrent_kernel"], 5, -1)):
        np.testing.assert_allclose(block.T @ block, np.eye(FEATURES), atol=1e-5)


def test_wmc_lstm_without_connections_is_the_lstm_and_their_pull_is_at_most_1():
    cell = WMCLSTM(FEATURES)
    params = params_of(cell)
    lstm = {name: leaf for name, leaf in params.items() if name != "memory_kernel"}
    none = params | {"memory_kernel": jnp.zeros_like(params["memory_kernel"])}
    assert_close(outputs(cell, none), outputs(LSTM(FEATURES), lstm))
    loud = params | {"memory_kernel": 1e6 * params["memory_kernel"]}
    weights, xs = in_numpy(params)
    c, h = (np.asarray(leaf) for leaf in random_like(cell.initial_carry(params, (B,))))
    i, f, g, _ = np.split(
        xs[0] @ weights["kernel"] + h @ weights["recurrent_kernel"] + weights["bias"], 4, -1
    )
    (new, _), _ = cell(loud, LSTMCarry(jnp.asarray(c), jnp.asarray(h)), sequence()[0])
    ends = np.array([s(f + a) * c + s(i + b) * np.tanh(g) for a in (-1, 1) for b in (-1, 1)])
    assert_close(np.abs(ends - np.asarray(new)).min(0), 0)


def test_wmc_output_gate_sees_the_new_memory():
    """With i = 1 and f = 0 the old memory must not reach the output."""
    cell = WMCLSTM(FEATURES)
    params = with_gate(cell, with_gate(cell, params_of(cell), "i", OPEN), "f", CLOSED)
    params["memory_kernel"] = params_of(cell)["memory_kernel"]
    zeros, ones = (
        LSTMCarry(jnp.full((B, FEATURES), v, jnp.float64), jnp.zeros((B, FEATURES), jnp.float64))
        for v in (0, 1)
    )
    assert_close(outputs(cell, params, carry=zeros), outputs(cell, params, carry=ones))
    blind = params | {"memory_kernel": params["memory_kernel"].at[:, 2 * FEATURES :].set(0.0)}
    assert not np.allclose(outputs(cell, params), outputs(cell, blind))


def test_mclstm_with_equal_readings_is_the_lstm():
    cell = MCLSTM(FEATURES)
    params = params_of(LSTM(FEATURES))
    twice = {name: jnp.concatenate([leaf, leaf[..., -FEATURES:]], -1) for name, leaf in params.items()}
    assert_close(outputs(cell, twice), outputs(LSTM(FEATURES), params))


def test_mclstm_output_does_not_recur():
    cell = MCLSTM(FEATURES)
    params = params_of(cell)
    kept, ys = unroll(cell, params, sequence())
    changed, others = unroll(cell, with_gate(cell, params, "o", CLOSED), sequence())
    jax.tree.map(assert_close, kept, changed)
    assert_close(others, np.zeros_like(ys))


def test_urlstm_refines_the_forget_gate():
    """r = 1/2 is a coupled LSTM; r = 1 and r = 0 are the ends 1 - (1 - f)^2 and f^2."""
    cell = URLSTM(FEATURES)
    params = params_of(cell)
    coupled = {
        name: jnp.concatenate([leaf[..., :FEATURES], leaf[..., 2 * FEATURES :]], -1)
        for name, leaf in params.items()
    }
    half = with_gate(cell, params, "r", 0.0)
    assert_close(outputs(cell, half), outputs(CoupledLSTM(FEATURES), coupled))
    carry = random_like(cell.initial_carry(params, (B,)))
    weights, xs = in_numpy(params)
    c, h = map(np.asarray, carry)
    f, _, g, _ = np.split(
        xs[0] @ weights["kernel"] + h @ weights["recurrent_kernel"] + weights["bias"], 4, -1
    )
    for value, e in ((OPEN, 1 - (1 - s(f)) ** 2), (CLOSED, s(f) ** 2)):
        (new, _), _ = cell(with_gate(cell, params, "r", value), carry, sequence()[0])
        assert_close(new, e * c + (1 - e) * np.tanh(g))


def test_urlstm_gates_start_uniform():
    cell = URLSTM(4096, recurrent_init=Zeros())
    f, r, g, o = np.split(cell.init(KEY, 1)["bias"], 4, -1)
    assert s(f).min() >= 1 / 4096 - 1e-6
    assert s(f).max() <= 1 - 1 / 4096 + 1e-6
    assert np.quantile(s(f), [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.03)
    np.testing.assert_array_equal(r, -f)
    assert not np.any([g, o])


def test_nas_without_weights_is_known():
    cell = NAS(FEATURES)
    params = jax.tree.map(jnp.zeros_like, params_of(cell))
    c, h = random_like(cell.initial_carry(params, (B,)))
    (c_new, h_new), y = cell(params, LSTMCarry(c, h), sequence()[0])
    assert_close(c_new, np.tanh(c) * 0.46211715726000976)
    assert_close(h_new, np.tanh(c_new * np.tanh(s(0.5))))
    assert_close(y, h_new)


def test_nas_multiplies_input_and_state_in_one_slot():
    """Without a state that slot is closed to the input, but for a bias, which belongs to the state."""
    cell = NAS(FEATURES)
    params = without_recurrence(params_of(cell))
    part = slice(3 * FEATURES, 4 * FEATURES)
    other = params | {"kernel": params["kernel"].at[:, part].add(1.0)}
    assert_close(outputs(cell, params), outputs(cell, other))
    biased = NAS(FEATURES, use_bias=True)
    bias = {"bias": jnp.zeros((8 * FEATURES,), jnp.float64).at[part].set(1.0)}
    assert not np.allclose(outputs(biased, params | bias), outputs(biased, other | bias))
    carry = biased.initial_carry(params, (B,))
    expected = references.run(biased, params | bias, sequence(), carry)[1]
    assert_close(outputs(biased, params | bias), expected)
    assert np.abs(outputs(cell, jax.tree.map(lambda leaf: 9 * leaf, params_of(cell)))).max() <= 1
