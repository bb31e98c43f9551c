"""Linear cells: the state enters linearly, so that time runs in parallel; and their nonlinear relatives.

linear_rnn.py    LinearRNN, the dense one
gilr.py          GILR, LSLSTM
qrnn.py          QRNN
sru.py           SRU, SRU2
min_rnn.py       MinGRU, MinLSTM
lru.py           LRU
rg_lru.py        RGLRU
hgrn.py          HGRN
rtu.py           RTU, NonlinearRTU
ffm.py           FFM
s4d.py           S4D
s5.py            S5
s6.py            S6
rwkv.py          RWKV4
convolution.py   CausalConvolution, the window that others are composed with
"""

from rnncells.cells.linear.convolution import CausalConvolution
from rnncells.cells.linear.ffm import FFM
from rnncells.cells.linear.gilr import GILR, LSLSTM, LSLSTMCarry
from rnncells.cells.linear.hgrn import HGRN
from rnncells.cells.linear.linear_rnn import LinearRNN
from rnncells.cells.linear.lru import LRU
from rnncells.cells.linear.min_rnn import MinGRU, MinLSTM
from rnncells.cells.linear.qrnn import QRNN, QRNNCarry
from rnncells.cells.linear.rg_lru import RGLRU
from rnncells.cells.linear.rtu import RTU, NonlinearRTU
from rnncells.cells.linear.rwkv import RWKV4
from rnncells.cells.linear.s4d import S4D
from rnncells.cells.linear.s5 import S5
from rnncells.cells.linear.s6 import S6
from rnncells.cells.linear.sru import SRU, SRU2

__all__ = [
    "FFM",
    "GILR",
    "HGRN",
    "LRU",
    "LSLSTM",
    "QRNN",
    "RGLRU",
    "RTU",
    "RWKV4",
    "S4D",
    "S5",
    "S6",
    "SRU",
    "SRU2",
    "CausalConvolution",
    "LSLSTMCarry",
    "LinearRNN",
    "MinGRU",
    "MinLSTM",
    "NonlinearRTU",
    "QRNNCarry",
]
