"""Smaller forms of what a run has learned: narrow factors, zeros, integers of 8 bits."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import path_aware_map

import rnncells
from experiments.harness import weights
from experiments.harness.trained import Trained
from rnncells.parts.stand_ins import replace_kernels

KERNELS = ("kernel", "recurrent_kernel")


def module_of(module: nn.Module, form: str) -> nn.Module:
    """The module that takes the parameters of a form: `low-rank-16`, `int8`, `pruned-90`."""
    if found := re.fullmatch(r"low-rank-(\d+)", form):
        return _around(module, lambda cell: rnncells.LowRank(cell, rank=int(found[1])))
    return _around(module, rnncells.Int8) if form == "int8" else module


def low_rank(module: nn.Module, params: Any, rank: int) -> Any:
    """Every recurrent kernel as the nearest product of two narrow matrices (by its singular values).

    Raises:
        ValueError: where there is none, or none as wide as that.
    """
    cell = _cell(module)
    found = 0

    def factors(owner: rnncells.Cell, kernel: Any) -> Any:
        nonlocal found
        if isinstance(kernel, dict) or kernel.ndim != 2 or rank >= min(kernel.shape):
            shape = "parts" if isinstance(kernel, dict) else list(kernel.shape)
            raise ValueError(f"rank: expected less than a recurrent kernel has, {shape}, got {rank}.")
        found += 1
        left, values, right = np.linalg.svd(np.asarray(kernel, np.float64), full_matrices=False)
        root = np.sqrt(values[:rank])
        each = {"left": left[:, :rank] * root, "right": root[:, None] * right[:rank]}
        return {name: jnp.asarray(factor, kernel.dtype) for name, factor in each.items()}

    changed = _inside(params, lambda own: replace_kernels(cell, own, "recurrent_kernel", factors)[0])
    if not found:
        raise ValueError(f"rank: expected a cell with a recurrent kernel, got {cell}.")
    return changed


def int8(module: nn.Module, params: Any) -> Any:
    """Every kernel of the cells in integers of 8 bits (`rnncells.Int8`)."""
    cell = _cell(module)
    return _inside(params, lambda own: rnncells.Int8(cell).quantise(own))


def pruned(params: Any, sparsity: Any) -> Any:
    """Every matrix that something is multiplied with, its smallest entries zero: that fraction of them.
    Embeddings are left as they are."""

    def one(path: tuple[Any, ...], leaf: Any) -> Any:
        if path[-1] not in KERNELS or leaf.ndim < 2:
            return leaf
        sizes = jnp.abs(leaf)
        return jnp.where(sizes >= jnp.quantile(sizes, sparsity), leaf, 0)

    return path_aware_map(one, params)


def size(params: Any) -> int:
    """Bytes of the parameters; of one with many zeros, those of a bit for every place and of what is left."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    sparse = [math.ceil(leaf.size / 8) + int(np.count_nonzero(leaf)) * leaf.itemsize for leaf in leaves]
    return sum(min(leaf.nbytes, own) for leaf, own in zip(leaves, sparse, strict=True))


def opened(trained: Trained, folder: pathlib.Path, form: str) -> Trained:
    """A form that was written to a folder, of the run that it was made from.

    Raises:
        ValueError: where there is none.
    """
    path = folder / "weights" / f"{form}-{trained.about['run']}.safetensors"
    if not path.exists():
        known = ", ".join(sorted(each.stem for each in (folder / "weights").glob("*.safetensors"))) or "none"
        raise ValueError(f"{folder}: expected weights named {path.stem}, found {known}.")
    module = module_of(trained.module, form)
    return dataclasses.replace(trained, module=module, params=weights.load(path), about=weights.about(path))


def _cell(module: nn.Module) -> rnncells.Cell:
    cell = getattr(module, "cell", None)
    if not isinstance(cell, rnncells.Cell):
        raise ValueError(f"model: expected one with a cell, got {type(module).__name__}.")
    return cell


def _around(module: nn.Module, wrapped: Callable[[rnncells.Cell], rnncells.Cell]) -> nn.Module:
    """The module with every layer of its cell wrapped."""

    def layer(cell: rnncells.Cell) -> rnncells.Cell:
        if isinstance(cell, rnncells.Stack):
            return dataclasses.replace(cell, cells=tuple(map(layer, cell.cells)))
        if isinstance(cell, rnncells.Bidirectional):
            backward = None if cell.backward is None else layer(cell.backward)
            return dataclasses.replace(cell, forward=layer(cell.forward), backward=backward)
        return wrapped(cell)

    return module.clone(cell=layer(_cell(module)))


def _inside(params: Any, change: Callable[[Any], Any]) -> Any:
    """The parameters, with those of a cell changed, wherever the module has one."""
    if not isinstance(params, dict):
        return params
    return {name: change(own) if name == "cell" else _inside(own, change) for name, own in params.items()}
