"""Stacks and both directions, against the layers run one by one."""

import functools

import chex
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rnncells
from rnncells import (
    GRU,
    LSTM,
    Bidirectional,
    Elman,
    MinGRU,
    Projection,
    Stack,
    VariationalDropout,
    Zoneout,
    unroll,
)
from tests.cases import random_params, sparing

T, B, H = 7, 3, 4
KEY = jax.random.key(1)
LENGTHS = np.array([T, 0, 4])
DEAD = np.arange(T)[:, None] >= LENGTHS
close = functools.partial(chex.assert_trees_all_close, atol=1e-11, rtol=1e-11)
exact = pytest.mark.usefixtures("x64")


def setup(cell):
    params = random_params(cell, dtype=jnp.float64)
    return params, jax.random.normal(jax.random.key(2), (T, B, 3), jnp.float64)


@exact
@pytest.mark.parametrize(
    "options", sparing([{"reverse": True, "lengths": LENGTHS}, {"lengths": LENGTHS}, {}])
)
def test_a_stack_is_its_layers(options):
    layers = [LSTM(H), MinGRU(5), GRU(2)]
    cell = Stack(layers)
    params, xs = setup(cell)
    (last, (ys, carries)), below = unroll(cell, params, xs, return_carries=True, **options), xs
    for i, layer in enumerate(layers):
        own, (below, states) = unroll(layer, params[f"layer_{i}"], below, return_carries=True, **options)
        close((last[i], carries[i]), (own, states))
    close(ys, below)


@exact
def test_skip_connections():
    layers = [LSTM(H), GRU(2)]
    cell = Stack(layers, skip=True)
    params, xs = setup(cell)
    first = unroll(layers[0], params["layer_0"], xs)[1]
    second = unroll(layers[1], params["layer_1"], jnp.concatenate([xs, first], -1))[1]
    close(unroll(cell, params, xs)[1], jnp.concatenate([first, second], -1))
    assert cell.output_size == H + 2


def test_each_layer_has_its_own_scan():
    """Linear layers of a stack are scanned in parallel where that is asked for."""
    xs = jnp.ones((T, B, 3))

    def loops(cell, parallel):
        params = cell.init(KEY, 3)
        return str(jax.make_jaxpr(lambda p: unroll(cell, p, xs, parallel=parallel)[1])(params)).count(
            " scan["
        )

    assert loops(Stack([MinGRU(H), MinGRU(H)]), True) == 0
    assert loops(Stack([MinGRU(H), MinGRU(H)]), False) > 0


@exact
@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave"])
def test_both_directions(merge):
    cell = Bidirectional(LSTM(H), Elman(H), merge=merge)
    params, xs = setup(cell)
    xs = jnp.where(DEAD[..., None], jnp.nan, xs)
    last, (ys, carries) = unroll(cell, params, xs, lengths=LENGTHS, return_carries=True)
    for b, length in enumerate(LENGTHS):
        x = xs[:length, b]
        forward_last, forward = unroll(LSTM(H), params["forward"], x)
        backward_last, backward = unroll(Elman(H), params["backward"], x[::-1])
        backward = backward[::-1]
        expected = {
            "concat": jnp.concatenate([forward, backward], -1),
            "sum": forward + backward,
            "mul": forward * backward,
            "ave": (forward + backward) / 2,
        }[merge]
        close(ys[:length, b], expected)
        assert not np.any(ys[length:, b])
        own = jax.tree.map(lambda leaf, b=b: leaf[b], last)
        close(own, rnncells.BidirectionalCarry(forward_last, backward_last))
    assert carries.forward.hidden.shape == (T, B, H)


@pytest.mark.laws
@exact
def test_both_directions_of_packed_segments():
    """Each segment is read from its own end."""
    cell = Stack([Bidirectional(GRU(H)), Bidirectional(MinGRU(H), merge="sum")])
    params, xs = setup(cell)
    resets = np.zeros((T, B), bool)
    resets[[0, 3]] = True
    parts = [unroll(cell, params, part)[1] for part in (xs[:3], xs[3:])]
    close(unroll(cell, params, xs, resets=resets)[1], jnp.concatenate(parts))


@exact
def test_reversed_both_directions():
    cell = Bidirectional(GRU(H), LSTM(H))
    params, xs = setup(cell)
    ys = unroll(cell, params, xs[::-1], reverse=True)[1]
    close(ys[::-1], unroll(cell, params, xs)[1])


@exact
def test_noise_of_the_directions_is_their_own():
    cell = Bidirectional(Zoneout(GRU(H), rate=0.5))
    params, xs = setup(cell)
    params = {"forward": params["forward"], "backward": params["forward"]}
    ys = unroll(cell, params, xs, key=KEY)[1]
    assert not np.allclose(ys[..., :H], unroll(cell, params, xs[::-1], key=KEY)[1][::-1, :, H:])
    np.testing.assert_array_equal(ys, unroll(cell, params, xs, key=KEY)[1])


@exact
def test_wrappers_of_kernels_reach_into_layers():
    """Dropout around a bidirectional stack: each kernel with a mask of its own, still layer by layer."""
    inner = Stack([Bidirectional(LSTM(H)), GRU(H)])
    cell = VariationalDropout(inner, rate=0.5)
    params, xs = setup(cell)
    weights = cell.prepare(params, KEY, (B,))
    masks = [
        np.asarray(layer["recurrent_kernel"].mask)
        for layer in (*weights["layer_0"].values(), weights["layer_1"])
    ]
    assert len(masks) == 3
    assert not np.array_equal(masks[0], masks[1])
    chex.assert_trees_all_equal(unroll(cell, params, xs), unroll(inner, params, xs))
    assert not np.allclose(unroll(cell, params, xs, key=KEY)[1], unroll(inner, params, xs)[1])


def test_in_flax():
    """linen.RNN and nnx.RNN take the layer; Flax's own Bidirectional takes two of our RNNs."""
    cell = Bidirectional(LSTM(H))
    params = random_params(cell)
    xs = jax.random.normal(KEY, (B, T, 3))
    lengths = jnp.asarray(LENGTHS)
    expected = jnp.moveaxis(unroll(cell, params, jnp.moveaxis(xs, 1, 0), lengths=lengths)[1], 0, 1)
    ours = rnncells.linen.RNN(cell).apply({"params": {"cell": params}}, xs, seq_lengths=lengths)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    module = rnncells.nnx.RNN(cell, 3, rngs=nnx.Rngs(0))
    nnx.update(module, nnx.State({"params": params}))
    np.testing.assert_allclose(module(xs, seq_lengths=lengths), expected, atol=1e-6)
    theirs = flax.linen.Bidirectional(rnncells.linen.RNN(LSTM(H)), rnncells.linen.RNN(LSTM(H)))
    variables = theirs.init(KEY, xs)
    given = {name: {"cell": params[name.split("_")[0]]} for name in variables["params"]}
    ys = theirs.apply({"params": given}, xs, seq_lengths=lengths)
    alive = np.arange(T)[None, :, None] < LENGTHS[:, None, None]
    np.testing.assert_allclose(np.where(alive, ys, 0), expected, atol=1e-6)


@exact
@pytest.mark.laws
def test_gradients_of_a_deep_bidirectional_network():
    cell = Stack([Bidirectional(Projection(LSTM(H), 2)), Bidirectional(GRU(H))])
    params, xs = setup(cell)

    def score(params, xs):
        return jnp.sum(jnp.sin(unroll(cell, params, xs, lengths=LENGTHS, remat_every=3)[1]))

    jax.test_util.check_grads(score, (params, xs), order=1, modes=("fwd", "rev"), eps=1e-6)
