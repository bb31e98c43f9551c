"""Products of a varying array with a weight, and what their derivatives are products of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend import core
from jax.sharding import AxisType, PartitionSpec

Var: TypeAlias = Any  # a `jax.extend.core.Var`, whose type knows no shape


@dataclasses.dataclass(frozen=True)
class Product:
    """z = left . kernel, a `dot_general` with or without batch axes, in either order of its operands."""

    left: Var
    """What varies."""
    kernel: Var
    """The weight."""
    first: bool
    """Whether `left` is the first operand."""
    params: tuple[tuple[str, Any], ...]
    """Those of the `dot_general`, its precision among them."""

    @property
    def _axes(self) -> tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]]:
        """The axes that left and kernel contract, and those that they share."""
        (first, second), (batch_first, batch_second) = dict(self.params)["dimension_numbers"]
        if self.first:
            return first, second, batch_first, batch_second
        return second, first, batch_second, batch_first

    @property
    def width(self) -> int:
        """How much of the left side goes into one number of the product."""
        contracted, *_ = self._axes
        return math.prod(self.left.aval.shape[axis] for axis in contracted)

    def value(self, left: Array, kernel: Array) -> Array:
        operands = (left, kernel) if self.first else (kernel, left)
        return jax.lax.dot_general(*operands, **dict(self.params))

    def to_left(self, dz: Array, kernel: Array) -> Array:
        """The cotangent of left."""
        contracted, kernel_contracted, batch, kernel_batch = self._axes
        free = _others(kernel.ndim, kernel_contracted, kernel_batch)
        left_free = _others(self.left.aval.ndim, contracted, batch)
        shared = len(batch)
        start = shared + (len(left_free) if self.first else 0)
        dz_free = tuple(range(start, start + len(free)))
        made = self._dot(dz, kernel, (dz_free, free), (tuple(range(shared)), kernel_batch))
        # What was made has the axes: shared, free ones of left, the rest of kernel.
        rest = [contracted[list(kernel_contracted).index(axis)] for axis in sorted(kernel_contracted)]
        return _transposed(made, [*batch, *left_free, *rest])

    def to_kernel(self, lefts: Array, dzs: Array, kernel: Array) -> Array:
        """The cotangent of the kernel from all ticks: lefts and dzs have a leading axis of time. One product
        over time and batch, which are not merged: the batch may be sharded."""
        contracted, kernel_contracted, batch, kernel_batch = self._axes
        left_free = _others(self.left.aval.ndim, contracted, batch)
        free = _others(kernel.ndim, kernel_contracted, kernel_batch)
        shared = len(batch)
        start = shared + (0 if self.first else len(free))
        over_left = (0, *(axis + 1 for axis in left_free))
        over_dz = (0, *(axis + 1 for axis in range(start, start + len(left_free))))
        together = tuple(axis + 1 for axis in batch), tuple(axis + 1 for axis in range(shared))
        rest = [kernel_contracted[list(contracted).index(axis)] for axis in sorted(contracted)]
        order = [*kernel_batch, *rest, *free]
        sharding = jax.typeof(kernel).sharding
        spec = None
        if AxisType.Explicit in sharding.mesh.axis_types:  # a sharded batch is summed over: say to where
            spec = PartitionSpec(*(sharding.spec[axis] for axis in order))
        return _transposed(self._dot(lefts, dzs, (over_left, over_dz), together, spec), order)

    def _dot(
        self, a: Array, b: Array, contracted: Any, batch: Any, sharding: PartitionSpec | None = None
    ) -> Array:
        given = {name: dict(self.params)[name] for name in ("precision", "preferred_element_type")}
        return jax.lax.dot_general(a, b, (contracted, batch), out_sharding=sharding, **given)


def as_product(eqn: core.JaxprEqn, known: set[Var]) -> Product | None:
    """The equation as a product with a weight, of one inexact dtype; None for all others."""
    if eqn.primitive.name != "dot_general":
        return None
    first: Var
    second: Var
    first, second = eqn.invars
    literal = isinstance(first, core.Literal) or isinstance(second, core.Literal)
    if literal or (first in known) == (second in known):
        return None
    left, kernel, out = (second, first, *eqn.outvars) if first in known else (first, second, *eqn.outvars)
    dtypes = {v.aval.dtype for v in (left, kernel, out)}
    if len(dtypes) > 1 or not jnp.issubdtype(left.aval.dtype, jnp.inexact):
        return None
    return Product(left, kernel, first is left, tuple(eqn.params.items()))


def _others(count: int, *used: Sequence[int]) -> tuple[int, ...]:
    taken = {axis for axes in used for axis in axes}
    return tuple(axis for axis in range(count) if axis not in taken)


def _transposed(made: Array, order: Sequence[int]) -> Array:
    """Axis i of what was made belongs at place order[i]."""
    if list(order) == sorted(order):
        return made
    return jnp.transpose(made, [list(order).index(place) for place in range(len(order))])
