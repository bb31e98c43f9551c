"""Simple recurrent networks: one kernel on the input, one or something simpler on the state, no gates with
kernels of their own.

elman.py            Elman, the IRNN
fast_rnn.py         FastRNN, FastGRNN
jordan.py           Jordan, whose output recurs
ind_rnn.py          IndRNN, one recurrent weight for each unit
scrn.py             SCRN, with a slow context beside
shuffling.py        ShufflingRNN, a permutation in the place of the recurrent kernel
multiplicative.py   MultiplicativeRNN, whose input chooses the recurrent kernel
clockwork.py        ClockworkRNN, groups of units at their own paces
"""

from rnncells.cells.simple.clockwork import ClockworkCarry, ClockworkRNN
from rnncells.cells.simple.elman import Elman
from rnncells.cells.simple.fast_rnn import FastGRNN, FastRNN
from rnncells.cells.simple.ind_rnn import IndRNN
from rnncells.cells.simple.jordan import Jordan
from rnncells.cells.simple.multiplicative import MultiplicativeRNN
from rnncells.cells.simple.scrn import SCRN, SCRNCarry
from rnncells.cells.simple.shuffling import ShufflingRNN

__all__ = [
    "SCRN",
    "ClockworkCarry",
    "ClockworkRNN",
    "Elman",
    "FastGRNN",
    "FastRNN",
    "IndRNN",
    "Jordan",
    "MultiplicativeRNN",
    "SCRNCarry",
    "ShufflingRNN",
]
