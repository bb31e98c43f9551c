"""Every wrapper around the cell of every trait, as wide as its input, and stacks."""

import dataclasses

from rnncells import (
    GRU,
    LSTM,
    WRAPPERS,
    Cell,
    LearnedCarry,
    MinGRU,
    MinLSTM,
    Residual,
    Stack,
    VariationalDropout,
    Zoneout,
)
from tests.cases import INPUT
from tests.traits import KINDS

LINEAR = {name for name, kind in KINDS.items() if kind(INPUT).linear}
_no_kernel = LINEAR | {"complex"}
_no_trained_kernel = _no_kernel | {"prepared", "no parameters"}
_no_blend = {"running maximum", "chunks"}
REFUSES: dict[str, frozenset[str] | set[str]] = dict.fromkeys(WRAPPERS, frozenset()) | {
    "Zoneout": _no_blend,
    "StateNoise": _no_blend,
    "VariationalDropout": _no_kernel,
    "RecurrentDropout": _no_kernel,
    "DropConnect": _no_kernel,
    "WeightNorm": _no_trained_kernel,
    "LowRank": _no_trained_kernel,
    "Projection": set(KINDS) - {"gated"},
}
"""Traits that a wrapper has no use for, such as those without a recurrent kernel, or must not touch."""

_settings = {"rate": 0.3, "stddev": 0.2, "rank": 2, "size": 2}
_others = {"VariationalDropout": {"input_rate": 0.3}, "RecurrentDropout": {"input_rate": 0.3}}
_others |= {"Projection": {"size": 2, "recurrent": False}}


def settings(name: str) -> dict:
    """Its arguments, where it needs any."""
    given = {field.name for field in dataclasses.fields(WRAPPERS[name])}
    return {field: value for field, value in _settings.items() if field in given}


WRAPPED: dict[str, Cell] = {
    f"{name}({trait})": WRAPPERS[name](kind(INPUT), **settings(name))
    for name in WRAPPERS
    for trait, kind in KINDS.items()
    if trait not in REFUSES[name]
} | {
    f"{name}({trait},{','.join(options)})": WRAPPERS[name](kind(INPUT), **options)
    for name, options in _others.items()
    for trait, kind in KINDS.items()
}

_first, _second, _third = (kind(INPUT) for kind in (LSTM, MinGRU, GRU))
STACKS: dict[str, Cell] = {
    "Stack": Stack([_first, Zoneout(_third, rate=0.3)]),
    "Stack,skip": Stack([_first, _second], skip=True),
    "Stack,linear": Stack([_second, Residual(MinLSTM(INPUT, log_space=True))]),
    "Residual(Stack)": Residual(Stack([_second, LearnedCarry(_third)])),
    "VariationalDropout(Stack)": VariationalDropout(Stack([_second, _first]), input_rate=0.3),
}
