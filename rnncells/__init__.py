"""Recurrent cells as pure functions, for bare JAX, Flax linen and Flax nnx."""

from rnncells import initializers, linear_scan, linen, nnx, tasks
from rnncells.cell import Cell, number, static
from rnncells.cells import *  # noqa: F403
from rnncells.cells import __all__ as _cells
from rnncells.unroll import unroll

__version__ = "0.1.0"
__all__ = [
    "Cell",
    "initializers",
    "linear_scan",
    "linen",
    "nnx",
    "number",
    "static",
    "tasks",
    "unroll",
    *_cells,
]
