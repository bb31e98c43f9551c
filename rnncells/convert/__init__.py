"""Weights in and out of other libraries: arrays in, arrays out.

`from_*` reads the weights of one recurrent layer and gives the cell here that computes the same, with
its parameters; `to_*` goes back. `from_*_model` does so for every recurrent layer in a model and leaves
the rest as it is; `to_*_model` goes back. Nothing is guessed or dropped: an entry that is missing, left
over or of another shape is an error that names it, and so is a cell that the library does not have.
Nothing is imported but Flax, which is always there; safetensors when a file of it is read.

Converters for JAX libraries keep JAX arrays, traced ones too, so that gradients pass through them;
other arrays become NumPy copies. dtypes are kept, float64 and bfloat16 included.

torch.py, keras.py, linen.py, nnx.py, haiku.py    one layer of a library
state_dict.py                                     PyTorch's names, and files of them
models/                                           whole models
gates.py                                          signs and biases of gates
arrays.py                                         arrays of any library, complaints
"""

from rnncells.convert.gates import negate_gate
from rnncells.convert.haiku import from_haiku, to_haiku
from rnncells.convert.keras import from_keras, to_keras
from rnncells.convert.linen import from_linen, to_linen
from rnncells.convert.models import (
    from_keras_model,
    from_linen_model,
    from_nnx_model,
    from_torch_model,
    to_keras_model,
    to_linen_model,
    to_nnx_model,
    to_torch_model,
)
from rnncells.convert.nnx import from_nnx, to_nnx
from rnncells.convert.torch import from_torch, to_torch

__all__ = [
    "from_haiku",
    "from_keras",
    "from_keras_model",
    "from_linen",
    "from_linen_model",
    "from_nnx",
    "from_nnx_model",
    "from_torch",
    "from_torch_model",
    "negate_gate",
    "to_haiku",
    "to_keras",
    "to_keras_model",
    "to_linen",
    "to_linen_model",
    "to_nnx",
    "to_nnx_model",
    "to_torch",
    "to_torch_model",
]
