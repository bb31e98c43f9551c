"""Scores and pooling, against literal NumPy and Keras."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rnncells import AdditiveAttention, AttentionPooling, MultiplicativeAttention
from tests.cases import (
    ATTENTIONS,
    FEATURES,
    LENGTHS,
    B,
    M,
    S,
    close,
    exact,
    random_like,
    randomised,
    to_numpy,
)
from tests.references.attention import numpy_attend, numpy_attend_all

H, F = FEATURES, 2
KEY = jax.random.key(0)
over_attentions = pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)
over_two_attentions = pytest.mark.parametrize(
    "attention",
    [
        pytest.param(each, id=name, marks=() if name in ("dot", "additive") else pytest.mark.laws)
        for name, each in ATTENTIONS.items()
    ],
)


def attention_setup(attention, batch=(B,), memory_size=M, dtype=jnp.float64):
    query_size = memory_size if attention == MultiplicativeAttention() else H + 1
    params = randomised(attention.init(KEY, query_size, memory_size, dtype))
    query, memory = random_like(
        (jnp.zeros((*batch, query_size), dtype), jnp.zeros((S, *batch, memory_size), dtype)), 5
    )
    return params, query, memory


@exact
@over_attentions
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_equals_the_equations(attention, lengths):
    params, query, memory = attention_setup(attention)
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
    params, query, memory = attention_setup(attention, (2, 3))
    context, weights = attention(params, query, memory)
    for b in np.ndindex(2, 3):
        alone = attention(params, query[b], memory[:, *b])
        close((context[b], weights[:, *b]), alone)
        close(alone, numpy_attend(attention, params, query[b], memory[:, *b]))
    over = jax.vmap(jax.vmap(functools.partial(attention, params), (0, 1), (0, 1)), (0, 1), (0, 1))
    close(over(query, memory), (context, weights))


@exact
@over_two_attentions
def test_what_lies_past_the_length_is_never_read(attention):
    params, query, memory = attention_setup(attention)
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
    params, query, memory = attention_setup(attention, dtype=jnp.bfloat16)
    context, weights = attention(params, query, memory)
    assert (context.dtype, weights.dtype) == (jnp.bfloat16, jnp.bfloat16)
    scores = attention.scores(params, query, attention.prepare(params, memory)).astype(jnp.float32)
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
    expected, leaves = np.zeros((B, H)), to_numpy(params)
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


@pytest.mark.parity
@pytest.mark.parametrize("lengths", [None, [3, S, 1]])
def test_equals_keras(monkeypatch, lengths):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    _, query, memory = attention_setup(MultiplicativeAttention(), dtype=jnp.float32)
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


MEMORY, QUERY = jnp.ones((S, B, M)), jnp.ones((B, H))
ADDITIVE = ATTENTIONS["additive"].init(KEY, H, M)


def attend(name="additive", params=ADDITIVE, query=QUERY, memory=MEMORY, **options):
    return lambda: ATTENTIONS[name](params, query, memory, **options)


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
}


@pytest.mark.parametrize(("call", "kind", "words"), BAD.values(), ids=BAD.keys())
def test_bad_input(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
