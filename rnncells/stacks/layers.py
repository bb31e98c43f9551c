"""What layers are given: noise of their own, the same ticks, and time stamps where they take them."""

from __future__ import annotations

from typing import Any

import chex
import jax

from rnncells.cell import Cell, Timed
from rnncells.run import Ticks


def layer_key(key: chex.PRNGKey | None, layer: int) -> chex.PRNGKey | None:
    return None if key is None else jax.random.fold_in(key, layer)


def ticks_of_layer(ticks: Ticks, x: Any, layer: int) -> Ticks:
    """What a layer sees of a sequence: its own input, and noise of its own."""
    key = None if ticks.key is None else jax.vmap(layer_key, (0, None))(ticks.key, layer)
    return ticks._replace(x=x, key=key)


def input_of(cell: Cell, x: Any, below: Any) -> Any:
    """What comes from below, with the time of the stack's input where the layer takes it."""
    if not isinstance(x, Timed):
        return below
    values = below.x if isinstance(below, Timed) else below
    return Timed(values, x.elapsed) if cell.timed else values


def same_inputs(name: str, cells: Any) -> None:
    """Cells that take inputs with equally many axes."""
    given = [cell for cell in cells or () if isinstance(cell, Cell)] if isinstance(cells, tuple) else []
    if len({cell.input_ndim for cell in given}) > 1:
        raise ValueError(
            f"{name}: expected cells that take inputs with equally many axes, got"
            f" {', '.join(f'{cell} ({cell.input_ndim})' for cell in given)}."
        )
