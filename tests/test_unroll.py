"""What `unroll`'s options mean: everything equals plain loops over each sequence by itself, for every trait."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import LSTM, Timed, unroll
from tests.cases import (
    INPUT,
    at,
    close,
    drawn,
    exact,
    floating,
    inputs,
    over,
    random_carry,
    random_like,
    random_params,
    run,
    score,
    scored,
    stacked,
    tick_of,
    with_floating,
)
from tests.references.loops import loops
from tests.traits import LINEAR_TRAITS, TRAITS, Noisy, Pairs

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
@pytest.mark.parametrize("seed", [0, *(pytest.param(i, marks=pytest.mark.laws) for i in range(1, 5))])
def test_combined_options_equal_loops(cell, seed):
    check_options(cell, seed + 10 * list(TRAITS.values()).index(cell))
