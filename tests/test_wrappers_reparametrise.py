"""What factored and normalised products compute, against NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    GRU,
    LSTM,
    DropConnect,
    Elman,
    LayerNorm,
    LayerNormLSTM,
    LowRank,
    RMSNorm,
    Stack,
    WeightNorm,
    unroll,
)
from rnncells.initializers import Normal, Zeros
from tests.cases import B, H, T, assert_own_draws, close, exact, setup, to_numpy
from tests.references.common import s

KEY = jax.random.key(1)


@exact
@pytest.mark.parametrize("reset_after", [True, False])
def test_low_rank_is_the_product(reset_after):
    cell = LowRank(GRU(H, reset_after=reset_after), rank=2)
    params, xs = setup(cell)
    factors = params["recurrent_kernel"]
    assert factors["left"].shape == (H, 2)
    assert factors["right"].shape == (2, 3 * H)
    whole = {**params, "recurrent_kernel": factors["left"] @ factors["right"]}
    close(unroll(cell, params, xs), unroll(cell.cell, whole, xs))
    dropped = DropConnect(cell, rate=0.5).prepare(params, KEY)["recurrent_kernel"]
    assert np.mean(np.asarray(dropped) == 0) > 0.2


def test_low_rank_starts_with_the_variance_of_a_full_kernel():
    factors = LowRank(Elman(400), rank=20).init(KEY, 2)["recurrent_kernel"]
    assert float((factors["left"] @ factors["right"]).var()) == pytest.approx(1 / 400, rel=0.2)


def test_the_factors_of_every_layer_are_drawn_by_themselves():
    layer = Elman(8, kernel_init=Normal(), recurrent_init=Normal())
    assert_own_draws(LowRank(Stack([layer, layer]), rank=8).init(KEY, 8))


@exact
def test_weight_norm():
    """Starts as the cell itself; then lengths are g, whatever the directions."""
    bare = LSTM(H, recurrent_init=Normal(0.3))  # the columns of an orthogonal draw all have length 1
    cell = WeightNorm(bare)
    start = cell.init(KEY, H, jnp.float64)
    close(cell.prepare(start), bare.init(KEY, H, jnp.float64))
    params, xs = setup(cell)
    direction, length = (np.asarray(params["recurrent_kernel"][k]) for k in ("direction", "length"))
    kernel = length * direction / np.linalg.norm(direction, axis=0)
    close(unroll(cell, params, xs), unroll(bare, {**params, "recurrent_kernel": kernel}, xs))


def test_weight_norm_of_zeros():
    cell = WeightNorm(Elman(2, recurrent_init=Zeros()))
    params = cell.init(KEY, 3)
    slope = jax.grad(lambda p: unroll(cell, p, jnp.ones((T, 3)))[1].sum())(params)
    chex.assert_tree_all_finite(slope)


@exact
@pytest.mark.parametrize(("wrapper", "centre"), [(LayerNorm, True), (RMSNorm, False)])
@pytest.mark.parametrize("reset_after", [True, False])
def test_normalised_products(wrapper, centre, reset_after):
    """Gate by gate, as a GRU written out."""
    inner = GRU(H, reset_after=reset_after)
    cell = wrapper(inner, epsilon=1e-3)
    params, xs = setup(cell)
    p, scale = to_numpy(params["cell"]), to_numpy(params["scale"])

    def n(v, i, name):
        v = v - v.mean(-1, keepdims=True) if centre else v
        return scale[name][i * H : (i + 1) * H] * v / np.sqrt((v**2).mean(-1, keepdims=True) + 1e-3)

    h, outputs = np.zeros((B, H)), []
    for x in np.asarray(xs):
        w, u, b = (np.split(p[name], 3, -1) for name in ("kernel", "recurrent_kernel", "bias"))
        a = [n(x @ w[i], i, "kernel") + b[i] for i in range(3)]
        r = s(a[0] + n(h @ u[0], 0, "recurrent_kernel"))
        z = s(a[1] + n(h @ u[1], 1, "recurrent_kernel"))
        if reset_after:
            candidate = np.tanh(a[2] + r * (n(h @ u[2], 2, "recurrent_kernel") + p["recurrent_bias"]))
        else:
            candidate = np.tanh(a[2] + n((r * h) @ u[2], 2, "recurrent_kernel"))
        h = (1 - z) * candidate + z * h
        outputs.append(h)
    close(unroll(cell, params, xs)[1], np.stack(outputs))


@exact
def test_layer_norm_does_not_see_the_scale_of_its_inputs():
    cell = LayerNorm(LSTM(H), epsilon=1e-12)
    params, xs = setup(cell)
    close(unroll(cell, params, 100 * xs), unroll(cell, params, xs), atol=1e-8)
    cell = LayerNormLSTM(H, epsilon=1e-12)
    params, xs = setup(cell)
    close(unroll(cell, params, 100 * xs), unroll(cell, params, xs), atol=1e-8)
