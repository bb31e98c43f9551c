"""Linear cells: the state enters linearly, so that time runs in parallel.

min_rnn.py       MinGRU, MinLSTM
lru.py           LRU
rwkv.py          RWKV4
convolution.py   CausalConvolution, the window that others are composed with
"""

from rnncells.cells.linear.convolution import CausalConvolution
from rnncells.cells.linear.lru import LRU
from rnncells.cells.linear.min_rnn import MinGRU, MinLSTM
from rnncells.cells.linear.rwkv import RWKV4

__all__ = ["LRU", "RWKV4", "CausalConvolution", "MinGRU", "MinLSTM"]
