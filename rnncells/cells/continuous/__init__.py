"""Continuous cells: states that follow a differential equation, from one tick to the next.

antisymmetric.py   AntisymmetricRNN, GatedAntisymmetricRNN
oscillators.py     CoRNN, UnICORNN
lem.py             LEM, long expressive memory
lipschitz.py       LipschitzRNN
plrnn.py           PLRNN, ShallowPLRNN, DendriticPLRNN: piecewise linear
ctrnn.py           CTRNN
liquid.py          LTC, CfC: time constants that depend on the input
echo_state.py      EchoState, a fixed random network
phased_lstm.py     PhasedLSTM, an LSTM in rhythms
"""

from rnncells.cells.continuous.antisymmetric import AntisymmetricRNN, GatedAntisymmetricRNN
from rnncells.cells.continuous.ctrnn import CTRNN
from rnncells.cells.continuous.echo_state import EchoState
from rnncells.cells.continuous.lem import LEM, LEMCarry
from rnncells.cells.continuous.lipschitz import LipschitzRNN
from rnncells.cells.continuous.liquid import LTC, CfC
from rnncells.cells.continuous.oscillators import CoRNN, OscillatorCarry, UnICORNN
from rnncells.cells.continuous.phased_lstm import PhasedLSTM, PhasedLSTMCarry
from rnncells.cells.continuous.plrnn import PLRNN, DendriticPLRNN, ShallowPLRNN

__all__ = [
    "CTRNN",
    "LEM",
    "LTC",
    "PLRNN",
    "AntisymmetricRNN",
    "CfC",
    "CoRNN",
    "DendriticPLRNN",
    "EchoState",
    "GatedAntisymmetricRNN",
    "LEMCarry",
    "LipschitzRNN",
    "OscillatorCarry",
    "PhasedLSTM",
    "PhasedLSTMCarry",
    "ShallowPLRNN",
    "UnICORNN",
]
