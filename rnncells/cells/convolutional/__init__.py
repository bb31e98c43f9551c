"""Convolutional cells: states that are sequences, images or volumes. They take a shape: none is in `CELLS`.

conv.py   ConvLSTM, ConvGRU
"""

from rnncells.cells.convolutional.conv import ConvGRU, ConvLSTM

__all__ = ["ConvGRU", "ConvLSTM"]
