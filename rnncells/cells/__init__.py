"""The catalogue, by family. `CELLS` is the only registry: every cell that takes vector inputs and is
constructible from `features` alone.

    simple/          one kernel on the input, one on the state
    gated/           gates that read input and state
    orthogonal/      kernels that keep the length of the state
    linear/          states that enter linearly, parallel in time
    memory/          matrices that keys and values write into
    convolutional/   states that are images and volumes

A new cell is one file in its family, or a class in the file of its paper's family, and one line here.
"""

from rnncells.cell import Cell
from rnncells.cells.convolutional import ConvGRU, ConvLSTM
from rnncells.cells.gated import (
    GRU,
    LSTM,
    MGU,
    UGRNN,
    CoupledLSTM,
    LayerNormGRU,
    LayerNormLSTM,
    LSTMCarry,
    OutputGatedGRU,
    OutputGatedGRUCarry,
    PeepholeLSTM,
)
from rnncells.cells.linear import LRU, RWKV4, CausalConvolution, MinGRU, MinLSTM
from rnncells.cells.memory import MLSTM
from rnncells.cells.orthogonal import ExpRNN
from rnncells.cells.simple import Elman, FastRNN

CELLS: dict[str, type[Cell]] = {
    cell.__name__: cell
    for cell in (
        Elman,
        FastRNN,
        LSTM,
        PeepholeLSTM,
        CoupledLSTM,
        LayerNormLSTM,
        GRU,
        OutputGatedGRU,
        LayerNormGRU,
        MGU,
        UGRNN,
        ExpRNN,
        MinGRU,
        MinLSTM,
        LRU,
        RWKV4,
        CausalConvolution,
        MLSTM,
    )
}

__all__ = ["CELLS", "ConvGRU", "ConvLSTM", "LSTMCarry", "OutputGatedGRUCarry", *CELLS]
