"""Whole models: every recurrent layer replaced by a cell and its parameters, the rest untouched.

`from_*_model` gives the cells by the names of their layers, and a nested dict of all arrays of the model,
in which each of these layers has the entries of one of `rnncells.linen` or `rnncells.nnx`.
`to_*_model` goes back.

tree.py                                  what the libraries share
torch.py, keras.py, linen.py, nnx.py     where the recurrent layers of a model are
"""

from rnncells.convert.models.keras import from_keras_model, to_keras_model
from rnncells.convert.models.linen import from_linen_model, to_linen_model
from rnncells.convert.models.nnx import from_nnx_model, to_nnx_model
from rnncells.convert.models.torch import from_torch_model, to_torch_model

__all__ = [
    "from_keras_model",
    "from_linen_model",
    "from_nnx_model",
    "from_torch_model",
    "to_keras_model",
    "to_linen_model",
    "to_nnx_model",
    "to_torch_model",
]
