"""Orthogonal and unitary cells: a recurrent kernel that keeps the length of the state, whatever is trained.

exprnn.py        ExpRNN, by the matrix exponential
scornn.py        ScoRNN, by the scaled Cayley transform
householder.py   HouseholderRNN, by reflections
unitary.py       UnitaryRNN, FullUnitaryRNN: complex, of restricted and of full capacity
eunn.py          EUNN, GORU: layers of rotations
"""

from rnncells.cells.orthogonal.eunn import EUNN, GORU
from rnncells.cells.orthogonal.exprnn import ExpRNN
from rnncells.cells.orthogonal.householder import HouseholderRNN
from rnncells.cells.orthogonal.scornn import ScoRNN
from rnncells.cells.orthogonal.unitary import FullUnitaryRNN, UnitaryRNN

__all__ = ["EUNN", "GORU", "ExpRNN", "FullUnitaryRNN", "HouseholderRNN", "ScoRNN", "UnitaryRNN"]
