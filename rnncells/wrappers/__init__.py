"""A wrapper takes a cell and is one. `WRAPPERS` is their registry.

    state.py           Zoneout, StateNoise, LearnedCarry
    dropout.py         VariationalDropout, RecurrentDropout, DropConnect
    reparametrise.py   LayerNorm, RMSNorm, WeightNorm, LowRank
    quantise.py        Int8, for cells that have learned; not registered
    pointwise.py       Projection, Residual, Highway
    wrapper.py         what they share: Wrapper, Pointwise

A new wrapper is a class in the file of its kind and one line here.
"""

from rnncells.wrappers.dropout import DropConnect, RecurrentDropout, VariationalDropout
from rnncells.wrappers.pointwise import Highway, Projection, Residual
from rnncells.wrappers.quantise import Int8
from rnncells.wrappers.reparametrise import LayerNorm, LowRank, RMSNorm, WeightNorm
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
    "DropConnect",
    "Highway",
    "Int8",
    "LayerNorm",
    "LearnedCarry",
    "LowRank",
    "Pointwise",
    "Projection",
    "RMSNorm",
    "RecurrentDropout",
    "Residual",
    "StateNoise",
    "VariationalDropout",
    "WeightNorm",
    "Wrapper",
    "Zoneout",
]
