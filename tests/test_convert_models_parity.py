"""Whole models of PyTorch and Keras: the same outputs as there, and back with other weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import rnncells
from rnncells import GRU, LSTM, Bidirectional, Elman, Projection, Stack, convert
from tests.test_convert import B, H, P, T, assert_equal, assert_same, lenient, randomised
from tests.test_convert_parity import keras

WORDS, E = 11, 6
__all__ = ["keras"]  # a fixture

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported:UserWarning"),
]


@pytest.fixture
def tokens(rng):
    return rng.integers(0, WORDS, (B, T))


def trained(params):
    """Other numbers; integers as they are."""
    return jax.tree.map(lambda leaf: leaf * np.float32(0.9) if leaf.dtype.kind == "f" else leaf, params)


def layer(cell, params, xs):
    """A layer in Flax with the entries that lie at its name."""
    return rnncells.linen.RNN(cell).apply({"params": params}, xs)


def normed(params, xs, mean, variance, scale, bias, epsilon):
    xs = (xs - params[mean]) / jnp.sqrt(params[variance] + epsilon)
    return xs * params[scale] + params[bias]


def torch_model(torch):
    class Decoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = torch.nn.GRUCell(H, H, bias=False)
            self.layers = torch.nn.ModuleList(
                [torch.nn.RNN(H, H, nonlinearity=name, batch_first=True) for name in ("relu", "tanh")]
            )

        def forward(self, xs):
            state, states = torch.zeros(xs.shape[0], H), []
            for x in xs.unbind(1):
                state = self.cell(x, state)
                states.append(state)
            xs = torch.stack(states, 1)
            for rnn in self.layers:
                xs, _ = rnn(xs)
            return xs

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(WORDS, E)
            self.rnn = torch.nn.LSTM(E, H, 2, bidirectional=True, proj_size=P, batch_first=True, dropout=0.5)
            self.norm = torch.nn.BatchNorm1d(2 * P)
            self.decoder = Decoder()
            self.head = torch.nn.Sequential(torch.nn.Linear(2 * P, H), torch.nn.ReLU())

        def forward(self, tokens):
            xs, _ = self.rnn(self.embed(tokens))
            xs = self.norm(xs.transpose(1, 2)).transpose(1, 2)
            return self.decoder(self.head(xs))

    return Model().eval()


def torch_forward(model, tokens):
    import torch

    with torch.no_grad():
        return model(torch.tensor(tokens)).numpy()


def our_torch_forward(cells, params, tokens):
    xs = jnp.asarray(params["embed"]["weight"])[tokens]
    xs = layer(cells["rnn"], params["rnn"], xs)
    xs = normed(params["norm"], xs, "running_mean", "running_var", "weight", "bias", 1e-5)
    xs = linen.relu(xs @ params["head"]["0"]["weight"].T + params["head"]["0"]["bias"])
    for name in ("cell", "layers.0", "layers.1"):
        xs = layer(cells[f"decoder.{name}"], cells_of(params["decoder"], name), xs)
    return xs


def cells_of(params, name):
    for part in name.split("."):
        params = params[part]
    return params


def load(model, weights):
    import torch

    model.load_state_dict({name: torch.tensor(leaf) for name, leaf in weights.items()})
    return model


def test_torch(rng, tokens):
    import torch

    model = torch_model(torch)
    weights = {name: leaf.numpy() for name, leaf in model.state_dict().items() if leaf.ndim}
    weights = randomised(rng, weights)
    weights["norm.running_var"] = np.exp(weights["norm.running_var"])
    load(model, weights | {"norm.num_batches_tracked": np.array(3)})

    cells, params = convert.from_torch_model(model)
    assert cells == {
        "rnn": Stack([Bidirectional(Projection(LSTM(H), P))] * 2),
        "decoder.cell": GRU(H),
        "decoder.layers.0": Elman(H, activation="relu"),
        "decoder.layers.1": Elman(H),
    }
    changed = trained(params)
    back = load(torch_model(torch), convert.to_torch_model(changed, like=model))
    with lenient():
        assert_same(our_torch_forward(cells, params, tokens), torch_forward(model, tokens))
        assert_same(our_torch_forward(cells, changed, tokens), torch_forward(back, tokens))
    same = convert.to_torch_model(params, like=model.state_dict())
    assert_equal(convert.from_torch_model(load(torch_model(torch), same))[1], params)


def test_torch_refuses():
    import torch

    class Own(torch.nn.LSTM):
        """May compute anything."""

    inner = torch.nn.ModuleDict({"own": Own(2, 3)})
    with pytest.raises(TypeError, match=r"inner.own: expected an LSTM, GRU or RNN of torch.nn, .* Own"):
        convert.from_torch_model(torch.nn.ModuleDict({"inner": inner}))
    assert convert.from_torch_model(inner.state_dict())[0] == {"own": LSTM(3)}
    normed = torch.nn.ModuleDict(
        {"rnn": torch.nn.utils.parametrizations.weight_norm(torch.nn.GRU(2, 3), "weight_hh_l0")}
    )
    for source in (normed, normed.state_dict()):
        with pytest.raises((TypeError, ValueError), match=r"rnn.*(subclass|reparametrisation)"):
            convert.from_torch_model(source)


def keras_model(keras):
    layers = keras.layers
    inner = keras.Sequential(
        [
            layers.GRU(
                H, reset_after=False, activation="relu", return_sequences=True, dropout=0.5, name="gru"
            ),
            layers.Dropout(0.5),
            layers.BatchNormalization(name="norm"),
            layers.RNN(layers.LSTMCell(H, use_bias=False), return_sequences=True, name="rnn"),
        ],
        name="inner",
    )

    class Block(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.simple = layers.SimpleRNN(H, return_sequences=True, name="simple")
            self.scale = self.add_weight(shape=(H,), name="scale")

        def call(self, xs):
            return self.simple(xs) * self.scale

    tokens = keras.Input((T,))
    xs = layers.Embedding(WORDS, E, name="embed")(tokens)
    xs = layers.Bidirectional(layers.LSTM(H, return_sequences=True), merge_mode="sum", name="both")(xs)
    xs = Block(name="block")(inner(xs))
    xs = layers.TimeDistributed(layers.Dense(P, name="dense"), name="head")(xs)
    return keras.Model(tokens, xs)


def our_keras_forward(cells, params, tokens):
    xs = jnp.asarray(params["embed"]["embeddings"])[tokens]
    xs = layer(cells["both"], params["both"], xs)
    xs = layer(cells["inner/gru"], params["inner"]["gru"], xs)
    xs = normed(params["inner"]["norm"], xs, "moving_mean", "moving_variance", "gamma", "beta", 1e-3)
    xs = layer(cells["inner/rnn"], params["inner"]["rnn"], xs)
    xs = layer(cells["block/simple"], params["block"]["simple"], xs) * params["block"]["scale"]
    return xs @ params["head"]["dense"]["kernel"] + params["head"]["dense"]["bias"]


def test_keras(keras, rng, tokens):
    model, back = keras_model(keras), keras_model(keras)
    model.set_weights([np.abs(leaf) for leaf in randomised(rng, model.get_weights())])
    cells, params = convert.from_keras_model(model)
    assert cells == {
        "both": Bidirectional(LSTM(H), merge="sum"),
        "inner/gru": GRU(H, reset_after=False, candidate_activation="relu"),
        "inner/rnn": LSTM(H),
        "block/simple": Elman(H),
    }
    changed = trained(params)
    back.set_weights(convert.to_keras_model(changed, like=model))
    assert_same(our_keras_forward(cells, params, tokens), np.asarray(model(tokens)))
    assert_same(our_keras_forward(cells, changed, tokens), np.asarray(back(tokens)))
    same = convert.to_keras_model(params, like=model)
    assert_equal(same, model.get_weights())


def test_keras_one_layer(keras, rng):
    layer = keras.layers.GRU(H)
    layer.build((B, T, E))
    cells, params = convert.from_keras_model(layer)
    assert cells == {"": GRU(H)}
    assert_equal(params, {"cell": convert.from_keras(layer)[1]})


def test_keras_refuses(keras):
    layers = keras.layers

    class Own(layers.LSTM):
        """May compute anything."""

    for inner, words in (
        (layers.ConvLSTM1D(2, 3, name="a"), "a: layer: expected a Keras LSTM, .*ConvLSTM1D"),
        (Own(H, name="a"), "a: layer: expected a Keras LSTM, .*Own"),
        (layers.LSTM(H, go_backwards=True, name="a"), "a: layer: expected go_backwards=False"),
        (layers.LSTM(H, activation="gelu", name="a"), "a: layer: expected activation to be one of"),
        (layers.RNN([layers.LSTMCell(H), layers.LSTMCell(H)], name="a"), "a: layer: .*StackedRNNCells"),
    ):
        shape = (T, 7, E) if isinstance(inner, layers.ConvLSTM1D) else (T, E)
        with pytest.raises((TypeError, ValueError), match=words):
            convert.from_keras_model(keras.Sequential([keras.Input(shape), inner]))
    with pytest.raises(ValueError, match="model: expected a built model, got unbuilt"):
        convert.from_keras_model(keras.Sequential([layers.LSTM(H)], name="unbuilt"))

    class Twice(keras.Model):
        def __init__(self):
            super().__init__(name="twice")
            self.one, self.two = layers.Dense(2, name="dense"), layers.Dense(2, name="dense")

        def call(self, xs):
            return self.two(self.one(xs))

    twice = Twice()
    twice(np.ones((1, 2), np.float32))
    with pytest.raises(ValueError, match="model: expected different names in twice, got dense twice"):
        convert.from_keras_model(twice)
