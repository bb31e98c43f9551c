"""Relatives of the LSTM: which cell each is in a limit, and where it starts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    ELSTM,
    JANET,
    LSTM,
    LSTMP,
    MCLSTM,
    NAS,
    SLSTM,
    TGRU,
    TLSTM,
    TRNN,
    UGRNN,
    URLSTM,
    WMCLSTM,
    CoupledLSTM,
    LSTMCarry,
    MinGRU,
    MultiplicativeLSTM,
    OriginalLSTM,
    PeepholeLSTM,
    Projection,
    VariationalDropout,
    unroll,
)
from rnncells.initializers import Chrono, Normal, Zeros
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


def split(array, count):
    return np.split(np.asarray(array), count, -1)


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
    g = split(xs @ weights["kernel"] + weights["bias"], 3)[1]
    _, (ys, carries) = unroll(cell, params, sequence(), return_carries=True)
    assert_close(carries.cell, np.cumsum(4 * s(g) - 2, 0))
    assert np.abs(ys).max() < 1
    i, g, o = split(cell.init(KEY, INPUT)["bias"], 3)
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
        f, g = split(dataclasses.replace(wide, recurrent_init=Zeros()).init(KEY, 1)["bias"], 2)
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
    for block in (*split(params["kernel"], 5), *split(params["recurrent_kernel"], 5)):
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
    i, f, g, _ = split(xs[0] @ weights["kernel"] + h @ weights["recurrent_kernel"] + weights["bias"], 4)
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
    f, _, g, _ = split(xs[0] @ weights["kernel"] + h @ weights["recurrent_kernel"] + weights["bias"], 4)
    for value, e in ((OPEN, 1 - (1 - s(f)) ** 2), (CLOSED, s(f) ** 2)):
        (new, _), _ = cell(with_gate(cell, params, "r", value), carry, sequence()[0])
        assert_close(new, e * c + (1 - e) * np.tanh(g))


def test_urlstm_gates_start_uniform():
    cell = URLSTM(4096, recurrent_init=Zeros())
    f, r, g, o = split(cell.init(KEY, 1)["bias"], 4)
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
    z, _, o = split(gates, 3)
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
    o = split(xs @ weights["kernel"] + weights["bias"], 3)[2]
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
    f, z = split(xs @ weights["kernel"] + weights["bias"], 2)
    c = np.zeros((B, FEATURES))
    for x, keep, new, y in zip(xs, s(f), np.tanh(z), outputs(cell, params), strict=True):
        c = keep * c + (1 - keep) * new
        o = s(np.concatenate([x, c], -1) @ weights["output_kernel"] + weights["output_bias"])
        assert_close(y, o * c)


def test_elstm_starts_as_the_authors():
    params = ELSTM(256, forget_bias=2.0).init(KEY, 32)
    f, z = split(params["bias"], 2)
    assert f.mean() == pytest.approx(2, abs=0.03)
    for numbers in (params["kernel"], params["recurrent_scale"], f, z):
        assert np.std(numbers) == pytest.approx(0.1, rel=0.15)
    edge = 1 / np.sqrt(32 + 256)
    for numbers in (params["output_kernel"], params["output_bias"]):
        assert 0.9 * edge < np.abs(numbers).max() <= edge
        assert np.std(numbers) == pytest.approx(edge / np.sqrt(3), rel=0.15)


@pytest.mark.parametrize("forget", ["sigmoid", "exponential"])
def test_slstm_equals_the_unstabilised_equations_from_the_start(forget):
    cell = SLSTM(4, heads=2, forget=forget)
    params = params_of(cell)
    carry = cell.initial_carry(params, (B,))
    last, ys = unroll(cell, params, sequence())
    expected, expected_ys, _ = references.run(cell, params, sequence(), carry)
    assert_close(ys, expected_ys)
    jax.tree.map(assert_close, jax.tree.leaves(last), expected)


def test_slstm_reads_weights_not_their_size():
    """The first output is o tanh(z) and more on every input gate changes nothing, in single precision too."""
    cell = SLSTM(FEATURES)
    params = cell.init(KEY, INPUT)
    xs = sequence().astype(jnp.float32)
    i, f, z, o = range(4)
    weights = jax.tree.map(np.asarray, params)
    fused = split(np.asarray(xs[0]) @ weights["kernel"] + weights["bias"], 4)
    expected = outputs(cell, params, xs)
    np.testing.assert_allclose(expected[0], s(fused[o]) * np.tanh(fused[z]), rtol=1e-5)
    for more in (-200.0, 1e4):
        shifted = params | {"bias": params["bias"].at[i * FEATURES : f * FEATURES].add(more)}
        np.testing.assert_allclose(outputs(cell, shifted, xs), expected, rtol=1e-2, atol=1e-3)
        slopes = jax.grad(lambda params: unroll(cell, params, xs)[1].sum())(shifted)
        assert all(np.isfinite(slope).all() for slope in slopes.values())


def test_slstm_heads_are_apart():
    """What a head leaves reaches the other only if a kernel mixes them."""
    cell = SLSTM(4, heads=2)
    params = params_of(cell)
    assert params["recurrent_kernel"].shape == (2, 16)
    carry = cell.initial_carry(params, (B,))
    other = carry._replace(hidden=carry.hidden.at[:, 2:].set(1.0))
    (_, ys), (_, changed) = (unroll(cell, params, sequence(), start) for start in (carry, other))
    assert_close(ys[..., :2], changed[..., :2])
    assert not np.allclose(ys[..., 2:], changed[..., 2:])
    dropping = VariationalDropout(cell, rate=0.5)
    loud = unroll(dropping, params, sequence(), other, key=KEY)[1]
    assert not np.allclose(loud, changed)
    whole = np.zeros((4, 4, 4))
    for head in range(2):
        part = slice(2 * head, 2 * head + 2)
        whole[part, :, part] = params["recurrent_kernel"].reshape(2, 4, 2, 2)[:, :, head]
    dense = params | {"recurrent_kernel": jnp.asarray(whole.reshape(4, 16))}
    assert_close(ys, outputs(SLSTM(4), dense))


def test_slstm_starts_as_the_authors():
    params = SLSTM(8, heads=2).init(KEY, INPUT)
    i, f, z, o = split(params["bias"], 4)
    law = [5, 5 - 12 * (1 / 3) ** 0.3, 5 - 12 * (2 / 3) ** 0.3, -7]
    np.testing.assert_allclose(f, [*law, *law], rtol=1e-6)
    assert not np.any([i, z, o])
    assert not np.any(params["recurrent_kernel"])
    biased = SLSTM(8, forget_bias=2.0, recurrent_init=Normal(0.3)).init(KEY, INPUT)
    assert (split(biased["bias"], 4)[1] == 2).all()
    assert np.all(biased["recurrent_kernel"])
    with pytest.raises(ValueError, match=r"SLSTM.features: expected a multiple of heads=3, got 4"):
        SLSTM(4, heads=3)
