"""What may stand in for a kernel in `dense`: a linear map that is masked, factored, normalised, in blocks
or in integers.

Cells multiply with `dense(h, kernel)` or `h @ kernel` and may take blocks of columns, `kernel[:, :n]`;
whatever supports these can take the place of an array. Wrappers put such objects among the weights that a
cell is given, so that no cell has to know of them.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.cell import Cell
from rnncells.dtypes import accumulator, wider
from rnncells.fields import Number, Pytree, data, number, static
from rnncells.parts.arithmetic import align, dense, normalise


class StandIn(Pytree, abc.ABC):
    """A map from [..., K] to [..., N]."""

    @abc.abstractmethod
    def times(self, x: jax.Array) -> jax.Array:
        """x [..., K] times the kernel."""

    @abc.abstractmethod
    def __getitem__(self, columns: Any) -> Any:
        """The kernel of some of the columns, indexed as an array is: [:, start:stop]."""

    def __rmatmul__(self, x: jax.Array) -> jax.Array:
        return self.times(x)

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, int]:
        """K and N."""


class Masked(StandIn):
    """diag(mask) kernel: what the kernel reads is multiplied with mask [*B, K]."""

    kernel: Any = data()
    mask: Any = data()

    def times(self, x: jax.Array) -> jax.Array:
        return dense(x * align(self.mask.astype(x.dtype), x), self.kernel)

    def __getitem__(self, columns: Any) -> Masked:
        return Masked(self.kernel[columns], self.mask)

    @property
    def shape(self) -> tuple[int, int]:
        return self.kernel.shape


class Factored(StandIn):
    """left [K, R] right [R, N]."""

    left: Any = data()
    right: Any = data()

    def times(self, x: jax.Array) -> jax.Array:
        return dense(dense(x, self.left), self.right)

    def __getitem__(self, columns: Any) -> Factored:
        return Factored(self.left, self.right[columns])

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.right.shape[1]


class Scaled(StandIn):
    """kernel [K, N] in integers, column by column times scale [N]."""

    kernel: Any = data()
    scale: Any = data()

    def times(self, x: jax.Array) -> jax.Array:
        y = dense(x, self.kernel.astype(self.scale.dtype))
        return y * align(self.scale.astype(y.dtype), y)

    def __getitem__(self, columns: Any) -> Scaled:
        return Scaled(self.kernel[columns], self.scale[columns[-1]])

    @property
    def shape(self) -> tuple[int, int]:
        return self.kernel.shape


class Normalised(StandIn):
    """The product, normalised over each block of columns."""

    kernel: Any = data()
    scale: Any = data()
    """[N]"""
    epsilon: Number = number(default=1e-5)
    width: int = static(default=1)
    """Columns of one block."""
    centre: bool = static(default=True)

    def times(self, x: jax.Array) -> jax.Array:
        return normalise(dense(x, self.kernel), self.scale, self.epsilon, self.width, self.centre)

    def __getitem__(self, columns: Any) -> Normalised:
        scale = self.scale[columns[-1]]
        if scale.shape[0] % self.width:
            raise ValueError(f"columns: expected whole blocks of {self.width}, got {columns}.")
        return Normalised(self.kernel[columns], scale, self.epsilon, self.width, self.centre)

    @property
    def shape(self) -> tuple[int, int]:
        return self.kernel.shape


class BlockDiagonal(StandIn):
    """A kernel for each of some heads, which share the input between them: K = heads R and N = G K, for
    blocks [R, R] that lie side by side in kernel [R, N], gate by gate and in each head by head."""

    kernel: Any = data()
    heads: int = static(default=1)

    def times(self, x: jax.Array) -> jax.Array:
        rows, columns = self.kernel.shape
        parts = x.reshape(*x.shape[:-1], self.heads, rows)
        blocks = self.kernel.reshape(rows, columns // (self.heads * rows), self.heads, rows)
        dtype = wider(x.dtype, blocks.dtype)
        product = jnp.einsum("...hk,kghn->...ghn", parts.astype(dtype), blocks.astype(dtype))
        return product.reshape(*x.shape[:-1], columns)

    def __getitem__(self, columns: Any) -> BlockDiagonal:
        kernel = self.kernel[columns]
        if kernel.shape[1] % self.shape[0]:
            raise ValueError(f"columns: expected whole blocks of {self.shape[0]}, got {columns}.")
        return BlockDiagonal(kernel, self.heads)

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.kernel.shape
        return self.heads * rows, columns


def on_array(kernel: Any, change: Callable[[jax.Array], jax.Array]) -> Any:
    """The kernel with the array in it changed; one of two arrays is multiplied out for it."""
    if isinstance(kernel, Factored):
        return change(kernel.left @ kernel.right)
    if isinstance(kernel, Scaled):
        return change(kernel.kernel.astype(kernel.scale.dtype) * align(kernel.scale, kernel.kernel))
    if isinstance(kernel, StandIn):
        return dataclasses.replace(kernel, kernel=on_array(kernel.kernel, change))  # type: ignore[attr-defined,call-arg]
    return change(kernel)


def replace_kernels(cell: Cell, tree: Any, name: str, new: Callable[[Cell, Any], Any]) -> tuple[Any, int]:
    """A cell's params or weights with every kernel of that name replaced by `new(its cell, kernel)`, in the
    cell itself and in those that it is made of; and how many there were."""
    if "" in cell.children:
        return replace_kernels(cell.children[""], tree, name, new)
    if not isinstance(tree, dict):
        return tree, 0
    made, count = dict(tree), 0
    if name in tree:
        made[name], count = new(cell, tree[name]), 1
    for entry, child in cell.children.items():
        made[entry], found = replace_kernels(child, tree[entry], name, new)
        count += found
    return made, count


def drop(key: Any, rate: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """A mask of zeros, with probability rate, and of 1 / (1 - rate)."""
    checks.fits("rate", rate, shape)
    rate = jnp.broadcast_to(jnp.asarray(rate, accumulator(dtype)), shape)  # 16 bits cannot hold small rates
    keep = jax.random.bernoulli(key, 1 - rate)
    return jnp.where(keep, 1 / jnp.where(rate < 1, 1 - rate, 1), 0).astype(dtype)
