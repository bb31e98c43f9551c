"""Mistakes of those who come from Flax: a sentence that says what to write."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rnncells
from rnncells import LSTM
from tests.cases import INPUT, B, T
from tests.layers import ours

XS = jnp.ones((B, T, INPUT))


def linen(cell):
    return rnncells.linen.RNN(cell)


def linen_cell(cell):
    return rnncells.linen.RNNCell(cell)


def in_nnx(cell):
    return rnncells.nnx.RNN(cell, INPUT, rngs=nnx.Rngs(0))


def nnx_cell(cell):
    return rnncells.nnx.RNNCell(cell, INPUT, rngs=nnx.Rngs(0))


MODULES = [linen, linen_cell, in_nnx, nnx_cell]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: LSTM, r"got <class .*LSTM'>; make an instance, such as LSTM\(features=64\)"),
        (lambda: flax.linen.LSTMCell, "make an instance"),
        (
            lambda: flax.linen.OptimizedLSTMCell(8),
            r"got Flax's OptimizedLSTMCell; write .*rnncells.LSTM\(8\)",
        ),
        (lambda: nnx.GRUCell(3, 5, rngs=nnx.Rngs(0)), r"got Flax's GRUCell; write .*rnncells.GRU\(5\)"),
        (lambda: flax.linen.SimpleCell(8), r"rnncells.Elman\(8\)"),
        (lambda: linen_cell(LSTM(8)), r"rnncells.linen.RNNCell.*write the cell itself, LSTM\(features=8\)"),
        (lambda: nnx_cell(LSTM(8)), r"rnncells.nnx.RNNCell.*write the cell itself, LSTM\(features=8\)"),
        (lambda: linen(LSTM(8)), r"rnncells.linen.RNN, .*write the cell itself, LSTM\(features=8\)"),
        (lambda: "LSTM", "got 'LSTM'"),
    ],
)
def test_what_is_no_cell(module, wrong, sentence):
    with pytest.raises(
        TypeError,
        match=f"cell: expected a rnncells cell, {sentence}" if sentence.startswith("got") else sentence,
    ):
        module(wrong())


@pytest.mark.parametrize(
    "run",
    [
        lambda: flax.linen.RNN(LSTM(8)).init(jax.random.key(0), XS),
        lambda: flax.linen.RNN(LSTM(8), time_major=True).init(jax.random.key(0), XS),
        lambda: nnx.RNN(LSTM(8))(XS),
    ],
)
def test_a_cell_in_flax_own_rnn(run):
    with pytest.raises(
        TypeError, match=r"expects a Flax module, got LSTM\(features=8\); write rnncells.linen.RNN"
    ):
        run()


@pytest.mark.parametrize("which", [0, 1], ids=["linen", "nnx"])
def test_shapes_are_named_as_they_were_given(which):
    cell = LSTM(4)
    layer = ours(cell, cell.init(jax.random.key(0), INPUT))[which]
    for name in ("mask", "resets"):
        with pytest.raises(ValueError, match=rf"{name}: expected shape \[{B}, {T}\].*got bool\[{T},{B}\]"):
            layer(XS, **{name: np.ones((T, B), bool)})
        with pytest.raises(ValueError, match=rf"{name}: expected shape \[{T}, {B}\].*got bool\[{B},{T}\]"):
            layer(jnp.ones((T, B, INPUT)), time_major=True, **{name: np.ones((B, T), bool)})
    with pytest.raises(ValueError, match=rf"lengths: expected shape \[{B}\]"):
        layer(XS, seq_lengths=np.ones(T, int))
    with pytest.raises(
        ValueError, match=r"inputs: expected \[\*batch, time\] and 1 feature axes, got float32\[3\]"
    ):
        layer(jnp.ones(INPUT))
    with pytest.raises(ValueError, match=r"inputs: expected \[time, \*batch\]"):
        layer(jnp.ones(INPUT), time_major=True)
    with pytest.raises(ValueError, match=r"inputs: expected .*got float32\[\]"):
        layer(jnp.ones(()))
