"""The laws of what surrounds the numbers, over every cell of the registry: dtypes, tracing, serialisation."""

import dataclasses
import functools
import pickle

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import unroll
from tests.cases import CASES, FEATURES, INPUT, REGISTERED, T, at, floating, over, run, tick_of
from tests.laws import BATCH, drawn, everything, reference

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)
over_cells = over(REGISTERED)


@over_cells
def test_9_no_retrace(cell, monkeypatch):
    """Neither as a pytree, nor as a static argument, nor outside jit."""
    params, _, xs = drawn(cell)
    xs, twin, traced = at(xs, slice(5)), dataclasses.replace(cell), []
    project = type(cell).project
    monkeypatch.setattr(type(cell), "project", lambda *args: traced.append(1) or project(*args))
    as_pytree = jax.jit(lambda cell, params: unroll(cell, params, xs))
    as_static = jax.jit(lambda cell, params: unroll(cell, params, xs), static_argnums=0)
    for trace in (
        lambda cell: jax.make_jaxpr(lambda params: unroll(cell, params, xs))(params),
        lambda cell: as_pytree.trace(cell, params),
        lambda cell: as_static.trace(cell, params),
    ):
        trace(cell)
        before = len(traced)
        assert before
        trace(twin)
        assert len(traced) == before


@over_cells
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_9_dtypes_do_not_leak(cell, dtype):
    """With 64 bits switched on, nothing that starts in 32 or 16 bits becomes wider or weak."""
    numbers = jax.tree.map(jnp.float32, cell)
    params = jax.eval_shape(lambda key: numbers.init(key, INPUT, dtype), KEY)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(params))
    xs = jax.ShapeDtypeStruct((T, 2, INPUT), dtype)
    carry = cell.carry_shape(params, (2,), tick_of(xs))
    for road in (
        lambda params, carry, xs: unroll(numbers, params, xs),
        lambda params, carry, xs: unroll(cell, params, xs, carry),
        lambda params, carry, xs: jax.lax.scan(functools.partial(numbers, params), carry, xs),
    ):
        last, ys = jax.eval_shape(road, params, carry, xs)
        assert (ys.dtype, ys.weak_type) == (dtype, False)
        assert ys.shape == (T, 2, cell.output_size)
        assert last == carry


@over_cells
def test_9_lowers_for_every_platform(cell):
    """Outputs and slopes, on one device or another."""
    numbers = jax.tree.map(jnp.float32, cell)
    params = jax.eval_shape(lambda key: numbers.init(key, INPUT), KEY)
    xs = jax.ShapeDtypeStruct((T, 2, INPUT), jnp.float32)

    def outputs(params, xs):
        return sum(jnp.abs(leaf).sum() for leaf in floating(unroll(numbers, params, xs)))

    traced = jax.jit(jax.value_and_grad(outputs)).trace(params, xs)
    for platform in ("cpu", "cuda", "tpu"):
        assert "func.func public @main" in traced.lower(lowering_platforms=(platform,)).as_text()


@over_cells
def test_9_half_precision(cell):
    """bfloat16 comes near; float16 has finite slopes, from the first state on."""
    params, _, xs = drawn(cell)
    params, xs = to_half((params, at(xs, slice(3))), jnp.bfloat16)
    start = cell.initial_carry(params, BATCH, like=tick_of(xs))
    _, ys = run(cell, params, xs, start)
    double = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, xs))
    count = len(jax.tree.leaves(start))
    expected = reference(cell, double[0], start, double[1])[count]
    np.testing.assert_allclose(np.asarray(ys, np.float64), expected, rtol=0.1, atol=0.1)

    params, xs = to_half((params, xs), jnp.float16)
    start = cell.initial_carry(params, BATCH, like=tick_of(xs))
    chex.assert_tree_all_finite(everything(cell, params, start, xs, {}))


def to_half(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


@over_cells
def test_10_serialises(cell, tmp_path):
    """And what is restored does the same, by the same program."""
    params, carry, xs = drawn(cell)
    (tmp_path / "params").write_bytes(flax.serialization.to_bytes(params))
    (tmp_path / "cell").write_bytes(pickle.dumps(cell))
    restored = pickle.loads((tmp_path / "cell").read_bytes())
    assert restored == cell
    assert hash(restored) == hash(cell)
    empty = jax.tree.map(np.zeros_like, params)
    loaded = flax.serialization.from_bytes(empty, (tmp_path / "params").read_bytes())
    chex.assert_trees_all_equal(loaded, params)
    xs = at(xs, slice(3))
    before = run(cell, params, xs, carry)
    compiled = run._cache_size()
    chex.assert_trees_all_equal(run(restored, loaded, xs, carry), before)
    assert run._cache_size() == compiled


@over(CASES)
def test_cells_are_values(cell):
    leaves, structure = jax.tree.flatten(cell)
    assert jax.tree.unflatten(structure, leaves) == cell == dataclasses.replace(cell)
    assert cell != dataclasses.replace(cell, features=FEATURES + 2)
    assert (cell == "a cell") is False
    if leaves:
        arrays = jax.tree.map(np.asarray, cell)
        assert (arrays == jax.tree.map(lambda leaf: leaf + 1, arrays)) is False
        assert (arrays == jax.tree.map(lambda leaf: np.stack([leaf, leaf]), arrays)) is False
        assert (arrays == jax.tree.map(np.asarray, cell)) is True
        with pytest.raises(TypeError, match="unhashable"):
            hash(arrays)


@over_cells
def test_documented(cell):
    """Every cell names its paper, and its docstring gives equations, shapes and source."""
    assert cell.paper
    text = type(cell).__doc__
    for word in (" = ", "Shapes:", "Source:", "features"):
        assert word in text


@over_cells
def test_shapes_follow_the_convention(cell):
    """Kernels are made of the blocks that gates name; neither output nor state depends on more than they
    may."""
    for size in (INPUT, INPUT + 2):
        params = jax.eval_shape(lambda key, size=size: cell.init(key, size), KEY)
        like = jax.ShapeDtypeStruct((size,), jnp.float32)
        weights = jax.eval_shape(lambda params, like=like: cell.prepare(params, like=like), params)
        for name in {"kernel", "recurrent_kernel"} & set(weights):
            blocks, rest = divmod(weights[name].shape[-1], cell.block(name))
            assert rest == 0
            assert 1 <= blocks <= len(cell.gates)
        carry = cell.carry_shape(params, (), like)
        if "recurrent_kernel" in weights:
            widths = {leaf.shape[-1] for leaf in jax.tree.leaves(carry) if leaf.ndim}  # counters have none
            assert weights["recurrent_kernel"].shape[0] in widths
        assert cell.carry_shape(None, (), like) == carry
        assert jax.eval_shape(cell, params, carry, like)[1].shape == (cell.output_size,)
