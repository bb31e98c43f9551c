"""Convolutional cells: a reference that loops over taps, what they reduce to, and the laws."""

import dataclasses
import functools
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax.test_util import check_grads

import rnncells
from rnncells import GRU, LSTM, LSTMCarry, PeepholeLSTM, unroll
from rnncells.cells.convolutional.conv import ConvGRU, ConvLSTM, _by_convolution, _by_product
from rnncells.convert.arrays import regate
from tests.cases import over
from tests.references.common import s
from tests.test_convert import assert_same, lenient

pytestmark = pytest.mark.usefixtures("x64")
T, B, I = 3, 2, 3  # noqa: E741
KEY = jax.random.key(0)
CELLS = [
    ConvLSTM(3, (5,)),
    ConvLSTM(2, (4, 3), peepholes=True),
    ConvLSTM(2, (2, 3, 4), (1, 3, 5), peepholes=True),
    ConvGRU(2, (4,), 7),
    ConvGRU(2, (3, 4), (5, 3)),
    ConvGRU(2, (3, 2, 2)),
]
NAMED = {f"{type(cell).__name__}, {len(cell.shape)} axes": cell for cell in CELLS}
over_cells = over(NAMED, ["ConvLSTM, 2 axes", "ConvGRU, 1 axes"])
over_two_cells = over({"LSTM": CELLS[1], "GRU": CELLS[3]}, ["GRU"])
over_peers = pytest.mark.parametrize("cell", [ConvLSTM(2, (5,), (5,)), ConvLSTM(2, (4, 5), (3, 5))])
close = functools.partial(chex.assert_trees_all_close, atol=1e-11, rtol=1e-11)


def at(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def setup(cell, dtype=jnp.float64, batch=(B,), length=T, seed=0):
    """params, carry and xs; nothing in them is zero."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        return jnp.asarray(0.7 * rng.standard_normal(leaf.shape), leaf.dtype)

    params = jax.tree.map(draw, jax.eval_shape(lambda: cell.init(KEY, I, dtype)))
    xs = draw(jax.ShapeDtypeStruct((length, *batch, *cell.shape, I), dtype))
    return params, jax.tree.map(draw, cell.carry_shape(params, batch)), xs


def scored(run, *args):
    """The outputs, and the gradient of the sum of their sines."""

    def score(*args):
        out = run(*args)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out)), out

    return jax.jit(jax.value_and_grad(score, tuple(range(len(args))), has_aux=True))(*args)


def convolve(x, kernel):
    """The definition: y[p] is the sum over taps t of x[p + t - k // 2] kernel[t], zero outside."""
    *taps, _, out = kernel.shape
    sizes = x.shape[-len(taps) - 1 : -1]
    y = np.zeros((*x.shape[:-1], out))
    for here in np.ndindex(*sizes):
        for tap in np.ndindex(*taps):
            there = [h + t - k // 2 for h, t, k in zip(here, tap, taps, strict=True)]
            if all(0 <= p < size for p, size in zip(there, sizes, strict=True)):
                y[(..., *here, slice(None))] += x[(..., *there, slice(None))] @ kernel[tap]
    return y


def reference(cell, params, xs, carry):
    params, carry, xs = jax.tree.map(np.asarray, (params, carry, xs))
    w, u, b = (np.split(params[name], len(cell.gates), -1) for name in ("kernel", "recurrent_kernel", "bias"))
    c, h = carry if isinstance(cell, ConvLSTM) else (None, carry)
    p = params.get("peephole", np.zeros(3))
    ys = []
    for x in xs:
        if isinstance(cell, ConvLSTM):
            i, f, g, o = (convolve(x, w[j]) + convolve(h, u[j]) + b[j] for j in range(4))
            c = s(f + p[1] * c) * c + s(i + p[0] * c) * np.tanh(g)
            h = s(o + p[2] * c) * np.tanh(c)
        else:
            r, z = (s(convolve(x, w[j]) + convolve(h, u[j]) + b[j]) for j in range(2))
            h = (1 - z) * np.tanh(convolve(x, w[2]) + convolve(r * h, u[2]) + b[2]) + z * h
        ys.append(h)
    return h if c is None else LSTMCarry(c, h), np.stack(ys)


@over_cells
def test_reference(cell):
    """Scan, loop and NumPy agree, with two batch axes, one and none."""
    params, carry, xs = setup(cell, batch=(2, 3))
    last, ys = unroll(cell, params, xs, carry)
    close((last, ys), reference(cell, params, xs, carry))
    close(unroll(cell, params, xs[:, 1], at(carry, 1)), (at(last, 1), ys[:, 1]))
    expected, xs, carry = (at(last, 1, 2), ys[:, 1, 2]), xs[:, 1, 2], at(carry, 1, 2)
    close(jax.lax.scan(jax.jit(functools.partial(cell, params)), carry, xs), expected)
    assert unroll(cell, params, jnp.zeros((T, 0, *xs.shape[1:])))[1].shape == (T, 0, *ys.shape[3:])


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_both_ways_to_convolve_agree(axes):
    """CPU multiplies matrices, other platforms take XLA's convolution."""
    rng = np.random.default_rng(0)
    x, kernel = rng.random((2, 3, *(4, 3, 5)[:axes], I)), rng.random((*(3, 7, 1)[:axes], I, 2))
    close(_by_product(x, kernel), convolve(x, kernel))
    close(scored(_by_convolution, x, kernel), scored(_by_product, x, kernel))


@pytest.mark.parametrize(("size", "taps"), [((1,), 1), ((1, 1), 3)])
@pytest.mark.parametrize("dense", [LSTM(2), PeepholeLSTM(2), GRU(2, reset_after=False)])
def test_one_point_is_the_dense_cell(dense, taps, size):
    """On a map of one point only the centre of the kernel sees anything."""
    kind = ConvGRU if isinstance(dense, GRU) else ConvLSTM
    options = {"peepholes": True} if isinstance(dense, PeepholeLSTM) else {}
    params, carry, xs = setup(cell := kind(2, size, taps, **options))
    same = {name: leaf[(taps // 2,) * len(size)] for name, leaf in params.items() if "kernel" in name}
    same["bias"] = params["bias"]
    same |= {name: leaf.reshape(-1, 2) for name, leaf in params.items() if name == "peephole"}
    given = jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[: -cell.input_ndim], -1), (xs, carry))
    expected = jax.tree.map(jnp.ravel, unroll(dense, same, *given))
    close(jax.tree.map(jnp.ravel, unroll(cell, params, xs, carry)), expected)


@pytest.mark.parametrize("cell", [ConvLSTM(2, (14,)), ConvGRU(2, (13, 12)), ConvLSTM(1, (9, 8, 8))])
def test_moves_with_its_input_away_from_the_borders(cell):
    params, carry, xs = setup(cell, batch=(), length=2)
    axes = tuple(range(-cell.input_ndim, -1))
    given = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axes), (xs, carry))
    moved, ys = unroll(cell, params, *given)[1][-1], unroll(cell, params, xs, carry)[1][-1]
    ys = jnp.roll(ys, 1, axes)
    # the border is felt one point further in at every tick, in the GRU two; the roll adds one
    margin = 2 * (1 if isinstance(cell, ConvLSTM) else 2) + 1
    inside = (slice(margin, -margin),) * len(axes)
    assert ys[inside].size
    close(moved[inside], ys[inside])
    assert not np.allclose(moved, ys)


@pytest.mark.laws
@over_two_cells
def test_derivatives(cell):
    params, carry, xs = setup(cell, batch=(), length=2)

    @jax.jit
    def scores(params, carry, xs, bias):
        swept = dataclasses.replace(cell, forget_bias=bias)
        params = params | {"bias": params["bias"] + swept.init(KEY, I, jnp.float64)["bias"]}
        return jax.tree.map(jnp.sin, unroll(swept, params, xs, carry))

    check_grads(scores, (params, carry, xs, 0.3), order=1, modes=("fwd", "rev"), eps=1e-6)
    check_grads(lambda params: scores(params, carry, xs, 0.3)[1], (params,), 2, ("rev",), 1e-4, 1e-4)


@pytest.mark.laws
@over_two_cells
def test_vmap_equals_loop(cell):
    params, carry, xs = setup(cell)
    many = [params, setup(cell, seed=1)[0]]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)

    def slope(params):
        return jax.grad(lambda params: jnp.sum(jnp.sin(unroll(cell, params, xs, carry)[1])))(params)

    close(jax.vmap(slope)(stacked), jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(slope, many)))


@pytest.mark.parametrize(
    ("cell", "reverse"),
    [
        (CELLS[3], True),
        pytest.param(CELLS[1], False, marks=pytest.mark.laws),
        pytest.param(CELLS[3], False, marks=pytest.mark.laws),
    ],
)
def test_options_equal_segments_alone(cell, reverse):
    """Gradients too, with NaN in every tick that does not exist."""
    params, carry, xs = setup(cell, batch=(3,), length=5)
    lengths, mask, resets = np.array([5, 0, 4]), np.ones((5, 3), bool), np.zeros((5, 3), bool)
    mask[3, 0] = False
    resets[[2, 3, 1, 4], [0, 0, 2, 2]] = True  # the second is masked, the last past the length
    segments = {0: ([0, 1], [2, 4]), 2: ([0], [1, 2, 3])}
    xs = xs.at[[3, 4], [0, 2]].set(jnp.nan).at[:, 1].set(jnp.nan)
    options = {"lengths": lengths, "mask": mask, "resets": resets, "reverse": reverse, "remat_every": 2}

    def alone(params, carry, xs):
        last, ys = carry, jnp.zeros((*xs.shape[:-1], cell.features), xs.dtype)
        for b, parts in segments.items():
            state = at(carry, b)
            for number, ticks in enumerate(map(np.array, parts[::-1] if reverse else parts)):
                start = cell.initial_carry(params) if number else state
                state, out = unroll(cell, params, xs[ticks, b], start, reverse=reverse)
                ys = ys.at[ticks, b].set(out)
            last = jax.tree.map(lambda leaf, new, b=b: leaf.at[b].set(new), last, state)
        return last, ys

    expected = scored(alone, params, carry, xs)
    chex.assert_tree_all_finite(expected)
    close(scored(lambda p, c, xs: unroll(cell, p, xs, c, **options), params, carry, xs), expected)


@over_two_cells
@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float32, marks=pytest.mark.laws)])
def test_dtypes_do_not_leak(cell, dtype):
    params, carry, xs = setup(cell, dtype)
    scanned = jax.lax.scan(functools.partial(cell, params), carry, xs)
    for leaf in jax.tree.leaves((cell.init(KEY, I, dtype), unroll(cell, params, xs), scanned)):
        assert leaf.dtype == dtype
        assert not leaf.weak_type
    wide, xs = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (params, xs))
    close(unroll(cell, params, xs), unroll(cell, wide, xs))


@over_cells
def test_cells_are_values(cell):
    assert {pickle.loads(pickle.dumps(cell)), dataclasses.replace(cell)} == {cell}
    assert jax.tree.leaves(cell) == [cell.forget_bias]
    for other in ({"features": 5}, {"shape": (*cell.shape[:-1], 9)}, {"kernel_size": 9}):
        assert cell != dataclasses.replace(cell, **other)
    assert cell.input_ndim == len(cell.shape) + 1


def test_initialisation():
    params = ConvLSTM(16, (4, 4), (3, 5), peepholes=True).init(KEY, 8)
    assert params["kernel"].shape + params["recurrent_kernel"].shape == (3, 5, 8, 64, 3, 5, 16, 64)
    np.testing.assert_array_equal(params["peephole"], np.zeros((3, 4, 4, 16)))
    np.testing.assert_array_equal(params["bias"], np.repeat([0, 1, 0, 0], 16))
    limit = np.sqrt(6 / (15 * 8 + 15 * 16))
    for block in np.split(params["kernel"], 4, -1):
        assert 0.98 * limit < np.abs(block).max() <= limit
    drawn = [block.reshape(-1, 16) for block in np.split(params["recurrent_kernel"], 4, -1)]
    for block in drawn:
        np.testing.assert_allclose(block.T @ block, np.eye(16), atol=1e-5)
    assert not np.allclose(drawn[0], drawn[1])
    biases = jax.vmap(lambda b: ConvGRU(2, (5,), forget_bias=b).init(KEY, 3)["bias"])(jnp.array([2.0, -1.0]))
    np.testing.assert_array_equal(biases, np.repeat([[0, 2, 0], [0, -1, 0]], 2, axis=1))


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@over_peers
def test_from_keras(monkeypatch, cell):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    params, carry, xs = setup(cell, jnp.float32)
    with lenient():
        import keras

        options = {"padding": "same", "return_sequences": True, "return_state": True}
        layer = getattr(keras.layers, f"ConvLSTM{len(cell.shape)}D")(2, cell.kernel_size, **options)
        layer.build((B, T, *cell.shape, I))
        layer.set_weights([params[name] for name in ("kernel", "recurrent_kernel", "bias")])
        ys, h, c = layer(xs.swapaxes(0, 1), initial_state=[carry.hidden, carry.cell])
    assert_same(unroll(cell, params, xs, carry), (LSTMCarry(c, h), ys.swapaxes(0, 1)))


@pytest.mark.laws
@over_peers
def test_from_flax(cell):
    """Gates i, g, f, o, a bias beside each kernel, and a 1 that the forward pass adds to f."""
    params, carry, xs = setup(cell, jnp.float32)
    expected = unroll(cell, params, xs, carry)
    theirs = {name: regate(leaf, "ifgo", "igfo") for name, leaf in params.items()}
    half = (theirs["bias"] - np.repeat(np.float32([0, 0, 1, 0]), 2)) / 2
    names = {"ih": "kernel", "hh": "recurrent_kernel"}
    theirs = {side: {"kernel": theirs[name], "bias": half} for side, name in names.items()}
    options = {"time_major": True, "return_carry": True}
    peer = linen.RNN(linen.ConvLSTMCell(2, cell.kernel_size), **options)
    with lenient():
        assert_same(expected, peer.apply({"params": {"cell": theirs}}, xs, initial_carry=tuple(carry)))
    around = linen.RNN(rnncells.linen.RNNCell(cell), **options)
    assert_same(expected, around.apply({"params": {"cell": {"cell": params}}}, xs, initial_carry=carry))
    layer = rnncells.linen.RNN(cell, **options)
    assert_same(expected, layer.apply({"params": {"cell": params}}, xs, initial_carry=carry))
