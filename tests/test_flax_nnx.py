"""What nnx does with modules besides calling them: bridges, updates, splits, with numbers that are arrays."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rnncells
from rnncells import GRU, LSTM, AttentionDecoder, MultiplicativeAttention, Zoneout
from tests.cases import INPUT, B, T, random_params
from tests.layers import bare, in_nnx

KEY = jax.random.key(3)
XS = jax.random.normal(jax.random.key(0), (B, T, INPUT))
BIASES = jnp.array([-1.0, 0.0, 2.0])
ARRAYS = LSTM(4, forget_bias=jnp.ones(4))
close = functools.partial(chex.assert_trees_all_close, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cell", [LSTM(4), ARRAYS], ids=repr)
def test_as_a_linen_module(cell):
    layer = nnx.bridge.ToLinen(rnncells.nnx.RNN, args=(cell, INPUT))
    variables = layer.init(KEY, XS)
    close(layer.apply(variables, XS), bare(cell, variables["params"]["cell_params"], XS)[1])
    back = nnx.bridge.ToNNX(rnncells.linen.RNN(cell), rngs=nnx.Rngs(0)).lazy_init(XS)
    assert back(XS).shape == (B, T, 4)


@pytest.mark.parametrize("cell", [LSTM(4), ARRAYS], ids=repr)
def test_update_and_split(cell):
    layer, other = in_nnx(cell, random_params(cell)), in_nnx(cell, random_params(cell, 1))
    expected = other(XS)
    graph, params = nnx.split(layer, nnx.Param)
    close(nnx.merge(graph, params)(XS), layer(XS))
    nnx.update(layer, nnx.state(other))
    close(layer(XS), expected)
    layer.params = random_params(cell)
    close(layer.params, random_params(cell))
    nnx.update(layer, nnx.state(other, nnx.Param))
    close(layer(XS), expected)
    with pytest.raises(ValueError, match="params: for xs with 3 features"):
        layer.params = {"kernel": layer.params["kernel"]}


def test_swept_numbers_under_jax_vmap():
    """A module made, split and differentiated inside a sweep."""

    def slope(bias):
        layer = rnncells.nnx.RNN(LSTM(4, forget_bias=bias), INPUT, rngs=nnx.Rngs(0))
        graph, params = nnx.split(layer, nnx.Param)
        grads = jax.grad(lambda params: jnp.sum(nnx.merge(graph, params)(XS)))(params)
        return layer.params["bias"][4], nnx.to_pure_dict(grads)["cell_params"]

    starts, slopes = jax.vmap(slope)(BIASES)
    np.testing.assert_array_equal(starts, BIASES)
    close(slopes, jax.tree.map(lambda *leaves: jnp.stack(leaves), *(slope(bias)[1] for bias in BIASES)))

    def linen(bias):
        return rnncells.linen.RNN(LSTM(4, forget_bias=bias)).init(KEY, XS)["params"]["cell"]["bias"][4]

    np.testing.assert_array_equal(jax.vmap(linen)(BIASES), BIASES)


def test_numbers_as_state_under_nnx_vmap():
    """A population of modules: what is assigned is state, and passes out of the transform."""
    rates = jnp.array([0.0, 0.5])

    @nnx.vmap
    def make(rate):
        layer = rnncells.nnx.RNN(Zoneout(LSTM(4), rate=rate), INPUT, deterministic=True, rngs=nnx.Rngs(0))
        layer.cell = layer.cell
        return layer

    layers = make(rates)
    close(layers.cell.rate, rates)
    got = nnx.vmap(lambda layer: layer(XS))(layers)
    params = jax.tree.map(lambda leaf: leaf[0], layers.params)
    expected = [bare(Zoneout(LSTM(4), rate=rate), params, XS)[1] for rate in rates]
    close(got, jnp.stack(expected))
    nnx.update(layers, nnx.state(layers))
    moved = jax.tree.map(lambda leaf: 0 * leaf, nnx.state(layers, rnncells.nnx.Held))
    nnx.update(layers, moved)
    close(layers.cell.rate, jnp.zeros(2))


def test_a_memory_that_is_assigned_passes_through_transforms():
    decoder = AttentionDecoder(GRU(4), MultiplicativeAttention())
    layer = rnncells.nnx.RNN(decoder.attend(jnp.zeros((1, B, 4))), INPUT, rngs=nnx.Rngs(0))
    graph, params = nnx.split(layer, nnx.Param)
    memory = jax.random.normal(KEY, (5, B, 4))

    @nnx.jit
    def attend(layer, memory):
        layer.cell = layer.cell.attend(2 * memory)
        return layer(XS)

    ys = attend(layer, memory)
    close(ys, bare(decoder.attend(2 * memory), layer.params, XS)[1])
    close(layer.cell.memory, 2 * memory)
    close(layer(XS), ys)
    assert not np.allclose(nnx.merge(graph, params)(XS), ys)


def test_equal_cells_compile_once():
    traces = []

    @nnx.jit
    def run(layer):
        traces.append(layer.cell)
        return layer(XS)

    for seed in range(3):
        run(rnncells.nnx.RNN(LSTM(4, forget_bias=jnp.ones(4)), INPUT, rngs=nnx.Rngs(seed)))
    assert len(traces) == 1
    run(rnncells.nnx.RNN(LSTM(4, forget_bias=2 * jnp.ones(4)), INPUT, rngs=nnx.Rngs(0)))
    assert len(traces) == 2
