"""A decoder that attends to a memory, as a cell."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.attention.masking import positions
from rnncells.attention.scores import Attention
from rnncells.cell import Carry, Cell, Like, Params, Shape, Weights
from rnncells.dtypes import dtype_of, promote
from rnncells.fields import choice, data, inner
from rnncells.initializers import Glorot, Initializer, scheme
from rnncells.parts.arithmetic import dense


class AttentionCarry(NamedTuple):
    """The state of an attention decoder."""

    cell: Carry
    """Of the cell inside."""
    feedback: jax.Array
    """[*B, O]: the last output of the cell (bahdanau) or attentional vector (luong)."""
    weights: jax.Array
    """[*B, S]: where the last tick looked. Nothing reads it; `unroll(..., return_carries=True)` keeps all."""


class AttentionDrive(NamedTuple):
    """The input as it is, since the cell inside also sees the state; and the key of the tick."""

    x: jax.Array
    key: chex.PRNGKey | None


class AttentionDecoder(Cell):
    """A cell that attends to a memory at every tick, in one of two orders.

        c, a = attend(s, m)                         order="bahdanau"
        s', carry' = cell([x; c], carry)
        y = [s'; c]

        s, carry' = cell([x; f], carry)             order="luong", with input feeding
        c, a = attend(s, m)
        f' = tanh([c; s] W_c),    y = f'

    s is the output of the cell. Both s and f start at zero; to continue from an encoder, replace
    `cell` and `feedback` of the initial carry. The memory travels with the decoder, as a leaf of its
    pytree, so that gradients reach what made it:

        _, memory = unroll(encoder, encoder_params, sources, lengths=lengths)
        carry, ys = unroll(decoder.attend(memory, lengths), params, targets)

    Shapes: x [..., I]; m [S, ..., M]; s, f [..., O], O the output size of the cell; c [..., M]; carry
    `AttentionCarry(cell, feedback, weights)`; y [..., O + M] (bahdanau) or [..., O] (luong). params: `cell`,
    for inputs of I + M (bahdanau) or I + O (luong); `attention`; combine_kernel W_c [M + O, O] (luong).

    Args:
        cell: any cell with vector inputs, noise included. Its ticks no longer run in parallel.
        attention: `AdditiveAttention`, `MultiplicativeAttention` or another `Attention`.
        memory, lengths: set by `attend`.
        order: "bahdanau" or "luong".
        kernel_init: of W_c; Glorot uniform.

    Source: Bahdanau, Cho & Bengio 2015, arXiv 1409.0473; Luong, Pham & Manning 2015, arXiv 1508.04025. Left
    to the caller: Bahdanau's s starts as a projection of the encoder's state, and his output layer also
    sees x.
    """

    paper = "Bahdanau, Cho & Bengio 2015, arXiv 1409.0473; Luong, Pham & Manning 2015, arXiv 1508.04025"

    cell: Cell = inner()
    attention: Attention = flax.struct.field()
    memory: chex.Array | None = data()
    lengths: chex.Array | None = data()
    order: str = choice("bahdanau", "luong", default="bahdanau")
    kernel_init: Initializer = scheme(Glorot())

    def attend(self, memory: chex.Array, lengths: chex.Array | None = None) -> AttentionDecoder:
        """This decoder with a memory [S, *B, M] and its lengths [*B], within [0, S]; all of S by default."""
        if isinstance(memory, (list, tuple)):
            memory = jnp.asarray(memory)
        if isinstance(lengths, (list, tuple)):
            lengths = np.asarray(lengths)
        decoder = dataclasses.replace(self, memory=memory, lengths=lengths)
        decoder._attended()
        return decoder

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        memory_size, size = self._attended().shape[-1], self.cell.output_size
        cell_key, attention_key, kernel_key = jax.random.split(key, 3)
        bahdanau = self.order == "bahdanau"
        params = {
            "cell": self.cell.init(cell_key, input_size + (memory_size if bahdanau else size), dtype),
            "attention": self.attention.init(attention_key, size, memory_size, dtype),
        }
        if not bahdanau:
            params["combine_kernel"] = self.kernel_init(kernel_key, (memory_size + size, size), dtype)
        return params

    def initial_carry(
        self, params: Params = None, batch_shape: Shape = (), like: Like = None
    ) -> AttentionCarry:
        memory = self._attended(batch_shape)
        params, dtype = promote(params, memory)[0], dtype_of(params, memory, like)
        inside = None if params is None else params["cell"]
        return AttentionCarry(
            self.cell.initial_carry(inside, batch_shape, like=self._like(like)),
            jnp.zeros((*batch_shape, self.cell.output_size), dtype),
            jnp.zeros((*batch_shape, memory.shape[0]), dtype),
        )

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        params, memory = promote(params, self._attended(batch_shape))
        return {
            **params,
            "cell": self.cell.prepare(params["cell"], key, batch_shape, like=self._like(like)),
            "memory": memory,
            "keys": self.attention.prepare(params["attention"], memory, lengths=self.lengths),
            "lengths": self.lengths,
        }

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> AttentionDrive:
        checks.features("x", x, x.shape[-1])  # of any width, since only the cell inside knows which
        return AttentionDrive(x, key)

    def step(
        self, weights: Weights, carry: AttentionCarry, drive: AttentionDrive
    ) -> tuple[AttentionCarry, jax.Array]:
        def tick(seen: jax.Array) -> tuple[Carry, jax.Array]:
            x = jnp.concatenate(promote(drive.x, seen), -1)
            return self.cell.tick(weights["cell"], carry.cell, x, drive.key)

        def attend(query: jax.Array) -> tuple[jax.Array, jax.Array]:
            given = {name: weights[name] for name in ("lengths", "keys")}
            return self.attention(weights["attention"], query, weights["memory"], **given)

        if self.order == "bahdanau":
            context, a = attend(carry.feedback)
            cell, feedback = tick(context)
            y = jnp.concatenate(promote(feedback, context), -1)
        else:
            cell, output = tick(carry.feedback)
            context, a = attend(output)
            y = feedback = jnp.tanh(
                dense(jnp.concatenate(promote(context, output), -1), weights["combine_kernel"])
            )
        return AttentionCarry(cell, feedback, jnp.moveaxis(a, 0, -1)), y

    @property
    def children(self) -> Mapping[str, Cell]:
        return {"cell": self.cell}

    def check_data(self) -> None:
        self._attended()
        super().check_data()

    def _like(self, like: Any) -> Any:
        """The input of the cell inside, as shape and dtype."""
        if like is None:
            return None
        more = self._attended().shape[-1] if self.order == "bahdanau" else self.cell.output_size
        return jax.ShapeDtypeStruct((*like.shape[:-1], like.shape[-1] + more), like.dtype)

    @property
    def output_size(self) -> int:
        size = self.cell.output_size
        return size + self._attended().shape[-1] if self.order == "bahdanau" else size

    def _attended(self, batch_shape: Shape = ()) -> jax.Array:
        """The memory, checked; any batch axes pass where none are asked for, as in `prepare(params)`."""
        if self.cell.input_ndim != 1:
            raise ValueError(f"AttentionDecoder.cell: expected a cell with vector inputs, got {self.cell}.")
        if not isinstance(self.attention, Attention):
            got = checks.describe(self.attention)
            raise TypeError(f"AttentionDecoder.attention: expected an Attention, got {got}.")
        if self.memory is None:
            raise ValueError(
                f"memory: expected [S, *batch, M], got None in {self}; give it with .attend(encoder_outputs)."
            )
        positions("memory", self.memory, self.lengths)
        if batch_shape and self.memory.shape[1:-1] != batch_shape:
            raise ValueError(
                f"memory: expected batch axes {list(batch_shape)}, those of the inputs, got"
                f" {checks.describe(self.memory)}."
            )
        return jnp.asarray(self.memory)
