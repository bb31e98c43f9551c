"""Orthogonal and unitary cells: a recurrent kernel that keeps the length of the state, whatever is trained.

exprnn.py   ExpRNN, by the matrix exponential
"""

from rnncells.cells.orthogonal.exprnn import ExpRNN

__all__ = ["ExpRNN"]
