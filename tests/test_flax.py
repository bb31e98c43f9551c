"""Law 8: bare == linen == nnx == Flax's own RNN and Bidirectional around our cells, options included."""

import functools

import chex
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rnncells
from rnncells import GRU, LSTM, unroll
from tests.cases import CASES, CORE, INPUT, over, random_like, random_params
from tests.test_unroll import Learned, Noisy

B, T = 3, 6
LENGTHS = np.array([T, 2, 4])
VALID = np.arange(T)[None] < LENGTHS[:, None]
over_cells = over(CASES | {"Learned": Learned(4)}, daily=(*CORE, "Learned"))
close = functools.partial(chex.assert_trees_all_close, atol=1e-5, rtol=1e-5)
XS = jax.random.normal(jax.random.key(0), (B, T, INPUT))


def bare(cell, params, xs=XS, **options):
    """`unroll` in batch-major layout."""
    carry, ys = unroll(cell, params, jnp.moveaxis(xs, 1, 0), **options)
    return carry, jnp.moveaxis(ys, 0, 1)


def linen_variables(params):
    return {"params": {"cell": params}}


def nnx_layer(cell, params, kind=rnncells.nnx.RNN, **options):
    module = kind(cell, INPUT, rngs=nnx.Rngs(0), **options)
    nnx.update(module, nnx.State({"params": params}))
    return module


def test_the_parameter_tree_is_the_same_everywhere():
    cell = LSTM(4)
    expected = jax.tree.map(jnp.shape, cell.init(jax.random.key(0), INPUT))
    for module in (rnncells.linen.RNN(cell), flax.linen.RNN(rnncells.linen.RNNCell(cell))):
        tree = module.init(jax.random.key(0), XS)["params"]["cell"]
        tree = tree if module.__class__.__module__.startswith("rnncells") else tree["cell"]
        assert jax.tree.map(jnp.shape, tree) == expected
    for kind in (rnncells.nnx.RNN, rnncells.nnx.RNNCell):
        tree = nnx.to_pure_dict(nnx.state(kind(cell, INPUT, rngs=nnx.Rngs(0)), nnx.Param))
        assert jax.tree.map(jnp.shape, tree) == {"params": expected}


@over_cells
def test_all_roads_give_the_same(cell):
    params = random_params(cell)
    expected = bare(cell, params)
    linen = rnncells.linen.RNN(cell, return_carry=True)
    close(linen.apply(linen_variables(params), XS), expected)
    around_linen = flax.linen.RNN(rnncells.linen.RNNCell(cell), return_carry=True)
    close(
        around_linen.apply({"params": linen_variables(params)["params"] | {"cell": {"cell": params}}}, XS),
        expected,
    )
    close(nnx_layer(cell, params, return_carry=True)(XS), expected)
    around_nnx = nnx.RNN(nnx_layer(cell, params, rnncells.nnx.RNNCell), return_carry=True)
    close(around_nnx(XS), expected)


@over_cells
@pytest.mark.parametrize("keep_order", [False, True])
def test_reverse_with_lengths_as_flax_does_it(cell, keep_order):
    params = random_params(cell)
    options = {
        "seq_lengths": jnp.asarray(LENGTHS),
        "reverse": True,
        "keep_order": keep_order,
        "return_carry": True,
    }
    around = flax.linen.RNN(rnncells.linen.RNNCell(cell))
    carry, ys = around.apply({"params": {"cell": {"cell": params}}}, XS, **options)
    for layer in (
        functools.partial(rnncells.linen.RNN(cell).apply, linen_variables(params)),
        nnx_layer(cell, params),
    ):
        ours_carry, ours = layer(XS, **options)
        close(ours_carry, carry)
        close(ours[VALID], ys[VALID])
        assert not np.any(ours[~VALID])
        time_major = layer(jnp.moveaxis(XS, 1, 0), time_major=True, **options)
        close((time_major[0], jnp.moveaxis(time_major[1], 0, 1)), (ours_carry, ours))


@over_cells
def test_inside_flax_bidirectional(cell):
    params, other = random_params(cell), random_params(cell, 1)
    forward = bare(cell, params, lengths=LENGTHS)[1]
    backward = bare(cell, other, lengths=LENGTHS, reverse=True)[1]
    expected = jnp.concatenate([forward, backward], -1)
    lengths = jnp.asarray(LENGTHS)

    ours = flax.linen.Bidirectional(rnncells.linen.RNN(cell), rnncells.linen.RNN(cell))
    tree = {"forward_rnn": {"cell": params}, "backward_rnn": {"cell": other}}
    close(ours.apply({"params": tree}, XS, seq_lengths=lengths), expected)
    theirs = flax.linen.Bidirectional(*(flax.linen.RNN(rnncells.linen.RNNCell(cell)) for _ in range(2)))
    nested = {name: {"cell": leaf} for name, leaf in tree.items()}
    close(theirs.apply({"params": nested}, XS, seq_lengths=lengths)[VALID], expected[VALID])

    ours = nnx.Bidirectional(nnx_layer(cell, params), nnx_layer(cell, other))
    close(ours(XS, seq_lengths=lengths), expected)
    cells = (nnx.RNN(nnx_layer(cell, tree, rnncells.nnx.RNNCell)) for tree in (params, other))
    close(nnx.Bidirectional(*cells)(XS, seq_lengths=lengths)[VALID], expected[VALID])


@over_cells
def test_nnx_under_plain_and_nnx_transforms(cell):
    params = random_params(cell)
    module = nnx_layer(cell, params)
    graph, state = nnx.split(module)
    expected = jax.grad(lambda params: jnp.sum(bare(cell, params)[1]))(params)

    def score(state):
        return jnp.sum(nnx.merge(graph, state)(XS))

    close(nnx.to_pure_dict(jax.jit(jax.grad(score))(state))["params"], expected)
    close(nnx.to_pure_dict(nnx.jit(nnx.grad(lambda module: jnp.sum(module(XS))))(module))["params"], expected)
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[state, state])
    many = jax.vmap(lambda state: nnx.merge(graph, state)(XS))(states)
    close(many[1], bare(cell, params)[1])


@over_cells
def test_linen_transforms(cell):
    params = random_params(cell)
    layer = rnncells.linen.RNN(cell)
    expected = jax.grad(lambda params: jnp.sum(bare(cell, params)[1]))(params)
    score = jax.jit(jax.grad(lambda variables: jnp.sum(layer.apply(variables, XS))))
    close(score(linen_variables(params))["params"]["cell"], expected)


@pytest.mark.parametrize("module", ["linen", "nnx"])
def test_options_of_unroll_pass_through(module):
    cell = GRU(4)
    params = random_params(cell)
    rng = np.random.default_rng(0)
    mask, resets = rng.random((B, T)) < 0.7, rng.random((B, T)) < 0.4
    carry = random_like(cell.initial_carry(params, (B,)))
    settings = {"remat_every": 2, "truncate_every": 4}
    if module == "linen":
        layer = functools.partial(rnncells.linen.RNN(cell, **settings).apply, linen_variables(params))
    else:
        layer = nnx_layer(cell, params, **settings)
    options = {"mask": mask.T, "resets": resets.T, "return_carries": True}
    last, (ys, carries) = unroll(cell, params, jnp.moveaxis(XS, 1, 0), carry, **options, **settings)
    expected = last, (jnp.moveaxis(ys, 0, 1), jnp.moveaxis(carries, 0, 1))
    given = {
        "initial_carry": carry,
        "mask": mask,
        "resets": resets,
        "return_carries": True,
        "return_carry": True,
    }
    close(layer(XS, **given), expected)


def test_parallel_passes_through():
    with pytest.raises(ValueError, match="parallel"):
        rnncells.linen.RNN(GRU(4), parallel=True).init(jax.random.key(0), XS)
    with pytest.raises(ValueError, match="parallel"):
        rnncells.nnx.RNN(GRU(4), INPUT, parallel=True, rngs=nnx.Rngs(0))(XS)


@over_cells
def test_dtype_and_param_dtype(cell):
    half = rnncells.linen.RNN(cell, dtype=jnp.bfloat16)
    variables = half.init(jax.random.key(0), XS)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert half.apply(variables, XS).dtype == jnp.bfloat16
    module = rnncells.nnx.RNN(cell, INPUT, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(module))} == {jnp.dtype("bfloat16")}
    assert module(XS).dtype == jnp.bfloat16
    around = flax.linen.RNN(rnncells.linen.RNNCell(cell, dtype=jnp.bfloat16))
    assert around.apply(around.init(jax.random.key(0), XS), XS).dtype == jnp.bfloat16


def test_noise_from_the_rngs():
    cell = Noisy(4)
    params = random_params(cell)
    key = jax.random.key(3)
    layer = rnncells.linen.RNN(cell)
    quiet = bare(cell, params)[1]
    close(layer.apply(linen_variables(params), XS), quiet)
    loud = layer.apply(linen_variables(params), XS, rngs={"dropout": key})
    assert not np.allclose(loud, quiet)
    close(layer.apply(linen_variables(params), XS, rngs={"dropout": key}), loud)
    close(nnx_layer(cell, params)(XS, key=key), bare(cell, params, key=key)[1])
    around = flax.linen.RNN(rnncells.linen.RNNCell(cell), split_rngs={"params": False, "dropout": True})
    variables = {"params": {"cell": {"cell": params}}}
    assert not np.allclose(around.apply(variables, XS, rngs={"dropout": key}), quiet)


def test_numbers_of_a_cell_are_swept_through_modules():
    """vmap over a numeric field, through linen's init and nnx's constructor."""
    biases = jnp.array([-1.0, 0.0, 2.0])

    def linen(bias):
        layer = rnncells.linen.RNN(LSTM(4, forget_bias=bias))
        return layer.init(jax.random.key(0), XS)["params"]["cell"]["bias"][4]

    def through_nnx(bias):
        return rnncells.nnx.RNN(LSTM(4, forget_bias=bias), INPUT, rngs=nnx.Rngs(0)).params["bias"][...][4]

    np.testing.assert_array_equal(jax.vmap(linen)(biases), biases)
    np.testing.assert_array_equal(jax.vmap(through_nnx)(biases), biases)


class Tagger(flax.linen.Module):
    """The worked example of the README: one cell inside somebody's own linen model."""

    @flax.linen.compact
    def __call__(self, tokens, lengths):
        x = flax.linen.Embed(20, 8)(tokens)
        x = rnncells.linen.RNN(GRU(16))(x, seq_lengths=lengths)
        return flax.linen.Dense(5)(x)


def test_a_cell_in_an_existing_model():
    tokens = jnp.ones((2, 7), int)
    variables = Tagger().init(jax.random.key(0), tokens, jnp.array([7, 3]))
    assert Tagger().apply(variables, tokens, jnp.array([7, 3])).shape == (2, 7, 5)
    assert set(variables["params"]["RNN_0"]["cell"]) == {
        "kernel",
        "recurrent_kernel",
        "bias",
        "recurrent_bias",
    }
