"""The catalogue. `CELLS` is the only registry: every cell that takes vector inputs and is
constructible from `features` alone. A new cell is one file (or a class in its family's file) and
one line here. `ConvLSTM` and `ConvGRU` take images and volumes, and a shape."""

from rnncells.cell import Cell
from rnncells.cells.conv import ConvGRU, ConvLSTM
from rnncells.cells.elman import Elman
from rnncells.cells.exprnn import ExpRNN
from rnncells.cells.gru import GRU, OutputGatedGRU, OutputGatedGRUCarry
from rnncells.cells.layer_norm import LayerNormGRU, LayerNormLSTM
from rnncells.cells.lstm import LSTM, CoupledLSTM, LSTMCarry, PeepholeLSTM
from rnncells.cells.mgu import MGU
from rnncells.cells.min_rnn import MinGRU, MinLSTM

CELLS: dict[str, type[Cell]] = {
    cell.__name__: cell
    for cell in (
        Elman,
        LSTM,
        PeepholeLSTM,
        CoupledLSTM,
        LayerNormLSTM,
        GRU,
        OutputGatedGRU,
        LayerNormGRU,
        MGU,
        MinGRU,
        MinLSTM,
        ExpRNN,
    )
}

__all__ = ["CELLS", "ConvGRU", "ConvLSTM", "LSTMCarry", "OutputGatedGRUCarry", *CELLS]
