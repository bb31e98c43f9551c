"""What wrappers and stacks refuse, and the sentence that says so."""

import jax
import jax.numpy as jnp
import pytest

from rnncells import (
    GRU,
    LSTM,
    Bidirectional,
    ConvGRU,
    DropConnect,
    ExpRNN,
    Highway,
    LayerNorm,
    LowRank,
    MinGRU,
    Projection,
    RecurrentDropout,
    Residual,
    Stack,
    StateNoise,
    VariationalDropout,
    WeightNorm,
    Zoneout,
    unroll,
)

KEY = jax.random.key(1)


BAD = [
    (lambda: LowRank(WeightNorm(LSTM(8)), rank=2).init(KEY, 4), "LowRank: .*recurrent kernel is one array"),
    (lambda: WeightNorm(LowRank(LSTM(8), rank=2)).init(KEY, 4), "WeightNorm: .*kernel is one array"),
    (lambda: Bidirectional(GRU(4), LSTM), "Bidirectional.backward: expected a rnncells cell"),
    (
        lambda: Bidirectional(GRU(4), 5).init(KEY, 4),
        "Bidirectional.backward: expected .* got 5",
    ),
    (lambda: Stack([ConvGRU(4, shape=(5,)), GRU(4)]), r"Stack.cells: .* equally many axes, got ConvGRU"),
    (lambda: Bidirectional(ConvGRU(4, shape=(5,)), GRU(4)), "Bidirectional.backward: .* equally many axes"),
    (lambda: Zoneout(GRU(8), rate=jnp.ones(5) * 0.1).init(KEY, 4), r"Zoneout.rate: .*last axes of \[8\]"),
    (lambda: Zoneout(GRU(8), rate=(0.1, 0.2)).init(KEY, 4), "one for each part of the state"),
    (
        lambda: Highway(GRU(4), transform_bias=jnp.ones(3)).init(KEY, 4),
        "Highway.transform_bias: expected",
    ),
    (lambda: VariationalDropout(ConvGRU(4, shape=(5,)), rate=0.2).init(KEY, 4), r"expected kernels \[K, N\]"),
    (lambda: LayerNorm(GRU(4), epsilon=0.0).init(KEY, 4), "LayerNorm.epsilon: expected at least 1e-12"),
    (lambda: Stack(GRU(3), LSTM(3)), "Stack.cells: expected a list of at least one cell, got GRU"),
    (
        lambda: Residual(GRU(5)).init(KEY, 4),
        "Residual: .*as wide as its input, 4, .*give the cell features=4",
    ),
    (lambda: Highway(GRU(5)).init(KEY, 4), r"Highway: .*Projection\(cell, 4, recurrent=False\)"),
    (lambda: Zoneout(LSTM(4), rate=1.5).init(KEY, 4), r"Zoneout.rate: expected at most 1, got 1.5"),
    (lambda: StateNoise(LSTM(4), stddev=-1.0).init(KEY, 4), "StateNoise.stddev: expected at least 0"),
    (
        lambda: VariationalDropout(LSTM(4)).init(KEY, 4),
        "expected a rate or an input_rate",
    ),
    (
        lambda: VariationalDropout(MinGRU(4), rate=0.5).init(KEY, 4),
        "expected a cell with a `recurrent_kernel`",
    ),
    (lambda: DropConnect(MinGRU(4)).init(KEY, 4), "DropConnect: expected a cell with a `recurrent_kernel`"),
    (lambda: LowRank(ExpRNN(4), rank=2).init(KEY, 4), "LowRank: .*got ExpRNN"),
    (lambda: LowRank(GRU(4), rank=0), "LowRank.rank: expected a positive int, got 0"),
    (lambda: LayerNorm(Stack([GRU(4)])).init(KEY, 4), "normalise the layers of a stack one by one"),
    (lambda: Projection(GRU(4), 2).init(KEY, 4), "Projection: .*pass recurrent=False"),
    (lambda: Projection(Zoneout(LSTM(4), rate=0.1), 2).init(KEY, 4), "put other wrappers around"),
    (lambda: Zoneout(Stack([GRU(4)]), rate=0.1), r"Zoneout.cell: .*wrap its layers instead, as in Stack"),
    (lambda: RecurrentDropout(Bidirectional(GRU(4)), rate=0.1), "RecurrentDropout.cell: expected one cell"),
    (lambda: Stack([]), r"Stack.cells: expected a list of at least one cell, got \(\)"),
    (lambda: Stack(GRU(4)), "Stack.cells: expected a list of at least one cell, got GRU"),
    (lambda: Stack([GRU(4), LSTM]), r"Stack.cells\[1\]: expected a rnncells cell.*LSTM\(features=64\)"),
    (lambda: Zoneout(LSTM, rate=0.1), "Zoneout.cell: expected a rnncells cell"),
    (lambda: Zoneout(None, rate=0.1).init(KEY, 4), "Zoneout.cell: expected a rnncells cell, got None"),
    (lambda: Stack([GRU(4), "LSTM"]).init(KEY, 4), r"Stack.cells\[1\]: expected a rnncells cell, got 'LSTM'"),
    (
        lambda: Bidirectional(GRU(4), merge="max"),
        "Bidirectional.merge: expected 'concat', 'sum', 'mul' or 'ave', got 'max'",
    ),
    (lambda: Bidirectional(GRU(4), GRU(5), merge="sum"), "expected equal output sizes"),
    (
        lambda: (lambda c: unroll(c, c.init(KEY, 4), jnp.ones((2, 4)), parallel=True))(
            Stack([MinGRU(4), GRU(4)])
        ),
        "parallel: expected a linear cell in layer_1, got GRU",
    ),
    (
        lambda: (lambda c: unroll(c, c.init(KEY, 4), jnp.ones((2, 4))))(Zoneout(GRU(4), rate=(0.1, 0.2))),
        "Zoneout.rate: expected one number, or one for each part of the state",
    ),
    (
        lambda: (lambda c, p: c(p, c.initial_carry(p), jnp.ones(4)))(
            *(lambda c: (c, c.init(KEY, 4)))(Bidirectional(GRU(4)))
        ),
        "Bidirectional: a layer that reads both ways has no single tick",
    ),
]


@pytest.mark.parametrize(("bad", "message"), BAD, ids=range(len(BAD)))
def test_refused(bad, message):
    with pytest.raises((TypeError, ValueError), match=message):
        bad()
