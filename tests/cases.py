"""The cells that the laws run over: the registry, and each cell with each of its flags flipped."""

import dataclasses

import jax

from rnncells import CELLS, Cell

INPUT, FEATURES = 3, 4


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
