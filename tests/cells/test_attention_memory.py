"""Matrices that keys and values write into: linear attention and its relatives, and their chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    GLA,
    HGRN2,
    DeltaNet,
    FastWeightProgrammer,
    GatedDeltaNet,
    LinearAttention,
    Mamba2,
    Retention,
    unroll,
)
from tests import references
from tests.cases import INPUT, run, scored, sparing
from tests.cells.common import (
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
)

pytestmark = pytest.mark.usefixtures("x64")
LONG = 150
"""More than two chunks."""
MEMORIES = (
    GLA(6, heads=2, key_size=2),
    GatedDeltaNet(6, heads=2, key_size=2),
    Retention(8, heads=2),
    LinearAttention(4, heads=2),
    HGRN2(4, heads=2),
    Mamba2(4, heads=2, key_size=3),
    DeltaNet(4, heads=2),
    FastWeightProgrammer(4, heads=2),
)
over_memories = pytest.mark.parametrize("cell", MEMORIES, ids=lambda cell: type(cell).__name__)
over_two_memories = pytest.mark.parametrize(
    "cell", sparing(MEMORIES, 2), ids=lambda cell: type(cell).__name__
)


@over_two_memories
def test_chunks_equal_the_equations(cell):
    """From any state, over three chunks."""
    params, xs = params_of(cell), sequence(LONG)
    carry = random_state(cell, params)
    last, ys = run(cell, params, xs, carry)
    (expected,), expected_ys, _ = references.run(cell, params, xs, carry)
    assert_close(ys, expected_ys)
    assert_close(last, expected)


@pytest.mark.laws
@over_memories
def test_slopes_of_chunks_are_those_of_ticks(cell, monkeypatch):
    """Of several chunks, the last one shorter, and of many ticks in one."""
    params, xs = params_of(cell), sequence(11)
    args = params, random_state(cell, params), xs

    def by_ticks(params, carry, xs):
        weights = cell.prepare(params)
        return jax.lax.scan(lambda carry, x: cell.tick(weights, carry, x), carry, xs)

    monkeypatch.setattr(type(cell), "chunk_size", 4)
    several = jax.jit(lambda args: scored(lambda params, carry, xs: unroll(cell, params, xs, carry), args))(
        args
    )
    jax.tree.map(assert_close, several, jax.jit(lambda args: scored(by_ticks, args))(args))


def with_decay(cell, params, size):
    """Parameters whose decays are about e^-size at some ticks and near 1 at others."""
    if isinstance(cell, GLA):
        return params | {"decay_kernel": params["decay_kernel"] * 16 * size}
    if isinstance(cell, HGRN2):
        block = slice(cell.features, 2 * cell.features)
        return params | {"kernel": params["kernel"].at[:, block].multiply(size)}
    return params | {"step_kernel": params["step_kernel"] * size}


@pytest.mark.parametrize("kind", sparing((GLA, HGRN2, Mamba2, GatedDeltaNet)))
def test_chunks_take_any_decay(kind):
    """In single precision, near the equations in double precision; slopes are finite."""
    cell = kind(4)
    params, xs = params_of(cell), sequence(64)
    start = cell.initial_carry(params, (B,))
    compute = jax.jit(lambda args: scored(lambda params, xs: unroll(cell, params, xs), args))
    for size in (1.0, 20.0, 1e4):
        scaled = with_decay(cell, params, size)
        with np.errstate(over="ignore"):  # of exp(-x) in the logistic function
            expected = references.run(cell, scaled, xs, start)[1]
        (_, ys), slopes = compute(jax.tree.map(jnp.float32, (scaled, xs)))
        np.testing.assert_allclose(ys, expected, rtol=2e-3, atol=2e-3)
        assert all(np.isfinite(slope).all() for slope in slopes)


def identity_output(cell, params):
    """The parameters with nothing done to what is seen but its norm, where there is one."""
    eye = {"output_kernel": jnp.eye(cell.features)}
    if "norm_scale" in params:
        eye["norm_scale"] = jnp.ones_like(params["norm_scale"])
    return params | eye | {name: jnp.zeros_like(params[name]) for name in ("output_bias",) if name in params}


def by_head(cell, fused):
    """[..., h * N] -> [..., h, N]."""
    return np.reshape(fused, (*fused.shape[:-1], cell.heads, -1))


def test_retention_is_its_parallel_form():
    """Q K^T turned by the positions of both, times a decay for each distance, times V."""
    cell = Retention(8, heads=2)
    params = identity_output(cell, params_of(cell))
    p, xs = in_numpy(params)
    q, k = (by_head(cell, part) for part in np.split(xs @ p["key_kernel"], 2, -1))
    v, g = (by_head(cell, xs @ part) for part in blocks(cell, p, "kernel").values())
    q, k = (part[..., :1] + 1j * part[..., 1:] for part in (q, k))  # K = 2: one pair, which turns by 1 a tick
    turned = np.exp(1j * np.arange(T)).reshape(-1, 1, 1, 1)
    scores = np.einsum("tbhk,sbhk->bhts", np.conj(q * turned), k * turned).real / np.sqrt(2)
    distance = np.arange(T)[:, None] - np.arange(T)
    decay = np.stack(
        [np.where(distance >= 0, (1 - 2.0 ** (-5 - h)) ** np.abs(distance), 0) for h in range(2)]
    )
    o = np.einsum("bhts,sbhv->tbhv", scores * np.stack(decay), v)
    expected = g / (1 + np.exp(-g)) * o / np.sqrt((o**2).mean(-1, keepdims=True) + 1e-6)
    assert_close(run(cell, params, sequence())[1], expected.reshape(T, B, 8))


def test_retention_does_not_know_its_position():
    """What came before an empty memory, and how long ago, does not matter."""
    cell = Retention(4)
    params, xs = params_of(cell), np.array(sequence())
    late = np.concatenate([np.zeros_like(xs), xs])
    assert_close(run(cell, params, late)[1][T:], run(cell, params, xs)[1])


def test_weights_of_linear_attention_sum_to_one():
    """A value that never changes is what is seen, whatever keys and queries; so is the value of one tick."""
    cell = LinearAttention(4, heads=2, epsilon=1e-12)
    params = identity_output(cell, params_of(cell))
    alone = outputs(cell, params, sequence()[:1])
    p, xs = in_numpy(params)
    assert_close(alone[0], xs[0] @ p["kernel"] + p["bias"])
    constant = params | {"kernel": jnp.zeros_like(params["kernel"])}
    assert_close(run(cell, constant, sequence())[1], np.broadcast_to(p["bias"], (T, B, 4)))


def test_linear_attention_does_not_know_the_order_of_the_past():
    cell = LinearAttention(4)
    params, xs = params_of(cell), np.array(sequence())
    mixed = np.concatenate([xs[[3, 0, 4, 2, 1]], xs[5:]])
    assert_close(outputs(cell, params, mixed)[-1], outputs(cell, params)[-1])


def states_of(cell, params, carry):
    return np.stack(ticks(cell, params, carry=carry)[0][1:])


def test_gla_without_decay_adds_up():
    cell = GLA(4, key_size=3)
    params = params_of(cell)
    p, xs = in_numpy(params)
    carry = np.asarray(random_state(cell, params))
    k, v = (xs @ p["key_kernel"])[..., 3:], xs @ blocks(cell, p, "kernel")["v"]
    expected = carry[:, 0] + np.cumsum(k[..., :, None] * v[..., None, :], 0)
    still = params | {"decay_bias": jnp.full_like(params["decay_bias"], 1e6)}
    assert_close(states_of(cell, still, carry)[:, :, 0], expected)


def test_gla_forgets_by_rows_at_the_root_of_its_gate():
    """Without keys, S' = s(logit)^(1 / tau) S, row by row."""
    cell = GLA(4, key_size=3, temperature=4.0)
    params = params_of(cell) | {"key_kernel": jnp.zeros((INPUT, 6))}
    p, xs = in_numpy(params)
    logit = xs @ p["gate_kernel"] @ p["decay_kernel"] + p["decay_bias"]
    carry = np.asarray(random_state(cell, params))
    expected = np.cumprod((1 + np.exp(-logit)) ** -0.25, 0)[..., None] * carry[:, 0]
    assert_close(states_of(cell, params, carry)[:, :, 0], expected)
    start = GLA(4, forget_bias=3.0).init(jax.random.key(0), INPUT)
    np.testing.assert_array_equal(start["decay_bias"], np.full(2, 3.0))


def test_hgrn2_averages_its_values():
    """What is written and what is kept make one: a memory full of the value stays so; gamma = 1 freezes."""
    cell = HGRN2(4, heads=2)
    params = params_of(cell)
    params["kernel"] = params["kernel"].at[:, 8:].set(0)
    full = jnp.broadcast_to(params["bias"][8:].reshape(2, 1, 2), (B, 2, 2, 2))
    assert_close(ticks(cell, params, carry=full)[0][-1], full)
    carry = random_state(cell, params)
    kept = ticks(cell, params, carry=carry)[0][-1]
    assert np.all(np.abs(kept - full) < np.abs(carry - full))
    assert_close(ticks(HGRN2(4, heads=2, lower_bound=1.0), params, carry=carry)[0][-1], carry)


def test_hgrn2_with_heads_of_one_is_a_gated_linear_network():
    """h' = f h + (1 - f) v, the first HGRN without its phases."""
    cell = HGRN2(4, heads=4, lower_bound=0.3)
    params = params_of(cell)
    p, xs = in_numpy(params)
    f, v = (xs @ blocks(cell, p, "kernel")[gate] + blocks(cell, p, "bias")[gate] for gate in "fv")
    f, h = 0.3 + 0.7 / (1 + np.exp(-f)), np.zeros((B, 4))
    for t, state in enumerate(ticks(cell, params)[0][1:]):
        h = f[t] * h + (1 - f[t]) * v[t]
        assert_close(state[..., 0, 0], h)


def test_mamba2_is_a_semiseparable_matrix():
    """o = (L * Q K^T) V from an empty memory, with L_ts = exp of the sum of log decays after s up to t."""
    cell = Mamba2(4, heads=2, key_size=3)
    params = identity_output(cell, params_of(cell))
    p, xs = in_numpy(params)
    silu = lambda a: a / (1 + np.exp(-a))  # noqa: E731
    z, u = (silu(by_head(cell, xs @ part)) for part in blocks(cell, p, "kernel").values())
    q, k = np.split(silu(xs @ p["key_kernel"]), 2, -1)
    d = np.log1p(np.exp(xs @ p["step_kernel"] + p["step_bias"]))
    log_decay, o = -np.exp(p["log_rate"]) * d, p["skip"][:, None] * u
    for t in range(T):
        for s in range(t + 1):
            left = np.exp(log_decay[s + 1 : t + 1].sum(0)) * d[s] * (q[t] * k[s]).sum(-1, keepdims=True)
            o[t] += left[..., None] * u[s]
    y = (z * o).reshape(T, B, 4)
    expected = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-5)
    assert_close(run(cell, params, sequence())[1], expected)


@pytest.mark.parametrize("kind", [Mamba2, GatedDeltaNet])
def test_steps_that_take_no_time_and_all_the_time(kind):
    """In no time Mamba-2 neither forgets nor writes, and a gated delta net writes as a delta net does."""
    cell = kind(4, heads=2)
    params = params_of(cell)
    carry = random_state(cell, params)
    still = params | {"step_kernel": jnp.zeros((INPUT, 2)), "step_bias": jnp.full(2, -jnp.inf)}
    found = ticks(cell, still, carry=carry)[0][-1]
    if kind is Mamba2:
        assert_close(found, carry)
    else:
        twin = {name: still[name] for name in ("key_kernel", "write_kernel", "norm_scale", "output_kernel")}
        twin["kernel"] = still["kernel"][:, :4]
        assert_close(found, ticks(DeltaNet(4, heads=2, key_size=1), twin, carry=carry)[0][-1])
    forgetful = still | {"step_bias": jnp.full(2, 1e3)}
    alone = ticks(cell, forgetful, sequence()[-1:])[0][-1]
    assert_close(ticks(cell, forgetful, carry=carry)[0][-1], alone)


@pytest.mark.parametrize("kind", sparing((Mamba2, GatedDeltaNet)))
def test_steps_and_rates_start_in_their_ranges(kind):
    params = kind(512, heads=512, key_size=1).init(jax.random.key(0), INPUT, jnp.float64)
    step, rate = jax.nn.softplus(params["step_bias"]), jnp.exp(params["log_rate"])
    assert 1e-3 <= step.min() < 1.1e-3
    assert 0.09 < step.max() <= 0.1
    assert np.median(step) == pytest.approx(1e-2, rel=0.2)  # uniform in its logarithm
    assert kind.rates[0] <= rate.min() < kind.rates[0] + 0.2
    assert 15.8 < rate.max() <= 16
    assert rate.mean() == pytest.approx((kind.rates[0] + 16) / 2, rel=0.05)
