"""Weights of PyTorch, Keras and Haiku: the same outputs and final states as there, and back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnncells
from rnncells import GRU, LSTM, Bidirectional, Elman, convert
from rnncells.parts.activations import as_activation
from tests.cases import random_like
from tests.test_convert import (
    HAIKU,
    LENGTHS,
    TORCH,
    VALID,
    B,
    H,
    I,
    P,
    T,
    assert_equal,
    assert_same,
    lenient,
    normal,
    randomised,
)

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported:UserWarning"),
]


@pytest.fixture
def xs(rng):
    return normal(rng, T, B, I)


def torch_states(carry, name):
    """Our carry as PyTorch's states: layers and directions on the first axis, h before c."""
    leaves = jax.tree.leaves(carry)
    return [np.stack(leaves[1::2]), np.stack(leaves[::2])] if name == "LSTM" else [np.stack(leaves)]


def torch_forward(module, xs, states, lengths):
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    xs, states = torch.tensor(xs), tuple(map(torch.tensor, states))
    states = states if len(states) == 2 else states[0]
    with torch.no_grad():
        if lengths is None:
            ys, states = module(xs, states)
        else:
            packed, states = module(pack_padded_sequence(xs, lengths, enforce_sorted=False), states)
            ys, _ = pad_packed_sequence(packed, total_length=T)
    return states, ys


@TORCH
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "packed"])
def test_torch(rng, xs, name, options, cell, lengths):
    import torch

    def module(weights):
        made = getattr(torch.nn, name)(I, H, **options)
        made.load_state_dict({key: torch.tensor(value) for key, value in weights.items()})
        return made

    theirs = module(randomised(rng, dict(getattr(torch.nn, name)(I, H, **options).state_dict())))
    nonlinearity = options.get("nonlinearity", "tanh")
    ours, params = convert.from_torch(theirs.state_dict(), nonlinearity=nonlinearity)
    assert ours == cell
    carry = random_like(cell.carry_shape(params, (B,)))
    states = torch_states(carry, name)
    carry, ys = rnncells.unroll(cell, params, xs, carry, lengths=lengths)
    expected = torch_forward(theirs, xs, states, lengths)
    assert_same((torch_states(carry, name), ys), expected)

    back = module(convert.to_torch(cell, params, bias=options.get("bias", True)))
    assert_same(torch_forward(back, xs, states, lengths), expected)
    assert_equal(convert.from_torch(back.state_dict(), nonlinearity=nonlinearity)[1], params)


def test_torch_tensors():
    """bfloat16 and float64, tensors that require gradients; no memory is shared."""
    import torch

    for dtype, expected in ((torch.bfloat16, jnp.bfloat16), (torch.float64, np.float64)):
        module = torch.nn.GRU(I, H, dtype=dtype)
        _, params = convert.from_torch(dict(module.named_parameters()))
        before = params["kernel"].copy()
        assert {leaf.dtype for leaf in params.values()} == {np.dtype(expected)}
        with torch.no_grad():
            module.weight_ih_l0.zero_()
        np.testing.assert_array_equal(params["kernel"], before)


KERAS = pytest.mark.parametrize(
    ("name", "options", "cell"),
    [
        pytest.param("LSTM", {}, LSTM(H), id="LSTM"),
        pytest.param("LSTM", {"use_bias": False}, LSTM(H), id="LSTM-no-bias"),
        pytest.param(
            "LSTM",
            {"activation": "relu", "recurrent_activation": "hard_sigmoid"},
            LSTM(
                H,
                gate_activation=jax.nn.hard_sigmoid,
                candidate_activation="relu",
                output_activation="relu",
            ),
            id="LSTM-activations",
        ),
        pytest.param("GRU", {"reset_after": True}, GRU(H), id="GRU-after"),
        pytest.param("GRU", {"reset_after": False}, GRU(H, reset_after=False), id="GRU-before"),
        pytest.param("GRU", {"use_bias": False}, GRU(H), id="GRU-no-bias"),
        pytest.param(
            "GRU",
            {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
            GRU(H, gate_activation="hard_sigmoid", candidate_activation="soft_sign"),
            id="GRU-activations",
        ),
        pytest.param("SimpleRNN", {"activation": "linear"}, Elman(H, activation="identity"), id="SimpleRNN"),
    ],
)
MERGES = ("concat", "sum", "ave", "mul")


@pytest.fixture
def keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with lenient():
        import keras

        yield keras


def keras_forward(layer, xs, mask):
    ys, *state = layer(xs.swapaxes(0, 1), mask=None if mask is None else mask.T)
    return jax.tree.map(np.asarray, (state, ys.swapaxes(0, 1)))


def keras_states(carry, name):
    """Our carry as Keras's states: h before c, the directions one after the other."""
    leaves = jax.tree.leaves(carry)
    if name == "LSTM":
        leaves = [leaf for pair in zip(leaves[1::2], leaves[::2], strict=True) for leaf in pair]
    return leaves


def check_keras(rng, xs, make, name, cell, mask, bias=True):
    """The layer, its conversion and a layer with the weights taken back give the same."""
    layer, back = make(), make()
    for one in (layer, back):
        one.build((B, T, I))
    weights = randomised(rng, layer.get_weights())
    layer.set_weights(weights)
    expected = keras_forward(layer, xs, mask)
    ours, params = convert.from_keras(layer)
    assert ours == cell
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        carry, ys = rnncells.unroll(cell, params, xs, mask=mask)
    assert_same((keras_states(carry, name), ys), expected)
    back.set_weights(convert.to_keras(cell, params, bias=bias))
    assert_same(keras_forward(back, xs, mask), expected)
    assert_equal(convert.from_keras(back)[1], params)
    return weights, params


CALL = {"return_sequences": True, "return_state": True, "zero_output_for_mask": True}


@pytest.mark.parametrize("mask", [None, VALID], ids=["whole", "lengths"])
@KERAS
def test_keras(keras, rng, xs, name, options, cell, mask):
    make = functools.partial(getattr(keras.layers, name), H, **CALL, **options)
    bias = options.get("use_bias", True)
    weights, params = check_keras(rng, xs, make, name, cell, mask, bias)
    if bias:
        listed, again = convert.from_keras(weights)
        assert type(listed) is type(cell)
        assert_equal(again, params)


@pytest.mark.parametrize("mask", [None, VALID], ids=["whole", "lengths"])
@pytest.mark.parametrize("merge_mode", MERGES)
def test_keras_both_directions(keras, rng, xs, merge_mode, mask):
    def make():
        return keras.layers.Bidirectional(keras.layers.LSTM(H, **CALL), merge_mode=merge_mode)

    cell = Bidirectional(LSTM(H), merge=merge_mode)
    weights, params = check_keras(rng, xs, make, "LSTM", cell, mask)
    listed, again = convert.from_keras(weights)
    assert listed == Bidirectional(LSTM(H))
    assert_equal(again, params)


def test_keras_two_kinds_of_layer(keras, rng, xs):
    def make():
        backward = keras.layers.GRU(P, go_backwards=True, **CALL)
        return keras.layers.Bidirectional(
            keras.layers.GRU(H, reset_after=False, **CALL), backward_layer=backward
        )

    cell = Bidirectional(GRU(H, reset_after=False), GRU(P))
    check_keras(rng, xs, make, "GRU", cell, VALID)


def test_keras_activations(keras):
    x = np.linspace(-4, 4, 33, dtype=np.float32)
    for name, ours in convert.keras.ACTIVATIONS.items():
        theirs = getattr(keras.activations, name)(x)
        np.testing.assert_allclose(as_activation("", ours)(x), theirs, atol=1e-6, err_msg=name)


def test_keras_refuses(keras):
    def built(layer):
        layer.build((B, T, I))
        return layer

    layers = keras.layers
    for layer, message in (
        (layers.LSTM(H), "layer: expected a built layer"),
        (built(layers.Dense(H)), "layer: expected a Keras LSTM, GRU, SimpleRNN or Bidirectional"),
        (built(layers.LSTM(H, go_backwards=True)), "layer: expected go_backwards=False, got True"),
        (
            built(layers.SimpleRNN(H, activation="gelu")),
            "layer: expected activation to be one of .* got 'gelu'",
        ),
        (built(layers.Bidirectional(layers.GRU(H), merge_mode=None)), "layer: expected a merge_mode of"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            convert.from_keras(layer)


@pytest.mark.parametrize("case", HAIKU)
def test_haiku(rng, xs, case):
    import haiku

    name, (options, cell) = case.partition("-")[0], HAIKU[case]

    @haiku.without_apply_rng
    @haiku.transform
    def forward(xs, state):
        return haiku.dynamic_unroll(getattr(haiku, name)(H, **options, name="core"), xs, state)

    carry = random_like(cell.carry_shape({}, (B,)))
    with lenient():
        state = haiku.LSTMState(carry.hidden, carry.cell) if name == "LSTM" else carry
        theirs = randomised(rng, forward.init(jax.random.key(0), xs, state))
        ys, last = forward.apply(theirs, xs, state)
        ours, params = convert.from_haiku(theirs)
        assert ours == cell
        back = convert.to_haiku(cell, params, name="core")
        if options:
            del back["core/linear_1"]["b"]
        assert_same(forward.apply(back, xs, state), (ys, last))
    carry, our_ys = rnncells.unroll(cell, params, xs, carry)
    assert_same((tuple(carry)[::-1] if name == "LSTM" else carry, our_ys), (last, ys))
