"""What residual connections, highways and projections compute, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    GRU,
    LSTM,
    Elman,
    Highway,
    LSTMCarry,
    MinGRU,
    Pointwise,
    Projection,
    Residual,
    Stack,
    unroll,
)
from rnncells.initializers import Normal, Zeros
from tests.cases import B, H, T, assert_own_draws, close, exact, setup, to_numpy
from tests.references.common import s

KEY = jax.random.key(1)


@exact
@pytest.mark.parametrize("inner", [GRU(H), MinGRU(H), Stack([LSTM(4), GRU(H)])])
def test_residual_and_highway(inner):
    params, xs = setup(Residual(inner))
    carry, ys = unroll(inner, params, xs)
    close(unroll(Residual(inner), params, xs), (carry, xs + ys))
    params, xs = setup(Highway(inner))
    carry, ys = unroll(inner, params["cell"], xs)
    kernel, bias = (np.asarray(params[f"transform_{name}"]) for name in ("kernel", "bias"))
    gate = s(np.asarray(xs) @ kernel + bias)
    close(unroll(Highway(inner), params, xs), (carry, gate * ys + (1 - gate) * xs))
    lengths = np.array([2, T, 0])
    dead = np.arange(T)[:, None] >= lengths
    ys = unroll(Highway(inner), params, jnp.where(dead[..., None], jnp.nan, xs), lengths=lengths)[1]
    assert not np.any(ys[dead])
    assert np.isfinite(ys).all()


class Raised(Pointwise):
    """A user's wrapper, whose output is not zero where everything else is."""

    def after(self, weights, x, y):
        return y + 1


@exact
@pytest.mark.parametrize("inner", [GRU(H), Stack([GRU(H), MinGRU(H)])])
def test_outputs_of_ticks_that_do_not_exist(inner):
    params, xs = setup(inner)
    lengths = np.array([2, T, 0])
    alive = np.arange(T)[:, None, None] < lengths[:, None]
    expected = np.where(alive, unroll(inner, params, xs)[1] + 1, 0)
    close(unroll(Raised(inner), params, xs, lengths=lengths)[1], expected)


def test_a_highway_starts_closed():
    """With the bias asked for, and a gate that shares no draw with what it gates."""
    size = 8
    params = Highway(Highway(Elman(size), kernel_init=Normal()), kernel_init=Normal()).init(KEY, size)
    np.testing.assert_array_equal(params["transform_bias"], np.full(size, -1.0))
    assert_own_draws(params)
    bias = jnp.arange(4.0)
    np.testing.assert_array_equal(Highway(GRU(4), transform_bias=bias).init(KEY, 4)["transform_bias"], bias)


@exact
def test_projection_is_lstmp():
    """Sak et al.: gates read r, the memory is as wide as ever."""
    cell = Projection(LSTM(H), 2)
    params, xs = setup(cell)
    assert params["cell"]["recurrent_kernel"].shape == (2, 4 * H)
    p, c, r, outputs = to_numpy(params), np.zeros((B, H)), np.zeros((B, 2)), []
    for x in np.asarray(xs):
        z = x @ p["cell"]["kernel"] + r @ p["cell"]["recurrent_kernel"] + p["cell"]["bias"]
        i, f, g, o = np.split(z, 4, -1)
        c = s(f) * c + s(i) * np.tanh(g)
        r = (s(o) * np.tanh(c)) @ p["projection"]
        outputs.append(r)
    last, ys = unroll(cell, params, xs)
    close(ys, np.stack(outputs))
    close(last, LSTMCarry(c, r))


def test_a_projection_starts_as_told():
    """P by its own scheme, the recurrent kernel by that of the cell."""
    params = Projection(LSTM(H, recurrent_init=Zeros()), 2).init(KEY, 3)
    assert np.all(params["projection"])
    assert not np.any(params["cell"]["recurrent_kernel"])
    params = Projection(LSTM(H), 2, kernel_init=Zeros()).init(KEY, 3)
    assert not np.any(params["projection"])
    assert np.all(params["cell"]["recurrent_kernel"])
    once = Projection(GRU(8), 8, recurrent=False, kernel_init=Normal())
    assert_own_draws(Projection(once, 8, recurrent=False, kernel_init=Normal()).init(KEY, 3))


@exact
def test_projection_of_the_output_alone():
    cell = Projection(GRU(H), 2, recurrent=False)
    params, xs = setup(cell)
    carry, ys = unroll(GRU(H), params["cell"], xs)
    close(unroll(cell, params, xs), (carry, ys @ params["projection"]))
