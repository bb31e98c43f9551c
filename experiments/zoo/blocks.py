"""The layers in which linear state-space models are published."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax

import rnncells


class Blocks(nn.Module):
    """Inputs [T, B, I], or tokens [T, B], through blocks to a readout at every tick, [T, B, O].

        h = x W,    then for each layer    u = gelu(cell(norm(h))),    h' = h + (u V) s(u G)

    A time-invariant linear cell cannot multiply what it reads, so it is never used without such layers:
    S4 (Gu, Goel & Re 2022, arXiv 2111.00396), S5 (Smith, Warrington & Linderman 2023, arXiv 2208.04933) and
    LRU (Orvieto et al. 2023, arXiv 2303.06349) share these, apart from dropout.

    Attributes:
        cell: of one block, or a Stack with one for each.
        output_size: O.
        remat_every: as `rnncells.unroll` has it.
        tokens: how many there are, where inputs are tokens.
    """

    time_major: ClassVar[bool] = True

    cell: rnncells.Cell
    output_size: int
    remat_every: int | None = None
    tokens: int | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        x = inputs if self.tokens is None else jax.nn.one_hot(inputs, self.tokens)
        cells = self.cell.cells if isinstance(self.cell, rnncells.Stack) else (self.cell,)
        h = nn.Dense(cells[0].output_size)(x)
        for cell in cells:
            u = rnncells.linen.RNN(cell, time_major=True, remat_every=self.remat_every)(nn.LayerNorm()(h))
            u = jax.nn.gelu(u)
            h = h + nn.Dense(h.shape[-1])(u) * jax.nn.sigmoid(nn.Dense(h.shape[-1])(u))
        return nn.Dense(self.output_size)(nn.LayerNorm()(h))
