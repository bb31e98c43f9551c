"""Linear cells that gates of the input steer, and the dense one: LinearRNN, GILR, LSLSTM, QRNN, SRU."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    GILR,
    LSLSTM,
    QRNN,
    SRU,
    SRU2,
    DropConnect,
    Elman,
    LinearRNN,
    LowRank,
    MinGRU,
    VariationalDropout,
    unroll,
)
from tests.cases import FEATURES, INPUT, run, sparing
from tests.cells.common import (
    CLOSED,
    OPEN,
    B,
    T,
    assert_close,
    blocks,
    in_numpy,
    outputs,
    params_of,
    random_state,
    sequence,
    ticks,
    with_gate,
)
from tests.references.common import s

pytestmark = pytest.mark.usefixtures("x64")


def test_linear_rnn_is_an_elman_network_without_a_nonlinearity():
    cell = LinearRNN(FEATURES)
    params = params_of(cell)
    elman = Elman(FEATURES, activation="identity")
    assert_close(outputs(cell, params), outputs(elman, params))


def test_linear_rnn_answers_an_impulse_with_powers_and_keeps_lengths_at_first():
    cell = LinearRNN(FEATURES, use_bias=False)
    params = cell.init(jax.random.key(0), INPUT, jnp.float64)
    impulse = np.zeros((T, B, INPUT))
    impulse[0] = sequence()[0]
    u = np.asarray(params["recurrent_kernel"])
    powers = [impulse[0] @ np.asarray(params["kernel"]) @ np.linalg.matrix_power(u, t) for t in range(T)]
    ys = run(cell, params, impulse, parallel=True)[1]
    assert_close(ys, np.stack(powers))
    lengths = np.linalg.norm(ys, axis=-1)
    assert_close(lengths, np.broadcast_to(lengths[0], lengths.shape))


def test_linear_rnn_takes_kernels_that_are_matrices():
    """Of factors and with entries left out; not with one mask for each sequence."""
    params, xs = params_of(LowRank(LinearRNN(FEATURES), rank=2)), sequence()
    left, right = (params["recurrent_kernel"][name] for name in ("left", "right"))
    whole = {**params, "recurrent_kernel": left @ right}
    assert_close(outputs(LowRank(LinearRNN(FEATURES), rank=2), params), outputs(LinearRNN(FEATURES), whole))
    dropped = DropConnect(LinearRNN(FEATURES), rate=0.5)
    assert run(dropped, whole, xs, key=jax.random.key(0))[1].shape == (T, B, FEATURES)
    masked = VariationalDropout(LinearRNN(FEATURES), rate=0.5)
    with pytest.raises(TypeError, match=r"recurrent_kernel: expected a matrix, .* got Masked"):
        unroll(masked, whole, xs, key=jax.random.key(0))


def test_gilr_limits():
    """Open it keeps, closed it is a feed-forward layer; in between it stays within what it has seen."""
    cell = GILR(FEATURES)
    params = params_of(cell)
    carry = random_state(cell, params)
    keeping = with_gate(cell, params, "g", OPEN)
    assert_close(ticks(cell, keeping, carry=carry)[0][-1], carry)
    weights, xs = in_numpy(params)
    impulse = np.tanh(xs @ blocks(cell, weights, "kernel")["i"] + blocks(cell, weights, "bias")["i"])
    assert_close(outputs(cell, with_gate(cell, params, "g", CLOSED), carry=carry), impulse)
    seen = np.concatenate([np.asarray(carry)[None], impulse])
    for t, y in enumerate(outputs(cell, params, carry=carry)):
        assert np.all(seen[: t + 2].min(0) <= y)
        assert np.all(y <= seen[: t + 2].max(0))


def test_gilr_is_min_gru_with_the_other_sign():
    cell = GILR(FEATURES, activation="identity")
    params = params_of(cell)
    signs = np.repeat([-1.0, 1.0], FEATURES)
    negated = {name: jnp.asarray(signs * leaf) for name, leaf in in_numpy(params)[0].items()}
    assert_close(outputs(cell, params), outputs(MinGRU(FEATURES), negated))


def test_ls_lstm_gates_see_the_surrogate_before_the_tick():
    """With the surrogate's gate closed it is tanh of the input before."""
    cell = LSLSTM(FEATURES)
    params, xs = in_numpy(params_of(cell))
    g = np.arange(2 * FEATURES) < FEATURES
    params["surrogate_kernel"] = np.where(g, 0, params["surrogate_kernel"])
    params["surrogate_bias"] = np.where(g, CLOSED, params["surrogate_bias"])
    v, c_j = params["surrogate_kernel"][:, FEATURES:], params["surrogate_bias"][FEATURES:]
    before = np.concatenate([np.zeros((1, B, FEATURES)), np.tanh(xs @ v + c_j)[:-1]])
    pre = xs @ params["kernel"] + before @ params["recurrent_kernel"] + params["bias"]
    f, i, o, z = np.split(pre, 4, -1)
    c, expected = np.zeros((B, FEATURES)), []
    for t in range(T):
        c = s(f[t]) * c + s(i[t]) * np.tanh(z[t])
        expected.append(s(o[t]) * c)
    assert_close(outputs(cell, params), np.stack(expected))


def test_ls_lstm_starts_with_an_open_forget_gate():
    params = LSLSTM(FEATURES).init(jax.random.key(0), INPUT)
    np.testing.assert_array_equal(params["bias"], np.repeat([5, 0, 0, 0], FEATURES))
    np.testing.assert_array_equal(params["surrogate_bias"], 0)
    assert LSLSTM(FEATURES, use_bias=False).init(jax.random.key(0), INPUT).keys() == {
        "kernel",
        "recurrent_kernel",
        "surrogate_kernel",
    }


@pytest.mark.parametrize(
    "cell", sparing([LSLSTM(FEATURES), QRNN(FEATURES), QRNN(FEATURES, width=3, pooling="ifo")])
)
def test_stages_run_in_parallel_in_chunks_and_in_turn(cell):
    """With lengths and resets, the state after every tick included."""
    params, resets = params_of(cell), np.random.default_rng(0).random((T, B)) < 0.3
    given = {"resets": resets, "lengths": np.array([T, 0, 4]), "return_carries": True}
    expected = run(cell, params, sequence(), parallel=False, **given)
    for options in ({"parallel": True}, {"parallel": True, "reverse": False, "remat_every": 4}):
        jax.tree.map(assert_close, run(cell, params, sequence(), **given, **options), expected)


def test_qrnn_of_width_one_is_a_gilr_behind_a_gate():
    cell = QRNN(FEATURES, width=1)
    params = params_of(cell)
    parts = {name: blocks(cell, params, name) for name in ("kernel", "bias")}
    as_gilr = {name: jnp.concatenate([of["f"], of["z"]], -1) for name, of in parts.items()}
    average = outputs(GILR(FEATURES), as_gilr)
    assert_close(outputs(cell, with_gate(cell, params, "o", OPEN)), average)
    o = s(np.asarray(sequence()) @ parts["kernel"]["o"] + parts["bias"]["o"])
    assert_close(outputs(cell, params), o * average)
    plain = dataclasses.replace(cell, pooling="f")
    both = {name: array[..., : 2 * FEATURES] for name, array in params.items()}
    assert_close(outputs(plain, both), average)


def test_qrnn_of_width_two_sees_the_input_before():
    """As one of width one sees [x_(t-1), x_t]; across a split as well, as the window is carried."""
    cell = QRNN(FEATURES, width=2)
    params, xs = params_of(cell), sequence()
    before = jnp.concatenate([jnp.zeros_like(xs[:1]), xs[:-1]])
    joined = jnp.concatenate([before, xs], -1)
    assert_close(outputs(cell, params), outputs(dataclasses.replace(cell, width=1), params, joined))
    middle, first = run(cell, params, xs[:2])
    assert_close(np.concatenate([first, run(cell, params, xs[2:], middle)[1]]), outputs(cell, params))


def test_qrnn_stays_within_bounds_and_its_window_forgets_at_resets():
    cell = QRNN(FEATURES)
    params, xs = params_of(cell), 20 * sequence()
    carry = random_state(cell, params | {"kernel": params["kernel"]})
    states, _ = ticks(cell, params, xs, carry)
    bound = np.maximum(1, np.abs(carry.cell))
    assert all(np.all(np.abs(state.cell) <= bound) for state in states)
    resets = np.zeros((T, B), bool)
    resets[3] = True
    alone = np.concatenate([run(cell, params, part)[1] for part in (xs[:3], xs[3:])])
    assert_close(run(cell, params, xs, resets=resets)[1], alone)


@pytest.mark.parametrize("kind", [SRU, SRU2])
def test_sru_limits(kind):
    """With f open c stays, with r closed y is the scaled input; of the width of the state as it is."""
    cell = kind(FEATURES, highway_bias=-1.0)
    alpha = np.sqrt(1 + 2 / np.e)
    params = params_of(cell)
    carry = random_state(cell, params)
    states, _ = ticks(cell, with_gate(cell, params, "f", OPEN), carry=carry)
    assert_close(states[-1], carry)
    passing = with_gate(cell, params, "r", CLOSED)
    assert_close(outputs(cell, passing), alpha * (sequence() @ params["input_kernel"]))
    wide = cell.init(jax.random.key(0), FEATURES, jnp.float64)
    assert "input_kernel" not in wide
    xs = jax.random.normal(jax.random.key(0), (T, B, FEATURES), jnp.float64)
    assert_close(outputs(cell, with_gate(cell, wide, "r", CLOSED), xs), alpha * xs)
    np.testing.assert_array_equal(wide["bias"], np.repeat([0, -1], FEATURES))


def test_sru_in_its_last_version_without_weights_on_the_memory_is_the_first():
    cell = SRU2(FEATURES)
    params = params_of(cell)
    none = params | {"peephole": jnp.zeros((2, FEATURES))}
    del params["peephole"]
    assert_close(outputs(cell, none), outputs(SRU(FEATURES), params))


def test_sru_starts_with_outputs_as_wide_as_its_inputs():
    """That is what alpha is for: E y^2 = E x^2 in the paper's estimate, E r = 1 / 2 and E c^2 small."""
    cell = SRU(256)
    params = cell.init(jax.random.key(0), 256, jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (20, 8, 256), jnp.float64)
    assert np.var(run(cell, params, xs)[1]) == pytest.approx(1, rel=0.25)
    plain = np.var(run(SRU(256, rescale=False), params, xs)[1])
    assert plain < 0.6
