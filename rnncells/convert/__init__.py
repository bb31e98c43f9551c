"""Weights in and out of other libraries: arrays in, arrays out.

`from_*` reads the weights of one recurrent layer and gives the cell here that computes the same, with
its parameters; `to_*` goes back. Nothing is guessed or dropped: an entry that is missing, left over or
of another shape is an error that names it, and so is a cell that the library does not have. Nothing is
imported but Flax, which is always there; safetensors when a file of it is read.

Converters for JAX libraries keep JAX arrays, traced ones too, so that gradients pass through them;
other arrays become NumPy copies. dtypes are kept, float64 and bfloat16 included.
"""

from rnncells.convert.flax import from_linen, from_nnx, to_linen, to_nnx
from rnncells.convert.haiku import from_haiku, to_haiku
from rnncells.convert.keras import from_keras, to_keras
from rnncells.convert.torch import from_torch, to_torch

__all__ = [
    "from_haiku",
    "from_keras",
    "from_linen",
    "from_nnx",
    "from_torch",
    "to_haiku",
    "to_keras",
    "to_linen",
    "to_nnx",
    "to_torch",
]
