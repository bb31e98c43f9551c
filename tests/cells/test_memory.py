"""Cells with memories: MLSTM, NRU, LMU, HiPPOLegS."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import LMU, MLSTM, NRU, Elman, HiPPOLegS, unroll
from rnncells.cells.memory.hippo import remember
from rnncells.parts import hippo
from tests import references
from tests.cases import INPUT, at, random_like, run, scored, sparing
from tests.cells.common import B, assert_close, outputs, params_of, random_state, sequence, ticks

pytestmark = pytest.mark.usefixtures("x64")
LONG = 150
"""More than two chunks."""


def by_ticks(cell, params, carry, xs):
    weights = cell.prepare(params)
    return jax.lax.scan(lambda carry, x: cell.tick(weights, carry, x), carry, xs)


def meaning(state):
    """The memory and its norm as they are, with their scale put back."""
    return [
        leaf
        * np.exp(state.log_scale).reshape(*state.log_scale.shape, *[1] * (leaf.ndim - state.log_scale.ndim))
        for leaf in state.values
    ]


@pytest.mark.parametrize("heads", sparing((2, 1)))
def test_chunks_equal_ticks_equal_the_unstabilised_equations(heads):
    """From any state, backwards too."""
    cell = MLSTM(4, heads=heads)
    params, xs = params_of(cell), sequence(LONG)
    carry = random_like(cell.initial_carry(params, (B,)))
    last, ys = run(cell, params, xs, carry)
    expected, expected_ys, _ = references.run(cell, params, xs, carry)
    assert_close(ys, expected_ys)
    jax.tree.map(assert_close, jax.tree.leaves(last), expected)
    ticks_last, ticks_ys = by_ticks(cell, params, carry, xs)
    assert_close(ys, ticks_ys)
    jax.tree.map(assert_close, meaning(last), meaning(ticks_last))
    assert_close(run(cell, params, xs[::-1], carry, reverse=True)[1][::-1], ys)


@pytest.mark.laws
def test_lengths_and_resets_of_many_chunks():
    """What is packed equals each part alone, in the form of chunks and without it."""
    cell = MLSTM(4, heads=2)
    params, xs = params_of(cell), sequence(LONG)
    lengths = np.array([LONG, 70, 0])
    last, ys = run(cell, params, xs, lengths=lengths)
    for b, length in enumerate(lengths):
        alone, outputs = run(cell, params, xs[:length, b])
        assert_close(ys[:length, b], outputs)
        assert not np.any(ys[length:, b])
        jax.tree.map(assert_close, meaning(at(last, b)), meaning(alone))
    resets = np.zeros((LONG, B), bool)
    resets[[0, 70]] = True
    alone = np.concatenate([run(cell, params, part)[1] for part in (xs[:70], xs[70:])])
    for parallel in (True, False):
        assert_close(run(cell, params, xs, resets=resets, parallel=parallel)[1], alone)


@pytest.mark.parametrize("way", ["ticks", pytest.param("chunks", marks=pytest.mark.laws)])
def test_huge_input_gates_are_finite(way):
    cell = MLSTM(4, heads=2)
    params = cell.init(jax.random.key(0), INPUT)
    params["gate_bias"] = params["gate_bias"].at[:2].set(1e4)
    params["gate_kernel"] = params["gate_kernel"].at[:, :2].set(1e3)
    xs = sequence(LONG).astype(jnp.float32)
    carry = cell.initial_carry(params, (B,))
    f = unroll if way == "chunks" else lambda cell, params, xs, carry: by_ticks(cell, params, carry, xs)
    out, slopes = jax.jit(lambda params: scored(lambda params: f(cell, params, xs, carry), (params,)))(params)
    for leaf in (*jax.tree.leaves(out), *slopes):
        assert np.isfinite(leaf).all()


def test_heads_are_independent():
    """What belongs to the second head does not reach the output of the first."""
    cell = MLSTM(4, heads=2)
    params = params_of(cell)
    second = np.tile([False, False, True, True], 4)
    other = params_of(cell, seed=1)
    gates = np.array([False, True, False, True])
    mixed = {
        "kernel": np.where(second, other["kernel"], params["kernel"]),
        "bias": np.where(second, other["bias"], params["bias"]),
        "gate_kernel": np.where(gates, other["gate_kernel"], params["gate_kernel"]),
        "gate_bias": np.where(gates, other["gate_bias"], params["gate_bias"]),
    }
    assert mixed.keys() == params.keys()
    ys, changed = (run(cell, p, sequence())[1] for p in (params, mixed))
    assert_close(ys[..., :2], changed[..., :2])
    assert not np.allclose(ys[..., 2:], changed[..., 2:])


def test_gates_start_as_in_the_authors_code():
    params = MLSTM(64, heads=4).init(jax.random.key(0), INPUT)
    assert not np.any(params["gate_kernel"])
    np.testing.assert_allclose(params["gate_bias"][4:], [3, 4, 5, 6], rtol=1e-6)
    assert 0 < np.abs(params["gate_bias"][:4]).max() < 0.5
    with pytest.raises(ValueError, match=r"MLSTM.features: expected a multiple of heads=3, got 4"):
        MLSTM(4, heads=3)


def without(params, *names):
    return params | {name: jnp.zeros_like(params[name]) for name in names}


def test_nru_without_heads_keeps_its_memory_and_is_an_elman_of_relu():
    cell = NRU(4, memory=9, heads=4)
    params = without(params_of(cell), "heads_kernel", "heads_bias")
    carry = random_state(cell, params)
    states, ys = ticks(cell, params, carry=carry)
    assert_close(states[-1].memory, carry.memory)
    seen = params["bias"] + carry.memory[0] @ params["memory_kernel"]
    elman = {name: params[name] for name in ("kernel", "recurrent_kernel")} | {"bias": seen}
    alone = outputs(Elman(4, activation="relu"), elman, carry=carry.hidden)
    assert_close(ys[:, 0], alone[:, 0])


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_nru_heads_write_rows_of_norm_one(size):
    """In the norm of order 5, in single precision and however large their vectors are."""
    cell = NRU(4, memory=16)
    p, q = (size**0.5 * jax.random.normal(key, (B, 8), jnp.float32) for key in keys(2))
    for head in np.eye(4):
        row = np.asarray(cell._written(jnp.asarray(3 * head, jnp.float32)[None], p, q), np.float64)
        np.testing.assert_allclose((np.abs(row) ** 5).sum(-1) ** 0.2, 3, rtol=1e-5)
    ones = jnp.ones((B, 4), jnp.float32)
    slopes = jax.grad(lambda p: cell._written(ones, p, q).sum())(jnp.zeros_like(p))
    assert np.isfinite(slopes).all()


def test_nru_changes_its_memory_by_at_most_the_mean_of_its_strengths():
    cell = NRU(4, memory=16)
    params = params_of(cell)
    states, ys = jax.tree.map(np.asarray, ticks(cell, params))
    params = jax.tree.map(np.asarray, params)
    assert ys.min() == 0 < ys.max()
    for before, after in itertools.pairwise(states):
        both = np.concatenate([after.hidden, before.memory], -1)
        strengths = (both @ params["heads_kernel"] + params["heads_bias"])[:, :8]
        change = (np.abs(after.memory - before.memory) ** 5).sum(-1) ** 0.2
        assert np.all(change <= np.abs(strengths).sum(-1) / 4 + 1e-12)
        assert change.min() > 0


def test_nru_sizes():
    params = NRU(4).init(jax.random.key(0), 3)
    assert params["heads_kernel"].shape == (68, 2 * 4 + 4 * 16)
    assert 0.9 < np.abs(params["heads_kernel"]).max() * np.sqrt(68) <= 1
    assert 0.8 < np.abs(params["kernel"]).max() * np.sqrt(71) <= 1
    with pytest.raises(ValueError, match=r"NRU.memory: expected a square number times heads=4, .* got 65"):
        NRU(4, memory=65)


def keys(count):
    return jax.random.split(jax.random.key(3), count)


def test_lmu_remembers_a_constant_and_a_window():
    """A memory that reads its input alone: of a constant it holds one polynomial, of a wave its past."""
    cell = LMU(2, order=6, theta=40.0)
    params = without(params_of(cell), "hidden_encoder", "memory_encoder")
    params["input_encoder"] = jnp.ones((1, 1))
    params["kernel"] = params["kernel"][:1]
    wave = jnp.sin(2 * jnp.pi * jnp.arange(160.0) / 80)
    xs = jnp.stack([jnp.full(160, 0.7), wave], 1)[..., None]
    memory = np.asarray(run(cell, params, xs)[0].memory[:, 0])
    np.testing.assert_allclose(memory[0], [0.7, 0, 0, 0, 0, 0], atol=1e-5)
    for share in (0.25, 0.5, 0.75):
        read = np.polynomial.legendre.legval(2 * share - 1, memory[1])
        assert read == pytest.approx(float(wave[159 - int(40 * share)]), abs=0.03)


def test_lmu_memories_are_memories_of_one_signal_each():
    """What the second signal is changes the second memory alone."""
    cell = LMU(4, order=3, memories=2)
    params = without(params_of(cell), "hidden_encoder", "memory_encoder")
    other = params | {"input_encoder": params["input_encoder"].at[:, 1].multiply(2)}
    first, second = (ticks(cell, given)[0][-1].memory for given in (params, other))
    assert_close(first[:, 0], second[:, 0])
    assert_close(2 * first[:, 1], second[:, 1])


def test_lmu_takes_its_matrices_from_double_precision():
    cell = LMU(4, order=64, theta=100)
    weights = cell.prepare(cell.init(jax.random.key(0), INPUT))
    a, b = hippo.zero_order_hold(*hippo.legt(64), 0.01)
    assert weights["transition"].dtype == jnp.float32
    np.testing.assert_array_equal(weights["transition"], a.T.astype(np.float32))
    np.testing.assert_array_equal(weights["write"], b.astype(np.float32))
    for theta, kind in ((0.0, ValueError), (jnp.ones(()), TypeError), (True, TypeError)):
        with pytest.raises(kind, match=r"LMU.theta: expected a"):
            LMU(4, theta=theta)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_hippo_solves_its_systems(dtype):
    """Of 64 polynomials, early and late, against a dense solution in double precision."""
    a, b = hippo.legs(64)
    memory_key, signal_key = keys(2)
    memory, signal = jax.random.normal(memory_key, (4, 2, 64)), jax.random.normal(signal_key, (4, 2))
    so_far = np.array([1, 2, 30, 5000], np.int32)
    found = jax.jit(remember)(memory.astype(dtype), signal.astype(dtype), jnp.asarray(so_far))
    for t, m, u, row in zip(so_far, memory, signal, found, strict=True):
        right = (np.eye(64) + a / (2 * t)) @ np.asarray(m).T + np.outer(b, u) / t
        expected = np.linalg.solve(np.eye(64) - a / (2 * t), right).T
        np.testing.assert_allclose(row, expected, atol=1e-4 if dtype == jnp.float32 else 1e-11)


def test_hippo_holds_a_constant_exactly_and_knows_no_time_scale():
    """From the first tick on; and a signal at half the speed leaves nearly the same."""
    memory, flat, tick = jnp.zeros((1, 8)), jnp.full((1,), 0.7), jax.jit(remember)
    for t in range(20):
        memory = tick(memory, flat, jnp.int32(t))
        np.testing.assert_allclose(memory, [[0.7, *[0] * 7]], atol=1e-14)

    def remembered(length):
        signal = jnp.sin(3 * jnp.arange(length)[:, None] / length)

        now = signal, jnp.arange(length, dtype=jnp.int32)
        return jax.lax.scan(lambda memory, now: (remember(memory, *now), None), jnp.zeros((1, 8)), now)[0]

    slow, fast = remembered(800), remembered(400)
    np.testing.assert_allclose(slow, fast, atol=0.02)
    assert np.abs(fast).max() > 0.5


@pytest.mark.laws
def test_hippo_counts_its_own_ticks_and_starts_as_its_authors_do():
    cell = HiPPOLegS(64, memories=2, order=8, forget_bias=3.0)
    params = cell.init(jax.random.key(0), 10)
    gate, candidate = np.split(np.asarray(params["memory_kernel"]), 2, -1)
    assert gate.std() == pytest.approx(26**-0.5, rel=0.1)
    assert candidate.std() == pytest.approx((2 / 80) ** 0.5, rel=0.1)
    gate, candidate = np.split(np.asarray(params["bias"]), 2)
    assert abs(gate.mean() + 3) < 0.1 < abs(gate + 3).max() < 26**-0.5
    assert abs(candidate.mean()) < 0.1
    assert 0.9 < np.abs(params["hidden_encoder"]).max() / np.sqrt(3 / 74) <= 1
    small = HiPPOLegS(4)
    carry, _ = run(small, params_of(small), sequence(), lengths=np.array([6, 2, 0]))
    np.testing.assert_array_equal(carry.ticks, [6, 2, 0])
