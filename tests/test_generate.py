"""Free-running cells: plain loops, replaying what was generated, sampling; and a model that learns."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from rnncells import (
    GRU,
    LSTM,
    AdditiveAttention,
    AttentionDecoder,
    MultiplicativeAttention,
    generate,
    unroll,
)
from rnncells.cell import shapes_of
from tests import cases
from tests.cases import over, random_carry, random_like, random_params, sparing
from tests.traits import TRAITS, Noisy, Pairs

T, B, H, SYMBOLS = 6, 3, 4, 5
KEY = jax.random.key(0)
KERNEL = jax.random.normal(jax.random.key(1), (H, SYMBOLS))
START = jnp.zeros((B, SYMBOLS)).at[:, 0].set(1.0)
MEMORY = jax.random.normal(jax.random.key(2), (7, B, 2))
DECODER = AttentionDecoder(LSTM(H), MultiplicativeAttention("general"), order="luong").attend(MEMORY)
close = functools.partial(cases.close, atol=1e-5)


def greedy(y, key):
    """Emits the input that it makes, and the symbol."""
    symbol = jnp.argmax(y @ KERNEL, -1)
    x = jax.nn.one_hot(symbol, SYMBOLS)
    return x, (x, symbol)


def sample(y, key):
    symbol = jax.random.categorical(key, y @ KERNEL)
    x = jax.nn.one_hot(symbol, SYMBOLS)
    return x, (x, symbol, y)


def setup(cell):
    params = random_params(cell, input_size=SYMBOLS)
    return params, random_carry(cell, params, jnp.stack([START] * 3))


@over(TRAITS, ("gated", "diagonal", "prepared"))
def test_equals_a_python_loop(cell):
    params, carry = setup(cell)
    last, (inputs, symbols) = generate(cell, params, START, T, greedy, carry)
    assert symbols.shape == (T, B)
    x, weights, tick = START, cell.prepare(params, like=shapes_of(START)), jax.jit(cell.tick)
    for t in range(T):
        carry, y = tick(weights, carry, x)
        x, (_, symbol) = greedy(y, None)
        np.testing.assert_array_equal(symbol, symbols[t])
        np.testing.assert_array_equal(x, inputs[t])
    close(last, carry)
    default = generate(cell, params, START, T, greedy)
    close(
        default,
        generate(cell, params, START, T, greedy, cell.initial_carry(params, (B,), like=shapes_of(START))),
    )


@pytest.mark.parametrize("key", sparing([jax.random.key(5), jax.random.PRNGKey(5)]), ids=["typed", "raw"])
@pytest.mark.parametrize("cell", [LSTM(H), Noisy(H), DECODER], ids=["LSTM", "Noisy", "AttentionDecoder"])
def test_replaying_what_was_sampled(cell, key):
    """Teacher forcing on its own samples, with the same key, gives the same outputs, noise included."""
    params, carry = setup(cell)
    run = jax.jit(functools.partial(generate, cell, params, START, T, sample))
    last, (inputs, symbols, ys) = run(carry, key=key)
    xs = jnp.concatenate([START[None], inputs[:-1]])
    close((last, ys), unroll(cell, params, xs, carry, key=key))
    chex.assert_trees_all_equal(run(carry, key=key)[1][1], symbols)
    assert not np.array_equal(run(carry, key=jax.random.fold_in(key, 1))[1][1], symbols)


def test_keys_of_feed_are_its_own():
    """All different, and none that the ticks or a split of the key use."""

    def feed(y, key):
        return START, jax.random.key_data(key)

    cell = LSTM(H)
    drawn = generate(cell, setup(cell)[0], START, T, feed, key=KEY)[1]
    others = [jax.random.fold_in(KEY, t) for t in range(T)] + list(jax.random.split(KEY, T)) + [KEY]
    keys = {tuple(row.tolist()) for row in (*drawn, *map(jax.random.key_data, others))}
    assert len({tuple(row.tolist()) for row in drawn}) == T
    assert len(keys) == T + len({tuple(jax.random.key_data(key).tolist()) for key in others})

    def without(y, key):
        assert key is None
        return greedy(y, key)

    generate(cell, setup(cell)[0], START, T, without)


def test_samples_follow_the_logits():
    cell = GRU(H)
    params, _ = setup(cell)
    many = jnp.repeat(START[:1], 4000, 0)
    symbols, ys = generate(cell, params, many, 2, sample, key=KEY)[1][1:]
    for t in range(2):
        expected = jax.nn.softmax(ys[t] @ KERNEL, -1).mean(0)
        np.testing.assert_allclose(np.bincount(symbols[t], minlength=SYMBOLS) / 4000, expected, atol=0.03)


@pytest.mark.laws
@pytest.mark.usefixtures("x64")
def test_differentiable_and_vmappable():
    cell = GRU(H)
    params = random_params(cell, input_size=H, dtype=jnp.float64)
    x = random_like(jnp.zeros((B, H)))

    def run(params, x):
        return generate(cell, params, x, T, lambda y, key: (jnp.sin(y), y))

    check_grads(run, (params, x), order=1, modes=("fwd", "rev"), eps=1e-6)
    close(jax.vmap(run, (None, 0), (0, 1))(params, x), run(params, x))
    keys = jax.random.split(KEY, 2)

    def noisy(key):
        return generate(cell, params, x, T, lambda y, key: (y + jax.random.normal(key, y.shape), y), key=key)

    close(jax.vmap(noisy)(keys), jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(noisy, keys)))


def test_pytrees_and_dtypes():
    cell = Pairs(2)
    x = {"value": jnp.ones((B, 2)), "open": jnp.ones((B, 1))}
    last, ys = generate(cell, cell.init(KEY, 2), x, T, lambda y, key: ({"value": y, "open": x["open"]}, y))
    close(ys[:, 0, 0], jnp.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]))
    close(last, ys[-1])

    cell = LSTM(H)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), setup(cell)[0])
    for dtype in (jnp.bfloat16, jnp.float32):
        x = START.astype(dtype)
        last, ys = generate(cell, params, x, T, lambda y, key: (START.astype(jnp.bfloat16), y))
        assert {leaf.dtype for leaf in jax.tree.leaves((last, ys))} == {jnp.dtype(dtype)}


CELL = LSTM(H)
PARAMS = CELL.init(KEY, SYMBOLS)
BAD = {
    "class": (lambda: generate(LSTM, PARAMS, START, T, greedy), TypeError, "cell: .*make an instance"),
    "length": (lambda: generate(CELL, PARAMS, START, 0, greedy), ValueError, "length: .* got 0"),
    "traced length": (
        lambda: jax.jit(lambda n: generate(CELL, PARAMS, START, n, greedy))(3),
        TypeError,
        "length: expected a positive int known at trace time",
    ),
    "feed": (lambda: generate(CELL, PARAMS, START, T, START), TypeError, "feed: expected a function"),
    "key": (lambda: generate(CELL, PARAMS, START, T, greedy, key=3), TypeError, "key: expected one key"),
    "params": (
        lambda: generate(CELL, PARAMS, START[:, :2], T, greedy),
        ValueError,
        "params: for xs with 2 features LSTM",
    ),
    "carry": (
        lambda: generate(CELL, PARAMS, START, T, greedy, jnp.zeros((B, H))),
        ValueError,
        "carry: expected LSTMCarry",
    ),
    "no pair": (
        lambda: generate(CELL, PARAMS, START, T, lambda y, key: y),
        TypeError,
        r"feed: expected a pair \(next x, emitted\), got float32\[3,4\]",
    ),
    "next x of another shape": (
        lambda: generate(CELL, PARAMS, START, T, lambda y, key: (y, y)),
        ValueError,
        r"feed: expected the next x to be like the first, float32\[3,5\], got float32\[3,4\]",
    ),
    "next x too precise": (
        lambda: generate(
            CELL,
            *jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (PARAMS, START)),
            T,
            lambda y, key: (START, y),
        ),
        ValueError,
        r"feed: .* bfloat16\[3,5\], got float32\[3,5\]",
    ),
}


@pytest.mark.parametrize(("call", "kind", "words"), BAD.values(), ids=BAD.keys())
def test_bad_input(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


@pytest.mark.laws
@pytest.mark.parametrize(
    ("order", "attention"),
    [
        ("bahdanau", AdditiveAttention(16)),
        ("luong", AdditiveAttention(16)),
        ("luong", MultiplicativeAttention("general")),
        ("luong", MultiplicativeAttention("dot")),
    ],
    ids=["bahdanau-additive", "luong-additive", "luong-general", "luong-dot"],
)
def test_learns_to_reverse(order, attention):
    """An encoder and a decoder learn to reverse 5 symbols, first forced, then free; all they share is
    the attention. Uniform over 6 symbols, a guess is right in 17% of the cases."""
    symbols, length, start = 6, 5, 6
    encoder, decoder = LSTM(32), AttentionDecoder(LSTM(32), attention, order=order)
    optimiser = optax.adam(1e-2)

    def init(key):
        keys = jax.random.split(key, 3)
        example = decoder.attend(jnp.zeros((length, 32)))
        kernel = 0.1 * jax.random.normal(keys[2], (example.output_size, symbols))
        return encoder.init(keys[0], symbols), example.init(keys[1], symbols + 1), kernel

    def attended(params, sources):
        return decoder.attend(unroll(encoder, params[0], jax.nn.one_hot(sources, symbols))[1])

    def forced(params, sources):
        targets = sources[::-1]
        before = jnp.concatenate([jnp.full_like(targets[:1], start), targets[:-1]])
        inputs = jax.nn.one_hot(before, symbols + 1)
        (_, (ys, carries)) = unroll(attended(params, sources), params[1], inputs, return_carries=True)
        return ys @ params[2], carries.weights

    def loss(params, key):
        sources = jax.random.randint(key, (length, 64), 0, symbols)
        logits = forced(params, sources)[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, sources[::-1]).mean()

    @jax.jit
    def train(key):
        def update(state, key):
            slopes = jax.grad(loss)(state[0], key)
            with jax.numpy_dtype_promotion("standard"):
                updates, memory = optimiser.update(slopes, state[1])
            return (optax.apply_updates(state[0], updates), memory), None

        params = init(key)
        return jax.lax.scan(update, (params, optimiser.init(params)), jax.random.split(key, 600))[0][0]

    @jax.jit
    def free(params, sources):
        def feed(y, key):
            symbol = jnp.argmax(y @ params[2], -1)
            return jax.nn.one_hot(symbol, symbols + 1), symbol

        first = jax.nn.one_hot(jnp.full(sources.shape[1], start), symbols + 1)
        return generate(attended(params, sources), params[1], first, length, feed)[1]

    params = train(KEY)
    sources = jax.random.randint(jax.random.key(7), (length, 500), 0, symbols)
    logits, weights = jax.jit(forced)(params, sources)
    assert np.mean(jnp.argmax(logits, -1) == sources[::-1]) > 0.95
    assert np.mean(free(params, sources) == sources[::-1]) > 0.95
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
