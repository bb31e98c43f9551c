"""What the converters share: arrays of any library, fused blocks, complaints that name the entry."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from rnncells import checks
from rnncells.cell import Cell, Params, plain
from rnncells.cells.gated.gru import GRU
from rnncells.cells.gated.lstm import LSTM
from rnncells.parts.activations import as_activation
from rnncells.unroll import params_shape

Array: TypeAlias = jax.Array | np.ndarray


def as_array(value: Any) -> Array:
    """JAX arrays as they are, traced ones too; anything else as a NumPy copy.

    PyTorch tensors may lie on any device. NumPy's own dtypes have no bfloat16: JAX's is used.
    """
    if isinstance(value, jax.Array):
        return value
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        half = str(value.dtype) == "torch.bfloat16"
        value = value.float().numpy().astype(jnp.bfloat16) if half else value.numpy()
    return np.array(value)


def array(name: str, value: Any) -> Array:
    """`as_array`, of floating point numbers."""
    made = as_array(value)
    if not jnp.issubdtype(made.dtype, jnp.floating):
        raise TypeError(f"{name}: expected floating point numbers, got {checks.describe(value)}.")
    return made


def arrays(where: str, entries: Mapping[str, Any]) -> dict[str, Array]:
    """A flat dict of named arrays."""
    if not isinstance(entries, Mapping):
        raise TypeError(f"{where}: expected a mapping of names to arrays, got {checks.describe(entries)}.")
    return {name: array(name, value) for name, value in entries.items()}


def names(where: str, expected: Collection[str], got: Collection[str]) -> None:
    """Every expected entry and no other."""
    missing = listed([name for name in expected if name not in got])
    left_over = listed([name for name in got if name not in expected])
    if missing or left_over:
        told = [f"missing {missing}"] * bool(missing) + [f"unexpected {left_over}"] * bool(left_over)
        raise ValueError(f"{where}: {'; '.join(told)}.")


def listed(entries: Sequence[str]) -> str:
    """Names for a complaint, the first eight."""
    shown = ", ".join(entries[:8])
    return shown if len(entries) <= 8 else f"{shown} and {len(entries) - 8} more"


def matrix(name: str, value: Array) -> tuple[int, int]:
    """The shape of a matrix."""
    if value.ndim != 2:
        raise ValueError(f"{name}: expected a matrix, got {checks.describe(value)}.")
    rows, columns = value.shape
    return rows, columns


def shapes(entries: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]) -> None:
    """The shapes of the entries that are named."""
    for name, shape in expected.items():
        if np.shape(entries[name]) != shape:
            raise ValueError(f"{name}: expected shape {list(shape)}, got {checks.describe(entries[name])}.")


def innermost(cell: Cell) -> tuple[Cell, list[str]]:
    """The first cell that is not made of cells, and the names of the levels of params above it."""
    checks.cell("cell", cell)
    levels = []
    while cell.children:
        name, cell = next(iter(cell.children.items()))
        levels += [name] * bool(name)
    return cell, levels


def _rows(cell: Cell, params: Params) -> int:
    """Of the first input kernel, 0 if there is none."""
    for name in innermost(cell)[1]:
        params = params.get(name) if isinstance(params, Mapping) else None
    kernel = params.get("kernel") if isinstance(params, Mapping) else None
    return np.shape(kernel)[0] if kernel is not None and len(np.shape(kernel)) == 2 else 0


def parameters(cell: Cell, params: Params) -> Params:
    """The tree that `cell.init` makes, its leaves as arrays, for cells with an input kernel."""
    params = plain(params)
    rows, each = (_rows(cell, tree) for tree in (params, params_shape(cell, 1)))
    if not rows or not each:
        raise ValueError(f"params: expected the tree of cell.init, got {checks.describe(params)}.")
    size = rows // each
    checks.params(cell, params_shape(cell, size), params, size)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: array(f"params{jax.tree_util.keystr(path)}", leaf), params
    )


def concatenate(blocks: Sequence[Array]) -> Array:
    """On the last axis."""
    if any(isinstance(block, jax.Array) for block in blocks):
        return jnp.concatenate(blocks, axis=-1)
    return np.concatenate(blocks, axis=-1)


def zeros(shape: tuple[int, ...], like: Array) -> Array:
    """In the dtype and the library of `like`."""
    return jnp.zeros(shape, like.dtype) if isinstance(like, jax.Array) else np.zeros(shape, like.dtype)


def split(fused: Array, gates: Iterable[str]) -> dict[str, Array]:
    """[..., G*H] -> G blocks [..., H] by the name of their gate."""
    gates = tuple(gates)
    width = fused.shape[-1] // len(gates)
    return {gate: fused[..., k * width : (k + 1) * width] for k, gate in enumerate(gates)}


def fuse(blocks: Mapping[str, Array], gates: Iterable[str]) -> Array:
    """G blocks [..., H] -> [..., G*H] in the order of `gates`."""
    return concatenate([blocks[gate] for gate in gates])


def regate(fused: Array, order: Iterable[str], gates: Iterable[str]) -> Array:
    """Reorders the blocks on the last axis from `order` to `gates`."""
    return fuse(split(fused, order), gates)


def must_be_zero(name: str, value: Array, reason: str) -> None:
    """Refuses what would be lost; traced values pass unread."""
    if not isinstance(value, jax.core.Tracer) and np.any(np.asarray(value)):
        raise ValueError(f"{name}: expected zeros, because {reason}, got {np.asarray(value).tolist()}.")


def one_of(cell: Cell, library: str, *kinds: type[Cell]) -> None:
    """Exactly one of these classes: a subclass may compute anything."""
    if type(cell) not in kinds:
        known = ", ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"cell: {library} has counterparts of {known}, got {cell}.")


def fixed(cell: Cell, library: str, **fields: object) -> None:
    """Fields that the library cannot choose, activations by name."""
    for field, expected in fields.items():
        value = getattr(cell, field)
        if value != (as_activation(field, expected) if field.endswith("activation") else expected):
            raise ValueError(
                f"cell: {library} has {type(cell).__name__}s with {field}={expected!r} only, got {cell}."
            )


def standard_activations(cell: Cell, library: str) -> None:
    """An LSTM or GRU whose activations cannot be chosen."""
    if isinstance(cell, (LSTM, GRU)):
        fixed(cell, library, gate_activation="sigmoid", candidate_activation="tanh")
    if isinstance(cell, LSTM):
        fixed(cell, library, output_activation="tanh")


def one_activation(cell: Cell, library: str) -> None:
    """An LSTM whose candidate and output share an activation."""
    if isinstance(cell, LSTM) and cell.candidate_activation != cell.output_activation:
        raise ValueError(
            f"cell: {library} has one activation for an LSTM's candidate and output, got {cell}."
        )
