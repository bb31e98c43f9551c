"""Where numbers end: 16 bits, lengths out of bounds, empty batches, NaN where nothing is; JAX's checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnncells
from rnncells import (
    GRU,
    LSTM,
    ExpRNN,
    LayerNorm,
    LayerNormLSTM,
    MinGRU,
    MultiplicativeAttention,
    RMSNorm,
    Stack,
    Zoneout,
    unroll,
)
from rnncells.initializers import Chrono, Zeros
from tests.cases import INPUT, B, T, close, over, random_params, run, scored, sparing
from tests.traits import TRAITS

KEY = jax.random.key(0)
XS = jax.random.normal(KEY, (T, B, INPUT))
LENGTHS = np.array([T, 0, 3])
PADDED = np.where((np.arange(T)[:, None] < LENGTHS)[..., None], XS, np.nan)


@over(
    {
        "modrelu": ExpRNN(4),
        "inside": LayerNormLSTM(4, epsilon=1e-8),
        "layers": LayerNorm(GRU(4), epsilon=1e-8),
        "roots": RMSNorm(LSTM(4), epsilon=1e-8),
    },
    ["modrelu"],
)
def test_small_epsilons_in_16_bits(cell):
    """Values and slopes; and values where the products are zeros."""
    params = cell.init(KEY, INPUT, jnp.float16)
    slopes = jax.grad(lambda params: unroll(cell, params, XS.astype(jnp.float16))[1].mean())(params)
    still = unroll(cell, params, jnp.zeros_like(XS, jnp.float16))
    assert any(map(np.any, jax.tree.leaves(slopes)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((slopes, still)))


@pytest.mark.parametrize("dtype", sparing([jnp.float16, jnp.bfloat16]))
def test_chrono_of_long_memories_in_16_bits(dtype):
    """e^b is as long as it should be, though 16 bits do not hold 100 000."""
    cell = LSTM(2000, forget_bias=Chrono(1e5), recurrent_init=Zeros())
    forget = np.asarray(cell.init(KEY, 1, dtype)["bias"][2000:4000], np.float64)
    assert np.isfinite(forget).all()
    assert np.quantile(np.exp(forget), 0.5) == pytest.approx(5e4, rel=0.1)


@pytest.mark.parametrize("dtype", sparing([jnp.uint8, jnp.int32]))
def test_reversed_layers_clip_lengths_too(dtype):
    """linen and nnx, whose outputs are put into the order read by the same lengths."""
    layer = rnncells.linen.RNN(GRU(4), reverse=True, time_major=True, return_carry=True)
    variables = layer.init(KEY, XS)
    apply = jax.jit(lambda lengths: layer.apply(variables, XS, seq_lengths=lengths))
    close(apply(jnp.array([T + 9, 0, 3], dtype)), apply(jnp.array([T, 0, 3])), atol=0)
    long = jnp.ones((300, 2, INPUT))
    apply = jax.jit(lambda lengths: layer.apply(variables, long, seq_lengths=lengths))
    close(apply(jnp.array([250, 0], jnp.uint8)), apply(jnp.array([250, 0])), atol=0)


def test_memories_and_lengths_may_be_lists():
    attention = MultiplicativeAttention()
    memory, query = np.ones((4, B, 2), np.float32), np.ones((B, 2), np.float32)
    expected = attention({}, query, memory, lengths=np.array([4, 2, 0]))
    close(attention({}, query, memory, lengths=[4, 2, 0]), expected, atol=0)
    decoder = rnncells.AttentionDecoder(GRU(2), attention)
    params = decoder.attend(memory).init(KEY, INPUT)
    whole = unroll(decoder.attend(memory, np.array([4, 2, 0])), params, XS)
    close(unroll(decoder.attend(memory.tolist(), [4, 2, 0]), params, XS), whole, atol=0)


@pytest.mark.parametrize(
    "cell",
    [
        LayerNorm(LSTM(4)),
        RMSNorm(MinGRU(4)),
        LayerNormLSTM(4),
        Zoneout(GRU(4), rate=0.5),
        Stack([GRU(4), MinGRU(4)]),
    ],
    ids=lambda cell: type(cell).__name__,
)
def test_no_sequences(cell):
    params = cell.init(KEY, INPUT)
    out, slopes = scored(lambda params: unroll(cell, params, XS[:, :0], key=KEY), (params,))
    assert out[1].shape == (T, 0, 4)
    assert not any(map(np.any, slopes))


def test_a_mask_in_the_wrong_layout_is_shown_as_it_came():
    mask = np.ones((T, B), bool)
    layer = rnncells.linen.RNN(GRU(4))
    with pytest.raises(ValueError, match=rf"mask: expected shape \[{B}, {T}\].* got bool\[{T},{B}\]"):
        layer.init(KEY, jnp.ones((B, T, INPUT)), mask=mask)
    with pytest.raises(ValueError, match=rf"mask: expected shape \[{T}, {B}\].* got bool\[{B},{T}\]"):
        unroll(GRU(4), GRU(4).init(KEY, INPUT), XS, mask=mask.T)


@pytest.fixture
def debug_nans():
    jax.config.update("jax_debug_nans", True)
    yield
    jax.config.update("jax_debug_nans", False)


@pytest.mark.usefixtures("debug_nans")
@over(
    {name: TRAITS[name] for name in ("gated", "prepared", "diagonal", "running maximum")},
    ["gated", "diagonal"],
)
def test_nan_in_padding_is_no_nan(cell):
    """Outside jit, where JAX looks at the result of every operation."""
    params = random_params(cell)
    out, slopes = scored(lambda params: unroll(cell, params, PADDED, lengths=LENGTHS), (params,))
    close(out, unroll(cell, params, XS, lengths=LENGTHS), atol=1e-6)
    assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.fixture
def enable_checks():
    jax.config.update("jax_enable_checks", True)
    yield
    jax.config.update("jax_enable_checks", False)


@pytest.mark.usefixtures("enable_checks")
@over({name: TRAITS[name] for name in ("gated", "complex", "integer", "diagonal", "chunks")}, ["gated"])
def test_under_jax_own_checks(cell):
    params = random_params(cell)
    xs = XS[:5]  # programs that were traced without the checks are not traced again

    def f(params):
        return unroll(cell, params, xs, lengths=[5, 0, 3], remat_every=2)

    found, _ = scored(f, (params,))
    jax.config.update("jax_enable_checks", False)
    close(found, run(cell, params, xs, lengths=np.array([5, 0, 3])), atol=1e-5)


def test_empty_lists():
    params = random_params(LSTM(4))
    assert unroll(LSTM(4), params, XS[:, :0], lengths=[])[1].shape == (T, 0, 4)
    assert unroll(LSTM(4), params, XS[:0, 0], mask=[], resets=[])[1].shape == (0, 4)
