"""The laws of a cell, over every cell of the registry: what it computes, what it reads, its derivatives.

Linear cells have more in test_laws_linear.py; dtypes, retracing and the rest are in test_laws_form.py. All
laws of a cell share a few compiled programs (tests/laws.py), and most compare with its NumPy reference, which
costs no compilation. The laws of what runs a cell are checked over one cell of every trait instead
(tests/traits.py): in test_unroll.py, test_transforms.py and test_wrapped.py.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import CELLS, unroll
from tests import references
from tests.cases import (
    CASES,
    INPUT,
    REGISTERED,
    T,
    at,
    close,
    floating,
    over,
    run,
    score,
    scored,
    tick_of,
    with_floating,
)
from tests.laws import BATCH, check_slopes, drawn, everything, forward, options, reference

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)
over_cells = over(REGISTERED)
over_numeric_cells = over({name: cell for name, cell in REGISTERED.items() if jax.tree.leaves(cell)})


@over(CASES, daily=REGISTERED)
def test_1_unroll_equals_reference(cell):
    """Over two batch axes."""
    params, carry, xs = drawn(cell)
    last, ys = run(cell, params, xs, carry)
    assert ys.shape == (T, *BATCH, cell.output_size)
    close(jax.tree.leaves((last, ys)), reference(cell, params, carry, xs)[: len(jax.tree.leaves(carry)) + 1])
    assert jax.tree.structure(last) == jax.tree.structure(carry)


@over(CASES)
def test_1_scan_equals_ticks_equals_reference(cell):
    """A scan over one batch axis, and ticks with prepared weights over none."""
    params, carry, xs = drawn(cell)

    @jax.jit
    def roads(cell, params, carry, xs):
        some, one = at(xs, slice(None), 1), at(xs, slice(None), 1, 2)
        scanned = jax.lax.scan(functools.partial(cell, params), at(carry, 1), some)
        weights = cell.prepare(params, like=tick_of(one))
        ticked = jax.lax.scan(lambda *args: cell.tick(weights, *args), at(carry, 1, 2), one)
        return scanned, ticked

    some, one = roads(cell, params, carry, xs)
    *last, ys = reference(cell, params, carry, xs)[: len(jax.tree.leaves(carry)) + 1]
    close(jax.tree.leaves(some), [*at(last, 1), ys[:, 1]])
    close(jax.tree.leaves(one), [*at(last, 1, 2), ys[:, 1, 2]])


def test_1_every_cell_has_a_reference():
    assert set(references.REFERENCES) == set(CELLS)


@over_cells
def test_2_splits(cell):
    params, carry, xs = drawn(cell)
    middle, first = run(cell, params, at(xs, slice(3)), carry)
    last, second = run(cell, params, at(xs, slice(3, None)), middle)
    *expected, ys = reference(cell, params, carry, xs)[: len(jax.tree.leaves(carry)) + 1]
    close([*jax.tree.leaves(last), np.concatenate([first, second])], [*expected, ys])


@over_cells
def test_3_causal_and_4_batch_independent(cell):
    """To the bit."""
    params, carry, xs = drawn(cell)
    xs = at(xs, slice(3))
    ys = np.asarray(run(cell, params, xs, carry)[1])
    changed, broken = jax.tree.map(np.copy, (xs, xs))
    for leaf in jax.tree.leaves(changed):
        leaf[1] += 1
    for leaf in jax.tree.leaves(broken):
        leaf[:, 1, 1] = np.nan
    later = np.asarray(run(cell, params, changed, carry)[1])
    np.testing.assert_array_equal(later[0], ys[0])
    assert not np.array_equal(later[1], ys[1])
    other = np.asarray(run(cell, params, broken, carry)[1])
    others = np.ones(BATCH, bool)
    others[1, 1] = False
    np.testing.assert_array_equal(other[:, others], ys[:, others])


@over({name: cell for name, cell in CASES.items() if "use_bias" not in name})
def test_6_first_derivatives(cell):
    """By every parameter, the state and the input. Forward mode exists, whose values JAX transposes."""
    args = drawn(cell)
    check_slopes(cell, everything(cell, *args, {})[1], args)
    jax.eval_shape(forward, cell, *args, floating(args))


@over_cells
def test_5_lengths_mask_and_resets_and_7_parallel(cell):
    """Values, carries and slopes, those of linear cells and of cells in stages in parallel; there is NaN in
    ticks that do not exist and in a carry that is never read."""
    params, carry, xs = drawn(cell)
    given, alive = options()
    never_read = given["resets"][0] & alive[0]
    assert never_read.any()
    unread = [np.where(spread(never_read, leaf), np.nan, leaf) for leaf in floating(carry)]
    unseen = jax.tree.map(lambda leaf: np.where(spread(alive, leaf), leaf, np.nan), xs)
    broken = params, with_floating(carry, unread), unseen
    out, slopes = everything(cell, *broken, given, parallel=True if cell.linear or cell.layered else None)
    flags = {"alive": alive, "resets": given["resets"]}
    close(jax.tree.leaves(out), reference(cell, params, carry, xs, **flags))
    assert not np.any(slopes[-1][~alive])
    check_slopes(cell, slopes, (params, carry, xs), **flags)


def spread(flags, like):
    return flags.reshape(*flags.shape, *[1] * (like.ndim - flags.ndim))


@over_numeric_cells
def test_4_and_6_numbers_are_swept_and_differentiated(cell):
    """Every number, within its bounds: vmap equals the reference by itself, slopes equal differences, and
    nothing is without effect."""
    leaves, structure = jax.tree.flatten(cell)
    _, carry, xs = drawn(cell)
    values = within_bounds(cell)
    rows = [*values, *(values[0] + step * row for row in np.eye(len(leaves)) for step in (1e-6, -1e-6))]

    def outputs(row):
        own = structure.unflatten(list(row))
        return unroll(own, own.init(KEY, INPUT, jnp.float64), xs, carry)[1]

    @jax.jit
    @jax.vmap
    def swept(row):
        ys, slopes = scored(outputs, (row,))
        return ys, score(ys), slopes[0]

    ys, scores, slopes = swept(jnp.asarray(rows))
    for row, y in zip(values, ys, strict=False):
        own = structure.unflatten([float(number) for number in row])
        params = own.init(KEY, INPUT, jnp.float64)
        close(y, reference(own, params, carry, xs)[len(jax.tree.leaves(carry))])
    assert not np.allclose(ys[0], ys[1])
    differences = (scores[len(values) :: 2] - scores[len(values) + 1 :: 2]) / 2e-6
    np.testing.assert_allclose(slopes[0], differences, rtol=1e-6, atol=1e-6)
    assert np.all(slopes[0])


def within_bounds(cell):
    """Three values for every number of the cell, [3, numbers], no two the same."""
    columns = []
    for i, (path, _) in enumerate(jax.tree_util.tree_leaves_with_path(cell)):
        owner, bounds = cell, {}
        for step in path:
            if isinstance(step, jax.tree_util.GetAttrKey):
                bounds = next(f.metadata for f in dataclasses.fields(owner) if f.name == step.name)
                owner = getattr(owner, step.name)
            else:
                owner = owner[step.idx]
        low, high = bounds.get("low"), bounds.get("high")
        shares = 0.2 + 0.02 * i + np.array([0.0, 0.25, 0.5])
        columns.append((low or 0.0) + shares * (1.0 if high is None else high - (low or 0.0)))
    return np.stack(columns, -1)
