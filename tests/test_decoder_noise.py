"""Cells inside a decoder that draw noise, learn where they start, or are stacks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnncells
from rnncells import GRU, AttentionDecoder, unroll
from tests.cases import ATTENTIONS, B, close, combinations
from tests.test_decoder import CELL, KEY, H, decoder_setup
from tests.traits import Learned, Noisy

INNER = {
    "Noisy": Noisy(H),
    "Learned": Learned(H),
    "Stack": rnncells.Stack([Noisy(H), GRU(H)]),
    "VariationalDropout": rnncells.VariationalDropout(CELL, 0.4),
}


@combinations(INNER, ("luong", "Learned"))
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


@pytest.mark.parametrize("order", ["bahdanau", "luong"])
def test_the_cell_inside_draws_its_own_noise(order):
    """Both what it prepares and what it draws at every tick, as the cell by itself does with that key."""
    cell, attention = Noisy(H), ATTENTIONS["additive"]
    decoder, params, xs, carry = decoder_setup(
        AttentionDecoder(cell, attention, order=order), None, jnp.float32
    )
    weights, (state, feedback, _), ys = cell.prepare(params["cell"], KEY, (B,)), carry, []
    for t, x in enumerate(xs):
        key = jax.random.fold_in(KEY, t)
        if order == "bahdanau":
            context, _ = attention(params["attention"], feedback, decoder.memory)
            state, feedback = cell.tick(weights, state, jnp.concatenate([x, context], -1), key)
            ys.append(jnp.concatenate([feedback, context], -1))
        else:
            state, out = cell.tick(weights, state, jnp.concatenate([x, feedback], -1), key)
            context, _ = attention(params["attention"], out, decoder.memory)
            feedback = jnp.tanh(jnp.concatenate([context, out], -1) @ params["combine_kernel"])
            ys.append(feedback)
    close(unroll(decoder, params, xs, carry, key=KEY)[1], jnp.stack(ys), atol=1e-5)
