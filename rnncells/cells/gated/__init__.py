"""Gated cells: gates that read input and state decide what is kept and what is written.

lstm.py         LSTM, PeepholeLSTM, CoupledLSTM
gru.py          GRU, OutputGatedGRU
mgu.py          MGU
ugrnn.py        UGRNN
layer_norm.py   LayerNormLSTM, LayerNormGRU
"""

from rnncells.cells.gated.gru import GRU, OutputGatedGRU, OutputGatedGRUCarry
from rnncells.cells.gated.layer_norm import LayerNormGRU, LayerNormLSTM
from rnncells.cells.gated.lstm import LSTM, CoupledLSTM, LSTMCarry, PeepholeLSTM
from rnncells.cells.gated.mgu import MGU
from rnncells.cells.gated.ugrnn import UGRNN

__all__ = [
    "GRU",
    "LSTM",
    "MGU",
    "UGRNN",
    "CoupledLSTM",
    "LSTMCarry",
    "LayerNormGRU",
    "LayerNormLSTM",
    "OutputGatedGRU",
    "OutputGatedGRUCarry",
    "PeepholeLSTM",
]
