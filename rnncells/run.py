"""A cell over a sequence, as one object: what `unroll` makes, `Cell.over` hands on, and the engine runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import chex
import jax

from rnncells.cell import Carry, Cell, Inputs, Outputs, Weights
from rnncells.fields import Pytree, data, static


class Ticks(NamedTuple):
    """A sequence as cells are given it: every leaf is [T, ...]; None is what a call does not use."""

    x: Inputs
    key: chex.PRNGKey | None = None
    alive: jax.Array | None = None
    """bool [T, *B]: False where the tick does not exist."""
    resets: jax.Array | None = None
    """bool [T, *B]: True where a segment begins, in the order of the input."""


class Run(Pytree):
    """A cell over a sequence, all that there is to know of it: frozen, handed on as one object."""

    weights: Weights = data(default=None)
    initial: Carry = data(default=None)
    """The state where a segment begins."""
    carry: Carry = data(default=None)
    """The state before the first tick."""
    ticks: Ticks = data(default=None)
    reverse: bool = static(default=False)
    parallel: bool | None = static(default=None)
    remat_every: int | None = static(default=None)
    truncate_every: int | None = static(default=None)
    return_carries: bool = static(default=False)

    @property
    def length(self) -> int:
        """T."""
        return jax.tree.leaves(self.ticks)[0].shape[0]


class Result(NamedTuple):
    """What comes of a run."""

    carry: Carry
    """After the last tick."""
    ys: Outputs
    carries: Any = None
    """After every tick, where asked for."""


Scan: TypeAlias = Callable[[Cell, Run], Result]
"""One cell over one sequence: see engine/loops.py."""
