"""What is particular to a cell: its limits, its relatives, and the formulas that people print."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    GRU,
    LSTM,
    MGU,
    CoupledLSTM,
    Elman,
    ExpRNN,
    MinGRU,
    MinLSTM,
    OutputGatedGRU,
    PeepholeLSTM,
    unroll,
)
from rnncells.cells.gated.lstm import LSTMCarry
from tests.cases import FEATURES, INPUT, random_like, random_params
from tests.references.common import s

pytestmark = pytest.mark.usefixtures("x64")
T, B = 6, 3
CLOSED, OPEN = -60.0, 60.0


def sequence(seed=2):
    return jax.random.normal(jax.random.key(seed), (T, B, INPUT), jnp.float64)


def params_of(cell):
    return random_params(cell, dtype=jnp.float64)


def in_numpy(params):
    """The parameters and the sequence, for formulas written out in NumPy."""
    return jax.tree.map(np.asarray, params), np.asarray(sequence())


def with_gate(cell, params, gate, value):
    """The parameters with one gate fixed: no weights, and a bias that saturates it."""
    block = slice(cell.gates.index(gate) * cell.features, (cell.gates.index(gate) + 1) * cell.features)
    fixed = {
        name: array.at[..., block].set(0.0)
        for name, array in params.items()
        if array.shape[-1] > cell.features
    }
    return params | fixed | {"bias": params["bias"].at[block].set(value)}


def assert_close(a, b):
    np.testing.assert_allclose(a, b, atol=1e-10)


def without_recurrence(params):
    return params | {"recurrent_kernel": jnp.zeros_like(params["recurrent_kernel"])}


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


@pytest.mark.parametrize("kind", [MinGRU, MinLSTM])
def test_min_cells_in_log_space_are_the_plain_ones_on_positive_candidates(kind):
    """Where the candidate's pre-activation u is >= 0, g(u) = u + 1/2: a shift of its bias."""
    plain, log = kind(FEATURES), kind(FEATURES, log_space=True)
    params = params_of(plain)
    positive = params | {"bias": params["bias"].at[-FEATURES:].set(100.0)}
    shifted = params | {"bias": params["bias"].at[-FEATURES:].set(100.5)}
    for parallel in (True, False):
        ys = unroll(log, positive, sequence(), parallel=parallel)[1]
        np.testing.assert_allclose(ys, unroll(plain, shifted, sequence())[1], rtol=1e-10)


def test_min_gru_limits():
    cell = MinGRU(FEATURES)
    params = params_of(cell)
    carry = random_like(cell.initial_carry(params, (B,)))
    assert_close(unroll(cell, with_gate(cell, params, "z", CLOSED), sequence(), carry)[0], carry)
    weights, xs = in_numpy(params)
    candidates = xs @ weights["kernel"][:, FEATURES:] + weights["bias"][FEATURES:]
    assert_close(unroll(cell, with_gate(cell, params, "z", OPEN), sequence(), carry)[1], candidates)


def test_min_lstm_gates_are_normalised():
    cell = MinLSTM(FEATURES)
    params = params_of(cell)
    element = cell.project(params, sequence()).element
    weights, xs = in_numpy(params)
    f, i = (s(xs @ weights["kernel"][:, b] + weights["bias"][b]) for b in (slice(0, 4), slice(4, 8)))
    assert_close(element.decay, f / (f + i))
    equal = with_gate(cell, with_gate(cell, params, "f", 0.7), "i", 0.7)
    assert_close(cell.project(equal, sequence()).element.decay, 0.5)


def test_min_gru_in_log_space_takes_extreme_gates():
    """Products of a thousand decays of e^-50 neither overflow nor lose the last candidates."""
    cell = MinGRU(FEATURES, log_space=True)
    params = with_gate(cell, cell.init(jax.random.key(0), INPUT), "z", 50.0)
    xs = jax.random.normal(jax.random.key(0), (1000, INPUT), jnp.float32)
    for parallel in (True, False):
        score = jax.value_and_grad(
            lambda p, parallel=parallel: jnp.sum(unroll(cell, p, xs, parallel=parallel)[1])
        )
        value, slope = score(params)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    np.testing.assert_allclose(
        unroll(cell, params, xs, parallel=True)[1], unroll(cell, params, xs, parallel=False)[1], rtol=1e-5
    )


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


def test_arrays_as_fields_are_per_unit():
    biases = jnp.linspace(-1, 1, FEATURES)
    params = dataclasses.replace(LSTM(FEATURES), forget_bias=biases).init(jax.random.key(0), INPUT)
    np.testing.assert_array_equal(params["bias"][FEATURES : 2 * FEATURES], biases.astype(jnp.float32))
