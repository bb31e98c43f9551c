"""What the laws of a cell share: its numbers, its NumPy reference, and a few compiled programs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rnncells import unroll
from tests import references
from tests.cases import (
    T,
    floating,
    inputs,
    pairing,
    pushed,
    random_carry,
    random_like,
    random_params,
    score,
    scored,
    to_numpy,
    with_floating,
)

BATCH = (2, 3)


@functools.cache
def drawn(cell):
    """Parameters, a state and xs, in double precision and NumPy."""
    params, xs = random_params(cell, dtype=jnp.float64), inputs(cell, T, BATCH)
    return to_numpy((params, random_carry(cell, params, xs), xs))


def reference(cell, params, carry, xs, alive=None, resets=None):
    """As `unroll(..., return_carries=True)`: the leaves of what it gives, in order."""

    def flat(leaf, axes=0):
        return np.reshape(leaf, (*leaf.shape[:axes], -1, *leaf.shape[axes + len(BATCH) :]))

    def back(leaf, axes=0):
        return np.reshape(leaf, (*leaf.shape[:axes], *BATCH, *leaf.shape[axes + 1 :]))

    start = jax.tree.map(flat, to_numpy(cell.initial_carry(params, BATCH)))
    flags = [None if given is None else flat(given, 1) for given in (alive, resets)]
    given = jax.tree.map(lambda leaf: flat(leaf, 1), to_numpy(xs)), jax.tree.map(flat, to_numpy(carry))
    last, ys, states = references.run(cell, params, *given, start, *flags)
    return [*map(back, last), back(ys, 1), *(back(leaf, 1) for leaf in states)]


@functools.lru_cache(maxsize=8)
def options():
    """lengths, mask and resets that leave some ticks and whole sequences out; which ticks are left."""
    rng = np.random.default_rng(0)
    lengths, mask = np.array([[T, 0, 4], [T, 2, T]]), rng.random((T, *BATCH)) < 0.7
    resets = rng.random((T, *BATCH)) < 0.4
    alive = mask & (np.arange(T)[:, None, None] < lengths)
    return {"lengths": lengths, "mask": mask, "resets": resets}, alive


@functools.partial(jax.jit, static_argnames="parallel")
def everything(cell, params, carry, xs, given, parallel=None):
    """What `unroll` gives, carries included where options are given; the slopes of its score."""

    def outputs(*args):
        return unroll(cell, args[0], args[2], args[1], parallel=parallel, return_carries=bool(given), **given)

    return scored(outputs, (params, carry, xs))


def forward(cell, params, carry, xs, directions):
    """The derivative along directions."""
    return pushed(lambda params, carry, xs: unroll(cell, params, xs, carry), (params, carry, xs), directions)


def slopes_of_reference(cell, args, directions, **flags):
    """The derivative of the reference's score along each direction, by differences."""
    leaves, slopes = to_numpy(floating(args)), []
    count = len(jax.tree.leaves(args[1])) + 1 if not flags else None
    for i, direction in enumerate(to_numpy(directions)):
        ends = []
        for step in (1e-7, -1e-7):
            moved = [leaf + step * direction if i == j else leaf for j, leaf in enumerate(leaves)]
            outs = reference(cell, *with_floating(args, moved), **flags)
            ends.append(float(score(outs[:count])))
        slopes.append((ends[0] - ends[1]) / 2e-7)
    return slopes


def check_slopes(cell, found, args, **flags):
    """The slopes found against differences of the reference, leaf by leaf."""
    directions = random_like(floating(args), 9)
    expected = slopes_of_reference(cell, args, directions, **flags)
    slopes = [pairing([slope], [direction]) for slope, direction in zip(found, directions, strict=True)]
    np.testing.assert_allclose(slopes, expected, rtol=1e-6, atol=1e-6)
