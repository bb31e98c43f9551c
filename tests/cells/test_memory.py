"""Cells with matrix memories: MLSTM."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import MLSTM, unroll
from tests import references
from tests.cases import INPUT, at, random_like, run, scored
from tests.cells.common import B, assert_close, params_of, sequence

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


@pytest.mark.parametrize("heads", [1, 2])
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


@pytest.mark.parametrize("way", ["chunks", "ticks"])
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
