"""Noise is asked for as in Flax, by rngs and `deterministic`; where no key can come, there is an error."""

import dataclasses

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rnncells
from rnncells import (
    CELLS,
    GRU,
    LSTM,
    WRAPPERS,
    AttentionDecoder,
    Bidirectional,
    DropConnect,
    MultiplicativeAttention,
    RecurrentDropout,
    Residual,
    Stack,
    StateNoise,
    VariationalDropout,
    Zoneout,
)
from tests.cases import INPUT, B, T, sparing
from tests.layers import bare

KEY = jax.random.key(3)
XS = jax.random.normal(jax.random.key(0), (B, T, INPUT))
CELL = Stack([LSTM(4), Zoneout(GRU(4), rate=0.5)])
PARAMS = CELL.init(jax.random.key(1), INPUT)
VARIABLES = {"params": {"cell": PARAMS}}
QUIET = bare(CELL, PARAMS, XS)[1]
RNN = rnncells.linen.RNN
NEEDS = "rngs: .* draws noise"


def quiet(ys):
    return np.allclose(ys, QUIET, atol=1e-6)


def nnx_layer(kind=rnncells.nnx.RNN, rngs=0, **options):
    layer = kind(CELL, INPUT, rngs=nnx.Rngs(rngs), **options)
    layer.params = PARAMS
    return layer


def one_of_each():
    """A cell for each wrapper, and cells of cells."""
    given = {"rate": 0.3, "stddev": 0.2, "rank": 2, "size": 2}
    for wrapper in WRAPPERS.values():
        names = {field.name for field in dataclasses.fields(wrapper)} & given.keys()
        yield wrapper(LSTM(INPUT), **{name: given[name] for name in names})
    inside = Zoneout(GRU(INPUT), rate=0.3)
    yield Stack([LSTM(INPUT), Residual(Stack([LSTM(4), inside]))])
    yield AttentionDecoder(inside, MultiplicativeAttention()).attend(jnp.ones((2, B, INPUT)))


@pytest.mark.parametrize("cell", sparing(one_of_each(), 3), ids=repr)
def test_a_cell_says_whether_it_is_noisy(cell):
    params = cell.init(jax.random.key(0), INPUT)
    carry, x = jax.tree.map(lambda part: part + 0.5, cell.initial_carry(params, (B,))), XS[:, 0]
    run = jax.jit(lambda *given: cell(*given))
    without, given = run(params, carry, x), run(params, carry, x, KEY)
    same = all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (without, given)), strict=True))
    assert cell.noisy != same


def test_cells_of_the_registry_draw_nothing_and_both_directions_ask_their_cells():
    assert not any(kind(4).noisy for kind in CELLS.values())
    for wrapper in (
        Zoneout(GRU(4), rate=0.1),
        StateNoise(GRU(4), stddev=0.1),
        VariationalDropout(GRU(4), rate=0.1),
        RecurrentDropout(GRU(4), rate=0.1),
        DropConnect(GRU(4)),
    ):
        assert wrapper.noisy
        assert Bidirectional(GRU(4), wrapper).noisy
    assert not Bidirectional(GRU(4)).noisy


def test_linen_needs_a_key_or_deterministic():
    assert jax.tree.structure(RNN(CELL).init(KEY, XS)) == jax.tree.structure(VARIABLES)
    for options in ({}, {"deterministic": False}):
        with pytest.raises(ValueError, match=f"{NEEDS}.*'dropout'.*deterministic=True"):
            RNN(CELL).apply(VARIABLES, XS, **options)
        with pytest.raises(ValueError, match=NEEDS):
            RNN(CELL, **options).apply(VARIABLES, XS)
    for rngs in ({}, {"rngs": {"dropout": KEY}}):
        assert quiet(RNN(CELL).apply(VARIABLES, XS, deterministic=True, **rngs))
        assert quiet(RNN(CELL, deterministic=True).apply(VARIABLES, XS, **rngs))
    for asked in (None, False):
        loud = RNN(CELL).apply(VARIABLES, XS, deterministic=asked, rngs={"dropout": KEY})
        assert not quiet(loud)
        again = RNN(CELL, deterministic=asked).apply(VARIABLES, XS, rngs={"dropout": KEY})
        np.testing.assert_array_equal(again, loud)
    with pytest.raises(ValueError, match="deterministic"):  # given twice, as in Flax's Dropout
        RNN(CELL, deterministic=True).apply(VARIABLES, XS, deterministic=False)


def test_linen_takes_the_rng_of_any_name():
    layer = RNN(CELL, rng_collection="zoneout")
    assert not quiet(layer.apply(VARIABLES, XS, rngs={"zoneout": KEY}))
    with pytest.raises(ValueError, match=f"{NEEDS}.*'zoneout'"):
        layer.apply(VARIABLES, XS, rngs={"dropout": KEY})
    assert not quiet(layer.apply(VARIABLES, XS, rngs=KEY))  # one key for all, as Flax has it


def test_a_linen_cell_inside_flax_rnn():
    cell = rnncells.linen.RNNCell(CELL)
    variables = {"params": {"cell": {"cell": PARAMS}}}
    split = {"params": False, "dropout": True}
    loud = flax.linen.RNN(cell, split_rngs=split).apply(variables, XS, rngs={"dropout": KEY})
    assert not quiet(loud)
    with pytest.raises(ValueError, match=f"{NEEDS}.*split_rngs"):
        flax.linen.RNN(cell).apply(variables, XS, rngs={"dropout": KEY})
    assert quiet(flax.linen.RNN(rnncells.linen.RNNCell(CELL, deterministic=True)).apply(variables, XS))
    carry = cell.initialize_carry(KEY, XS[:, 0].shape)
    alone = {"params": {"cell": PARAMS}}
    with pytest.raises(ValueError, match=NEEDS):
        cell.apply(alone, carry, XS[:, 0])
    _, y = cell.apply(alone, carry, XS[:, 0], deterministic=True)
    assert np.allclose(y, QUIET[:, 0], atol=1e-6)


def test_nnx_draws_from_its_own_stream():
    layer, same = nnx_layer(), nnx_layer()
    first, second = layer(XS), layer(XS)
    assert not quiet(first)
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(same(XS), first)
    graph, state = nnx.split(same)
    np.testing.assert_allclose(jax.jit(lambda state: nnx.merge(graph, state)(XS))(state), second, atol=1e-6)
    np.testing.assert_allclose(nnx.jit(lambda layer: layer(XS))(same), second, atol=1e-6)
    assert not np.allclose(same(XS), second)  # nnx.jit has moved the stream on


def test_nnx_train_and_eval():
    layer = nnx_layer()
    layer.eval()
    assert quiet(layer(XS))
    assert quiet(layer(XS, key=KEY))
    assert quiet(layer(XS, rngs=nnx.Rngs(0)))
    assert not quiet(layer(XS, deterministic=False))
    layer.train()
    assert not quiet(layer(XS))
    assert quiet(layer(XS, deterministic=True))
    assert quiet(nnx.view(layer, deterministic=True)(XS))
    assert not quiet(layer(XS))
    assert quiet(nnx_layer(deterministic=True)(XS))


def test_nnx_takes_rngs_and_keys_at_the_call():
    layer = nnx_layer()
    expected = bare(CELL, PARAMS, XS, key=KEY)[1]
    for given in ({"key": KEY}, {"rngs": KEY}):
        np.testing.assert_allclose(layer(XS, **given), expected, atol=1e-6)
    stream = nnx.Rngs(dropout=5)
    loud = layer(XS, rngs=stream)
    assert not quiet(loud)
    assert not np.allclose(layer(XS, rngs=stream), loud)
    np.testing.assert_array_equal(layer(XS, rngs=nnx.Rngs(dropout=5).dropout), loud)
    np.testing.assert_array_equal(nnx_layer(rng_collection="zoneout")(XS, rngs=nnx.Rngs(zoneout=5)), loud)


def test_nnx_without_a_stream_says_so():
    layer = nnx_layer(rngs={"params": 0})
    for rngs in (None, nnx.Rngs(zoneout=1)):
        with pytest.raises(ValueError, match=f"{NEEDS}.*'dropout'.*deterministic=True"):
            layer(XS, rngs=rngs)
    assert not quiet(layer(XS, rngs=nnx.Rngs(1)))
    with pytest.raises(TypeError, match="key: expected one key"):
        layer(XS, rngs="dropout")
    # Flax's Bidirectional passes on a stream of its own, for carries, which must not serve for noise.
    with pytest.raises(ValueError, match=NEEDS):
        nnx.Bidirectional(layer, nnx_layer(rngs={"params": 0}))(XS)
    both = nnx.Bidirectional(nnx_layer(), nnx_layer(rngs=1))
    assert not quiet(both(XS)[..., :4])
    both.eval()
    assert quiet(both(XS)[..., :4])


def test_an_nnx_cell_inside_flax_rnn():
    layer = nnx.RNN(nnx_layer(kind=rnncells.nnx.RNNCell))
    first = layer(XS)
    assert not quiet(first)
    assert not np.allclose(layer(XS), first)
    layer.eval()
    assert quiet(layer(XS))


def test_nothing_is_asked_without_noise():
    cell = LSTM(4)
    assert RNN(cell).apply(RNN(cell).init(KEY, XS), XS, deterministic=False).shape == (B, T, 4)
    layer = rnncells.nnx.RNN(cell, INPUT, rngs=nnx.Rngs(params=0))
    assert layer.rngs is None
    assert layer(XS, deterministic=False).shape == (B, T, 4)
    graph, params = nnx.split(layer, nnx.Param)
    assert nnx.merge(graph, params)(XS).shape == (B, T, 4)
