"""Small gated cells whose terms are independent: sums, bistable units, products before kernels, delays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    ATR,
    BRC,
    CFN,
    DSGU,
    NBRC,
    RAN,
    SGRN,
    SGU,
    UGRNN,
    TauGRU,
    TauGRUCarry,
    Zoneout,
)
from tests.cases import FEATURES, INPUT
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
    without_recurrence,
)
from tests.references.common import s

pytestmark = pytest.mark.usefixtures("x64")
H = FEATURES
NOTHING = np.zeros((40, B, INPUT))


def test_the_gates_of_atr_change_places_with_the_sign_of_its_state():
    cell = ATR(H)
    params, x = params_of(cell), sequence()[:1]
    carry = random_state(cell, params)
    turned = params | {"recurrent_kernel": -params["recurrent_kernel"]}
    p, q = x[0] @ params["kernel"], carry @ params["recurrent_kernel"]
    one, other = (outputs(cell, given, x, carry)[0] for given in (params, turned))
    assert_close(one + other, (s(p + q) + s(p - q)) * (p + carry))
    assert_close(one - other, (s(p + q) - s(p - q)) * (p - carry))
    assert_close(outputs(cell, without_recurrence(params), x, carry)[0], s(p) * (p + carry))
    assert set(cell.init(jax.random.key(0), INPUT)) == {"kernel", "recurrent_kernel"}


@pytest.mark.parametrize(("activation", "function"), [("tanh", np.tanh), ("identity", np.asarray)])
def test_ran_is_a_sum_of_its_inputs(activation, function):
    """With open gates the plain sum, else with the weights that its gates have left."""
    cell = RAN(H, activation=activation)
    params = params_of(cell)
    weights, xs = in_numpy(params)
    content = xs @ blocks(cell, weights, "kernel")["c"]
    opened = with_gate(cell, with_gate(cell, params, "i", OPEN), "f", OPEN)
    assert_close(outputs(cell, opened), function(np.cumsum(content, 0)))

    states, ys = ticks(cell, params)
    states, seen = np.stack(states), function(np.stack(states[:-1]))
    fused = xs @ weights["kernel"][:, : 2 * H] + seen @ weights["recurrent_kernel"] + weights["bias"]
    i, f = np.split(s(fused), 2, -1)
    total = sum(i[t] * np.prod(f[t + 1 :], 0) * content[t] for t in range(T))
    assert_close(states[-1], total)
    assert_close(ys, function(states[1:]))


def test_the_bias_of_sgrn_is_of_its_gate_alone():
    cell = SGRN(H)
    params = params_of(cell)
    weights, xs = in_numpy(params)
    closed = with_gate(cell, params, "f", CLOSED) | {"kernel": params["kernel"]}
    assert_close(outputs(cell, closed), np.tanh(xs @ weights["kernel"]))
    carry = random_state(cell, params)
    opened = params | {"bias": jnp.full(H, OPEN)}
    assert_close(outputs(cell, opened, carry=carry)[1], np.tanh(np.tanh(carry)))


def test_cfn_comes_to_rest_without_input():
    """From any state, every unit by itself and at every tick."""
    cell = CFN(H)
    params = params_of(cell)
    carry = 30 * random_state(cell, params)
    sizes = np.abs(np.stack(ticks(cell, params, NOTHING, carry)[0]))
    assert np.all(sizes[1:] < sizes[:-1])
    assert sizes[-1].max() < 0.1
    loud = outputs(cell, params, 50 * sequence(), carry)
    assert 1 < np.abs(loud).max() < 2


def bistable(params, a, c=0.0):
    """Units of a BRC without weights, whose a and logit of c are these."""
    none = {name: jnp.zeros_like(leaf) for name, leaf in params.items()}
    return none | {"bias": jnp.concatenate([jnp.arctanh(jnp.asarray(a) - 1), jnp.full(H, c)])}


def test_a_unit_of_brc_has_one_state_or_two():
    cell = BRC(H)
    a = np.array([0.4, 0.9, 1.5, 1.9])
    params = bistable(params_of(cell), a)
    carry = jnp.asarray(np.array([[0.3], [-0.3], [0.9]]) * np.ones(H))
    rest = outputs(cell, params, np.zeros((200, B, INPUT)), carry)[-1]
    assert np.abs(rest[:, :2]).max() < 1e-3
    np.testing.assert_allclose(rest, np.tanh(a * rest), atol=1e-4)
    np.testing.assert_array_equal(np.sign(rest[:, 2:]), np.sign(carry[:, 2:]))
    assert np.abs(rest[:, 2:]).min() > 0.8
    kept = bistable(params_of(cell), a, OPEN)
    assert_close(outputs(cell, kept, sequence(), carry)[-1], carry)


def test_brc_is_an_nbrc_whose_units_see_themselves():
    cell, whole = BRC(H), NBRC(H)
    params = params_of(cell)
    same = dict(params)
    own = same.pop("recurrent_weight")
    same["recurrent_kernel"] = jnp.concatenate([jnp.diag(row) for row in own], -1)
    assert_close(outputs(cell, params), outputs(whole, same))


@pytest.mark.parametrize(("kind", "start"), [(SGU, np.log(2)), (DSGU, 0.5)])
def test_simple_gated_units_leave_zero_by_their_last_activation_alone(kind, start):
    """And where nothing of the input enters, they go there from any state."""
    cell = kind(H)
    params = params_of(cell)
    x = sequence()[:1]
    weights, xs = in_numpy(params)
    fused = (xs[0] @ weights["kernel"] + weights["bias"][: 2 * H])[:, H : 2 * H]
    z = np.clip(fused / 5 + 0.5, 0, 1)
    assert np.any((z > 0.1) & (z < 0.9))
    assert_close(outputs(cell, params, x)[0], z * start)
    unheard = with_gate(cell, with_gate(cell, params, "z", OPEN), "g", 0.0)
    unheard["recurrent_kernel"] = params["recurrent_kernel"]
    carry = random_state(cell, params)
    assert_close(outputs(cell, unheard, carry=carry), np.full((T, B, H), start))


def test_the_gate_of_an_sgu_may_be_smooth():
    cell = SGU(H, gate_activation="sigmoid")
    params = params_of(cell)
    weights, xs = in_numpy(params)
    z = s((xs[0] @ weights["kernel"] + weights["bias"])[:, H:])
    assert_close(outputs(cell, params)[0], z * np.log(2))


@pytest.mark.parametrize("delay", [1, 2, 4])
def test_tau_gru_reads_the_state_that_many_ticks_before(delay):
    """All states at hand, in a list."""
    cell = TauGRU(H, delay=delay, alpha=0.7, beta=1.3, dt=0.6)
    params, xs = in_numpy(params_of(cell))
    u, g, a, z = (
        [blocks(cell, params, name)[gate] for name in ("kernel", "recurrent_kernel", "bias")]
        for gate in ("u", "g", "a", "z")
    )

    def of(gate, x, h):
        kernel, recurrent, bias = gate
        return x @ kernel + h @ recurrent + bias

    states = [np.zeros((B, H))]
    for t, x in enumerate(xs):
        h = states[-1]
        delayed = states[t - delay] if t >= delay else np.zeros((B, H))
        change = 1.3 * np.tanh(of(u, x, h)) + 0.7 * s(of(a, x, h)) * np.tanh(of(z, x, delayed))
        states.append(h + 0.6 * s(of(g, x, h)) * (change - h))
    carries, ys = ticks(cell, params)
    assert_close(ys, np.stack(states[1:]))
    assert_close(carries[-1].past, np.stack(states[-1 - delay : -1], 1))


def test_the_feedback_of_tau_gru_comes_after_its_delay():
    cell = TauGRU(H, delay=3)
    params = params_of(cell)
    unfed = params | {"recurrent_kernel": params["recurrent_kernel"].at[:, 3 * H :].set(0.0)}
    ys, without = outputs(cell, params), outputs(cell, unfed)
    assert_close(ys[:4], without[:4])
    assert np.abs(ys[4] - without[4]).min() > 1e-6
    late = TauGRU(H, delay=T)
    assert_close(outputs(late, params), outputs(late, unfed))


def test_tau_gru_without_feedback_is_a_ugrnn():
    cell = TauGRU(H)
    params = with_gate(cell, params_of(cell), "a", CLOSED)
    same = {
        name: jnp.concatenate([-part["g"], part["u"]], -1)
        for name in ("kernel", "recurrent_kernel", "bias")
        for part in [blocks(cell, params, name)]
    }
    assert_close(outputs(cell, params), outputs(UGRNN(H), same))


def test_tau_gru_stands_still_without_time():
    cell = TauGRU(H, delay=2, dt=0.0)
    params = params_of(cell)
    carry = random_state(cell, params)
    last = ticks(cell, params, carry=carry)[0][-1]
    assert_close(last.hidden, carry.hidden)
    assert_close(last.past, np.stack([carry.hidden] * 2, 1))
    assert isinstance(last, TauGRUCarry)


def test_the_past_of_tau_gru_is_not_averaged():
    with pytest.raises((TypeError, ValueError), match="TauGRU"):
        Zoneout(TauGRU(H), 0.1).init(jax.random.key(0), INPUT)
