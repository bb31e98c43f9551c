"""What tests share. The cells that the laws run over: the registry, each cell with each of its flags flipped,
every wrapper around a cell of every family, and stacks; and the scores of attention."""

import dataclasses
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    CELLS,
    GRU,
    LSTM,
    WRAPPERS,
    AdditiveAttention,
    Cell,
    LearnedCarry,
    MinGRU,
    MinLSTM,
    MultiplicativeAttention,
    Residual,
    Stack,
    VariationalDropout,
    Zoneout,
)

INPUT, FEATURES = 3, 4
T, B, H = 6, 3, 5
"""Ticks, sequences, and the width of inputs and states in the tests of single wrappers."""
exact = pytest.mark.usefixtures("x64")
CORE = ("Elman", "LSTM", "GRU", "MinGRU")
"""Cells that meet every law every day; the others, and their flags, in `make laws`."""


def over(cells, daily=CORE):
    """Parametrizes over cells by name; of those that are not for every day, the test is for `make laws`."""

    def marks(name):
        return () if name in daily else pytest.mark.laws

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


def setup(cell: Cell, size: int = H, batch: int = B, length: int = T):
    """Parameters and xs, in double precision."""
    params = random_params(cell, input_size=size, dtype=jnp.float64)
    return params, jax.random.normal(jax.random.key(2), (length, batch, size), jnp.float64)


def to_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def close(a, b, atol=1e-11):
    """Equal up to rounding, and finite: NaN equals NaN elsewhere."""
    chex.assert_tree_all_finite((a, b))
    chex.assert_trees_all_close(a, b, atol=atol, rtol=atol)


def assert_own_draws(params):
    """No two parameters are made of the same random numbers, as they would be if they shared a key; for
    schemes such as `Normal`, which scale numbers drawn one by one."""
    drawn = {
        jax.tree_util.keystr(path): np.ravel(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if np.std(leaf)
    }
    for (name, a), (other, b) in itertools.combinations(drawn.items(), 2):
        size = min(len(a), len(b))
        assert abs(np.corrcoef(a[:size], b[:size])[0, 1]) < 0.5, (name, other)


def agreement(a, b):
    """The share of entries that are equal."""
    return np.mean(np.asarray(a) == np.asarray(b))


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

S, M = 5, 4
"""Positions and width of a memory."""
LENGTHS = np.array([3, S, 0])
"""Of the memories of B sequences."""
ATTENTIONS = {
    "additive": AdditiveAttention(2),
    "dot": MultiplicativeAttention(),
    "general": MultiplicativeAttention("general"),
    "concat": MultiplicativeAttention("concat", 2),
}


def combinations(names, *daily):
    """Parametrizes over the decoder's orders, each with each name: those in `daily` every day, the others in
    `make laws`."""
    pairs = [(order, name) for order in ("bahdanau", "luong") for name in names]
    marked = [pytest.param(*pair, marks=() if pair in daily else pytest.mark.laws) for pair in pairs]
    return pytest.mark.parametrize(("order", "name"), marked)


def randomised(tree, seed: int = 0):
    """As `random_like`, of a size at which scores differ and do not saturate."""
    return jax.tree.map(lambda leaf: 0.7 * leaf, random_like(tree, seed))


def numpy_attend(attention, params, query, memory, length=S):
    """One query [Q] and one memory [S, M], from the equations."""
    params, query, memory = to_numpy((params, query, memory))
    scores = np.zeros(length)
    for s, m in enumerate(memory[:length]):
        if isinstance(attention, AdditiveAttention):
            z = query @ params["query_kernel"] + m @ params["memory_kernel"] + params["bias"]
            scores[s] = params["score_kernel"] @ np.tanh(z)
        elif attention.score == "dot":
            scores[s] = query @ m
        elif attention.score == "general":
            scores[s] = query @ params["kernel"] @ m
        else:
            kernel = np.concatenate([params["query_kernel"], params["memory_kernel"]])
            scores[s] = params["score_kernel"] @ np.tanh(np.concatenate([query, m]) @ kernel)
    weights = np.zeros(len(memory))
    weights[:length] = np.exp(scores) / np.exp(scores).sum()
    context = np.zeros(memory.shape[-1])
    for a, m in zip(weights[:length], memory[:length], strict=True):
        context += a * m
    return context, weights


def numpy_attend_all(attention, params, queries, memory, lengths=None):
    """queries [B, Q], memory [S, B, M]."""
    lengths = [S] * B if lengths is None else lengths
    rows = [numpy_attend(attention, params, queries[b], memory[:, b], lengths[b]) for b in range(B)]
    return np.stack([context for context, _ in rows]), np.stack([weights for _, weights in rows], 1)
