"""What is trained: layers of cells between an embedding and a readout, or any Flax module in their place."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

import rnncells
from rnncells.tasks import Batch

Pooling = Literal["every", "last", "mean", "attention"]

ModelFactory: TypeAlias = Callable[..., nn.Module]
"""Of (cell, output_size, remat_every=None): the module that is trained."""

OFFERED = ("carry", "lengths", "resets", "deterministic", "progress")
"""What a module may take beside its inputs, by these names."""


class Model(nn.Module):
    """Inputs [T, B, I], or tokens [T, B], through layers of a cell to a linear readout.

    Attributes:
        cell: one layer, or a Stack of them.
        output_size: O.
        remat_every: as `rnncells.unroll` has it.
        tokens: how many there are, where inputs are tokens.
        embedding: width of a learned vector for each token; None takes one-hot vectors.
        pooling: an output at every tick, [T, B, O]; or one for each sequence, [B, O], from its last state
            within its own length (in both directions: the last that each has read), from the mean of its
            states, or from their mean weighted by attention (`rnncells.AttentionPooling`).
    """

    time_major: ClassVar[bool] = True

    cell: rnncells.Cell
    output_size: int
    remat_every: int | None = None
    tokens: int | None = None
    embedding: int | None = None
    pooling: Pooling = "every"

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        carry: Any = None,
        *,
        lengths: jax.Array | None = None,
        resets: jax.Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Any, jax.Array]:
        if self.tokens is not None and self.embedding is not None:
            inputs = nn.Embed(self.tokens, self.embedding)(inputs)
        elif self.tokens is not None:
            inputs = jax.nn.one_hot(inputs, self.tokens)
        rnn = rnncells.linen.RNN(self.cell, time_major=True, return_carry=True, remat_every=self.remat_every)
        carry, states = rnn(
            inputs, initial_carry=carry, seq_lengths=lengths, resets=resets, deterministic=deterministic
        )
        return carry, nn.Dense(self.output_size)(self._pooled(states, lengths))

    def _pooled(self, states: jax.Array, lengths: jax.Array | None) -> jax.Array:
        if self.pooling == "last":
            return last_read(self.cell, states, lengths)
        if self.pooling == "mean":
            ticks = states.shape[0] if lengths is None else jnp.maximum(lengths, 1)[:, None]
            return jnp.sum(states, 0) / jnp.asarray(ticks, states.dtype)
        if self.pooling == "attention":
            attention = rnncells.AttentionPooling(states.shape[-1])
            params = self.param("attention", attention.init, states.shape[-1])
            return attention(params, states, lengths=lengths)
        return states


def last_read(cell: rnncells.Cell, states: jax.Array, lengths: jax.Array | None) -> jax.Array:
    """The last output [B, O] of each sequence; of a layer that reads both ways, that of each direction."""
    top = cell
    while isinstance(top, rnncells.Stack) and not top.skip:
        top = top.cells[-1]
    final = rnncells.last(states, lengths)
    if not isinstance(top, rnncells.Bidirectional) or top.merge != "concat":
        return final
    first = rnncells.last(states, lengths, reverse=True)
    size = top.forward.output_size
    return jnp.concatenate([final[..., :size], first[..., size:]], -1)


@dataclasses.dataclass(frozen=True, eq=False)
class Net:
    """A module as it is trained: of batches, time-major, with state.

    A module gets its inputs, and by name what of `OFFERED` its `__call__` takes: carry (the state of
    truncated sequences and of streams, None where they begin; it then returns (carry, outputs)), lengths [B],
    resets [T, B] (True where a stream begins), deterministic (True in evaluation), progress (updates done, as
    a fraction of all). It is batch-major unless it has an attribute `time_major` that is True.
    """

    module: nn.Module

    @functools.cached_property
    def takes(self) -> frozenset[str]:
        names = inspect.signature(type(self.module).__call__).parameters
        return frozenset(name for name in OFFERED if name in names)

    @property
    def _time_major(self) -> bool:
        return bool(getattr(self.module, "time_major", False))

    def init(self, key: chex.PRNGKey, batch: Batch) -> Any:
        """The parameters, for batches like this one."""
        given = self._given(batch, {"deterministic": True})
        variables = self.module.init(key, self._swapped(batch.inputs, 2), **given)
        others = sorted(set(variables) - {"params"})
        if others:
            raise ValueError(
                f"model: expected a module with parameters only, got {', '.join(others)} as well."
            )
        return variables

    def __call__(
        self,
        params: Any,
        batch: Batch,
        carry: Any = None,
        *,
        resets: jax.Array | None = None,
        progress: jax.Array | float = 1.0,
        key: chex.PRNGKey | None = None,
    ) -> tuple[Any, Any]:
        """The state after the last tick (None of a module without one), and the outputs. No key: no noise."""
        if resets is not None and not self._time_major:
            resets = resets.T
        state = {"carry": carry, "resets": resets, "deterministic": key is None, "progress": progress}
        given = self._given(batch, state)
        inputs = self._swapped(batch.inputs, 2)
        result = self.module.apply(params, inputs, rngs=None if key is None else {"dropout": key}, **given)
        after, outputs = result if "carry" in self.takes else (None, result)
        return after, self._swapped(outputs, 3)

    def _given(self, batch: Batch, offered: dict[str, Any]) -> dict[str, Any]:
        if batch.lengths is not None and "lengths" not in self.takes:
            raise ValueError("model: expected a module that takes `lengths`, which the data have.")
        offered = {**offered, "lengths": batch.lengths}
        return {name: value for name, value in offered.items() if name in self.takes}

    def _swapped(self, tree: Any, axes: int) -> Any:
        """Between the two layouts: leaves of at least so many axes."""
        if self._time_major:
            return tree
        return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1) if a.ndim >= axes else a, tree)


def make_cell(name: str, features: int, **optional: Any) -> rnncells.Cell:
    """A cell of the catalogue; optional fields are set where the cell has them."""
    kind = rnncells.CELLS[name]
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(features, **{field: value for field, value in optional.items() if field in known})  # type: ignore[call-arg]


def widths(features: int | Sequence[int], layers: int) -> tuple[int, ...]:
    """Of every layer: one width for all of them, or one each."""
    each = (features,) if isinstance(features, int) else tuple(features)
    if layers < 1:
        raise ValueError(f"layers: expected at least 1, got {layers}.")
    if not each or (len(each) > 1 and layers not in (1, len(each))):
        raise ValueError(f"features: expected one width, or one for each of {layers} layers, got {features}.")
    return each * layers if len(each) == 1 else each


def stacked(layers: Sequence[rnncells.Cell], bidirectional: bool = False) -> rnncells.Cell:
    """Layers as one cell, each reading both ways where that is wanted."""
    each = [rnncells.Bidirectional(cell) for cell in layers] if bidirectional else list(layers)
    return each[0] if len(each) == 1 else rnncells.Stack(tuple(each))
