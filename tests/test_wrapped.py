"""The laws over wrapped and stacked cells. What each wrapper computes is in test_wrappers*.py."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import WRAPPERS, Wrapper, unroll
from tests import test_flax, test_transforms, test_unroll
from tests.cases import INPUT, B, close, drawn, exact, floating, inputs, over, scored, sparing, tick_of
from tests.traits import KINDS, TRAITS
from tests.wrapped import REFUSES, STACKS, WRAPPED, settings

T = 5
KEY = jax.random.key(7)
EVERY = WRAPPED | STACKS
BY_TICK = ("Zoneout", "StateNoise", "RecurrentDropout")
NOISY = (*BY_TICK, "VariationalDropout", "DropConnect")
OF_GATED = {name: cell for name, cell in EVERY.items() if "(gated" in name or name in STACKS}
OF_BOTH = OF_GATED | {name: cell for name, cell in EVERY.items() if "(diagonal" in name}
"""Around a cell that scans and around one that is linear."""
OF_SOME = OF_BOTH | dict(itertools.islice(EVERY.items(), 0, None, 3))
"""And around every third of the others: every wrapper meets several traits, every trait several wrappers."""
every_day_stacks = ("Stack", "Stack,linear")
every_day = (*itertools.islice(WRAPPED, 0, None, 33), *every_day_stacks)


@pytest.mark.parametrize("name", sparing(WRAPPERS, 3))
def test_a_wrapper_takes_a_trait_or_says_why_not(name):
    for trait, kind in KINDS.items():
        if trait in REFUSES[name]:
            with pytest.raises(ValueError, match=rf"^{name}.*expected (a|one) cell"):
                WRAPPERS[name](kind(INPUT), **settings(name)).init(KEY, INPUT)
        else:
            jax.eval_shape(
                lambda key, name=name, trait=trait: WRAPPED[f"{name}({trait})"].init(key, INPUT), KEY
            )


@exact
@over(TRAITS | OF_SOME, every_day)
def test_scan_equals_ticks(cell):
    """With and without noise, and whatever scan serves; the noise of a tick depends on its number only."""
    params, carry, xs = drawn(cell, T)

    @jax.jit
    def roads(params, carry, xs):
        def ticks(key):
            weights = cell.prepare(params, key, (B,), like=tick_of(xs))

            def tick(carry, now):
                t, x = now
                return cell.tick(weights, carry, x, None if key is None else jax.random.fold_in(key, t))

            return jax.lax.scan(tick, carry, (jnp.arange(T), xs))

        def at_once(key, **options):
            return unroll(cell, params, xs, carry, key=key, **options)

        plain = jax.lax.scan(functools.partial(cell, params), carry, xs)
        recomputed = at_once(KEY, remat_every=2)
        return (ticks(None), at_once(None), plain), (ticks(KEY), at_once(KEY), recomputed)

    quiet, loud = roads(params, carry, xs)
    for expected, *others in (quiet, loud):
        for other in others:
            close(other, expected)
    if type(cell).__name__ in NOISY:
        assert not np.allclose(quiet[0][1], loud[0][1])


@exact
@over(OF_BOTH, every_day_stacks[:1])
def test_options_equal_loops(cell):
    """Values and slopes; so it is causal, independent over the batch, and splits."""
    test_unroll.check_options(cell, next(i for i, other in enumerate(EVERY.values()) if other is cell))


@exact
@over({name: cell for name, cell in OF_SOME.items() if cell.linear}, ["Zoneout(diagonal)"])
def test_parallel_equals_sequential_with_noise(cell):
    """Linear cells stay linear: options, noise and slopes included."""
    check_parallel(cell)


@exact
@over({"Stack,linear": STACKS["Stack,linear"]}, every_day_stacks)
def test_layers_run_in_parallel(cell):
    check_parallel(cell)


def check_parallel(cell):
    args = drawn(cell, T)
    given = {"resets": np.random.default_rng(0).random((T, B)) < 0.4, "lengths": np.array([T, 3, 0])}

    @functools.partial(jax.jit, static_argnums=0)
    def everything(parallel, args):
        def f(params, carry, xs):
            return unroll(cell, params, xs, carry, key=KEY, parallel=parallel, return_carries=True, **given)

        return scored(f, args)

    close(everything(True, args), everything(False, args))


@exact
@over(OF_GATED, every_day_stacks)
def test_vmap_equals_loop(cell):
    test_transforms.test_vmap_equals_loop(cell)


@over(STACKS | {name: EVERY[name] for name in every_day}, every_day_stacks[:1])
def test_all_roads_give_the_same(cell):
    test_flax.test_all_roads_give_the_same(cell)


@exact
@over(EVERY, every_day)
def test_dtypes_do_not_leak(cell):
    """With 64 bits switched on, what starts in 16 stays there."""
    dtype = jnp.bfloat16
    params = jax.eval_shape(lambda key: cell.init(key, INPUT, dtype), KEY)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(params))
    xs = inputs(cell, T, dtype=dtype)
    carry = cell.carry_shape(params, (B,), tick_of(xs))
    for numbers, key in ((cell, None), (jax.tree.map(jnp.float32, cell), KEY)):
        run = functools.partial(unroll, numbers, key=key)
        last, ys = jax.eval_shape(lambda params, carry, run=run: run(params, xs, carry), params, carry)
        assert (ys.dtype, ys.weak_type) == (dtype, False)
        assert last == carry


@exact
@over({name: cell for name, cell in OF_GATED.items() if isinstance(cell, Wrapper)}, every_day)
def test_numbers_are_swept(cell):
    """vmap over every number of the wrapper and of the cell in it equals a loop, in slopes too."""
    for field in dataclasses.fields(cell):
        assert field.metadata.get("pytree_node", True) or not isinstance(getattr(cell, field.name), float)
    structure, values = jax.tree.structure(cell), jnp.asarray([0.2, 0.5, 0.8])
    xs = inputs(cell, T)

    @jax.jit
    def outputs(number):
        def f(number):
            own = structure.unflatten([number] * structure.num_leaves)
            return unroll(own, own.init(KEY, INPUT, jnp.float64), xs, key=KEY)[1]

        return scored(f, (number,))

    alone = [outputs(value) for value in values]
    ys, slopes = jax.vmap(outputs)(values)
    close(ys, jnp.stack([y for y, _ in alone]))
    close(floating(slopes)[0], jnp.stack([slope[0] for _, slope in alone]))
    assert not np.allclose(ys[0], ys[1])
