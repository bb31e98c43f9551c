"""Gated cells: gates that read input and state decide what is kept and what is written.

lstm.py                  LSTM, OriginalLSTM, PeepholeLSTM, CoupledLSTM
lstmp.py                 LSTMP
janet.py                 JANET
multiplicative_lstm.py   MultiplicativeLSTM
wmc_lstm.py              WMCLSTM
mc_lstm.py               MCLSTM
ur_lstm.py               URLSTM
elstm.py                 ELSTM
nas.py                   NAS
strongly_typed.py        TRNN, TGRU, TLSTM
gru.py                   GRU, OutputGatedGRU
mgu.py                   MGU, MGU1, MGU2, MGU3
ugrnn.py                 UGRNN, IntersectionRNN
mut.py                   MUT1, MUT2, MUT3
ligru.py                 LiGRU
star.py                  STAR
light_ru.py              LightRU
minimal_rnn.py           MinimalRNN
atr.py                   ATR
ran.py                   RAN
sgrn.py                  SGRN
cfn.py                   CFN
brc.py                   BRC, NBRC
sgu.py                   SGU, DSGU
tau_gru.py               TauGRU
layer_norm.py            LayerNormLSTM, LayerNormGRU
integration.py           MIRNN, MILSTM, MIGRU
rhn.py                   RHN
fast_slow.py             FastSlowRNN, a cell made of cells
"""

from rnncells.cells.gated.atr import ATR
from rnncells.cells.gated.brc import BRC, NBRC
from rnncells.cells.gated.cfn import CFN
from rnncells.cells.gated.elstm import ELSTM
from rnncells.cells.gated.fast_slow import FastSlowCarry, FastSlowRNN
from rnncells.cells.gated.gru import GRU, OutputGatedGRU, OutputGatedGRUCarry
from rnncells.cells.gated.integration import MIGRU, MILSTM, MIRNN
from rnncells.cells.gated.janet import JANET
from rnncells.cells.gated.layer_norm import LayerNormGRU, LayerNormLSTM
from rnncells.cells.gated.light_ru import LightRU
from rnncells.cells.gated.ligru import LiGRU
from rnncells.cells.gated.lstm import LSTM, CoupledLSTM, LSTMCarry, OriginalLSTM, PeepholeLSTM
from rnncells.cells.gated.lstmp import LSTMP
from rnncells.cells.gated.mc_lstm import MCLSTM, MCLSTMCarry
from rnncells.cells.gated.mgu import MGU, MGU1, MGU2, MGU3
from rnncells.cells.gated.minimal_rnn import MinimalRNN
from rnncells.cells.gated.multiplicative_lstm import MultiplicativeLSTM
from rnncells.cells.gated.mut import MUT1, MUT2, MUT3
from rnncells.cells.gated.nas import NAS
from rnncells.cells.gated.ran import RAN
from rnncells.cells.gated.rhn import RHN
from rnncells.cells.gated.sgrn import SGRN
from rnncells.cells.gated.sgu import DSGU, SGU
from rnncells.cells.gated.star import STAR
from rnncells.cells.gated.strongly_typed import TGRU, TLSTM, TRNN, TypedCarry
from rnncells.cells.gated.tau_gru import TauGRU, TauGRUCarry
from rnncells.cells.gated.ugrnn import UGRNN, IntersectionRNN
from rnncells.cells.gated.ur_lstm import URLSTM
from rnncells.cells.gated.wmc_lstm import WMCLSTM

__all__ = [
    "ATR",
    "BRC",
    "CFN",
    "DSGU",
    "ELSTM",
    "GRU",
    "JANET",
    "LSTM",
    "LSTMP",
    "MCLSTM",
    "MGU",
    "MGU1",
    "MGU2",
    "MGU3",
    "MIGRU",
    "MILSTM",
    "MIRNN",
    "MUT1",
    "MUT2",
    "MUT3",
    "NAS",
    "NBRC",
    "RAN",
    "RHN",
    "SGRN",
    "SGU",
    "STAR",
    "TGRU",
    "TLSTM",
    "TRNN",
    "UGRNN",
    "URLSTM",
    "WMCLSTM",
    "CoupledLSTM",
    "FastSlowCarry",
    "FastSlowRNN",
    "IntersectionRNN",
    "LSTMCarry",
    "LayerNormGRU",
    "LayerNormLSTM",
    "LiGRU",
    "LightRU",
    "MCLSTMCarry",
    "MinimalRNN",
    "MultiplicativeLSTM",
    "OriginalLSTM",
    "OutputGatedGRU",
    "OutputGatedGRUCarry",
    "PeepholeLSTM",
    "TauGRU",
    "TauGRUCarry",
    "TypedCarry",
]
