"""Simple recurrent networks: one kernel on the input, one on the state, no gates that depend on either.

elman.py      Elman, the IRNN
fast_rnn.py   FastRNN
"""

from rnncells.cells.simple.elman import Elman
from rnncells.cells.simple.fast_rnn import FastRNN

__all__ = ["Elman", "FastRNN"]
