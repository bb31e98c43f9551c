"""The decoder that attends, against literal NumPy and loops over single sequences."""

import dataclasses
import functools
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rnncells import GRU, LSTM, AttentionCarry, AttentionDecoder, MultiplicativeAttention, unroll
from rnncells.initializers import Normal, Zeros
from tests import references
from tests.cases import (
    ATTENTIONS,
    FEATURES,
    INPUT,
    LENGTHS,
    B,
    M,
    S,
    T,
    assert_own_draws,
    close,
    combinations,
    exact,
    random_carry,
    random_like,
    random_params,
    to_numpy,
)
from tests.references.attention import numpy_attend_all
from tests.references.loops import loops
from tests.traits import TRAITS

I, H = INPUT, FEATURES  # noqa: E741
KEY = jax.random.key(0)
CELL = LSTM(H)
over_orders = pytest.mark.parametrize("order", ["bahdanau", pytest.param("luong", marks=pytest.mark.laws)])


def decoder_setup(decoder, lengths=None, dtype=jnp.float64, memory_size=M):
    """The decoder with a memory, its params, random xs and a random carry."""
    memory = random_like(jnp.zeros((S, B, memory_size), dtype), 5)
    decoder = decoder.attend(memory, lengths)
    params = random_params(decoder, dtype=dtype)
    xs = random_like(jnp.zeros((T, B, I), dtype), 6)
    return decoder, params, xs, random_carry(decoder, params, xs)


def numpy_decode(decoder, params, xs, carry):
    """The decoder as loops; the ticks of its cell come from tests/references."""
    step = references.REFERENCES[type(decoder.cell).__name__]
    params, xs, carry = to_numpy((params, xs, carry))
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
@pytest.mark.laws
@pytest.mark.parametrize(
    ("order", "name"), [(("bahdanau", "luong")[i % 2], name) for i, name in enumerate(TRAITS)]
)
def test_decoder_around_a_cell_of_every_trait(order, name):
    """The cell inside, tick by tick with what the decoder shows it."""
    cell = TRAITS[name]
    tick = jax.jit(lambda *args: cell(*args))
    attention = ATTENTIONS["additive"]
    decoder, params, xs, carry = decoder_setup(AttentionDecoder(cell, attention, order=order), LENGTHS)
    last, ys = unroll(decoder, params, xs, carry)
    state, feedback, _ = carry
    for x, y in zip(xs, ys, strict=True):
        if order == "bahdanau":
            context, _ = numpy_attend_all(attention, params["attention"], feedback, decoder.memory, LENGTHS)
            state, feedback = tick(params["cell"], state, jnp.concatenate([x, context], -1))
            close(y, jnp.concatenate([feedback, context], -1))
        else:
            state, out = tick(params["cell"], state, jnp.concatenate([x, feedback], -1))
            context, _ = numpy_attend_all(attention, params["attention"], out, decoder.memory, LENGTHS)
            feedback = jnp.tanh(jnp.concatenate([context, out], -1) @ params["combine_kernel"])
            close(y, feedback)
    close((last.cell, last.feedback), (state, feedback))
    half = decoder_setup(AttentionDecoder(cell, attention, order=order), LENGTHS, jnp.bfloat16)
    last, ys = unroll(*half)
    assert ys.dtype == jnp.bfloat16
    chex.assert_trees_all_equal_dtypes(last, half[-1])


@exact
@combinations(("forward", "backward"))
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
            each.append(loops(one, params, xs[:, b : b + 1], state, reverse=reverse, **own))
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
@combinations(("additive", "general"))
def test_second_derivatives(order, name):
    decoder, params, xs, _ = decoder_setup(AttentionDecoder(CELL, ATTENTIONS[name], order=order), LENGTHS)

    def outputs(params, memory):
        return jnp.sum(jnp.sin(unroll(decoder.attend(memory, LENGTHS), params, xs[:3])[1]))

    check_grads(outputs, (params, decoder.memory), order=2, modes=("fwd", "rev"), rtol=1e-4, atol=1e-4)


@pytest.mark.laws
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


@pytest.mark.parametrize("order", ["bahdanau", "luong"])
def test_what_a_decoder_starts_from(order):
    """Nothing has been seen, no two parameters are one draw, and W_c is drawn as asked."""
    cell = GRU(8, kernel_init=Normal(), recurrent_init=Normal())
    decoder = AttentionDecoder(
        cell, MultiplicativeAttention("general", kernel_init=Normal()), order=order, kernel_init=Normal()
    ).attend(jnp.ones((S, B, 8)))
    params = decoder.init(KEY, 8)
    assert_own_draws(params)
    assert not any(map(np.any, jax.tree.leaves(decoder.initial_carry(params, (B,)))))
    if order == "luong":
        zeros = dataclasses.replace(decoder, kernel_init=Zeros()).init(KEY, 8)["combine_kernel"]
        np.testing.assert_array_equal(zeros, np.zeros((16, 8)))


@exact
@pytest.mark.laws
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
