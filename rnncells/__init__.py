"""Recurrent cells as pure functions, for bare JAX, Flax linen and Flax nnx."""

from rnncells import convert, initializers, linear_scan, linen, nnx, tasks
from rnncells.attention import *  # noqa: F403
from rnncells.attention import __all__ as _attention
from rnncells.cell import Cell, Timed
from rnncells.cells import *  # noqa: F403
from rnncells.cells import __all__ as _cells
from rnncells.fields import choice, data, inner, number, static
from rnncells.generate import generate
from rnncells.parts.activations import LeakyReLU, activation, modrelu
from rnncells.parts.arithmetic import constant, dense, split_gates
from rnncells.parts.gated import DenseCell, GatedCell, ProjectedCell
from rnncells.parts.linear import LinearCell, LinearDrive
from rnncells.sequences import last
from rnncells.stacks import *  # noqa: F403
from rnncells.stacks import __all__ as _stacks
from rnncells.unroll import unroll
from rnncells.wrappers import *  # noqa: F403
from rnncells.wrappers import __all__ as _wrappers

__version__ = "0.1.0"
__all__ = [
    "Cell",
    "DenseCell",
    "GatedCell",
    "LeakyReLU",
    "LinearCell",
    "LinearDrive",
    "ProjectedCell",
    "Timed",
    "activation",
    "choice",
    "constant",
    "convert",
    "data",
    "dense",
    "generate",
    "initializers",
    "inner",
    "last",
    "linear_scan",
    "linen",
    "modrelu",
    "nnx",
    "number",
    "split_gates",
    "static",
    "tasks",
    "unroll",
    *_attention,
    *_cells,
    *_stacks,
    *_wrappers,
]
