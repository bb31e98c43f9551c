"""Whole models here and back: Flax's, and state dicts. Others: test_convert_models_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import rnncells
from rnncells import GRU, LSTM, Bidirectional, Elman, Stack, convert
from tests.test_convert import (
    B,
    H,
    I,
    T,
    assert_equal,
    assert_same,
    lenient,
    normal,
    numpy_params,
    randomised,
)

WORDS = 11


@pytest.fixture
def tokens(rng):
    return rng.integers(0, WORDS, (B, T), np.int32)


# linen


class Block(linen.Module):
    """Both directions, and a cell that is called tick by tick."""

    directions: linen.Module
    tick: linen.Module

    @linen.compact
    def __call__(self, xs):
        xs = linen.BatchNorm(use_running_average=True)(self.directions(xs))
        carry, _ = self.tick(self.tick.initialize_carry(jax.random.key(0), xs[:, 0].shape), xs[:, 0])
        return xs, carry


class Tagger(linen.Module):
    encoder: linen.Module
    block: linen.Module

    @linen.compact
    def __call__(self, tokens):
        xs, carry = self.block(self.encoder(linen.Embed(WORDS, I)(tokens)))
        return linen.Dense(WORDS)(xs), carry


FORWARD, BACKWARD = "block/directions/forward_rnn", "block/directions/backward_rnn"
LINEN = {"encoder": linen.OptimizedLSTMCell(H), FORWARD: linen.GRUCell(H), BACKWARD: linen.GRUCell(H)}


def tagger(layer, tick):
    """With layers made by their names."""
    return Tagger(layer("encoder"), Block(linen.Bidirectional(layer(FORWARD), layer(BACKWARD)), tick))


def test_linen(rng, tokens):
    before = tagger(lambda name: linen.RNN(LINEN[name]), linen.SimpleCell(H))
    with lenient():
        variables = randomised(rng, before.init(jax.random.key(0), tokens))
        variables["batch_stats"] = jax.tree.map(np.exp, variables["batch_stats"])
        expected = before.apply(variables, tokens)
    cells, made = convert.from_linen_model(variables)
    assert cells == {"encoder": LSTM(H), FORWARD: GRU(H), BACKWARD: GRU(H), "block/tick": Elman(H)}
    after = tagger(lambda name: rnncells.linen.RNN(cells[name]), rnncells.linen.RNNCell(cells["block/tick"]))
    with lenient():
        assert_same(after.apply(made, tokens), expected)
        assert jax.tree.map(jnp.shape, after.init(jax.random.key(0), tokens)) == jax.tree.map(jnp.shape, made)
    assert_equal(made["batch_stats"], variables["batch_stats"])
    for untouched in ("Embed_0", "Dense_0"):
        assert_equal(made["params"][untouched], variables["params"][untouched])
    assert_equal(convert.to_linen_model(made, like=variables), variables)


def test_linen_cells_named_by_flax(rng):
    """In a compact method Flax names the cell, not its RNN."""

    class Model(linen.Module):
        @linen.compact
        def __call__(self, xs):
            return linen.Dense(2)(linen.RNN(linen.LSTMCell(H))(xs))

    class Ours(linen.Module):
        @linen.compact
        def __call__(self, xs):
            return linen.Dense(2)(rnncells.linen.RNN(cells["LSTMCell_0"], name="LSTMCell_0")(xs))

    xs = normal(rng, B, T, I)
    with lenient():
        params = randomised(rng, Model().init(jax.random.key(0), xs)["params"])
        cells, made = convert.from_linen_model(params)
        assert_same(Ours().apply({"params": made}, xs), Model().apply({"params": params}, xs))
    assert_equal(convert.to_linen_model(made, like=params), params)
    gradient = jax.grad(
        lambda params: convert.from_linen_model(params)[1]["LSTMCell_0"]["cell"]["bias"].sum()
    )
    assert all(leaf.all() for leaf in jax.tree.leaves(gradient(params)["LSTMCell_0"]["hf"]["bias"]))


def test_linen_one_cell():
    for cell in (LSTM(H), GRU(H), Elman(H)):
        params = numpy_params(cell)
        theirs = convert.to_linen(cell, params)
        for variables in (theirs, {"cell": theirs}):
            cells, made = convert.from_linen_model(variables)
            assert cells == {"": cell}
            assert_equal(made, {"cell": params})
            assert_equal(convert.to_linen_model(made, like=variables), variables)


# nnx


class NnxTagger(nnx.Module):
    def __init__(self, layer, tick):
        """With layers made by their names and sizes of inputs."""
        rngs = nnx.Rngs(0)
        self.embed = nnx.Embed(WORDS, I, rngs=rngs)
        self.layers = nnx.List([layer("layers/0", I), layer("layers/1", H)])
        self.both = nnx.Bidirectional(layer("both/forward_rnn", H), layer("both/backward_rnn", H))
        self.norm = nnx.BatchNorm(2 * H, use_running_average=True, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.tick = tick
        self.head = nnx.Linear(2 * H, WORDS, rngs=rngs)

    def __call__(self, tokens, carry):
        xs = self.embed(tokens)
        for layer in self.layers:
            xs = layer(xs)
        xs = self.norm(self.both(xs))
        return self.head(self.dropout(xs)), self.tick(carry, xs[:, 0])


RELU = {"gate_fn": jax.nn.hard_sigmoid, "activation_fn": jax.nn.relu}
NNX = {
    "layers/0": (nnx.LSTMCell, {}),
    "layers/1": (nnx.GRUCell, RELU),
    "both/forward_rnn": (nnx.OptimizedLSTMCell, RELU),
    "both/backward_rnn": (nnx.SimpleCell, {}),
}


def nnx_tagger(rng):
    def layer(name, size):
        kind, options = NNX[name]
        return nnx.RNN(kind(size, H, **options, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(carry=1))

    model = NnxTagger(layer, nnx.GRUCell(2 * H, H, rngs=nnx.Rngs(0)))
    nnx.update(model, randomised(rng, nnx.to_pure_dict(nnx.state(model, nnx.Param))))
    nnx.update(model, {"norm": {"mean": normal(rng, 2 * H), "var": np.exp(normal(rng, 2 * H))}})
    return model


@pytest.mark.laws
def test_nnx(rng, tokens):
    carry = normal(rng, B, H)
    before = nnx_tagger(rng)
    cells, made = convert.from_nnx_model(before)
    assert cells == {
        "layers/0": LSTM(H),
        "layers/1": GRU(H, gate_activation="hard_sigmoid", candidate_activation="relu"),
        "both/forward_rnn": LSTM(H, 1.0, "hard_sigmoid", "relu", "relu"),
        "both/backward_rnn": Elman(H),
        "tick": GRU(H),
    }
    after = NnxTagger(
        lambda name, size: rnncells.nnx.RNN(cells[name], size, rngs=nnx.Rngs(5)),
        rnncells.nnx.RNNCell(cells["tick"], 2 * H, rngs=nnx.Rngs(5)),
    )
    nnx.update(after, made)
    back = nnx_tagger(np.random.default_rng(1))
    nnx.update(back, convert.to_nnx_model(made, like=before))
    with lenient():
        expected = before(tokens, carry)  # with dropout: its random numbers are part of the state
        for model in (after, back):
            assert_same(model(tokens, carry), expected)


@pytest.mark.parametrize(
    "to_tree", [nnx.state, lambda model: nnx.state(model, nnx.Param)], ids=["all", "params"]
)
def test_nnx_state(rng, to_tree):
    """A state shows the same but activations."""
    model = nnx_tagger(rng)
    state = to_tree(model)
    cells, made = convert.from_nnx_model(state)
    assert cells.keys() == convert.from_nnx_model(model)[0].keys()
    assert cells["layers/1"] == GRU(H)
    again, pure = convert.from_nnx_model(nnx.to_pure_dict(state))
    assert again == cells
    assert jax.tree.structure(pure) == jax.tree.structure(made)
    assert_equal(made["layers"], convert.from_nnx_model(model)[1]["layers"])
    back = convert.to_nnx_model(made, like=state)
    assert_equal(nnx.to_pure_dict(nnx.state(model.layers[0].cell, nnx.Param)), back["layers"][0]["cell"])


def test_nnx_cell_of_two_names(rng):
    """The state of a shared cell lies at its first path, where its module is; an RNN of it stays."""

    class Model(nnx.Module):
        def __init__(self, cell):
            self.first = cell
            self.later = nnx.RNN(cell, rngs=False)

    cells, made = convert.from_nnx_model(Model(nnx.LSTMCell(I, H, rngs=nnx.Rngs(0))))
    assert cells == {"first": LSTM(H)}
    after = Model(rnncells.nnx.RNNCell(LSTM(H), I, rngs=nnx.Rngs(1)))
    assert jax.tree.structure(made) == jax.tree.structure(nnx.to_pure_dict(nnx.state(after)))
    cells, again = convert.from_nnx_model(after)  # which holds nothing of Flax's
    assert cells == {}
    assert_equal(again, nnx.to_pure_dict(nnx.state(after)))


# state dicts


def state_dict():
    """Of a PyTorch model: a stack in both directions, a GRU, a cell, and what is not recurrent."""
    stack = Stack([Bidirectional(LSTM(H))] * 2)
    layers = {
        "encoder.rnn.": convert.to_torch(stack, numpy_params(stack)),
        "1.": convert.to_torch(GRU(H), numpy_params(GRU(H)), bias=True),
        "cell.": {
            n.removesuffix("_l0"): w for n, w in convert.to_torch(LSTM(H), numpy_params(LSTM(H))).items()
        },
    }
    rest = {"head.weight": np.ones((2, H), np.float32), "norm.num_batches_tracked": np.array(3)}
    return {prefix + name: leaf for prefix, own in layers.items() for name, leaf in own.items()} | rest, stack


def test_state_dict(tmp_path):
    from safetensors.numpy import save_file

    before, stack = state_dict()
    save_file(before, tmp_path / "model.safetensors")
    for source in (before, tmp_path / "model.safetensors"):
        cells, params = convert.from_torch_model(source)
        assert cells == {"encoder.rnn": stack, "1": GRU(H), "cell": LSTM(H)}
        assert_equal(params["encoder"]["rnn"], {"cell": numpy_params(stack)})
        assert_equal(params["cell"], {"cell": numpy_params(LSTM(H))})
        assert_equal(params["head"], {"weight": before["head.weight"]})
        assert params["norm"]["num_batches_tracked"] == 3
        assert_equal(convert.to_torch_model(params, like=source), before)


def test_one_recurrent_module():
    theirs = convert.to_torch(GRU(H), numpy_params(GRU(H)))
    cells, params = convert.from_torch_model(theirs)
    assert cells == {"": GRU(H)}
    assert_equal(params, {"cell": numpy_params(GRU(H))})


def test_nonlinearity():
    cell = Elman(H, activation="relu")
    theirs = {f"rnn.{name}": leaf for name, leaf in convert.to_torch(cell, numpy_params(cell)).items()}
    theirs |= {f"gru.{name}": leaf for name, leaf in convert.to_torch(GRU(H), numpy_params(GRU(H))).items()}
    assert convert.from_torch_model(theirs, nonlinearity="relu")[0] == {"rnn": cell, "gru": GRU(H)}
    with pytest.raises(ValueError, match=r"^rnn: nonlinearity: expected 'tanh' or 'relu', because"):
        convert.from_torch_model(theirs)
