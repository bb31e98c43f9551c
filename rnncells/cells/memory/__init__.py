"""Cells with a memory of another shape than their output: matrices that keys and values write into.

mlstm.py   MLSTM
"""

from rnncells.cells.memory.mlstm import MLSTM

__all__ = ["MLSTM"]
