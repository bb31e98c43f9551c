"""Cells with a memory of another shape than their output: matrices that keys and values write into, vectors
that heads write into, the past of a signal as polynomials.

mlstm.py   MLSTM
slstm.py   SLSTM, the scalar one of the same paper
nru.py     NRU
lmu.py     LMU, a sliding window of the past
hippo.py   HiPPOLegS, all of the past
"""

from rnncells.cells.memory.hippo import HiPPOCarry, HiPPOLegS
from rnncells.cells.memory.lmu import LMU, LMUCarry
from rnncells.cells.memory.mlstm import MLSTM
from rnncells.cells.memory.nru import NRU, NRUCarry
from rnncells.cells.memory.slstm import SLSTM, SLSTMCarry

__all__ = ["LMU", "MLSTM", "NRU", "SLSTM", "HiPPOCarry", "HiPPOLegS", "LMUCarry", "NRUCarry", "SLSTMCarry"]
