"""Derivatives, vmap, dtypes and chunks: what JAX does to a scan, for a cell of every trait."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import LSTM, MinGRU, Zoneout, unroll
from rnncells.engine import chunks as engine
from tests.cases import (
    INPUT,
    at,
    close,
    drawn,
    exact,
    floating,
    inputs,
    over,
    pairing,
    pushed,
    random_like,
    random_params,
    run,
    score,
    scored,
    sparing,
    stacked,
    tick_of,
    with_floating,
)
from tests.traits import LINEAR_TRAITS, TRAITS

B = 3
EVERY_DAY = ("gated", "diagonal")
over_traits, over_linear_traits = over(TRAITS, EVERY_DAY), over(LINEAR_TRAITS, EVERY_DAY)


def outputs_of(cell, **options):
    return lambda params, carry, xs: unroll(cell, params, xs, carry, **options)


@exact
@over_traits
def test_first_derivatives(cell):
    """Both modes against differences, ticks being recomputed."""
    args, f = drawn(cell, 5, (B,)), outputs_of(cell, remat_every=3)
    directions = random_like(floating(args), 7)

    @jax.jit
    def derivatives(leaves):
        there = with_floating(args, leaves)
        return score(f(*there)), scored(f, there)[1], pushed(f, there, directions)

    _, slopes, pushes = derivatives(floating(args))
    ahead, behind = (derivatives(moved(args, directions, step))[0] for step in (1e-6, -1e-6))
    np.testing.assert_allclose(pairing(slopes, directions), (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(score(pushes), pairing(slopes, directions), rtol=1e-10)


def moved(args, directions, step):
    return [leaf + step * direction for leaf, direction in zip(floating(args), directions, strict=True)]


@exact
@over_traits
def test_second_derivatives(cell):
    """Forward over reverse, reverse over reverse and reverse over forward, against differences of slopes."""
    args, f = drawn(cell, 3, (2,)), outputs_of(cell)
    directions = random_like(floating(args), 7)

    @jax.jit
    def derivatives(leaves):
        def slope(leaves):
            return scored(f, with_floating(args, leaves))[1]

        def push(leaves):
            return score(pushed(f, with_floating(args, leaves), directions))

        forward_over_reverse = jax.jvp(slope, (leaves,), (directions,))[1]
        reverse_over_reverse = jax.grad(lambda leaves: pairing(slope(leaves), directions))(leaves)
        return slope(leaves), (forward_over_reverse, reverse_over_reverse, jax.grad(push)(leaves))

    (_, found), ahead, behind = (derivatives(moved(args, directions, step)) for step in (0, 1e-6, -1e-6))
    differences = [(a - b) / 2e-6 for a, b in zip(ahead[0], behind[0], strict=True)]
    assert any(map(np.any, differences))
    for way in found:
        chex.assert_trees_all_close(way, differences, rtol=1e-5, atol=1e-5)


@exact
@over_traits
def test_vmap_equals_loop(cell):
    """Over params, and over inputs and states; slopes too, under vmap and through it."""
    params, carry, xs = drawn(cell, 4, (B,))
    many = [params, random_params(cell, 1, dtype=jnp.float64)]
    both = stacked(many)
    f = outputs_of(cell)

    @jax.jit
    def of_params(params, carry, xs):
        return scored(f, (params, carry, xs))

    @jax.jit
    def batched(both, carry, xs):
        def total(leaves):
            out = jax.vmap(f, (0, None, None), axis_size=2)(with_floating(both, leaves), carry, xs)
            return sum(score(at(out, i)) for i in range(len(many)))

        under = jax.vmap(of_params, (0, None, None), axis_size=2)(both, carry, xs)
        through = jax.grad(total)(floating(both))
        over_inputs = jax.vmap(f, (None, 0, 1), (0, 1))(at(both, 0), carry, xs)
        return under, through, over_inputs

    alone = [of_params(each, carry, xs) for each in many]
    under, through, over_inputs = batched(both, carry, xs)
    close(under, stacked(alone))
    close(through, stacked([slopes[: len(through)] for _, slopes in alone]))
    close(over_inputs, alone[0][0])


@over_traits
def test_mixed_dtypes_compute_in_their_promotion(cell):
    """Weights in 16 bits with inputs in 32 are those weights in 32, and the other way round; the carry keeps
    its dtype in a plain scan."""
    params, xs = random_params(cell), inputs(cell, 3, (B,), dtype=jnp.float32)

    def cast(tree, dtype):
        return with_floating(tree, [leaf.astype(dtype) for leaf in floating(tree)])

    half, narrow = (cast(tree, jnp.bfloat16) for tree in (params, xs))
    widened, wide_xs = (cast(tree, jnp.float32) for tree in (half, narrow))
    close(run(cell, half, xs), run(cell, widened, xs), atol=0)
    if params:  # without any, the input alone decides
        close(run(cell, params, narrow), run(cell, params, wide_xs), atol=0)
    carry = cell.initial_carry(half, (B,), like=tick_of(narrow))
    last, _ = jax.lax.scan(functools.partial(cell, half), carry, xs)
    assert jax.tree.map(lambda leaf: leaf.dtype, last) == jax.tree.map(lambda leaf: leaf.dtype, carry)


@over_linear_traits
def test_slopes_of_long_parallel_scans_are_finite(cell):
    params, xs = random_params(cell), inputs(cell, 2000, (), dtype=jnp.float32)

    @functools.partial(jax.jit, static_argnums=1)
    def slopes(params, parallel):
        f = lambda params: unroll(cell, params, xs, parallel=parallel)[1]  # noqa: E731
        return scored(f, (params,))

    (ys, found), (expected, _) = slopes(params, True), slopes(params, False)
    chex.assert_tree_all_finite(found)
    np.testing.assert_allclose(ys, expected, rtol=1e-3, atol=1e-3)


@exact
@pytest.mark.parametrize("kind", sparing(["uneven, with options", "even, narrow, under vmap"]))
@over(LINEAR_TRAITS | {"Zoneout": Zoneout(MinGRU(4), rate=0.3)}, ["diagonal"])
def test_chunks_of_linear_cells_change_nothing(cell, kind, monkeypatch):
    """Where a sequence does not fit into the cache it is taken in chunks: outputs, noise, derivatives of both
    modes, against all at once. (Nothing else here is of these lengths: constants are not part of what a
    program is known by.)"""
    monkeypatch.setattr(engine, "SHORTEST", 4)
    monkeypatch.setattr(engine, "FEWEST", 4)
    narrow = "narrow" in kind
    length = 20 if narrow else 19
    assert engine.chunk_length(length, jax.ShapeDtypeStruct((2, B, 4), jnp.float64)) == (5 if narrow else 4)
    args, given = drawn(cell, length, (B,), 1 if narrow else INPUT), {"key": jax.random.key(5)}
    if not narrow:
        resets = np.random.default_rng(0).random((length, B)) < 0.1
        given |= {
            "resets": resets,
            "lengths": np.array([length, 0, 11]),
            "reverse": True,
            "return_carries": True,
        }
    directions = random_like(floating(args), 7)

    @functools.partial(jax.jit, static_argnums=1)
    def everything(args, parallel):
        f = outputs_of(cell, parallel=parallel, **given)
        run = lambda args: (*scored(f, args), f(*args), pushed(f, args, directions))  # noqa: E731
        return jax.vmap(run)(stacked([args, args])) if narrow else run(args)

    close(everything(args, False), everything(args, True), atol=1e-10)


@pytest.mark.parametrize("cell", [LSTM(16), MinGRU(16)], ids=["LSTM", "MinGRU"])
def test_remat_saves_memory(cell):
    """The backward pass of 4096 ticks needs less than a quarter of the temporary memory."""
    params = cell.init(jax.random.key(0), INPUT)
    xs = jnp.zeros((4096, 8, INPUT))

    def memory(**options):
        gradient = jax.grad(
            lambda p: jnp.sum(unroll(cell, p, xs, parallel=False if cell.linear else None, **options)[0][0])
        )
        return jax.jit(gradient).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert memory(remat_every=64) < memory() / 4
