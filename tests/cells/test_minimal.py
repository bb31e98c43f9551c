"""Small gated cells: which is which other with something left out, what gates do, how they start.

More of them are in test_additive.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    ATR,
    BRC,
    CFN,
    DSGU,
    GRU,
    MGU,
    MGU1,
    MGU2,
    MGU3,
    MUT1,
    MUT2,
    MUT3,
    NBRC,
    RAN,
    SGRN,
    SGU,
    STAR,
    UGRNN,
    Elman,
    IntersectionRNN,
    LightRU,
    LiGRU,
    MinimalRNN,
    TauGRU,
)
from rnncells.initializers import Zeros
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
)
from tests.references.common import s

pytestmark = pytest.mark.usefixtures("x64")
H = FEATURES


FORGETTING = {
    MGU1: ("f", -1),
    MGU3: ("f", -1),
    MUT1: ("z", -1),
    MUT2: ("z", -1),
    MUT3: ("z", -1),
    LiGRU: ("z", 1),
    IntersectionRNN: ("g", 1),
    STAR: ("k", -1),
    LightRU: ("f", -1),
    MinimalRNN: ("u", 1),
    RAN: ("f", 1),
    SGRN: ("f", 1),
    CFN: ("theta", 1),
    BRC: ("c", 1),
    NBRC: ("c", 1),
    SGU: ("z", -1),
    DSGU: ("z", -1),
    TauGRU: ("g", -1),
}
"""The gate that the forget bias is of, and its sign there."""


@pytest.mark.parametrize("kind", FORGETTING, ids=lambda kind: kind.__name__)
def test_the_forget_bias_is_of_the_gate_that_decides(kind):
    gate, sign = FORGETTING[kind]
    cell = kind(H, forget_bias=0.75, bias_init=Zeros())
    bias = blocks(cell, cell.init(jax.random.key(0), INPUT), "bias")
    np.testing.assert_array_equal(bias.pop(gate), np.full(H, sign * 0.75, np.float32))
    own = {IntersectionRNN: {"p": 1.0}, CFN: {"eta": -1.0}}.get(kind, {})
    for other, values in bias.items():
        np.testing.assert_array_equal(values, np.full(H, own.get(other, 0.0), np.float32))


def test_defaults_of_the_papers():
    assert [kind(H).forget_bias for kind in (LiGRU, IntersectionRNN, CFN, BRC)] == [0, 1, 1, 0]
    params = STAR(64).init(jax.random.key(0), 16)
    memory = np.exp(-blocks(STAR(64), params, "bias")["k"])
    assert 1 <= memory.min() < 10
    assert 80 < memory.max() <= 99
    for block in blocks(STAR(64), params, "kernel").values():
        np.testing.assert_allclose(block @ block.T, np.eye(16), atol=1e-5)
    np.testing.assert_array_equal(BRC(H).init(jax.random.key(0), INPUT)["recurrent_weight"], np.ones((2, H)))
    for cell, bound in ((TauGRU(64), 1 / 8), (ATR(64), 0.08), (CFN(64), 0.07)):
        params = cell.init(jax.random.key(0), 16)
        for name in ("kernel", "recurrent_kernel"):
            assert 0.9 * bound < np.abs(params[name]).max() <= bound


def test_mgu_with_a_slimmer_gate():
    """Without what the gate reads of x, then of its bias, or of h."""
    one, two, three = params_of(MGU1(H)), params_of(MGU2(H)), params_of(MGU3(H))
    none = np.zeros_like(one["kernel"])
    for cell, params, gate, bias in (
        (MGU1(H), one, one["recurrent_kernel"][:, :H], one["bias"][:H]),
        (MGU2(H), two, two["recurrent_kernel"][:, :H], np.zeros(H)),
        (MGU3(H), three, np.zeros((H, H)), three["bias"][:H]),
    ):
        whole = {
            "kernel": np.concatenate([none, params["kernel"]], -1),
            "recurrent_kernel": np.concatenate([gate, params["recurrent_kernel"][:, -H:]], -1),
            "bias": np.concatenate([bias, params["bias"][-H:]]),
        }
        assert_close(outputs(cell, params), outputs(MGU(H), jax.tree.map(jnp.asarray, whole)))
    halves = MGU3(H, use_bias=False)
    params = {name: leaf for name, leaf in three.items() if name != "bias"}
    assert_close(outputs(halves, params), outputs(MGU3(H), params | {"bias": jnp.zeros(2 * H)}))


@pytest.mark.parametrize("kind", [MGU1, MGU3, MUT1, MUT2, MUT3, LightRU, SGU, DSGU])
def test_nothing_enters_by_a_closed_gate(kind):
    cell = kind(H)
    params = with_gate(cell, params_of(cell), FORGETTING[kind][0], CLOSED)
    carry = random_state(cell, params)
    assert_close(ticks(cell, params, carry=carry)[0][-1], carry)


@pytest.mark.parametrize("kind", [LiGRU, MinimalRNN, NBRC])
def test_everything_stays_behind_an_open_gate(kind):
    cell = kind(H)
    params = with_gate(cell, params_of(cell), FORGETTING[kind][0], OPEN)
    carry = random_state(cell, params)
    assert_close(ticks(cell, params, carry=carry)[0][-1], carry)


def as_gru(params, w_r):
    """Parameters of a mutation as those of a GRU, whose z keeps; w_r is what its r reads of x."""
    (u_z, u_r, u_n), (b_z, b_r, b_n) = (
        np.split(params[name], 3, -1) for name in ("recurrent_kernel", "bias")
    )
    w_z, w_n = params["kernel"][:, :H], params["kernel"][:, -H:]
    fused = {
        "kernel": [w_r, -w_z, w_n],
        "recurrent_kernel": [u_r, -u_z, u_n],
        "bias": [b_r, -b_z, b_n],
    }
    return {name: jnp.concatenate(parts, -1) for name, parts in fused.items()}


def test_mut2_is_a_gru_whose_reset_gate_does_not_weigh_the_input():
    gru, cell = GRU(H, reset_after=False), MUT2(H)
    params = params_of(cell)
    assert_close(outputs(cell, params), outputs(gru, as_gru(params, params["input_kernel"])))
    wide = jax.random.normal(jax.random.key(3), (T, B, H), jnp.float64)
    params = {name: leaf for name, leaf in params.items() if name != "input_kernel"}
    params["kernel"] = jax.random.normal(jax.random.key(4), (H, 2 * H), jnp.float64)
    assert_close(outputs(cell, params, wide), outputs(gru, as_gru(params, np.eye(H)), wide))


def test_mut3_is_a_gru_up_to_the_third_order_of_its_state():
    cell, gru = MUT3(H), GRU(H, reset_after=False)
    params = params_of(cell)
    same = as_gru(params, params["kernel"][:, H : 2 * H])
    carry, x = random_state(cell, params), sequence()[:1]

    def gap(size):
        return outputs(cell, params, x, size * carry) - outputs(gru, same, x, size * carry)

    np.testing.assert_allclose(gap(0.01)[0] / gap(0.005)[0], np.full((B, H), 8.0), rtol=0.05)
    assert np.abs(gap(1.0)).max() > 1e-3


def test_the_update_gate_of_mut1_does_not_see_the_state():
    """So that, with a candidate that does not either, the tick is affine in the state."""
    for kind, affine in ((MUT1, True), (MUT3, False)):
        cell = kind(H)
        params = params_of(cell)
        params["recurrent_kernel"] = params["recurrent_kernel"].at[:, -H:].set(0.0)
        a, b = (random_state(cell, params, seed) for seed in (1, 2))
        one, two, middle = (outputs(cell, params, sequence()[:1], h) for h in (a, b, (a + b) / 2))
        assert np.allclose((one + two) / 2, middle, atol=1e-12) == affine


@pytest.mark.parametrize("kind", [MUT1, MUT2, IntersectionRNN])
def test_an_input_as_wide_as_the_state_enters_as_it_is(kind):
    cell = kind(INPUT)
    params = params_of(cell)
    assert "input_kernel" not in params
    assert params_of(kind(H))["input_kernel"].shape == (INPUT, H)
    whole = params | {"input_kernel": jnp.eye(INPUT, dtype=jnp.float64)}
    assert_close(outputs(cell, params), outputs(cell, whole))


def test_ligru_is_an_elman_network_of_relu_or_a_ugrnn():
    cell = LiGRU(H)
    params = params_of(cell)
    closed = with_gate(cell, params, "z", CLOSED)
    elman = {name: leaf[..., H:] for name, leaf in params.items()}
    assert_close(outputs(cell, closed), outputs(Elman(H, activation="relu"), elman))
    assert outputs(cell, params).min() >= 0
    assert_close(outputs(LiGRU(H, activation="tanh"), params), outputs(UGRNN(H), params))


def test_intersection_rnn_is_a_ugrnn_in_time_that_passes_its_input_on():
    cell = IntersectionRNN(INPUT)
    params = params_of(cell)
    half = {name: leaf[..., : 2 * INPUT] for name, leaf in params.items()}
    states, _ = ticks(cell, params)
    assert_close(states[1:], ticks(UGRNN(INPUT), half)[0][1:])
    assert_close(outputs(cell, with_gate(cell, params, "p", OPEN)), sequence())
    weights, xs = in_numpy(params)
    own = {name: leaf[..., 3 * INPUT :] for name, leaf in weights.items()}
    before = np.stack(states[:-1])
    new = np.maximum(xs @ own["kernel"] + before @ own["recurrent_kernel"] + own["bias"], 0)
    assert_close(outputs(cell, with_gate(cell, params, "p", CLOSED)), new)


def test_star_is_a_light_ru_with_a_last_tanh():
    """So its state fades even behind a closed gate."""
    star, light = STAR(H), LightRU(H)
    params = with_gate(star, params_of(star), "z", 0.0) | {"kernel": params_of(star)["kernel"]}
    same = params | {"bias": params["bias"][H:]}
    carry, x = random_state(star, params), sequence()[:1]
    assert_close(np.arctanh(outputs(star, params, x, carry)), outputs(light, same, x, carry))
    closed = with_gate(star, params, "k", CLOSED)
    assert_close(ticks(star, closed, carry=carry)[0][2], np.tanh(np.tanh(carry)))


def test_light_ru_is_bounded_by_its_candidates():
    cell = LightRU(H)
    assert np.abs(outputs(cell, params_of(cell), 20 * sequence())).max() <= 1
    candidate = outputs(cell, with_gate(cell, params_of(cell), "f", OPEN))
    weights, xs = in_numpy(params_of(cell))
    assert_close(candidate, np.tanh(xs @ weights["kernel"][:, :H]))


def test_minimal_rnn_whose_gate_does_not_see_the_state_is_an_average():
    """In closed form, by the products of what was kept."""
    cell = MinimalRNN(H)
    params = params_of(cell) | {"recurrent_kernel": jnp.zeros((H, H), jnp.float64)}
    weights, xs = in_numpy(params)
    z = np.tanh(xs @ weights["kernel"] + weights["bias"][:H])
    u = s(z @ weights["latent_kernel"] + weights["bias"][H:])
    expected = [
        sum(np.prod(u[past + 1 : t + 1], 0) * (1 - u[past]) * z[past] for past in range(t + 1))
        for t in range(T)
    ]
    assert_close(outputs(cell, params), np.stack(expected))
    assert np.abs(outputs(cell, params_of(cell), 20 * sequence())).max() <= 1
