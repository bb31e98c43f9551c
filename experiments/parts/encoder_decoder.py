"""From one sequence of tokens to another: an encoder, and a decoder that attends to what it has read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import rnncells
from experiments.harness.encoding import PADDING
from experiments.harness.model import last_read
from experiments.harness.supervised import Finite
from rnncells.tasks import Batch
from rnncells.tasks.base import Mean, mean_of

START = PADDING
"""What the decoder sees before its first symbol."""


class Taught(NamedTuple):
    """What a model says to each symbol of the right answer, given those before it."""

    logits: jax.Array
    """[T, B, V]."""
    learned: jax.Array
    """bool [B]: the sequences that count in training, as the curriculum has it."""


class Answers(NamedTuple):
    """What a model says by itself: the K most probable answers that a beam has found, best first."""

    tokens: jax.Array
    """int32 [T, B, K]; padding after the symbol that ends one."""
    scores: jax.Array
    """[B, K]: logarithms of their probabilities."""
    attention: jax.Array
    """[T, B, K, S]: where the decoder looked."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Answering(Finite):
    """Which string answers another one; outputs are `Taught`.

    The loss is the mean cross-entropy of symbols. Metrics: exact (answers that are right from beginning to
    end: said symbol by symbol, each after the right ones, an answer is right just where it is said right by
    itself, greedily), accuracy of symbols, and loss.
    """

    score: str = "exact"
    higher_is_better: bool = True
    sources: tuple[int, ...] = (1, 1)
    """Symbols of the shortest and the longest source."""

    def loss(self, outputs: Any, batch: Batch) -> jax.Array:
        return mean_of(self._losses(outputs, batch), batch.mask & outputs.learned).value

    def metrics(self, outputs: Any, batch: Batch) -> dict[str, Mean]:
        right = (jnp.argmax(outputs.logits, -1) == batch.targets) | ~batch.mask
        each = jnp.all(right, 0).astype(jnp.float32)
        return {
            "exact": mean_of(each, jnp.any(batch.mask, 0)),
            "accuracy": mean_of(right.astype(jnp.float32), batch.mask),
            "loss": mean_of(self._losses(outputs, batch), batch.mask),
        }

    def _losses(self, outputs: Any, batch: Batch) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(outputs.logits, batch.targets)


class Inside(NamedTuple):
    """A decoder with all that it needs, as pure functions use it."""

    cell: rnncells.AttentionDecoder
    memory: jax.Array
    """[S, B, M]: what the encoder has made of the source."""
    lengths: jax.Array
    """[B]: of the source."""
    params: Any
    start: Any
    """The state before the first symbol."""
    vectors: jax.Array
    """[V, E]: of each token."""
    kernel: jax.Array
    bias: jax.Array

    def logits(self, outputs: jax.Array) -> jax.Array:
        """Padding is never said."""
        return (outputs @ self.kernel + self.bias).at[..., PADDING].set(-1e9)


class EncoderDecoder(nn.Module):
    """Of tokens, 0 being padding: {"source": [S, B], "target": [T, B]} -> `Taught`, {"source": [S, B]} ->
    `Answers`.

    The encoder is the cell, the decoder the same kind of cell, in one direction, with Luong's attention. The
    decoder's first attentional vector is made of the last states of the encoder.

    Attributes:
        cell: one layer or a Stack of them, which may read both ways.
        output_size: V, of source and target alike.
        remat_every: as `rnncells.unroll` has it.
        embedding: width of the vector of each token.
        longest: T of answers.
        end: the token that ends one.
        lengths_from, lengths_to: of the sources that are learned first, and of the longest.
        curriculum: the part of the training after which sources of all lengths are learned; the limit grows
            evenly until then.
        sampled: scheduled sampling: the share of symbols, growing evenly to this one at the end of the
            training, that the decoder sees as it has said them itself, not as they should be.
        beam: K.

    Source: Luong, Pham & Manning 2015, arXiv 1508.04025; scheduled sampling Bengio et al. 2015, arXiv
    1506.03099.
    """

    time_major: ClassVar[bool] = True

    cell: rnncells.Cell
    output_size: int
    remat_every: int | None = None
    embedding: int = 32
    longest: int = 1
    end: int = 2
    lengths_from: int = 0
    lengths_to: int = 0
    curriculum: float = 0.0
    sampled: float = 0.0
    beam: int = 1

    @nn.compact
    def __call__(
        self,
        inputs: dict[str, jax.Array],
        *,
        lengths: jax.Array,
        deterministic: bool = False,
        progress: jax.Array | float = 1.0,
    ) -> Taught | Answers:
        embed = nn.Embed(self.output_size, self.embedding)
        encoder = rnncells.linen.RNN(self.cell, time_major=True, remat_every=self.remat_every)
        memory = encoder(embed(inputs["source"]), seq_lengths=lengths, deterministic=deterministic)
        own = forwards(self.cell)
        attention = rnncells.MultiplicativeAttention(score="general")
        decoder = rnncells.AttentionDecoder(own, attention, memory, lengths, "luong")
        summary = nn.Dense(own.output_size)(last_read(self.cell, memory, lengths))
        params = self.param("decoder", lambda key: decoder.init(key, self.embedding))
        start = decoder.initial_carry(params, memory.shape[1:-1])._replace(feedback=jnp.tanh(summary))
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), (own.output_size, self.output_size))
        bias = self.param("bias", nn.initializers.zeros, (self.output_size,))
        inside = Inside(decoder, memory, lengths, params, start, embed.embedding, kernel, bias)
        if "target" not in inputs:
            return search(inside, self.longest, self.beam, self.end)
        seen = jnp.concatenate([jnp.full_like(inputs["target"][:1], START), inputs["target"][:-1]])
        if deterministic:
            return Taught(teacher_forced(inside, seen), jnp.ones(lengths.shape, bool))
        key, choice = jax.random.split(self.make_rng("dropout"))
        reach = self.lengths_to - self.lengths_from
        limit = self.lengths_from + reach * progress / max(self.curriculum, 1e-9)
        learned = (lengths <= limit) | (progress >= self.curriculum)
        noise = key if own.noisy else None
        if not self.sampled:
            return Taught(teacher_forced(inside, seen, noise), learned)
        by_itself = jax.random.bernoulli(choice, self.sampled * progress, seen.shape)
        return Taught(partly_forced(inside, seen, by_itself.at[0].set(False), noise), learned)


def forwards(cell: rnncells.Cell) -> rnncells.Cell:
    """The same layers in one direction."""
    if isinstance(cell, rnncells.Bidirectional):
        return cell.forward
    if isinstance(cell, rnncells.Stack):
        return rnncells.Stack(tuple(forwards(each) for each in cell.cells))
    return cell


def teacher_forced(inside: Inside, seen: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
    """Logits [T, B, V] after symbols [T, B]."""
    xs = inside.vectors[seen]
    _, outputs = rnncells.unroll(inside.cell, inside.params, xs, inside.start, key=key)
    return inside.logits(outputs)


def partly_forced(
    inside: Inside, seen: jax.Array, by_itself: jax.Array, key: chex.PRNGKey | None = None
) -> jax.Array:
    """Logits [T, B, V], where some symbols, bool [T, B], are those that the decoder held most probable."""
    tick = ticking(inside, seen.shape[1:], key)

    def body(state: tuple[Any, jax.Array], now: tuple[Any, ...]) -> tuple[tuple[Any, jax.Array], jax.Array]:
        carry, said = state
        t, right, own = now
        carry, logits = tick(carry, jnp.where(own, said, right), t)
        return (carry, jnp.argmax(logits, -1).astype(seen.dtype)), logits

    times = jnp.arange(seen.shape[0])
    return jax.lax.scan(body, (inside.start, seen[0]), (times, seen, by_itself))[1]


def search(inside: Inside, length: int, beam: int, end: int) -> Answers:
    """Beam search: the answers of at most `length` symbols that are most probable among the `beam` best
    beginnings of every length. A beam of 1 is greedy."""
    memory = inside.memory
    batch = memory.shape[1]

    def for_each(leaf: jax.Array, axis: int = 0) -> jax.Array:
        return jnp.repeat(jnp.expand_dims(leaf, axis + 1), beam, axis + 1)

    wide = inside._replace(cell=inside.cell.attend(for_each(memory, 1), for_each(inside.lengths)))
    tick = ticking(wide, (batch, beam))
    size = inside.bias.shape[0]
    only_padding = jnp.where(jnp.arange(size) == PADDING, 0.0, -jnp.inf)

    def body(state: tuple[Any, ...], t: jax.Array) -> tuple[tuple[Any, ...], None]:
        carry, last, scores, over, tokens, attention = state
        carry, logits = tick(carry, last, t)
        each = jnp.where(over[..., None], only_padding, jax.nn.log_softmax(logits))
        scores, chosen = jax.lax.top_k((scores[..., None] + each).reshape(batch, -1), beam)
        parent, last = chosen // size, (chosen % size).astype(last.dtype)

        def followed(leaf: jax.Array) -> jax.Array:
            return jax.vmap(lambda own, parents: own[parents])(leaf, parent)

        carry, over, tokens, attention = jax.tree.map(followed, (carry, over, tokens, attention))
        tokens = tokens.at[:, :, t].set(last)
        attention = attention.at[:, :, t].set(carry.weights * ~over[..., None])
        return (carry, last, scores, over | (last == end), tokens, attention), None

    first = jnp.where(jnp.arange(beam) == 0, 0.0, -jnp.inf)  # at the beginning all are the same one
    state = (
        jax.tree.map(for_each, inside.start),
        jnp.full((batch, beam), START, jnp.int32),
        jnp.broadcast_to(first, (batch, beam)).astype(memory.dtype),
        jnp.zeros((batch, beam), bool),
        jnp.full((batch, beam, length), PADDING, jnp.int32),
        jnp.zeros((batch, beam, length, memory.shape[0]), memory.dtype),
    )
    (_, _, scores, _, tokens, attention), _ = jax.lax.scan(body, state, jnp.arange(length))
    return Answers(jnp.moveaxis(tokens, 2, 0), scores, jnp.moveaxis(attention, 2, 0))


def ticking(
    inside: Inside, batch: tuple[int, ...], key: chex.PRNGKey | None = None
) -> Callable[[Any, jax.Array, jax.Array], tuple[Any, jax.Array]]:
    """(state, tokens, tick) -> (state, logits), the noise that of `unroll`."""
    like = jax.ShapeDtypeStruct((*batch, inside.vectors.shape[1]), inside.vectors.dtype)
    weights = inside.cell.prepare(inside.params, key, batch, like=like)

    def tick(carry: Any, tokens: jax.Array, t: jax.Array) -> tuple[Any, jax.Array]:
        own = None if key is None else jax.random.fold_in(key, t)
        carry, outputs = inside.cell.tick(weights, carry, inside.vectors[tokens], own)
        return carry, inside.logits(outputs)

    return tick
