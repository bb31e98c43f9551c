"""What `unroll`'s options mean: for every trait it equals plain loops over each sequence by itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import unroll
from tests.cases import (
    INPUT,
    at,
    close,
    drawn,
    exact,
    floating,
    inputs,
    over,
    random_params,
    run,
    scored,
    tick_of,
    with_floating,
)
from tests.references.loops import loops
from tests.traits import TRAITS

T, B = 7, 3
over_traits = over(TRAITS, ("gated", "diagonal", "integer"))


def draw_options(seed):
    """A random combination of all options; what must not be read is drawn too."""
    rng = np.random.default_rng(seed)
    options = {"reverse": bool(rng.integers(2))}
    if rng.integers(2):
        options["lengths"] = rng.permutation([0, T, int(rng.integers(1, T))])
    if rng.integers(2):
        options["mask"] = rng.random((T, B)) < 0.7
    if rng.integers(2):
        options["resets"] = rng.random((T, B)) < 0.4
    if rng.integers(2):
        options["truncate_every"] = int(rng.integers(1, T + 2))
    extra = {"return_carries": bool(rng.integers(2))}
    if rng.integers(2):
        extra["remat_every"] = int(rng.integers(1, T + 2))
    return options, extra


def check_options(cell, seed, size=INPUT):
    """Values and slopes, in parallel too where the cell is linear; NaN in every tick that does not exist."""
    options, extra = draw_options(seed)
    params, carry, xs = drawn(cell, T, (B,), size)
    carry = carry if seed % 3 else None
    dead = np.zeros((T, B), bool)
    if "lengths" in options:
        dead |= np.arange(T)[:, None] >= options["lengths"][None]
    if "mask" in options:
        dead |= ~options["mask"]
    xs = jax.tree.map(lambda leaf: jnp.where(dead[..., None], jnp.nan, leaf), xs)

    def by_loops(params, carry, xs):
        last, (ys, carries) = loops(cell, params, xs, carry, **options)
        return last, (ys, carries) if extra["return_carries"] else ys

    expected = scored(by_loops, (params, carry, xs))
    for parallel in (True, None) if cell.linear else (None,):

        def at_once(params, carry, xs, parallel=parallel):
            return unroll(cell, params, xs, carry, parallel=parallel, **options, **extra)

        found = jax.jit(functools.partial(scored, at_once))((params, carry, xs))
        close(found, expected, atol=1e-10)


@exact
@over_traits
@pytest.mark.parametrize("seed", [0, *(pytest.param(i, marks=pytest.mark.laws) for i in range(1, 3))])
def test_combined_options_equal_loops(cell, seed):
    check_options(cell, seed + 10 * list(TRAITS.values()).index(cell))


@exact
@pytest.mark.parametrize("reverse", [False, pytest.param(True, marks=pytest.mark.laws)])
@over_traits
def test_packed_segments_equal_each_alone(cell, reverse):
    """Two sequences packed into one, against each by itself; the carry given is not read, and no slope
    crosses."""
    params, _, xs = drawn(cell, T, (B,))
    cut, resets = 3, np.zeros((T, B), bool)
    resets[[0, cut]] = True
    unread = cell.initial_carry(params, (B,), like=tick_of(xs))
    unread = with_floating(unread, [jnp.full_like(leaf, jnp.nan) for leaf in floating(unread)])
    carry = None if reverse else unread  # read backwards, the last segment goes on from the carry

    def packed(params, xs):
        return run(cell, params, xs, carry, resets=resets, reverse=reverse)[1]

    def alone(params, xs):
        parts = (at(xs, slice(cut)), at(xs, slice(cut, None)))
        return jnp.concatenate([run(cell, params, part, reverse=reverse)[1] for part in parts])

    close(scored(packed, (params, xs)), scored(alone, (params, xs)), atol=1e-10)
    here, others = (slice(cut), slice(cut, None)) if reverse else (slice(cut, None), slice(cut))
    crossing = scored(lambda xs: packed(params, xs)[here], (xs,))[1]
    assert not any(np.any(leaf[others]) for leaf in crossing)
    assert any(np.any(leaf[here]) for leaf in crossing)


@over_traits
def test_traced_lengths_are_clipped(cell):
    """Also those in 8 bits, which cannot hold T."""
    params, xs = random_params(cell), inputs(cell, 300, (B,), dtype=jnp.float32)
    expected = unroll(cell, params, xs, lengths=[0, 3, 300])
    close(run(cell, params, xs, lengths=jnp.array([-2, 3, 305])), expected, atol=1e-5)
    close(run(cell, params, xs, lengths=jnp.array([0, 3, 2**31 - 1], jnp.uint32)), expected, atol=1e-5)
    expected = unroll(cell, params, xs, lengths=[0, 3, 250])
    close(run(cell, params, xs, lengths=jnp.array([0, 3, 250], jnp.uint8)), expected, atol=1e-5)


@over_traits
def test_no_ticks_and_no_sequences(cell):
    params, carry, xs = drawn(cell, T, (B,), dtype=jnp.float32)
    none = at(xs, slice(0))
    for options in ({}, {"reverse": True, "resets": np.zeros((0, B), bool), "truncate_every": 2}):
        last, ys = unroll(cell, params, none, carry, **options)
        close(last, carry, atol=0)
        assert ys.shape == (0, B, cell.output_size)
    last, ys = unroll(cell, params, at(xs, slice(None), slice(0)), lengths=np.zeros(0, int))
    assert ys.shape == (T, 0, cell.output_size)
    assert all(leaf.shape[0] == 0 for leaf in jax.tree.leaves(last))


@over_traits
def test_lengths_of_unread_sequences_leave_the_carry(cell):
    params, carry, xs = drawn(cell, T, (B,), dtype=jnp.float32)
    unread = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), xs)
    last, ys = unroll(cell, params, unread, carry, lengths=[0, 0, 0])
    close(last, carry, atol=0)
    assert not np.any(ys)
