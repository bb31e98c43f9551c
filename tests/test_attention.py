"""Scores, pooling and the decoder, against literal NumPy, loops over single sequences, and Keras."""

import dataclasses
import functools
import pickle

import chex
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import rnncells
from rnncells import (
    CELLS,
    GRU,
    LSTM,
    AdditiveAttention,
    AttentionCarry,
    AttentionDecoder,
    AttentionPooling,
    MultiplicativeAttention,
    unroll,
)
from tests import reference
from tests.cases import random_like, random_params
from tests.test_unroll import Learned, Noisy, Pairs

S, T, B, I, H, M, F = 5, 6, 3, 3, 4, 4, 2  # noqa: E741
LENGTHS = np.array([3, S, 0])
KEY = jax.random.key(0)
ATTENTIONS = {
    "additive": AdditiveAttention(F),
    "dot": MultiplicativeAttention(),
    "general": MultiplicativeAttention("general"),
    "concat": MultiplicativeAttention("concat", F),
}
over_attentions = pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)
laws = pytest.mark.laws
over_orders = pytest.mark.parametrize("order", ["bahdanau", pytest.param("luong", marks=laws)])


def combinations(names, *daily):
    """Each order with each name: those in `daily` every day, the others in `make laws`."""
    pairs = [(order, name) for order in ("bahdanau", "luong") for name in names]
    marked = [pytest.param(*pair, marks=() if pair in daily else laws) for pair in pairs]
    return pytest.mark.parametrize(("order", "name"), marked)


exact = pytest.mark.usefixtures("x64")
close = functools.partial(chex.assert_trees_all_close, atol=1e-11, rtol=1e-11)


def randomised(tree, seed=0):
    return jax.tree.map(lambda leaf: 0.7 * leaf, random_like(tree, seed))


def setup(attention, batch=(B,), memory_size=M, dtype=jnp.float64):
    query_size = memory_size if attention == MultiplicativeAttention() else H + 1
    params = randomised(attention.init(KEY, query_size, memory_size, dtype))
    query, memory = random_like(
        (jnp.zeros((*batch, query_size), dtype), jnp.zeros((S, *batch, memory_size), dtype)), 5
    )
    return params, query, memory


def numpy_attend(attention, params, query, memory, length=S):
    """One query [Q] and one memory [S, M], from the equations."""
    params, query, memory = jax.tree.map(np.asarray, (params, query, memory))
    scores = np.zeros(length)
    for s, m in enumerate(memory[:length]):
        if isinstance(attention, AdditiveAttention):
            z = query @ params["query_kernel"] + m @ params["memory_kernel"] + params["bias"]
            scores[s] = params["score_kernel"] @ np.tanh(z)
        elif attention.score == "dot":
            scores[s] = query @ m
        elif attention.score == "general":
            scores[s] = query @ params["kernel"] @ m
        else:
            kernel = np.concatenate([params["query_kernel"], params["memory_kernel"]])
            scores[s] = params["score_kernel"] @ np.tanh(np.concatenate([query, m]) @ kernel)
    weights = np.zeros(len(memory))
    weights[:length] = np.exp(scores) / np.exp(scores).sum()
    context = np.zeros(memory.shape[-1])
    for a, m in zip(weights[:length], memory[:length], strict=True):
        context += a * m
    return context, weights


def numpy_attend_all(attention, params, queries, memory, lengths=None):
    """queries [B, Q], memory [S, B, M]."""
    lengths = [S] * B if lengths is None else lengths
    rows = [numpy_attend(attention, params, queries[b], memory[:, b], lengths[b]) for b in range(B)]
    return np.stack([context for context, _ in rows]), np.stack([weights for _, weights in rows], 1)


@exact
@over_attentions
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_equals_the_equations(attention, lengths):
    params, query, memory = setup(attention)
    expected = numpy_attend_all(attention, params, query, memory, lengths)
    close(attention(params, query, memory, lengths=lengths), expected)
    keys = attention.prepare(params, memory, lengths=lengths)
    close(attention(params, query, memory, lengths=lengths, keys=keys), expected)
    if lengths is not None:
        traced = jax.jit(lambda lengths: attention(params, query, memory, lengths=lengths))
        close(traced(jnp.array([3, S + 4, -2])), expected)


@exact
@over_attentions
def test_batch_axes_and_vmap(attention):
    params, query, memory = setup(attention, (2, 3))
    context, weights = attention(params, query, memory)
    for b in np.ndindex(2, 3):
        alone = attention(params, query[b], memory[:, *b])
        close((context[b], weights[:, *b]), alone)
        close(alone, numpy_attend(attention, params, query[b], memory[:, *b]))
    over = jax.vmap(jax.vmap(functools.partial(attention, params), (0, 1), (0, 1)), (0, 1), (0, 1))
    close(over(query, memory), (context, weights))


@exact
@over_attentions
def test_what_lies_past_the_length_is_never_read(attention):
    params, query, memory = setup(attention)
    past = np.arange(S)[:, None] >= LENGTHS
    broken = jnp.where(past[..., None], jnp.nan, memory)

    def outputs(params, query, memory, prepared=False, lengths=LENGTHS):
        keys = attention.prepare(params, memory, lengths=lengths) if prepared else None
        return attention(params, query, memory, lengths=lengths, keys=keys)

    def score(*args, **options):
        context, weights = outputs(*args, **options)
        return jnp.sum(jnp.sin(context)) + jnp.sum(jnp.cos(weights))

    context, weights = outputs(params, query, broken)
    assert not np.any(np.asarray(weights)[past])
    assert not np.any(np.asarray(context)[2])
    close(weights.sum(0), np.array([1.0, 1.0, 0.0]))
    expected = jax.grad(score, (0, 1, 2))(params, query, memory)
    assert not np.any(np.asarray(expected[2])[past])
    for prepared in (False, True):
        slopes = jax.jit(jax.grad(functools.partial(score, prepared=prepared), (0, 1, 2)))
        close(slopes(params, query, broken), expected)
    inputs = (params, query, jnp.where(past[..., None], 0.3, memory))
    check_grads(outputs, inputs, order=1, modes=("fwd", "rev"), eps=1e-6)


@exact
@over_attentions
def test_dtypes(attention):
    params, query, memory = setup(attention, dtype=jnp.bfloat16)
    context, weights = attention(params, query, memory)
    assert (context.dtype, weights.dtype) == (jnp.bfloat16, jnp.bfloat16)
    scores = attention._scores(params, query, attention.prepare(params, memory)).astype(jnp.float32)
    np.testing.assert_array_equal(weights, jax.nn.softmax(scores, 0).astype(jnp.bfloat16))
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, query, memory))
    mixed = attention(params, query, wide[2])
    chex.assert_trees_all_equal(mixed, attention(*wide))
    assert mixed[0].dtype == jnp.float32
    assert attention.init(KEY, M, M).keys() == params.keys()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(attention.init(KEY, M, M)))


@exact
def test_large_scores_do_not_overflow():
    query, memory = jnp.full((1, M), 50.0), jnp.stack([jnp.full((1, M), 50.0), jnp.full((1, M), -50.0)])
    context, weights = MultiplicativeAttention()({}, query, memory, lengths=np.array([2]))
    close((context, weights), (jnp.full((1, M), 50.0), jnp.array([[1.0], [0.0]])))


@exact
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_pooling(lengths):
    pooling = AttentionPooling(F)
    params = randomised(pooling.init(KEY, H, jnp.float64))
    hs = random_like(jnp.zeros((S, B, H)))
    expected, leaves = np.zeros((B, H)), jax.tree.map(np.asarray, params)
    given = [S] * B if lengths is None else lengths
    for b in range(B):
        h = np.asarray(hs)[: given[b], b]
        score = np.exp(np.tanh(h @ leaves["kernel"] + leaves["bias"]) @ leaves["score_kernel"])
        expected[b] = (score / score.sum()) @ h
        close(pooling.weights(params, hs, lengths=lengths)[: given[b], b], score / score.sum())
    past = np.arange(S)[:, None] >= given
    broken = jnp.where(past[..., None], jnp.nan, hs)
    pool = jax.jit(lambda params, hs: pooling(params, hs, lengths=lengths))
    close(pool(params, broken), expected)
    close(jax.vmap(pooling, (None, 1))(params, hs[:, :2]), pooling(params, hs[:, :2]))
    slopes = jax.grad(lambda *args: jnp.sum(jnp.sin(pool(*args))), (0, 1))
    close(slopes(params, broken), slopes(params, hs))
    check_grads(pool, (params, jnp.where(past[..., None], 0.0, hs)), order=1, modes=("fwd", "rev"), eps=1e-6)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (params, hs))
    assert pooling(*half).dtype == jnp.bfloat16


CELL = LSTM(H)


def decoder_setup(decoder, lengths=None, dtype=jnp.float64, memory_size=M):
    """The decoder with a memory, its params, random xs and a random carry."""
    memory = random_like(jnp.zeros((S, B, memory_size), dtype), 5)
    decoder = decoder.attend(memory, lengths)
    params = random_params(decoder, dtype=dtype)
    xs = random_like(jnp.zeros((T, B, I), dtype), 6)
    return decoder, params, xs, jax.tree.map(jnp.abs, random_like(decoder.initial_carry(params, (B,)), 7))


def numpy_decode(decoder, params, xs, carry):
    """The decoder as loops; the ticks of its cell come from tests/reference.py."""
    step = reference.REFERENCES[type(decoder.cell).__name__]
    params, xs, carry = jax.tree.map(np.asarray, (params, xs, carry))
    state, feedback, weights = carry
    ys, looked = [], []
    for x in xs:

        def attend(query):
            return numpy_attend_all(
                decoder.attention, params["attention"], query, decoder.memory, decoder.lengths
            )

        if decoder.order == "bahdanau":
            context, weights = attend(feedback)
            state, feedback = step(decoder.cell, params["cell"], state, np.concatenate([x, context], -1))
            ys.append(np.concatenate([feedback, context], -1))
        else:
            state, out = step(decoder.cell, params["cell"], state, np.concatenate([x, feedback], -1))
            context, weights = attend(out)
            feedback = np.tanh(np.concatenate([context, out], -1) @ params["combine_kernel"])
            ys.append(feedback)
        looked.append(weights.T)
    return AttentionCarry(state, feedback, weights.T), np.stack(ys), np.stack(looked)


@exact
@combinations(ATTENTIONS, ("bahdanau", "additive"), ("luong", "general"))
def test_decoder_equals_the_equations(order, name):
    """unroll, a scan over ticks, and ticks with prepared weights; and where it looked."""
    decoder, params, xs, carry = decoder_setup(AttentionDecoder(CELL, ATTENTIONS[name], order=order), LENGTHS)
    expected_last, expected_ys, looked = numpy_decode(decoder, params, xs, carry)
    last, (ys, carries) = unroll(decoder, params, xs, carry, return_carries=True)
    assert ys.shape[-1] == decoder.output_size
    close(ys, expected_ys)
    close(jax.tree.leaves(last), jax.tree.leaves(expected_last))
    close(carries.weights, looked)
    close(jax.lax.scan(functools.partial(decoder, params), carry, xs), (last, ys))
    weights = decoder.prepare(params)
    for x, y in zip(xs, ys, strict=True):
        carry, own = decoder.tick(weights, carry, x)
        close(own, y)
    close(carry, last)


@exact
@combinations(CELLS, ("luong", "ExpRNN"))
def test_decoder_around_every_cell(order, name):
    """The cell inside, tick by tick with what the decoder shows it."""
    cell = CELLS[name](H)
    attention = ATTENTIONS["additive"]
    decoder, params, xs, carry = decoder_setup(AttentionDecoder(cell, attention, order=order), LENGTHS)
    last, ys = unroll(decoder, params, xs, carry)
    state, feedback, _ = carry
    for x, y in zip(xs, ys, strict=True):
        if order == "bahdanau":
            context, _ = numpy_attend_all(attention, params["attention"], feedback, decoder.memory, LENGTHS)
            state, feedback = cell(params["cell"], state, jnp.concatenate([x, context], -1))
            close(y, jnp.concatenate([feedback, context], -1))
        else:
            state, out = cell(params["cell"], state, jnp.concatenate([x, feedback], -1))
            context, _ = numpy_attend_all(attention, params["attention"], out, decoder.memory, LENGTHS)
            feedback = jnp.tanh(jnp.concatenate([context, out], -1) @ params["combine_kernel"])
            close(y, feedback)
    close((last.cell, last.feedback), (state, feedback))
    half = decoder_setup(AttentionDecoder(cell, attention, order=order), LENGTHS, jnp.bfloat16)
    last, ys = unroll(*half)
    assert ys.dtype == jnp.bfloat16
    chex.assert_trees_all_equal_dtypes(last, half[-1])


@exact
@combinations(("forward", "backward"), ("bahdanau", "backward"), ("luong", "forward"))
def test_options_equal_loops_over_single_sequences(order, name):
    """Lengths, masks, resets, recomputation, truncation; NaN wherever nothing exists."""
    decoder, params, xs, carry = decoder_setup(
        AttentionDecoder(CELL, ATTENTIONS["additive"], order=order), LENGTHS
    )
    rng, reverse = np.random.default_rng(0), name == "backward"
    options = {"lengths": np.array([T, 0, 4]), "mask": rng.random((T, B)) < 0.8}
    options |= {"resets": rng.random((T, B)) < 0.4, "truncate_every": 4}
    dead = ~options["mask"] | (np.arange(T)[:, None] >= options["lengths"])
    xs = jnp.where(dead[..., None], jnp.nan, xs)
    memory = jnp.where((np.arange(S)[:, None] >= LENGTHS)[..., None], jnp.nan, decoder.memory)
    cotangents = random_like(unroll(decoder, params, xs, carry, return_carries=True))

    def whole(params, memory, xs, carry):
        attended = decoder.attend(memory, LENGTHS)
        extra = {"remat_every": 4, "return_carries": True, "reverse": reverse}
        return unroll(attended, params, xs, carry, **options, **extra)

    def alone(params, memory, xs, carry):
        each = []
        for b in range(B):
            one = decoder.attend(memory[:, b], LENGTHS[b])
            own = {name: v if name == "truncate_every" else v[..., b : b + 1] for name, v in options.items()}
            state = jax.tree.map(lambda leaf, b=b: leaf[b : b + 1], carry)
            each.append(reference.loops(one, params, xs[:, b : b + 1], state, reverse=reverse, **own))
        last = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *[last for last, _ in each])
        return last, jax.tree.map(lambda *leaves: jnp.concatenate(leaves, 1), *[out for _, out in each])

    def everything(run):
        def score(*args):
            out = run(*args)
            terms = jax.tree.map(lambda leaf, weight: jnp.sum(jnp.sin(leaf) * weight), out, cotangents)
            return sum(jax.tree.leaves(terms)), out

        gradient = jax.value_and_grad(score, (0, 1, 2, 3), has_aux=True)
        return jax.jit(gradient)(params, memory, xs, carry)

    expected = everything(alone)
    chex.assert_tree_all_finite(expected)
    chex.assert_trees_all_close(everything(whole), expected, atol=1e-10)


@exact
@combinations(ATTENTIONS)
def test_gradients_reach_params_memory_and_encoder(order, name):
    encoder, decoder = GRU(M), AttentionDecoder(CELL, ATTENTIONS[name], order=order)
    attended, params, xs, _ = decoder_setup(decoder)
    encoder_params = random_params(encoder, dtype=jnp.float64)

    def outputs(encoder_params, params, xs, sources):
        memory = unroll(encoder, encoder_params, sources, lengths=LENGTHS)[1]
        return jax.tree.map(jnp.sin, unroll(decoder.attend(memory, LENGTHS), params, xs[:3], remat_every=2))

    sources = random_like(jnp.zeros((S, B, I)), 8)
    check_grads(outputs, (encoder_params, params, xs, sources), order=1, modes=("fwd", "rev"), eps=1e-6)
    slope = jax.grad(lambda attended: jnp.sum(unroll(attended, params, xs)[1]))(attended)
    assert np.abs(slope.memory).min() > 0


@exact
@combinations(ATTENTIONS)
def test_second_derivatives(order, name):
    decoder, params, xs, _ = decoder_setup(AttentionDecoder(CELL, ATTENTIONS[name], order=order), LENGTHS)

    def outputs(params, memory):
        return jnp.sum(jnp.sin(unroll(decoder.attend(memory, LENGTHS), params, xs[:3])[1]))

    check_grads(outputs, (params, decoder.memory), order=2, modes=("fwd", "rev"), rtol=1e-4, atol=1e-4)


@exact
@over_orders
def test_vmap_over_the_batch_and_over_numbers(order):
    decoder, params, xs, carry = decoder_setup(
        AttentionDecoder(CELL, ATTENTIONS["additive"], order=order), LENGTHS
    )
    axes = dataclasses.replace(decoder, cell=None, attention=None, memory=1, lengths=0, kernel_init=None)
    over = jax.vmap(unroll, (axes, None, 1, 0), (0, 1))
    close(over(decoder, params, xs, carry), unroll(decoder, params, xs, carry))

    def outputs(bias):
        own = dataclasses.replace(decoder, cell=LSTM(H, forget_bias=bias))
        return unroll(own, own.init(KEY, I, jnp.float64), xs)[1]

    swept = jax.vmap(outputs)(jnp.array([-1.0, 2.0]))
    close(swept, jnp.stack([outputs(-1.0), outputs(2.0)]))


@over_orders
def test_as_a_pytree(order, monkeypatch):
    """Another memory of the same shape does not compile again; the decoder is a value and serialises."""
    decoder, params, xs, _ = decoder_setup(
        AttentionDecoder(CELL, ATTENTIONS["additive"], order=order), LENGTHS, jnp.float32
    )
    traced, step = [], AttentionDecoder.step
    monkeypatch.setattr(AttentionDecoder, "step", lambda self, *a: traced.append(1) or step(self, *a))
    run = jax.jit(unroll)
    _, ys = run(decoder, params, xs)
    before = len(traced)
    _, other = run(decoder.attend(decoder.memory + 1, LENGTHS - (LENGTHS > 1)), params, xs)
    assert len(traced) == before
    assert not np.allclose(ys, other)
    close(ys, unroll(decoder, params, xs)[1], atol=1e-6)

    assert pickle.loads(pickle.dumps(decoder)) == decoder == dataclasses.replace(decoder)
    assert decoder != decoder.attend(decoder.memory + 1, LENGTHS)
    bare, twin = (AttentionDecoder(CELL, ATTENTIONS["dot"], order=order) for _ in range(2))
    assert hash(bare) == hash(twin)
    assert decoder != decoder.attend(decoder.memory)
    assert "memory=float32[5,3,4], lengths=int64[3]" in repr(decoder)


@exact
@over_orders
def test_decoder_dtypes(order):
    """The memory takes part in the promotion; nothing leaks into 64 bits."""
    decoder, params, xs, carry = decoder_setup(
        AttentionDecoder(CELL, ATTENTIONS["general"], order=order), LENGTHS, jnp.float32
    )
    for dtype in (jnp.float32, jnp.bfloat16):
        half = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), (params, xs))
        last, ys = unroll(decoder, *half)
        assert {leaf.dtype for leaf in jax.tree.leaves((last, ys))} == {jnp.dtype("float32")}
        assert not any(leaf.weak_type for leaf in jax.tree.leaves((last, ys)))
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), half)
    chex.assert_trees_all_equal((last, ys), unroll(decoder, *wide))
    chex.assert_trees_all_equal_dtypes(decoder(params, carry, xs[0].astype(jnp.bfloat16))[0], carry)


INNER = {
    "Noisy": Noisy(H),
    "Learned": Learned(H),
    "Stack": rnncells.Stack([Noisy(H), GRU(H)]),
    "VariationalDropout": rnncells.VariationalDropout(CELL, 0.4),
}


@combinations(INNER, ("bahdanau", "Stack"), ("luong", "Learned"))
def test_noise_learned_carries_and_stacks_inside(order, name):
    cell = INNER[name]
    decoder, params, xs, carry = decoder_setup(
        AttentionDecoder(cell, ATTENTIONS["additive"], order=order), None, jnp.float32
    )
    key = jax.random.key(3)
    weights, carry, by_hand = decoder.prepare(params, key, (B,)), decoder.initial_carry(params, (B,)), []
    chex.assert_trees_all_equal(carry.cell, cell.initial_carry(params["cell"], (B,)))
    for t, x in enumerate(xs):
        carry, y = decoder.tick(weights, carry, x, jax.random.fold_in(key, t))
        by_hand.append(y)
    for given in (key, jax.random.key_data(key)):
        expected = jnp.stack(by_hand)
        chex.assert_trees_all_close(unroll(decoder, params, xs, key=given)[1], expected, atol=1e-5)
    quiet = unroll(decoder, params, xs)[1]
    assert np.allclose(quiet, expected, atol=1e-5) == (name == "Learned")


@exact
@over_orders
def test_sequences_split_and_are_causal(order):
    decoder, params, xs, carry = decoder_setup(AttentionDecoder(CELL, ATTENTIONS["additive"], order=order))
    last, ys = unroll(decoder, params, xs, carry)
    middle, first = unroll(decoder, params, xs[:2], carry)
    end, second = unroll(decoder, params, xs[2:], middle)
    close((end, jnp.concatenate([first, second])), (last, ys))
    close(numpy_decode(decoder, params, xs, carry)[1], ys)
    np.testing.assert_array_equal(ys[:3], unroll(decoder, params, xs.at[3].add(1.0), carry)[1][:3])


class Translator(flax.linen.Module):
    """An encoder and a decoder inside somebody's own linen model."""

    decoder: AttentionDecoder

    @flax.linen.compact
    def __call__(self, sources, lengths, targets):
        memory = rnncells.linen.RNN(GRU(M), time_major=True)(sources, seq_lengths=lengths)
        return rnncells.linen.RNN(self.decoder.attend(memory, lengths), time_major=True)(targets)


class NNXTranslator(nnx.Module):
    """The same in nnx: the memory is set in the layer, call by call."""

    def __init__(self, decoder, rngs):
        self.encoder = rnncells.nnx.RNN(GRU(M), I, time_major=True, rngs=rngs)
        attended = decoder.attend(jnp.zeros((1, M)))
        self.decoder = rnncells.nnx.RNN(attended, I, time_major=True, rngs=rngs)

    def __call__(self, sources, lengths, targets):
        memory = self.encoder(sources, seq_lengths=lengths)
        self.decoder.cell = self.decoder.cell.attend(memory, lengths)
        return self.decoder(targets)


@combinations(("additive", "dot"), ("bahdanau", "dot"))
def test_inside_flax_models(order, name):
    sources, targets = random_like((jnp.zeros((S, B, I)), jnp.zeros((T, B, I))))
    lengths = jnp.asarray(LENGTHS)
    decoder = AttentionDecoder(CELL, ATTENTIONS[name], order=order)
    model = Translator(decoder)
    params = randomised(model.init(KEY, sources, lengths, targets)["params"])
    names = {"RNN_0": "encoder", "RNN_1": "decoder"}

    def bare(params):
        memory = unroll(GRU(M), params["RNN_0"]["cell"], sources, lengths=lengths)[1]
        return unroll(decoder.attend(memory, lengths), params["RNN_1"]["cell"], targets)[1]

    def through_linen(params):
        return model.apply({"params": params}, sources, lengths, targets)

    def score(run):
        return lambda params: jnp.sum(jnp.sin(run(params)))

    near = functools.partial(chex.assert_trees_all_close, atol=1e-5, rtol=1e-5)
    near(through_linen(params), bare(params))
    expected = jax.grad(score(bare))(params)
    near(jax.jit(jax.grad(score(through_linen)))(params), expected)

    module = NNXTranslator(decoder, nnx.Rngs(0))
    nnx.update(module, nnx.State({names[n]: {"params": tree["cell"]} for n, tree in params.items()}))
    near(nnx.jit(lambda module: module(sources, lengths, targets))(module), bare(params))
    slopes = nnx.jit(nnx.grad(lambda module: jnp.sum(jnp.sin(module(sources, lengths, targets)))))(module)
    graph, trained, rest = nnx.split(module, nnx.Param, ...)
    plain = jax.jit(
        jax.grad(lambda s: jnp.sum(jnp.sin(nnx.merge(graph, s, rest)(sources, lengths, targets))))
    )
    for got in (slopes, plain(trained)):
        got = nnx.to_pure_dict(nnx.state(got) if isinstance(got, nnx.Module) else got)
        for theirs, own in names.items():
            near(jax.tree.leaves(got[own]), jax.tree.leaves(expected[theirs]))


@pytest.mark.parity
@pytest.mark.parametrize("lengths", [None, [3, S, 1]])
def test_equals_keras(monkeypatch, lengths):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    _, query, memory = setup(MultiplicativeAttention(), dtype=jnp.float32)
    scale = np.linspace(-1.0, 1.5, M, dtype=np.float32)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        keras = pytest.importorskip("keras")
        inside = np.arange(S)[None] < np.asarray([S] * B if lengths is None else lengths)[:, None]
        given = [query[:, None], jnp.moveaxis(memory, 1, 0)]
        additive = keras.layers.AdditiveAttention()
        additive.build([x.shape for x in given])
        additive.set_weights([scale])
        options = {"mask": [None, jnp.asarray(inside)], "return_attention_scores": True}
        expected = [layer(given, **options) for layer in (additive, keras.layers.Attention())]
    identity = {"query_kernel": jnp.eye(M), "memory_kernel": jnp.eye(M), "score_kernel": jnp.asarray(scale)}
    ours = AdditiveAttention(M)(identity, query, memory, lengths=lengths)
    for (context, weights), (theirs, scores) in zip(
        (ours, MultiplicativeAttention()({}, query, memory, lengths=lengths)), expected, strict=True
    ):
        np.testing.assert_allclose(context, theirs[:, 0], atol=1e-5)
        np.testing.assert_allclose(weights.T, scores[:, 0], atol=1e-5)


class Grid(Pairs):
    """A cell whose inputs are images."""

    input_ndim = 3


DECODER = AttentionDecoder(CELL, ATTENTIONS["additive"])
MEMORY, QUERY, XS = jnp.ones((S, B, M)), jnp.ones((B, H)), jnp.ones((T, B, I))
ADDITIVE = ATTENTIONS["additive"].init(KEY, H, M)
PARAMS = DECODER.attend(MEMORY).init(KEY, I)
MISSING = (
    r"memory: expected \[S, \*batch, M\], got None in AttentionDecoder\(cell=LSTM\(features=4.*"
    r"\.attend\(encoder_outputs\)"
)


def attend(name="additive", params=ADDITIVE, query=QUERY, memory=MEMORY, **options):
    return lambda: ATTENTIONS[name](params, query, memory, **options)


def decode(decoder=DECODER, memory=MEMORY, lengths=None, xs=XS):
    return lambda: unroll(decoder.attend(memory, lengths), PARAMS, xs)


BAD = {
    "features": (lambda: AdditiveAttention(0), ValueError, "AdditiveAttention.features: .* got 0"),
    "score": (
        lambda: MultiplicativeAttention("cosine"),
        ValueError,
        "'dot', 'general' or 'concat'.*'cosine'",
    ),
    "concat": (
        lambda: MultiplicativeAttention("concat"),
        ValueError,
        "MultiplicativeAttention.features: expected the width .* with score='concat', got None",
    ),
    "dot with features": (
        lambda: MultiplicativeAttention("dot", 3),
        ValueError,
        "features: expected None with score='dot', got 3",
    ),
    "dot of two widths": (
        lambda: ATTENTIONS["dot"].init(KEY, 4, 3),
        ValueError,
        "memory_size: expected the 4 of queries with score='dot', got 3; score='general'",
    ),
    "memory_size": (lambda: ATTENTIONS["general"].init(KEY, 4, 0), ValueError, "memory_size: .* got 0"),
    "query_size": (lambda: ATTENTIONS["general"].init(KEY, 4.0, 1), TypeError, "query_size: .* got 4.0"),
    "key": (lambda: ATTENTIONS["general"].init(3, 4, 1), TypeError, "key: expected one key"),
    "dtype": (lambda: AttentionPooling(3).init(KEY, 4, int), TypeError, "dtype: expected a real floating"),
    "width of memory": (attend(memory=MEMORY[..., :3]), ValueError, "memory: expected a last axis of 4"),
    "width of query": (attend(query=QUERY[:, :3]), ValueError, "query: expected a last axis of 4"),
    "width of dot": (attend("dot", {}, QUERY[:, :3]), ValueError, "query: expected a last axis of 4"),
    "batch of query": (
        attend(query=QUERY[:2]),
        ValueError,
        r"query: expected axes \[3\] before the last, those of memory, got float32\[2,4\]",
    ),
    "keys": (
        attend(keys=MEMORY[:2]),
        ValueError,
        r"keys: expected axes \[5, 3\] before the last, those of memory, got float32\[2,3,4\]",
    ),
    "integer memory": (
        attend(memory=MEMORY.astype(int)),
        TypeError,
        "memory: expected floating point .*int32",
    ),
    "flat memory": (attend(memory=jnp.ones(S)), TypeError, r"memory: expected .*float32\[5\]"),
    "lengths too long": (attend(lengths=[1, 2, 6]), ValueError, r"lengths: expected values from 0 to 5, got"),
    "lengths of others": (attend(lengths=[1, 2]), ValueError, r"lengths: expected shape \[3\]"),
    "float lengths": (attend(lengths=np.ones(B)), TypeError, "lengths: expected integers"),
    "pooled width": (
        lambda: AttentionPooling(3)(AttentionPooling(3).init(KEY, 3), MEMORY),
        ValueError,
        "hs: expected a last axis of 3",
    ),
    "order": (lambda: dataclasses.replace(DECODER, order="both"), ValueError, "'bahdanau' or 'luong', got"),
    "init without memory": (lambda: DECODER.init(KEY, I), ValueError, MISSING),
    "carry without memory": (lambda: DECODER.initial_carry(PARAMS, (B,)), ValueError, MISSING),
    "prepare without memory": (lambda: DECODER.prepare(PARAMS), ValueError, MISSING),
    "unroll without memory": (lambda: unroll(DECODER, PARAMS, XS), ValueError, MISSING),
    "memory of another batch": (
        decode(memory=MEMORY[:, :2]),
        ValueError,
        r"memory: expected batch axes \[3\], those of the inputs, got float32\[5,2,4\]",
    ),
    "memory for a batch of none": (decode(xs=XS[:, 0]), ValueError, r"query: expected axes \[3\] before"),
    "memory of another width": (
        decode(memory=MEMORY[..., :2]),
        ValueError,
        r"params: for xs with 3 features AttentionDecoder\(.*memory=float32\[5,3,2\]",
    ),
    "prepared for another width": (
        lambda: DECODER.attend(MEMORY[..., :2]).prepare(PARAMS),
        ValueError,
        "memory: expected a last axis of 4",
    ),
    "lengths of the decoder": (decode(lengths=np.array([6, 1, 1])), ValueError, "lengths: .* 0 to 5"),
    "lengths set by hand": (
        lambda: unroll(dataclasses.replace(DECODER, memory=MEMORY, lengths=np.array([6, 1, 1])), PARAMS, XS),
        ValueError,
        "lengths: .* 0 to 5",
    ),
    "class as cell": (
        lambda: AttentionDecoder(LSTM, ATTENTIONS["dot"]),
        TypeError,
        "cell: .*make an instance",
    ),
    "cell of pytrees": (
        decode(AttentionDecoder(Grid(H), ATTENTIONS["dot"])),
        ValueError,
        "cell: expected a cell with vector inputs, got Grid",
    ),
    "no attention": (decode(AttentionDecoder(CELL, CELL)), TypeError, "attention: expected an Attention"),
    "integer xs": (decode(xs=XS.astype(int)), TypeError, "x: expected floating point inputs, got int32"),
}


@pytest.mark.parametrize(("call", "kind", "words"), BAD.values(), ids=BAD.keys())
def test_bad_input(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
