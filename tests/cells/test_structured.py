"""Structured recurrences with few gates: Jordan, IndRNN, FastGRNN, SCRN, ShufflingRNN, MultiplicativeRNN,
ClockworkRNN."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    SCRN,
    UGRNN,
    ClockworkRNN,
    Elman,
    FastGRNN,
    IndRNN,
    Jordan,
    MultiplicativeRNN,
    ShufflingRNN,
)
from tests.cases import INPUT
from tests.cells.common import (
    CLOSED,
    OPEN,
    T,
    assert_close,
    in_numpy,
    outputs,
    params_of,
    random_state,
    sequence,
    ticks,
)
from tests.references.common import s

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)
ELMAN = ("kernel", "recurrent_kernel", "bias")


def only(params, *names):
    return {name: params[name] for name in names}


def test_jordan_of_copied_units_is_an_elman():
    params = params_of(Jordan(4)) | {"output_kernel": jnp.eye(4), "output_bias": jnp.zeros(4)}
    assert_close(outputs(Jordan(4), params), outputs(Elman(4), only(params, *ELMAN)))


def test_jordan_keeps_a_trace_of_its_outputs():
    """Without recurrent weights the outputs are a network of each input alone, and the context their sum."""
    cell = Jordan(4, hidden=7, decay=0.8, output_activation="sigmoid")
    params = params_of(cell)
    shapes = {name: leaf.shape for name, leaf in params.items()}
    assert only(shapes, "kernel", "recurrent_kernel", "output_kernel") == {
        "kernel": (INPUT, 7),
        "recurrent_kernel": (4, 7),
        "output_kernel": (7, 4),
    }
    params = params | {"recurrent_kernel": jnp.zeros((4, 7))}
    states, ys = ticks(cell, params)
    params, xs = in_numpy(params)
    h = np.tanh(xs @ params["kernel"] + params["bias"])
    assert_close(ys, s(h @ params["output_kernel"] + params["output_bias"]))
    assert_close(states[-1], sum(0.8 ** (T - 1 - t) * ys[t] for t in range(T)))


def test_ind_rnn_is_an_elman_with_a_diagonal_kernel():
    params = params_of(IndRNN(4))
    elman = only(params, "kernel", "bias") | {"recurrent_kernel": jnp.diag(params["recurrent_weight"])}
    assert_close(outputs(IndRNN(4), params), outputs(Elman(4, activation="relu"), elman))


def test_ind_rnn_bounds_its_gradients_over_t_max_ticks():
    weight = np.asarray(IndRNN(500, t_max=100).init(KEY, INPUT)["recurrent_weight"])
    assert weight.min() < 0.01
    assert 1.9 < weight.max() ** 100 <= 2.0001
    assert abs(weight.mean() - 0.5 * 2**0.01) < 0.05
    kept = np.asarray(IndRNN(500, t_max=50, gamma=5, long_memory=True).init(KEY, INPUT)["recurrent_weight"])
    grown = kept.astype(np.float64) ** 50
    assert 0.1999 < grown.min() < 0.21
    assert 4.8 < grown.max() < 5.001
    kernel = np.asarray(IndRNN(500).init(KEY, 13)["kernel"])
    assert 0.99 < np.abs(kernel).max() / np.sqrt(6 / (65 * 13)) <= 1.0001


def test_fast_grnn_adds_to_what_it_keeps_or_averages():
    """With its gate open it only adds s(nu) of the candidate; with zeta open and nu closed it averages."""
    cell = FastGRNN(4)
    params = params_of(cell)
    carry = random_state(cell, params)
    open_ = params | {"bias": params["bias"].at[:4].set(OPEN)}
    states, _ = ticks(cell, open_, carry=carry)
    own, xs = in_numpy(open_)
    for x, (before, after) in zip(xs, itertools.pairwise(map(np.asarray, states)), strict=True):
        c = np.tanh(x @ own["kernel"] + before @ own["recurrent_kernel"] + own["bias"][4:])
        assert_close(after, before + s(own["nu"]) * c)
    convex = params | {"zeta": jnp.float64(OPEN), "nu": jnp.float64(CLOSED)}
    doubled = {name: jnp.concatenate([convex[name]] * 2, -1) for name in ("kernel", "recurrent_kernel")}
    assert_close(outputs(cell, convex), outputs(UGRNN(4), doubled | only(convex, "bias")))


def test_fast_grnn_starts_as_its_authors_do():
    params = FastGRNN(64, forget_bias=2.0).init(KEY, INPUT)
    assert sum(leaf.size for leaf in params.values()) == 64 * INPUT + 64 * 64 + 2 * 64 + 2
    np.testing.assert_array_equal(params["bias"], np.repeat([3.0, 1.0], 64))
    weights = FastGRNN(64).prepare(params)
    assert float(weights["zeta"]) == pytest.approx(0.7311, abs=1e-4)
    assert float(weights["nu"]) == pytest.approx(0.0180, abs=1e-4)
    assert float(params["recurrent_kernel"].std()) == pytest.approx(0.1, rel=0.1)


def test_scrn_context_is_a_moving_average():
    """Of a constant it comes nearer by the same factor every tick; with decay 1 it never changes."""
    cell = SCRN(4, context=3)
    params = params_of(cell)
    x = sequence()[:1]
    states, ys = ticks(cell, params, jnp.repeat(x, T, 0))
    goal = np.asarray(x[0] @ params["context_kernel"])
    for t, state in enumerate(states):
        assert_close(goal - state.context, 0.95**t * goal)
    assert_close(ys, [np.concatenate(state, -1) for state in states[1:]])
    frozen = SCRN(4, context=3, decay=1.0)
    carry = random_state(frozen, params)
    assert_close(ticks(frozen, params, carry=carry)[0][-1].context, carry.context)


def test_scrn_without_its_context_is_an_elman():
    cell = SCRN(4, context=3, use_bias=True)
    params = params_of(cell)
    params["context_to_hidden"] = jnp.zeros_like(params["context_to_hidden"])
    elman = outputs(Elman(4, activation="sigmoid"), only(params, *ELMAN))
    assert_close(outputs(cell, params)[..., :4], elman)


def test_shuffling_rnn_moves_its_state_around():
    """Nothing is added where the gates are closed: after H ticks every state that is not negative is back."""
    cell = ShufflingRNN(T)
    params = params_of(cell)
    params["gate_bias"] = jnp.full((T,), 10 * CLOSED)
    params["gate_kernel"] = jnp.zeros((INPUT, T))
    carry = jnp.abs(random_state(cell, params))
    states, _ = ticks(cell, params, carry=carry)
    for t, state in enumerate(states):
        assert_close(state, np.roll(carry, t, -1))
    assert_close(states[-1], carry)


def test_shuffling_rnn_has_a_permutation_for_a_derivative():
    """With some rows of zeros, whatever is trained."""
    cell = ShufflingRNN(5, shift=2)
    params = params_of(cell)
    carry = 5 * random_state(cell, params)[0]
    drive = cell.project(params, sequence()[0, 0])
    slopes = np.asarray(jax.jacobian(lambda h: cell.step(params, h, drive)[0])(carry))
    alive = np.roll(carry, 2) + drive > 0
    assert alive.any()
    np.testing.assert_array_equal(slopes, np.diag(alive) @ np.roll(np.eye(5), 2, 0))


@pytest.mark.parametrize("cell", [ShufflingRNN(4, layers=3, width=5, shift=2), ShufflingRNN(4, gated=False)])
def test_shuffling_rnn_reads_its_input_in_layers(cell):
    params, xs = in_numpy(params_of(cell))
    seen = np.maximum(xs @ params["kernel"] + params["bias"], 0)
    for i in range(2, cell.layers + 1):
        seen = np.maximum(seen @ params[f"layer_{i}"]["kernel"] + params[f"layer_{i}"]["bias"], 0)
    expected = seen @ params["output_kernel"] + params["output_bias"]
    if cell.gated:
        expected = expected * s(xs @ params["gate_kernel"] + params["gate_bias"])
    assert_close(cell.project(params, jnp.asarray(xs)), expected)
    start = ShufflingRNN(4).init(KEY, 100)
    for name in ("kernel", "bias", "gate_kernel", "gate_bias"):
        assert 0.08 < np.abs(start[name]).max() <= 0.1


def test_multiplicative_rnn_of_one_factor_for_all_inputs_is_an_elman():
    """The first input is always 1, and the factors read nothing else."""
    cell = MultiplicativeRNN(4, factors=7)
    params, xs = params_of(cell), sequence().at[..., 0].set(1.0)
    factor = params["factor_kernel"][0]
    params["factor_kernel"] = jnp.zeros((INPUT, 7)).at[0].set(factor)
    elman = only(params, "kernel", "bias")
    elman["recurrent_kernel"] = params["recurrent_kernel"] @ jnp.diag(factor) @ params["mixing_kernel"]
    assert_close(outputs(cell, params, xs), outputs(Elman(4), elman, xs))


def test_clockwork_rnn_of_one_pace_is_an_elman():
    cell = ClockworkRNN(4, periods=(1, 1))
    params = params_of(cell)
    elman = only(params, "kernel", "bias") | {"recurrent_kernel": params["recurrent_blocks"].reshape(4, 4)}
    assert_close(outputs(cell, params), outputs(Elman(4), elman))


def test_clockwork_groups_change_at_their_ticks_and_do_not_see_faster_ones():
    cell = ClockworkRNN(5, periods=(1, 2, 3))
    params = params_of(cell)
    assert cell.period_of_unit.tolist() == [1, 1, 2, 2, 3]
    assert params["recurrent_blocks"].shape == (5 * 2 + 3 * 2 + 1,)
    states, _ = ticks(cell, params)
    for t, (before, after) in enumerate(itertools.pairwise(states)):
        changed = np.any(np.asarray(before.hidden != after.hidden), 0)
        np.testing.assert_array_equal(changed, t % cell.period_of_unit == 0)
    carry = states[0]._replace(hidden=states[0].hidden.at[:, :2].set(9.0))
    others = ticks(cell, params, carry=carry)[0][-1].hidden
    np.testing.assert_array_equal(others[:, 2:], states[-1].hidden[:, 2:])
    assert not np.allclose(others[:, :2], states[-1].hidden[:, :2])


def test_clockwork_periods():
    assert ClockworkRNN(3).period_of_unit.tolist() == [1, 2, 4]
    assert ClockworkRNN(18).period_of_unit.tolist() == [2**g for g in range(9) for _ in range(2)]
    blocks_ = np.asarray(ClockworkRNN(90).init(KEY, INPUT)["recurrent_blocks"])
    assert blocks_.shape == (100 * 45,)
    assert blocks_.std() == pytest.approx(0.1, rel=0.1)
    for periods, kind, words in (
        ((1, 0), ValueError, "expected a positive int, got 0"),
        ((4, 2), ValueError, r"expected periods in ascending order, got \(4, 2\)"),
        ((1,) * 5, ValueError, "expected at most 4 periods, got"),
        ([1, 2], TypeError, "expected a tuple of positive ints, got list"),
    ):
        with pytest.raises(kind, match=f"ClockworkRNN.periods: {words}"):
            ClockworkRNN(4, periods=periods)
