"""Weights of other libraries here and back. Against PyTorch, Keras and Haiku: test_convert_parity.py."""

import contextlib
import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import rnncells
from rnncells import GRU, LSTM, Bidirectional, Elman, Projection, Stack, convert
from tests.cases import random_like, random_params

T, B, I, H, P = 7, 4, 3, 5, 2  # noqa: E741
LENGTHS = np.array([5, 1, 7, 2])
VALID = np.arange(T)[:, None] < LENGTHS


def normal(rng, *shape):
    return 0.5 * rng.standard_normal(shape, np.float32)


def randomised(rng, tree):
    return jax.tree.map(lambda leaf: normal(rng, *leaf.shape), tree)


def assert_same(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def assert_equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@contextlib.contextmanager
def lenient():
    """JAX as other libraries expect it."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def xs(rng):
    return normal(rng, T, B, I)


def numpy_params(cell):
    return jax.tree.map(np.asarray, random_params(cell, input_size=I))


# PyTorch: the options of a module, and the cell that computes the same

TORCH = pytest.mark.parametrize(
    ("name", "options", "cell"),
    [
        pytest.param("LSTM", {}, LSTM(H), id="LSTM"),
        pytest.param("LSTM", {"bias": False}, LSTM(H), id="LSTM-no-bias"),
        pytest.param("LSTM", {"proj_size": P}, Projection(LSTM(H), P), id="LSTM-projected"),
        pytest.param(
            "LSTM",
            {"num_layers": 2, "bidirectional": True, "proj_size": P},
            Stack([Bidirectional(Projection(LSTM(H), P))] * 2),
            id="LSTM-everything",
        ),
        pytest.param("GRU", {}, GRU(H), id="GRU"),
        pytest.param("GRU", {"bidirectional": True}, Bidirectional(GRU(H)), id="GRU-both"),
        pytest.param("GRU", {"num_layers": 3, "bias": False}, Stack([GRU(H)] * 3), id="GRU-stack-no-bias"),
        pytest.param("RNN", {}, Elman(H), id="RNN-tanh"),
        pytest.param(
            "RNN",
            {"nonlinearity": "relu", "num_layers": 2},
            Stack([Elman(H, activation="relu")] * 2),
            id="RNN-relu-stack",
        ),
    ],
)


@TORCH
def test_torch_and_back(name, options, cell):
    params = numpy_params(cell)
    weights = convert.to_torch(cell, params)
    nonlinearity = options.get("nonlinearity", "tanh")
    ours, again = convert.from_torch(weights, nonlinearity=nonlinearity)
    assert ours == cell
    assert_equal(again, params)
    traced = jax.jit(lambda weights: convert.from_torch(weights, nonlinearity=nonlinearity)[1])
    assert_equal(traced(weights), jax.tree.map(jnp.asarray, params))


def test_torch_file(tmp_path):
    from safetensors.numpy import save_file

    cell = Stack([Bidirectional(Projection(LSTM(H), P))] * 2)
    params = numpy_params(cell)
    weights = convert.to_torch(cell, params)
    path = tmp_path / "model.safetensors"
    embedding = {"embed.weight": np.zeros((2, 2), np.float32)}
    save_file({**embedding, **{f"encoder.rnn.{name}": leaf for name, leaf in weights.items()}}, path)
    ours, again = convert.from_torch(path, prefix="encoder.rnn.")
    assert ours == cell
    assert_equal(again, params)
    with pytest.raises(ValueError, match=r"expected names such as weight_ih_l0, .* prefix picks"):
        convert.from_torch(str(path))


# Keras


@pytest.mark.parametrize(
    "cell",
    [LSTM(H), GRU(H), GRU(H, reset_after=False), Elman(H), Bidirectional(GRU(H)), Bidirectional(LSTM(H))],
    ids=["LSTM", "GRU-after", "GRU-before", "Elman", "GRU-both", "LSTM-both"],
)
def test_keras_and_back(cell):
    params = numpy_params(cell)
    ours, again = convert.from_keras(convert.to_keras(cell, params))
    assert ours == cell
    assert_equal(again, params)


# Flax

FLAX = {"LSTMCell": LSTM(H), "OptimizedLSTMCell": LSTM(H), "GRUCell": GRU(H), "SimpleCell": Elman(H)}
SEQUENCES = pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])


def check_flax(peer, back, xs, cell, params, lengths):
    """Both layers of Flax and ours from the same carry; Flax fills the padding with what it likes."""
    valid = slice(None) if lengths is None else VALID
    carry = random_like(cell.carry_shape(params, (B,)))
    initial_carry = carry if isinstance(carry, jax.Array) else tuple(carry)
    with lenient():
        results = [layer(xs, initial_carry=initial_carry, seq_lengths=lengths) for layer in (peer, back)]
    carry, ys = rnncells.unroll(cell, params, xs, carry, lengths=lengths)
    for state, theirs in results:
        assert_same((carry, ys[valid]), (state, theirs[valid]))


@SEQUENCES
@pytest.mark.parametrize("name", FLAX)
def test_linen(rng, xs, name, lengths):
    layer = linen.RNN(getattr(linen, name)(H), time_major=True, return_carry=True)
    with lenient():
        theirs = randomised(rng, layer.init(jax.random.key(0), xs))
    cell, params = convert.from_linen(theirs)
    assert cell == FLAX[name]
    back = convert.to_linen(cell, params)
    assert_equal({"params": {"cell": back}}, theirs)
    assert_equal(convert.from_linen({"params": back})[1], params)
    apply = functools.partial(layer.apply, theirs)
    check_flax(apply, apply, xs, cell, params, lengths)


def nnx_layer(name, weights=None, **options):
    layer = nnx.RNN(getattr(nnx, name)(I, H, **options, rngs=nnx.Rngs(0)), time_major=True, return_carry=True)
    if weights is not None:
        nnx.update(layer.cell, weights)
    return layer


@SEQUENCES
@pytest.mark.parametrize("name", FLAX)
def test_nnx(rng, xs, name, lengths):
    state = nnx.state(nnx_layer(name).cell, nnx.Param)
    layer = nnx_layer(name, randomised(rng, nnx.to_pure_dict(state)))
    cell, params = convert.from_nnx(layer.cell)
    assert cell == FLAX[name]
    state = nnx.state(layer.cell, nnx.Param)
    assert_equal(convert.from_nnx(state)[1], params)
    weights = convert.to_nnx(cell, params, optimized=name != "LSTMCell")
    assert_equal(weights, nnx.to_pure_dict(state))
    check_flax(layer, nnx_layer(name, weights), xs, cell, params, lengths)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LSTMCell", LSTM(H, 1.0, "hard_sigmoid", "relu", "relu")),
        ("GRUCell", GRU(H, gate_activation="hard_sigmoid", candidate_activation="relu")),
    ],
)
def test_nnx_activations(xs, name, expected):
    layer = nnx_layer(name, gate_fn=jax.nn.hard_sigmoid, activation_fn=jax.nn.relu)
    cell, params = convert.from_nnx(layer.cell)
    assert cell == expected
    check_flax(layer, layer, xs, cell, params, None)


def test_nnx_refuses_modules():
    with pytest.raises(ValueError, match="module: expected a SimpleCell with residual=False"):
        convert.from_nnx(nnx_layer("SimpleCell", residual=True).cell)
    with pytest.raises(TypeError, match=r"module: expected one of Flax's LSTMCell, .* got RNN"):
        convert.from_nnx(nnx_layer("GRUCell"))


# Haiku

HAIKU = {
    "LSTM": ({}, LSTM(H)),
    "GRU": ({}, GRU(H, reset_after=False)),
    "VanillaRNN": ({}, Elman(H, activation="relu")),
    "VanillaRNN-single": ({"double_bias": False}, Elman(H, activation="relu")),
}


@pytest.mark.parametrize("case", HAIKU)
def test_haiku_and_back(case):
    _, cell = HAIKU[case]
    params = numpy_params(cell)
    theirs = convert.to_haiku(cell, params, name="agent/~/core")
    ours, again = convert.from_haiku({**theirs, "head": {"w": np.ones(3)}}, name="agent/~/core")
    assert ours == cell
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), again, params)
    gradient = jax.grad(lambda theirs: convert.from_haiku(theirs)[1]["bias"].sum())(theirs)
    assert abs(sum(leaf.sum() for leaf in jax.tree.leaves(gradient))) > 0


def test_imports_nothing():
    program = """if True:
        import sys
        import numpy as np
        from rnncells import LSTM, convert
        weights = {"weight_ih_l0": np.ones((8, 3)), "weight_hh_l0": np.ones((8, 2))}
        cell, params = convert.from_torch(weights)
        assert cell == LSTM(2) and params["kernel"].dtype == np.float64
        for name in ("torch", "keras", "linen", "nnx", "haiku"):
            getattr(convert, "from_" + name)(getattr(convert, "to_" + name)(cell, params))
        print([name for name in ("torch", "keras", "haiku", "safetensors") if name in sys.modules])
    """
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n", run.stderr
