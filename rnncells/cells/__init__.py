"""The catalogue. `CELLS` is the only registry: every cell that takes vector inputs and is
constructible from `features` alone. A new cell is one file (or a class in its family's file) and
one line here."""

from rnncells.cell import Cell
from rnncells.cells.elman import Elman
from rnncells.cells.exprnn import ExpRNN
from rnncells.cells.gru import GRU, OutputGatedGRU, OutputGatedGRUCarry
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
        GRU,
        OutputGatedGRU,
        MGU,
        MinGRU,
        MinLSTM,
        ExpRNN,
    )
}

__all__ = ["CELLS", "LSTMCarry", "OutputGatedGRUCarry", *CELLS]
