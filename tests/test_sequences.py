"""The last output of each sequence within its own length, for bare JAX."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import GRU, last, unroll
from tests.cases import INPUT, B, T, random_params

LENGTHS = np.array([T, 2, 0])
PARAMS = random_params(GRU(4))
XS = jax.random.normal(jax.random.key(0), (T, B, INPUT))


def by_hand(ys, alive, reverse):
    """ys [T, B, ...] and alive [T, B], sequence by sequence."""
    rows = []
    for b in range(B):
        ticks = np.flatnonzero(alive[:, b])
        rows.append(np.asarray(ys)[ticks[0 if reverse else -1], b] if len(ticks) else np.zeros_like(ys[0, b]))
    return np.stack(rows)


@pytest.mark.parametrize("reverse", [False, True])
def test_last_is_the_last_tick_that_was_read(reverse, rng):
    within = np.arange(T)[:, None] < LENGTHS
    holes = rng.random((T, B)) < 0.5
    everywhere = np.ones((T, B), bool)
    for options, alive in (
        ({}, everywhere),
        ({"lengths": LENGTHS}, within),
        ({"mask": holes}, holes),
        ({"lengths": LENGTHS, "mask": holes}, within & holes),
    ):
        carry, ys = unroll(GRU(4), PARAMS, XS, reverse=reverse, **options)
        got = last(ys, **options, reverse=reverse)
        np.testing.assert_array_equal(got, by_hand(ys, alive, reverse))
        seen = alive.any(0)
        np.testing.assert_allclose(got[seen], carry[seen], rtol=1e-6)


def test_last_of_any_pytree_traced_or_without_batch():
    ys = {"a": XS, "b": jnp.moveaxis(XS, 2, 1)[:, :, None]}
    traced = jax.jit(last)(ys | {"b": XS[..., None]}, jnp.asarray([T + 3, 2, 0], jnp.uint8))
    expected = last({"a": XS, "b": XS[..., None]}, LENGTHS)
    chex.assert_trees_all_equal(traced, expected)
    chex.assert_trees_all_equal(last(XS[:, 0], 2), XS[1, 0])
    chex.assert_trees_all_equal(last(XS[:, 0]), XS[-1, 0])
    chex.assert_trees_all_equal(last(XS[:0], np.zeros(B, int)), jnp.zeros_like(XS[0]))


def test_no_gradient_but_to_the_last_tick():
    slope = jax.grad(lambda ys: jnp.sum(last(ys, LENGTHS)))(XS)
    expected = np.zeros(XS.shape)
    expected[T - 1, 0], expected[1, 1] = 1, 1
    np.testing.assert_array_equal(slope, expected)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="lengths: expected shape"):
        last(XS, np.array([1, 2]))
    with pytest.raises(ValueError, match="lengths: expected values"):
        last(XS, np.array([1, 2, T + 1]))
    with pytest.raises(ValueError, match="mask: expected shape"):
        last(XS, mask=np.ones((B, T), bool))
    with pytest.raises(TypeError, match="reverse"):
        last(XS, reverse=1)
