"""The cells against other libraries: the same weights give the same numbers.

Every mapping takes a peer's parameters, all of them random, to ours. Gate orders are spelled in our
letters: `regate(kernel, "igfo", cell.gates)` reads a kernel whose blocks a peer stores as i, g, f, o.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import rnncells
from rnncells import GRU, LSTM, Elman, convert
from rnncells.convert.arrays import regate
from tests.test_convert import LENGTHS, B, H, I, T, assert_same, lenient, normal, randomised

pytestmark = pytest.mark.parity


@pytest.fixture
def xs(rng):
    return normal(rng, T, B, I)


def random_carry(rng, cell):
    return jax.tree.map(lambda leaf: normal(rng, *leaf.shape), cell.carry_shape({}, (B,)))


def hidden_first(carry):
    """(c, h) as (h, c), the order of most peers; h as (h,)."""
    return tuple(jax.tree.leaves(carry))[::-1]


def state_of(leaves):
    return leaves[0] if len(leaves) == 1 else tuple(leaves)


def merged_biases(cell, bias, recurrent_bias):
    """Our biases for a peer that has one beside each kernel: only inside r * (...) do they differ."""
    if not (isinstance(cell, GRU) and cell.reset_after):
        return {"bias": bias + recurrent_bias}
    merged = jnp.concatenate([bias[: 2 * H] + recurrent_bias[: 2 * H], bias[2 * H :]])
    return {"bias": merged, "recurrent_bias": recurrent_bias[2 * H :]}


TORCH = pytest.mark.parametrize(
    ("name", "options", "cell"),
    [
        pytest.param("LSTM", {}, LSTM(H), id="LSTM"),
        pytest.param("GRU", {}, GRU(H), id="GRU"),
        pytest.param("RNN", {"nonlinearity": "tanh"}, Elman(H), id="RNN-tanh"),
        pytest.param("RNN", {"nonlinearity": "relu"}, Elman(H, activation="relu"), id="RNN-relu"),
    ],
)
PACKED = pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "packed"])


def from_torch(cell, weights):
    return {
        "kernel": weights["weight_ih_l0"].T,
        "recurrent_kernel": weights["weight_hh_l0"].T,
        **merged_biases(cell, weights["bias_ih_l0"], weights["bias_hh_l0"]),
    }


def torch_forward(layer, xs, state, lengths):
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    state = state_of([leaf[None] for leaf in state])
    if lengths is None:
        ys, state = layer(xs, state)
    else:
        packed, state = layer(pack_padded_sequence(xs, lengths, enforce_sorted=False), state)
        ys, _ = pad_packed_sequence(packed, total_length=xs.shape[0])
    return [leaf[0] for leaf in jax.tree.leaves(state)], ys


@TORCH
@PACKED
def test_from_torch(rng, xs, name, options, cell, lengths):
    import torch

    layer = getattr(torch.nn, name)(I, H, **options)
    weights = randomised(rng, dict(layer.state_dict()))
    layer.load_state_dict(jax.tree.map(torch.tensor, weights))
    carry = random_carry(rng, cell)
    inputs = jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), (xs, hidden_first(carry)))
    weight = normal(rng, T, B, H)

    state, ys = torch_forward(layer, *inputs, lengths)
    (ys * torch.tensor(weight)).sum().backward()

    def our_loss(weights, xs, carry):
        carry, ys = rnncells.unroll(cell, from_torch(cell, weights), xs, carry, lengths=lengths)
        return (ys * weight).sum(), (hidden_first(carry), ys)

    gradients, results = jax.grad(our_loss, (0, 1, 2), has_aux=True)(weights, xs, carry)
    assert_same(results, jax.tree.map(lambda leaf: leaf.detach(), (state, ys)))
    assert_same(gradients[0], {name: weight.grad for name, weight in layer.named_parameters()})
    assert_same((gradients[1], hidden_first(gradients[2])), jax.tree.map(lambda leaf: leaf.grad, inputs))


@TORCH
@PACKED
def test_to_torch(rng, xs, name, options, cell, lengths):
    import torch

    params = randomised(rng, cell.init(jax.random.key(0), I))
    carry = random_carry(rng, cell)
    layer = getattr(torch.nn, name)(I, H, **options)
    layer.load_state_dict(jax.tree.map(torch.tensor, convert.to_torch(cell, params)))
    with torch.no_grad():
        theirs = torch_forward(layer, *jax.tree.map(torch.tensor, (xs, hidden_first(carry))), lengths)
    carry, ys = rnncells.unroll(cell, params, xs, carry, lengths=lengths)
    assert_same((hidden_first(carry), ys), theirs)


FLAX = {"LSTMCell": LSTM(H), "OptimizedLSTMCell": LSTM(H), "GRUCell": GRU(H), "SimpleCell": Elman(H)}


def from_linen(cell, params):
    """One dense layer per gate and side, `ii` to `ho`; the simple cell has `i` and `h`."""
    gates = ("",) if isinstance(cell, Elman) else cell.gates

    def fused(side, name):
        return np.concatenate([params[side + gate][name] for gate in gates], axis=-1)

    bias = fused("h" if isinstance(cell, LSTM) else "i", "bias")
    ours = {"kernel": fused("i", "kernel"), "recurrent_kernel": fused("h", "kernel"), "bias": bias}
    return {**ours, "recurrent_bias": params["hn"]["bias"]} if isinstance(cell, GRU) else ours


def from_nnx(cell, params):
    """Two fused layers with one bias in all, but for the LSTM that is laid out as in linen."""
    if "ii" in params:
        return from_linen(cell, {name.rstrip("_"): dense for name, dense in params.items()})
    kernel, recurrent_kernel = params["dense_i"]["kernel"], params["dense_h"]["kernel"]
    (bias,) = [dense["bias"] for dense in params.values() if "bias" in dense]
    ours = {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias}
    return {**ours, "recurrent_bias": np.zeros(H, np.float32)} if isinstance(cell, GRU) else ours


def linen_layers(rng, name, cell, **options):
    """Flax's layer and ours with the same weights."""
    peer, layer = linen.RNN(getattr(linen, name)(H), **options), rnncells.linen.RNN(cell, **options)
    params = randomised(rng, peer.init(jax.random.key(0), jnp.zeros((T, B, I)))["params"])
    ours = {"cell": from_linen(cell, params["cell"])}
    return functools.partial(peer.apply, {"params": params}), functools.partial(layer.apply, {"params": ours})


def nnx_layers(rng, name, cell, **options):
    """Flax's layer and ours with the same weights."""
    peer = nnx.RNN(getattr(nnx, name)(I, H, rngs=nnx.Rngs(0)), **options)
    layer = rnncells.nnx.RNN(cell, I, **options, rngs=nnx.Rngs(0))
    params = randomised(rng, nnx.to_pure_dict(nnx.state(peer.cell, nnx.Param)))
    nnx.update(peer.cell, params)
    nnx.update(layer, {"params": from_nnx(cell, params)})
    return peer, layer


@pytest.mark.parametrize("seq_lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize(
    "options",
    [{}, {"time_major": True}, {"reverse": True}, {"reverse": True, "keep_order": True}],
    ids=["plain", "time_major", "reverse", "keep_order"],
)
@pytest.mark.parametrize("name", FLAX)
@pytest.mark.parametrize("layers", [linen_layers, nnx_layers])
def test_from_flax(rng, xs, layers, name, options, seq_lengths):
    cell = FLAX[name]
    carry = random_carry(rng, cell)
    valid = np.arange(T)[:, None] < (np.full(B, T) if seq_lengths is None else seq_lengths)
    if not options.get("time_major"):
        xs, valid = xs.swapaxes(0, 1), valid.T
    with lenient():
        peer, layer = layers(rng, name, cell, return_carry=True, **options)
        state = state_of(jax.tree.leaves(carry))
        state, ys = peer(xs, initial_carry=state, seq_lengths=seq_lengths)
    carry, our_ys = layer(xs, initial_carry=carry, seq_lengths=seq_lengths)
    assert_same((carry, our_ys[valid]), (state, ys[valid]))  # Flax fills the padding with what it likes


def from_keras(cell, weights, order):
    kernel, recurrent_kernel, bias = (regate(weight, order, cell.gates) for weight in weights)
    biases = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
    return {"kernel": kernel, "recurrent_kernel": recurrent_kernel, **merged_biases(cell, *biases)}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize(
    ("name", "options", "order", "cell"),
    [
        pytest.param("LSTM", {}, "ifgo", LSTM(H), id="LSTM"),
        pytest.param("GRU", {"reset_after": True}, "zrn", GRU(H), id="GRU-after"),
        pytest.param("GRU", {"reset_after": False}, "zrn", GRU(H, reset_after=False), id="GRU-before"),
        pytest.param("SimpleRNN", {}, "h", Elman(H), id="SimpleRNN"),
    ],
)
def test_from_keras(monkeypatch, rng, xs, name, options, order, cell, masked):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    carry = random_carry(rng, cell)
    mask = rng.random((T, B)) < 0.6 if masked else None
    with lenient():
        import keras

        layer = getattr(keras.layers, name)(
            H, return_sequences=True, return_state=True, zero_output_for_mask=True, **options
        )
        layer.build((B, T, I))
        weights = randomised(rng, layer.get_weights())
        layer.set_weights(weights)
        initial_state = list(hidden_first(carry))
        ys, *state = layer(xs.swapaxes(0, 1), initial_state=initial_state, mask=mask.T if masked else None)
    carry, our_ys = rnncells.unroll(cell, from_keras(cell, weights, order), xs, carry, mask=mask)
    assert_same((hidden_first(carry), our_ys), (state, ys.swapaxes(0, 1)))


def from_haiku_lstm(params):
    """One linear layer on [x, h], and a 1 that the forward pass adds to f."""
    linear = {name: regate(leaf, "igfo", LSTM.gates) for name, leaf in params["lstm/linear"].items()}
    bias = linear["b"] + regate(np.repeat(np.float32([0, 0, 1, 0]), H), "igfo", LSTM.gates)
    return {"kernel": linear["w"][:I], "recurrent_kernel": linear["w"][I:], "bias": bias}


def from_haiku_gru(params):
    """Haiku's z lets the new value in: 1 - sigmoid(z) = sigmoid(-z)."""
    sign = np.repeat(np.float32([-1, 1, 1]), H)
    ours = {"w_i": "kernel", "w_h": "recurrent_kernel", "b": "bias"}
    return {ours[name]: regate(sign * leaf, "zrn", GRU.gates) for name, leaf in params["gru"].items()}


def from_haiku_rnn(params):
    of_input, of_state = params["vanilla_rnn/linear"], params["vanilla_rnn/linear_1"]
    return {"kernel": of_input["w"], "recurrent_kernel": of_state["w"], "bias": of_input["b"] + of_state["b"]}


HAIKU = {
    "LSTM": (from_haiku_lstm, LSTM(H)),
    "GRU": (from_haiku_gru, GRU(H, reset_after=False)),
    "VanillaRNN": (from_haiku_rnn, Elman(H, activation="relu")),
}


@pytest.mark.parametrize("name", HAIKU)
def test_from_haiku(rng, xs, name):
    import haiku

    @haiku.transform
    def forward(xs, state):
        return haiku.dynamic_unroll(getattr(haiku, name)(H), xs, state)

    mapping, cell = HAIKU[name]
    carry = random_carry(rng, cell)
    state = state_of(hidden_first(carry))
    with lenient():
        state = haiku.LSTMState(*state) if name == "LSTM" else state
        params = randomised(rng, forward.init(jax.random.key(0), xs, state))
        ys, state = forward.apply(params, None, xs, state)
    carry, our_ys = rnncells.unroll(cell, mapping(params), xs, carry)
    assert_same((hidden_first(carry), our_ys), (state, ys))


def from_equinox(peer):
    ours = {"kernel": peer.weight_ih.T, "recurrent_kernel": peer.weight_hh.T, "bias": peer.bias}
    return {**ours, "recurrent_bias": peer.bias_n} if hasattr(peer, "bias_n") else ours


@pytest.mark.parametrize(("name", "cell"), [("LSTMCell", LSTM(H)), ("GRUCell", GRU(H))])
def test_from_equinox(rng, xs, name, cell):
    import equinox

    carry = random_carry(rng, cell)
    with lenient():
        peer = randomised(rng, getattr(equinox.nn, name)(I, H, key=jax.random.key(0)))

        def tick(state, x):
            state = jax.vmap(peer)(x, state)
            return state, jax.tree.leaves(state)[0]

        theirs = jax.lax.scan(tick, state_of(hidden_first(carry)), xs)
    carry, ys = rnncells.unroll(cell, from_equinox(peer), xs, carry)
    assert_same((hidden_first(carry), ys), theirs)
