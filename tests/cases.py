"""What tests share: the cells that laws run over, random numbers for them, and what it is to be equal."""

import dataclasses
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import (
    CELLS,
    AdditiveAttention,
    Cell,
    MultiplicativeAttention,
    Timed,
    unroll,
)

INPUT, FEATURES = 3, 4
T, B, H = 6, 3, 5
"""Ticks, sequences, and the width of inputs and states in the tests of single wrappers."""
exact = pytest.mark.usefixtures("x64")
CORE = ("Elman", "LSTM", "GRU", "MinGRU")
"""Cells that meet every law every day; the others in `make laws`."""


def over(cells, daily=CORE):
    """Parametrizes over cells by name; of those that are not for every day, the test is for `make laws`."""

    def marks(name):
        return () if name in daily else pytest.mark.laws

    params = [pytest.param(cell, id=name, marks=marks(name)) for name, cell in cells.items()]
    return pytest.mark.parametrize("cell", params)


def sparing(values, daily=1):
    """The first of these values every day, the others in `make laws`."""
    return [pytest.param(each, marks=pytest.mark.laws if i >= daily else ()) for i, each in enumerate(values)]


def _variants(cell: Cell) -> dict[str, Cell]:
    """The cell with one flag flipped, or one choice made otherwise."""
    changes = {}
    for field in dataclasses.fields(cell):
        now = getattr(cell, field.name)
        words = (True, False) if isinstance(now, bool) else field.metadata.get("words", ())
        changes |= {f"{field.name}={word}": {field.name: word} for word in words if word != now}
    return {label: dataclasses.replace(cell, **change) for label, change in changes.items()}


REGISTERED: dict[str, Cell] = {name: kind(FEATURES) for name, kind in CELLS.items()}
VARIANTS: dict[str, Cell] = {
    f"{name}-{label}": variant
    for name, cell in REGISTERED.items()
    for label, variant in _variants(cell).items()
}
CASES = REGISTERED | VARIANTS


def random_like(tree, seed: int = 1):
    """Standard normal numbers in the shapes and dtypes of the tree; counters from 0 to 4; keys are keys."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(
        [_draw(np.random.default_rng((seed, i)), leaf) for i, leaf in enumerate(leaves)]
    )


def _draw(rng, leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.split(jax.random.key(rng.integers(2**31)), leaf.shape)
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.asarray(rng.integers(0, 5, leaf.shape), leaf.dtype)
    numbers = rng.standard_normal(leaf.shape)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        numbers = numbers + 1j * rng.standard_normal(leaf.shape)
    return jnp.asarray(numbers.astype(leaf.dtype))


def random_params(cell: Cell, seed: int = 0, input_size: int = INPUT, dtype=jnp.float32):
    """Parameters in which nothing is zero, so that every one of them matters."""
    start = cell.init(jax.random.key(seed), input_size, dtype)
    return jax.tree.map(
        lambda leaf, more: leaf + (0.5 * more).astype(leaf.dtype), start, random_like(start, seed)
    )


def inputs(cell: Cell, length: int = T, batch=(B,), size: int = INPUT, dtype=jnp.float64, seed: int = 2):
    """Random xs, with random times between them for cells that take those."""
    x, elapsed = random_like([jax.ShapeDtypeStruct((length, *batch, n), dtype) for n in (size, 1)], seed)
    return Timed(x, jnp.abs(elapsed)) if cell.timed else x


run = jax.jit(
    unroll, static_argnames=("reverse", "parallel", "remat_every", "truncate_every", "return_carries")
)
"""`unroll`, with every option but these traced."""


def random_carry(cell: Cell, params, xs):
    """A state that can come about: what three ticks leave, those of xs read backwards."""
    before = jax.tree.map(lambda leaf: leaf[2::-1], to_numpy(xs))
    start = cell.initial_carry(params, jax.tree.leaves(xs)[0].shape[1 : -cell.input_ndim], like=tick_of(xs))
    return run(cell, params, before, start)[0]


def tick_of(xs):
    """The input of one tick, as shapes and dtypes."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)


def setup(cell: Cell, size: int = H, batch: int = B, length: int = T):
    """Parameters and xs, in double precision."""
    return random_params(cell, input_size=size, dtype=jnp.float64), inputs(cell, length, (batch,), size)


def drawn(cell: Cell, length: int = T, batch=(B,), size: int = INPUT, dtype=jnp.float64):
    """Parameters, a state and xs."""
    params, xs = random_params(cell, input_size=size, dtype=dtype), inputs(cell, length, batch, size, dtype)
    return params, random_carry(cell, params, xs), xs


def at(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def stacked(trees, axis=0):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis), *trees)


def to_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def floating(tree):
    """The leaves that have a derivative."""
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]


def with_floating(tree, leaves):
    """The tree with these in the place of its floating leaves."""
    rest = iter(leaves)
    own, structure = jax.tree.flatten(tree)
    return structure.unflatten([next(rest) if jnp.issubdtype(a.dtype, jnp.inexact) else a for a in own])


def pairing(weights, leaves):
    """The sum of all products, or of their real parts."""
    wide = jnp.result_type(float)
    return sum((a * b).real.sum().astype(wide) for a, b in zip(weights, leaves, strict=True))


def score(tree):
    """A number that every floating part of the tree matters to, linear in all of them."""
    leaves = floating(tree)
    return pairing(random_like(leaves, 5), leaves)


def scored(f, args):
    """f(*args), and the slopes of its score by the floating leaves of args."""

    def value(leaves):
        out = f(*with_floating(args, leaves))
        return score(out), out

    (_, out), slopes = jax.value_and_grad(value, has_aux=True)(floating(args))
    return out, slopes


def pushed(f, args, directions):
    """The derivative of f's floating leaves, where those of args move in these directions."""
    return jax.jvp(
        lambda leaves: floating(f(*with_floating(args, leaves))), (floating(args),), (directions,)
    )[1]


def close(a, b, atol=1e-11):
    """Equal up to rounding, and finite: NaN equals NaN elsewhere. Keys and counters are the same."""
    a, b = without_keys(a), without_keys(b)
    chex.assert_tree_all_finite((a, b))
    chex.assert_trees_all_close(a, b, atol=atol, rtol=atol)


def without_keys(tree):
    """Keys as the numbers in them."""

    def data(leaf):
        typed = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if typed else leaf

    return jax.tree.map(data, tree)


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
