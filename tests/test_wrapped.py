"""The laws over wrapped and stacked cells. What each wrapper computes is in test_wrappers*.py."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import WRAPPERS, unroll
from tests import test_flax, test_laws, test_unroll
from tests.cases import INPUT, REFUSED, STACKS, WRAPPED, over, random_like, random_params

T, B = 5, 2
EVERY = WRAPPED | STACKS
KEY = jax.random.key(7)
every_day_stacks = ("Stack", "Stack,linear")
every_day = (*itertools.islice(WRAPPED, 0, None, 8), *every_day_stacks)
SOME = {name: EVERY[name] for name in (*every_day, *STACKS)}
close = functools.partial(chex.assert_trees_all_close, atol=1e-11, rtol=1e-11)


def setup(cell, dtype=jnp.float64):
    params = random_params(cell, dtype=dtype)
    xs = jax.random.normal(jax.random.key(2), (T, B, INPUT), dtype)
    carry = jax.tree.map(jnp.abs, random_like(cell.initial_carry(params, (B,))))
    return params, carry, xs


def test_every_wrapper_takes_six_cells():
    """And refuses only those without a recurrent kernel (among their parameters, where those change)."""
    none = {"MinGRU", "MinLSTM"}
    refusals = {"WeightNorm": none | {"ExpRNN"}, "LowRank": none | {"ExpRNN"}}
    refusals |= dict.fromkeys(("DropConnect", "VariationalDropout", "RecurrentDropout"), none)
    for name, wrapper in WRAPPERS.items():
        taken = {type(cell.cell) for cell in WRAPPED.values() if type(cell) is wrapper}
        assert len(taken) >= 6, name
        refused = {type(cell).__name__ for kind, cell in REFUSED if kind is wrapper}
        if name != "Projection":
            assert refused <= refusals.get(name, set()), name


@pytest.mark.usefixtures("x64")
@over(EVERY, every_day)
@pytest.mark.parametrize("key", [None, KEY], ids=["", "key"])
def test_scan_equals_ticks(cell, key):
    """With and without noise, and whatever scan serves; the noise of a tick depends on its number only."""
    params, carry, xs = setup(cell)
    last, ys = unroll(cell, params, xs, carry, key=key)
    weights, state, outputs = cell.prepare(params, key, (B,)), carry, []
    for t, x in enumerate(xs):
        state, y = cell.tick(weights, state, x, None if key is None else jax.random.fold_in(key, t))
        outputs.append(y)
    close((last, ys), (state, jnp.stack(outputs)))
    close((last, ys), unroll(cell, params, xs, carry, key=key, remat_every=2))
    if key is None:
        close((last, ys), jax.lax.scan(functools.partial(cell, params), carry, xs))
    elif type(cell).__name__ in ("Zoneout", "StateNoise", "VariationalDropout", "DropConnect"):
        assert not np.allclose(ys, unroll(cell, params, xs, carry)[1])


@pytest.mark.usefixtures("x64")
@over(EVERY, every_day_stacks)
def test_options_equal_loops(cell):
    """Values and gradients; so it is causal, independent over the batch, and splits."""
    test_unroll.check_options(cell, list(EVERY).index(next(n for n, c in EVERY.items() if c is cell)))


@pytest.mark.usefixtures("x64")
@over(EVERY, every_day_stacks)
def test_vmap_equals_loop(cell):
    test_laws.test_4_vmap_equals_loop(cell)


@over(SOME, every_day)
def test_serialises(cell, tmp_path):
    test_laws.test_10_serialises(cell, tmp_path)


@over(SOME, every_day_stacks)
def test_all_roads_give_the_same(cell):
    test_flax.test_all_roads_give_the_same(cell)


@pytest.mark.usefixtures("x64")
@over(EVERY, every_day_stacks)
def test_dtypes_do_not_leak(cell):
    """With 64 bits switched on, what starts in 16 stays there."""
    dtype = jnp.bfloat16
    params = cell.init(jax.random.key(0), INPUT, dtype)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(params))
    carry, xs = cell.initial_carry(params, (B,)), jnp.ones((T, B, INPUT), dtype)
    for numbers, key in ((cell, None), (jax.tree.map(jnp.float32, cell), KEY)):
        last, ys = unroll(numbers, params, xs, carry, key=key)
        assert ys.dtype == dtype
        chex.assert_trees_all_equal_dtypes(last, carry)


LINEAR = {name: cell for name, cell in WRAPPED.items() if cell.linear}


@pytest.mark.usefixtures("x64")
@over(LINEAR | {"Stack,linear": STACKS["Stack,linear"]}, [*itertools.islice(LINEAR, 2), "Stack,linear"])
@pytest.mark.parametrize("key", [None, KEY], ids=["", "key"])
def test_parallel_equals_sequential(cell, key):
    """Linear cells stay linear: options, noise and gradients included."""
    params, carry, xs = setup(cell)
    given = {"resets": np.random.default_rng(0).random((T, B)) < 0.4, "lengths": np.array([T, 3])}

    def everything(parallel, **options):
        def score(params, carry, xs):
            out = unroll(cell, params, xs, carry, key=key, parallel=parallel, return_carries=True, **options)
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out)), out

        return jax.value_and_grad(score, (0, 1, 2), has_aux=True)(params, carry, xs)

    close(everything(True), everything(False))
    close(everything(True, **given), everything(False, **given))


NUMERIC = {name: cell for name, cell in WRAPPED.items() if hasattr(cell, "rate") or hasattr(cell, "stddev")}


@pytest.mark.usefixtures("x64")
@over(NUMERIC, every_day)
def test_rates_are_swept(cell):
    """vmap over every number of the wrapper and of the cell in it equals a loop."""
    leaves, structure = jax.tree.flatten(cell)
    values = [jnp.asarray([0.2, 0.5, 0.8]) for _ in leaves]
    xs = setup(cell)[2]

    def outputs(cell):
        return unroll(cell, cell.init(KEY, INPUT, jnp.float64), xs, key=KEY)[1]

    swept = jax.vmap(outputs)(jax.tree.unflatten(structure, values))
    alone = [outputs(jax.tree.unflatten(structure, [float(v[i]) for v in values])) for i in range(3)]
    close(swept, jnp.stack(alone))
    assert not np.allclose(swept[0], swept[1])
