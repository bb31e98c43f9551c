"""Cells with a memory of another shape than their output: matrices that keys and values write into, vectors
that heads write into, the past of a signal as polynomials.

linear_attention.py         LinearAttention
retention.py                Retention
gated_linear_attention.py   GLA
hgrn2.py                    HGRN2
mamba2.py                   Mamba2
delta_net.py                DeltaNet, GatedDeltaNet, FastWeightProgrammer
fast_weights.py             FastWeights, the one of 2016
mlstm.py                    MLSTM
slstm.py                    SLSTM, the scalar one of the same paper
nru.py                      NRU
lmu.py                      LMU, a sliding window of the past
hippo.py                    HiPPOLegS, all of the past
"""

from rnncells.cells.memory.delta_net import DeltaNet, FastWeightProgrammer, GatedDeltaNet
from rnncells.cells.memory.fast_weights import FastWeights, FastWeightsCarry
from rnncells.cells.memory.gated_linear_attention import GLA
from rnncells.cells.memory.hgrn2 import HGRN2
from rnncells.cells.memory.hippo import HiPPOCarry, HiPPOLegS
from rnncells.cells.memory.linear_attention import LinearAttention
from rnncells.cells.memory.lmu import LMU, LMUCarry
from rnncells.cells.memory.mamba2 import Mamba2
from rnncells.cells.memory.mlstm import MLSTM
from rnncells.cells.memory.nru import NRU, NRUCarry
from rnncells.cells.memory.retention import Retention
from rnncells.cells.memory.slstm import SLSTM, SLSTMCarry

__all__ = [
    "GLA",
    "HGRN2",
    "LMU",
    "MLSTM",
    "NRU",
    "SLSTM",
    "DeltaNet",
    "FastWeightProgrammer",
    "FastWeights",
    "FastWeightsCarry",
    "GatedDeltaNet",
    "HiPPOCarry",
    "HiPPOLegS",
    "LMUCarry",
    "LinearAttention",
    "Mamba2",
    "NRUCarry",
    "Retention",
    "SLSTMCarry",
]
