"""The laws, over every cell of the registry and every flag of it (see cases.py).

The laws of `unroll`'s options are in test_unroll.py, those of Flax in test_flax.py.
"""

import dataclasses
import functools
import pickle

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rnncells import CELLS, unroll
from tests import reference
from tests.cases import CASES, FEATURES, INPUT, LINEAR, NUMERIC, over, random_like, random_params

T, B = 6, 3
over_cells, over_linear_cells, over_numeric_cells = over(CASES), over(LINEAR), over(NUMERIC)
exact = pytest.mark.usefixtures("x64")
close = functools.partial(chex.assert_trees_all_close, atol=1e-11, rtol=1e-11)


def setup(cell, dtype=jnp.float64, batch=(B,)):
    """params, random carry, xs; log-space states are positive by nature."""
    params = random_params(cell, dtype=dtype)
    xs = jax.random.normal(jax.random.key(2), (T, *batch, INPUT), dtype)
    carry = jax.tree.map(jnp.abs, random_like(cell.initial_carry(params, batch)))
    return params, carry, xs


@exact
@over(CASES, daily=CASES)
def test_1_scan_equals_loop_equals_reference(cell):
    params, carry, xs = setup(cell)
    last, ys = unroll(cell, params, xs, carry)
    scanned = jax.lax.scan(functools.partial(cell, params), carry, xs)
    close((last, ys), scanned)

    state, outputs, weights = carry, [], cell.prepare(params)
    for x in xs:
        state, y = cell.tick(weights, state, x)
        outputs.append(y)
    close((last, ys), (state, jnp.stack(outputs)))

    expected_last, expected_ys = reference.run(cell, params, xs, carry)
    close(ys, expected_ys)
    close(jax.tree.leaves(last), expected_last)


def test_1_every_cell_has_a_reference():
    assert set(reference.REFERENCES) == set(CELLS)


@exact
@over_cells
def test_1_any_number_of_batch_axes(cell):
    params, carry, xs = setup(cell, batch=(2, 3))
    last, ys = unroll(cell, params, xs, carry)
    assert ys.shape == (T, 2, 3, cell.output_size)
    alone = unroll(cell, params, xs[:, 1, 2], jax.tree.map(lambda leaf: leaf[1, 2], carry))
    close(jax.tree.map(lambda leaf: leaf[1, 2], last), alone[0])
    close(ys[:, 1, 2], alone[1])


@exact
@over_cells
def test_2_splits(cell):
    params, carry, xs = setup(cell)
    middle, first = unroll(cell, params, xs[:2], carry)
    last, second = unroll(cell, params, xs[2:], middle)
    close((last, jnp.concatenate([first, second])), unroll(cell, params, xs, carry))


@over_cells
def test_3_causal(cell):
    params, carry, xs = setup(cell, jnp.float32)
    changed = xs.at[3].add(1.0)
    ys, other = unroll(cell, params, xs, carry)[1], unroll(cell, params, changed, carry)[1]
    np.testing.assert_array_equal(ys[:3], other[:3])
    assert not np.array_equal(ys[3], other[3])


@exact
@over_cells
def test_4_batch_independent(cell):
    params, carry, xs = setup(cell)
    ys = unroll(cell, params, xs, carry)[1]
    other = unroll(cell, params, xs.at[:, 1].set(jnp.nan), carry)[1]
    np.testing.assert_array_equal(ys[:, [0, 2]], other[:, [0, 2]])


@exact
@over_cells
def test_4_vmap_equals_loop(cell):
    _, carry, xs = setup(cell)
    many = [random_params(cell, seed, dtype=jnp.float64) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)
    over_params = jax.vmap(lambda params: unroll(cell, params, xs, carry)[1])(stacked)
    close(over_params, jnp.stack([unroll(cell, params, xs, carry)[1] for params in many]))
    over_inputs = jax.vmap(lambda x, c: unroll(cell, many[0], x, c)[1], (1, 0), 1)(xs, carry)
    close(over_inputs, unroll(cell, many[0], xs, carry)[1])


@exact
@over_numeric_cells
def test_4_vmap_over_numbers_equals_loop(cell):
    _, _, xs = setup(cell)
    leaves, structure = jax.tree.flatten(cell)
    values = [jnp.asarray([0.3, 0.7, 1.1]) for _ in leaves]

    def outputs(cell):
        return unroll(cell, cell.init(jax.random.key(0), INPUT, jnp.float64), xs)[1]

    swept = jax.vmap(outputs)(jax.tree.unflatten(structure, values))
    alone = [outputs(jax.tree.unflatten(structure, [float(v[i]) for v in values])) for i in range(3)]
    close(swept, jnp.stack(alone))
    assert not np.allclose(swept[0], swept[1])


@exact
@over_cells
def test_6_first_derivatives(cell):
    params, carry, xs = setup(cell)

    def scores(params, carry, xs):
        last, ys = unroll(cell, params, xs, carry, remat_every=4)
        return jax.tree.map(jnp.sin, (last, ys))

    check_grads(scores, (params, carry, xs), order=1, modes=("fwd", "rev"), eps=1e-6)


@exact
@over_cells
@pytest.mark.laws
def test_6_second_derivatives(cell):
    params, carry, xs = setup(cell)

    def score(params, carry):
        last, ys = unroll(cell, params, xs[:3], carry)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((last, ys)))

    check_grads(score, (params, carry), order=2, modes=("fwd", "rev"), rtol=1e-4, atol=1e-4)


@exact
@over_numeric_cells
def test_6_derivatives_of_numbers(cell):
    _, _, xs = setup(cell)

    def outputs(cell):
        return unroll(cell, cell.init(jax.random.key(0), INPUT, jnp.float64), xs)[1]

    numbers = jax.tree.map(jnp.float64, cell)
    check_grads(outputs, (numbers,), order=1, modes=("fwd", "rev"), eps=1e-6)
    slope = jax.grad(lambda cell: jnp.sum(outputs(cell)))(numbers)
    assert all(np.abs(leaf) > 0 for leaf in jax.tree.leaves(slope))


@exact
@over_linear_cells
def test_7_monoid(cell):
    params, carry, xs = setup(cell)
    monoid = cell.monoid
    a, b, c = (cell.project(params, x).element for x in xs[:3])
    close(monoid.combine(monoid.combine(a, b), c), monoid.combine(a, monoid.combine(b, c)))
    identity = monoid.identity(a)
    for same in (monoid.combine(identity, a), monoid.combine(a, identity)):
        chex.assert_trees_all_equal(same, a)
    chex.assert_trees_all_equal(monoid.apply(identity, carry), carry)
    close(monoid.apply(monoid.combine(a, b), carry), monoid.apply(b, monoid.apply(a, carry)))


@exact
@over_linear_cells
@pytest.mark.parametrize(
    "options", [{}, {"resets": True}, {"resets": True, "lengths": True, "reverse": True}]
)
def test_7_parallel_equals_sequential(cell, options):
    params, carry, xs = setup(cell)
    rng = np.random.default_rng(0)
    given = dict(options)
    if options.get("resets"):
        given["resets"] = rng.random((T, B)) < 0.4
    if options.get("lengths"):
        given["lengths"] = np.array([T, 0, 4])

    def everything(parallel):
        def score(params, carry, xs):
            out = unroll(cell, params, xs, carry, parallel=parallel, return_carries=True, **given)
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out)), out

        return jax.value_and_grad(score, (0, 1, 2), has_aux=True)(params, carry, xs)

    close(everything(True), everything(False))
    close(everything(None), everything(False))


@pytest.mark.laws
@over_linear_cells
def test_7_long_and_finite(cell):
    params = random_params(cell)
    xs = jax.random.normal(jax.random.key(0), (20_000, INPUT))
    for parallel in (True, False):
        value, slope = jax.value_and_grad(
            lambda p, parallel=parallel: jnp.mean(jnp.square(unroll(cell, p, xs, parallel=parallel)[1]))
        )(params)
        chex.assert_tree_all_finite((value, slope))


def count_steps(monkeypatch, cell):
    """A list that grows whenever the cell's step is traced."""
    traced, step = [], type(cell).step

    def counting(self, *args):
        traced.append(1)
        return step(self, *args)

    monkeypatch.setattr(type(cell), "step", counting)
    return traced


@over_cells
def test_9_no_retrace(cell, monkeypatch):
    params, _, xs = setup(cell, jnp.float32)
    twin = dataclasses.replace(cell)
    traced = count_steps(monkeypatch, cell)
    as_pytree = jax.jit(lambda cell, params: unroll(cell, params, xs))
    as_static = jax.jit(lambda cell, params: unroll(cell, params, xs), static_argnums=0)
    for call in (as_pytree, as_static, lambda cell, params: unroll(cell, params, xs)):
        call(cell, params)
        before = len(traced)
        call(twin, params)
        assert len(traced) == before


@exact
@over_cells
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_9_dtypes_do_not_leak(cell, dtype):
    """With 64 bits switched on, nothing that starts in 32 or 16 bits becomes wider or weak."""
    numbers = jax.tree.map(jnp.float32, cell)
    params = numbers.init(jax.random.key(0), INPUT, dtype)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(params))
    carry = cell.initial_carry(params, (B,))
    xs = jnp.ones((T, B, INPUT), dtype)
    for last, ys in (
        unroll(numbers, params, xs),
        unroll(cell, params, xs, carry),
        jax.lax.scan(functools.partial(numbers, params), carry, xs),
    ):
        assert ys.dtype == dtype
        assert not ys.weak_type
        for before, after in zip(jax.tree.leaves(carry), jax.tree.leaves(last), strict=True):
            assert after.dtype == before.dtype
            assert not after.weak_type


@over_cells
def test_9_mixed_dtypes_compute_in_their_promotion(cell):
    params, _, xs = setup(cell, jnp.float32)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    widened = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), half)
    chex.assert_trees_all_equal(unroll(cell, half, xs), unroll(cell, widened, xs))
    narrow = xs.astype(jnp.bfloat16)
    chex.assert_trees_all_equal(
        unroll(cell, params, narrow), unroll(cell, params, narrow.astype(jnp.float32))
    )
    carry = cell.initial_carry(half, (B,))
    last, _ = jax.lax.scan(functools.partial(cell, half), carry, xs)
    chex.assert_trees_all_equal_dtypes(last, carry)


@over_cells
def test_10_serialises(cell, tmp_path):
    params, _, xs = setup(cell, jnp.float32)
    (tmp_path / "params").write_bytes(flax.serialization.to_bytes(params))
    (tmp_path / "cell").write_bytes(pickle.dumps(cell))
    restored = pickle.loads((tmp_path / "cell").read_bytes())
    assert restored == cell
    assert hash(restored) == hash(cell)
    empty = jax.tree.map(jnp.zeros_like, params)
    loaded = flax.serialization.from_bytes(empty, (tmp_path / "params").read_bytes())
    chex.assert_trees_all_equal(loaded, params)
    chex.assert_trees_all_equal(unroll(restored, loaded, xs), unroll(cell, params, xs))


@over_cells
def test_cells_are_values(cell):
    leaves, structure = jax.tree.flatten(cell)
    assert jax.tree.unflatten(structure, leaves) == cell == dataclasses.replace(cell)
    assert cell != dataclasses.replace(cell, features=FEATURES + 1)
    assert (cell == "a cell") is False
    if leaves:
        arrays = jax.tree.map(jnp.asarray, cell)
        assert (arrays == jax.tree.map(lambda leaf: leaf + 1, arrays)) is False
        assert (arrays == jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), arrays)) is False
        assert (arrays == jax.tree.map(jnp.asarray, cell)) is True
        with pytest.raises(TypeError, match="unhashable"):
            hash(arrays)


@over_cells
def test_documented(cell):
    """Every cell names its paper, and its docstring gives shapes and source."""
    assert cell.paper
    text = type(cell).__doc__
    for word in ("Shapes:", "Source:", "features", "'"):
        assert word in text
    assert cell.gates


@over_cells
def test_shapes_follow_the_convention(cell):
    params = cell.init(jax.random.key(0), INPUT)
    wide = cell.features * len(cell.gates)
    assert params["kernel"].shape == (INPUT, wide)
    assert params["bias"].shape == (wide,)
    if "recurrent_kernel" in params:
        assert params["recurrent_kernel"].shape == (cell.features, wide)
    assert cell.output_size == cell.features
