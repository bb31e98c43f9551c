"""Cells made of cells. A wrapper takes a cell and is one; a new one is a class here and one line."""

from rnncells.wrappers.decoder import AttentionCarry, AttentionDecoder
from rnncells.wrappers.dropout import DropConnect, RecurrentDropout, VariationalDropout
from rnncells.wrappers.pointwise import Highway, Projection, Residual
from rnncells.wrappers.reparametrise import LayerNorm, LowRank, RMSNorm, WeightNorm
from rnncells.wrappers.stack import Bidirectional, BidirectionalCarry, Stack
from rnncells.wrappers.state import LearnedCarry, StateNoise, Zoneout
from rnncells.wrappers.wrapper import Pointwise, Wrapper

WRAPPERS: dict[str, type[Wrapper]] = {
    wrapper.__name__: wrapper
    for wrapper in (
        Zoneout,
        StateNoise,
        VariationalDropout,
        RecurrentDropout,
        DropConnect,
        LayerNorm,
        RMSNorm,
        WeightNorm,
        LowRank,
        Projection,
        Residual,
        Highway,
        LearnedCarry,
    )
}

__all__ = [
    "WRAPPERS",
    "AttentionCarry",
    "AttentionDecoder",
    "Bidirectional",
    "BidirectionalCarry",
    "DropConnect",
    "Highway",
    "LayerNorm",
    "LearnedCarry",
    "LowRank",
    "Pointwise",
    "Projection",
    "RMSNorm",
    "RecurrentDropout",
    "Residual",
    "Stack",
    "StateNoise",
    "VariationalDropout",
    "WeightNorm",
    "Wrapper",
    "Zoneout",
]
