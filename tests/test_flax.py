"""Law 8: bare == linen == nnx == Flax's own RNN and Bidirectional around our cells, options included."""

import functools

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rnncells
from rnncells import GRU, LSTM
from tests import cases
from tests.cases import INPUT, B, T, over, random_like, random_params, score
from tests.layers import bare, in_nnx, inputs, linen, ours, own, swapped
from tests.traits import TRAITS

LENGTHS = np.array([T, 2, 4])
VALID = np.arange(T)[None] < LENGTHS[:, None]
every_kind = over(TRAITS, daily=("integer", "complex", "nested", "timed", "learned"))
over_cells = over(TRAITS, daily=("gated", "timed", "learned"))
close = functools.partial(cases.close, atol=1e-5)
XS = jax.random.normal(jax.random.key(0), (B, T, INPUT))


def test_the_parameter_tree_is_the_same_everywhere():
    cell = LSTM(4)
    expected = jax.tree.map(jnp.shape, cell.init(jax.random.key(0), INPUT))
    for module in (rnncells.linen.RNN(cell), flax.linen.RNN(rnncells.linen.RNNCell(cell))):
        tree = module.init(jax.random.key(0), XS)["params"]["cell"]
        tree = tree if module.__class__.__module__.startswith("rnncells") else tree["cell"]
        assert jax.tree.map(jnp.shape, tree) == expected
    for kind in (rnncells.nnx.RNN, rnncells.nnx.RNNCell):
        module = kind(cell, INPUT, rngs=nnx.Rngs(0))
        tree = nnx.to_pure_dict(nnx.state(module, nnx.Param))
        assert jax.tree.map(jnp.shape, tree) == {"cell_params": expected}
        assert jax.tree.map(jnp.shape, module.params) == expected


@every_kind
def test_all_roads_give_the_same(cell):
    params, xs = random_params(cell), inputs(cell)
    expected = bare(cell, params, xs)
    for layer in (*ours(cell, params, return_carry=True), *own(cell, params, return_carry=True)):
        close(layer(xs), expected)


@over_cells
@pytest.mark.parametrize("keep_order", [False, True])
def test_reverse_with_lengths_as_flax_does_it(cell, keep_order):
    params, xs = random_params(cell), inputs(cell)
    lengths = jnp.asarray(LENGTHS)
    options = {"seq_lengths": lengths, "reverse": True, "keep_order": keep_order, "return_carry": True}
    carry, ys = own(cell, params)[0](xs, **options)
    for layer in ours(cell, params):
        ours_carry, got = layer(xs, **options)
        close(ours_carry, carry)
        close(got[VALID], ys[VALID])
        assert not np.any(got[~VALID])
        time_carry, by_time = layer(swapped(xs), time_major=True, **options)
        close((time_carry, swapped(by_time)), (ours_carry, got))


@over_cells
def test_inside_flax_bidirectional(cell):
    params, other, xs = random_params(cell), random_params(cell, 1), inputs(cell)
    forward = bare(cell, params, xs, lengths=LENGTHS)[1]
    backward = bare(cell, other, xs, lengths=LENGTHS, reverse=True)[1]
    expected = jnp.concatenate([forward, backward], -1)
    lengths = jnp.asarray(LENGTHS)

    layer = functools.partial(rnncells.linen.RNN, cell, deterministic=True)
    both = flax.linen.Bidirectional(layer(), layer())
    tree = {"forward_rnn": {"cell": params}, "backward_rnn": {"cell": other}}
    close(both.apply({"params": tree}, xs, seq_lengths=lengths), expected)
    inside = rnncells.linen.RNNCell(cell, deterministic=True)
    theirs = flax.linen.Bidirectional(flax.linen.RNN(inside), flax.linen.RNN(inside.copy()))
    nested = {name: {"cell": leaf} for name, leaf in tree.items()}
    close(theirs.apply({"params": nested}, xs, seq_lengths=lengths)[VALID], expected[VALID])

    both = nnx.Bidirectional(in_nnx(cell, params), in_nnx(cell, other))
    close(both(xs, seq_lengths=lengths), expected)
    theirs = nnx.Bidirectional(own(cell, params)[1], own(cell, other)[1])
    close(theirs(xs, seq_lengths=lengths)[VALID], expected[VALID])


@over_cells
def test_under_plain_transforms_and_those_of_flax(cell):
    params, xs = random_params(cell), inputs(cell)
    value, expected = jax.value_and_grad(lambda params: score(bare(cell, params, xs)[1]))(params)

    slope = jax.jit(jax.grad(lambda params: score(linen(cell, params)(xs))))
    close(slope(params), expected)

    module = in_nnx(cell, params)
    graph, state = nnx.split(module)

    def scored(state):
        return score(nnx.merge(graph, state)(xs))

    close(nnx.to_pure_dict(jax.jit(jax.grad(scored))(state)).get("cell_params", {}), expected)
    slope = nnx.jit(nnx.grad(lambda module: score(module(xs))))
    close(nnx.to_pure_dict(slope(module)).get("cell_params", {}), expected)
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), state, state)
    many = jax.vmap(scored, axis_size=2)(states)
    close(many, jnp.stack([value, value]))


@pytest.mark.parametrize("which", [0, 1], ids=["linen", "nnx"])
def test_options_of_unroll_pass_through(which):
    cell = GRU(4)
    params = random_params(cell)
    rng = np.random.default_rng(0)
    mask, resets = rng.random((B, T)) < 0.7, rng.random((B, T)) < 0.4
    carry = random_like(cell.initial_carry(params, (B,)))
    settings = {"remat_every": 2, "truncate_every": 4}
    options = {"return_carries": True} | settings
    expected = bare(cell, params, XS, carry=carry, mask=mask.T, resets=resets.T, **options)
    layer = ours(cell, params, return_carry=True, **settings)[which]
    close(layer(XS, initial_carry=carry, mask=mask, resets=resets, return_carries=True), expected)


def test_parallel_passes_through():
    with pytest.raises(ValueError, match="parallel"):
        rnncells.linen.RNN(GRU(4), parallel=True).init(jax.random.key(0), XS)
    with pytest.raises(ValueError, match="parallel"):
        rnncells.nnx.RNN(GRU(4), INPUT, parallel=True, rngs=nnx.Rngs(0))(XS)


@every_kind
def test_dtype_and_param_dtype(cell):
    xs, half = inputs(cell), {"dtype": jnp.bfloat16, "deterministic": True}
    layer = rnncells.linen.RNN(cell, **half)
    variables = layer.init(jax.random.key(0), xs)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} <= {jnp.dtype("float32")}
    assert layer.apply(variables, xs).dtype == jnp.bfloat16
    module = rnncells.nnx.RNN(cell, INPUT, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(params=0), **half)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(module))} <= {jnp.dtype("bfloat16")}
    assert module(xs).dtype == jnp.bfloat16
    around = flax.linen.RNN(rnncells.linen.RNNCell(cell, **half))
    assert around.apply(around.init(jax.random.key(0), xs), xs).dtype == jnp.bfloat16


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
