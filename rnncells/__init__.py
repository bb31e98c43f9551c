"""Recurrent cells as pure functions, for bare JAX, Flax linen and Flax nnx."""

from rnncells import convert, initializers, linear_scan, linen, nnx, tasks
from rnncells.attention import (
    AdditiveAttention,
    Attention,
    AttentionPooling,
    MultiplicativeAttention,
)
from rnncells.cell import Cell, data, number, static
from rnncells.cells import *  # noqa: F403
from rnncells.cells import __all__ as _cells
from rnncells.generate import generate
from rnncells.unroll import unroll
from rnncells.wrappers import *  # noqa: F403
from rnncells.wrappers import __all__ as _wrappers

__version__ = "0.1.0"
__all__ = [
    "AdditiveAttention",
    "Attention",
    "AttentionPooling",
    "Cell",
    "MultiplicativeAttention",
    "convert",
    "data",
    "generate",
    "initializers",
    "linear_scan",
    "linen",
    "nnx",
    "number",
    "static",
    "tasks",
    "unroll",
    *_cells,
    *_wrappers,
]
