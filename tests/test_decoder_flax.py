"""An encoder and the decoder that attends to it, inside somebody's own Flax models."""

import functools

import chex
import flax.linen
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import rnncells
from rnncells import GRU, LSTM, AttentionDecoder, unroll
from tests.cases import (
    ATTENTIONS,
    FEATURES,
    INPUT,
    LENGTHS,
    B,
    M,
    S,
    T,
    combinations,
    random_like,
    randomised,
)

I, H = INPUT, FEATURES  # noqa: E741


class Translator(flax.linen.Module):
    """In linen: one layer after the other."""

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


@pytest.mark.laws
@combinations(("additive", "dot"), ("bahdanau", "dot"))
def test_inside_flax_models(order, name):
    sources, targets = random_like((jnp.zeros((S, B, I)), jnp.zeros((T, B, I))))
    lengths = jnp.asarray(LENGTHS)
    decoder = AttentionDecoder(LSTM(H), ATTENTIONS[name], order=order)
    model = Translator(decoder)
    params = randomised(model.init(jax.random.key(0), sources, lengths, targets)["params"])
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
    nnx.update(module, nnx.State({names[n]: {"cell_params": tree["cell"]} for n, tree in params.items()}))
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
