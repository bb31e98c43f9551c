"""The cells that the laws run over: the registry, each cell with each of its flags flipped, every wrapper
around a cell of every family, and stacks."""

import dataclasses

import jax
import pytest

from rnncells import (
    CELLS,
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

INPUT, FEATURES = 3, 4
CORE = ("Elman", "LSTM", "GRU", "MinGRU")
"""Cells that meet every law every day; the others in `make laws`."""


def over(cells, daily=CORE):
    """Parametrizes over cells by name; of those that are not for every day, the test is for `make laws`."""

    def marks(name):
        return () if name in daily or name.split("-")[0] in daily else pytest.mark.laws

    params = [pytest.param(cell, id=name, marks=marks(name)) for name, cell in cells.items()]
    return pytest.mark.parametrize("cell", params)


def _variants(cell: Cell) -> dict[str, Cell]:
    flags = [f.name for f in dataclasses.fields(cell) if isinstance(getattr(cell, f.name), bool)]
    flipped = {f"{name}={not getattr(cell, name)}": {name: not getattr(cell, name)} for name in flags}
    return {"": cell} | {
        f"-{label}": dataclasses.replace(cell, **change) for label, change in flipped.items()
    }


CASES: dict[str, Cell] = {
    name + label: variant
    for name, kind in CELLS.items()
    for label, variant in _variants(kind(FEATURES)).items()
}
LINEAR = {name: cell for name, cell in CASES.items() if cell.linear}
NUMERIC = {name: cell for name, cell in CASES.items() if jax.tree.leaves(cell)}


def random_params(cell: Cell, seed: int = 0, input_size: int = INPUT, dtype=None):
    """Parameters in which nothing is zero, so that every one of them matters."""
    key = jax.random.key(seed)
    params = cell.init(key, input_size, *([] if dtype is None else [dtype]))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    noisy = [
        leaf + 0.5 * jax.random.normal(k, leaf.shape, leaf.dtype)
        for leaf, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)


def random_like(tree, seed: int = 1):
    """Random normal leaves in the shapes and dtypes of the tree, for carries among others."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(
        structure,
        [jax.random.normal(k, leaf.shape, leaf.dtype) for leaf, k in zip(leaves, keys, strict=True)],
    )


def _wrapped() -> tuple[dict[str, Cell], list[tuple[type[Cell], Cell]]]:
    """Every wrapper around the first cell of every family, as wide as its input; and what was refused."""
    families = {kind.__module__: kind for kind in reversed(CELLS.values())}
    settings = {"rate": 0.3, "stddev": 0.2, "rank": 2, "size": 2}
    made, refused = {}, []
    for name, wrapper in WRAPPERS.items():
        fields = [f.name for f in dataclasses.fields(wrapper)]
        own = {field: settings[field] for field in fields if field in settings}
        variants = [own]
        variants += [{"input_rate": 0.3}] if "input_rate" in fields else []
        variants += [own | {"recurrent": False}] if "recurrent" in fields else []
        taken = set()
        firsts = list(reversed(families.values()))
        for kind in dict.fromkeys((*firsts, *CELLS.values())):
            if kind not in firsts and len(taken) >= 6:
                break  # only where families refuse are there more cells of the others
            cell = kind(INPUT)
            for variant in variants:
                candidate = wrapper(cell, **variant)
                try:
                    candidate.init(jax.random.key(0), INPUT)
                except ValueError:
                    refused.append((wrapper, cell))
                    continue
                extra = ",".join(f"{k}={v}" for k, v in variant.items() if variant is not own)
                taken.add(kind)
                made[f"{name}({kind.__name__}{',' * bool(extra)}{extra})"] = candidate
    return made, refused


WRAPPED, REFUSED = _wrapped()
first, second, third = (kind(INPUT) for kind in (LSTM, MinGRU, GRU))
STACKS: dict[str, Cell] = {
    "Stack": Stack([first, Zoneout(third, rate=0.3)]),
    "Stack,skip": Stack([first, second], skip=True),
    "Stack,linear": Stack([second, Residual(MinLSTM(INPUT, log_space=True))]),
    "Residual(Stack)": Residual(Stack([second, LearnedCarry(third)])),
    "VariationalDropout(Stack)": VariationalDropout(Stack([second, first]), input_rate=0.3),
}
