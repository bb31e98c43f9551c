"""What wrappers have in common: everything is the inner cell's, until a wrapper says otherwise."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import (
    Carry,
    Cell,
    Drive,
    Inputs,
    Like,
    Out,
    Outputs,
    Params,
    Shape,
    Timed,
    Weights,
    derived,
)
from rnncells.fields import inner
from rnncells.parts.arithmetic import select
from rnncells.parts.stand_ins import replace_kernels
from rnncells.run import Result, Run, Scan

INPUT, RECURRENT = "kernel", "recurrent_kernel"


class WrappedDrive(NamedTuple):
    """The drive of a wrapper that adds something to the inner one."""

    inner: Drive
    own: Any = None

    @property
    def element(self) -> Any:
        return self.inner.element


def split(key: chex.PRNGKey | None) -> tuple[Any, Any]:
    """A key for the wrapper and one for the cell inside; without a key there is none for either."""
    return (None, None) if key is None else tuple(jax.random.split(key))


def _of_cell(name: str) -> Any:
    """What the inner cell says of itself."""
    return derived(lambda self: getattr(self.cell, name))


class Wrapper(Cell):
    """A cell around a cell. Where it has parameters of its own, the inner ones lie under "cell"."""

    has_params: ClassVar[bool] = False

    cell: Cell = inner()

    @property
    def children(self) -> Mapping[str, Cell]:
        return {"cell" if self.has_params else "": self.cell}

    gates = _of_cell("gates")
    input_ndim = _of_cell("input_ndim")
    timed = _of_cell("timed")
    blendable = _of_cell("blendable")
    linear = _of_cell("linear")
    features = _of_cell("features")
    output_size = _of_cell("output_size")
    # Of linear cells alone, see parts/linear.py:
    reads = _of_cell("reads")
    associative = _of_cell("associative")
    chunk_size = _of_cell("chunk_size")
    monoid = _of_cell("monoid")

    def block(self, kernel: str) -> int:
        return self.cell.block(kernel)

    def read(self, weights: Weights, state: Carry, drive: Drive) -> Any:
        inner: Any = self.cell
        return inner.read(self.inside(weights), state, drive)

    def chunk(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Out]:
        inner: Any = self.cell
        return inner.chunk(self.inside(weights), carry, drive)

    @property
    def layered(self) -> bool:
        """Whether the layers inside are run one by one: not if the wrapper has a tick of its own."""
        tick = ("project", "step", "readout")
        return self.cell.layered and all(getattr(type(self), f) is getattr(Wrapper, f) for f in tick)

    def inside(self, tree: Any) -> Any:
        """The inner cell's part of params or weights."""
        return tree["cell"] if self.has_params and tree is not None else tree

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        return self.cell.init(key, input_size, dtype)

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> Carry:
        return self.cell.initial_carry(self.inside(params), batch_shape, like=like)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        weights = self.cell.prepare(self.inside(params), key, batch_shape, like=like)
        return {**params, "cell": weights} if self.has_params else weights

    def project(self, weights: Weights, x: Inputs, key: chex.PRNGKey | None = None) -> Drive:
        return self.cell.project(self.inside(weights), x, key)

    def step(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Out]:
        return self.cell.step(self.inside(weights), carry, drive)

    def readout(self, weights: Weights, out: Out, drive: Drive) -> Outputs:
        return self.cell.readout(self.inside(weights), out, drive)

    def over(self, scan: Scan, run: Run) -> Result:
        if not self.layered:
            return scan(self, run)
        return self.cell.over(scan, dataclasses.replace(run, weights=self.inside(run.weights)))


class TickWrapper(Wrapper):
    """A wrapper that takes part in every tick of one cell."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.cell, Cell) and self.cell.layered:
            raise ValueError(
                f"{type(self).__name__}.cell: expected one cell, got {self.cell}; wrap its layers instead,"
                f" as in Stack([{type(self).__name__}(...), ...])."
            )


class DrivenWrapper(Wrapper):
    """A wrapper whose drive is a `WrappedDrive`."""

    def step(self, weights: Weights, carry: Carry, drive: WrappedDrive) -> tuple[Carry, Out]:
        return super().step(weights, carry, drive.inner)

    def read(self, weights: Weights, state: Carry, drive: WrappedDrive) -> Any:
        return super().read(weights, state, drive.inner)

    def chunk(self, weights: Weights, carry: Carry, drive: WrappedDrive) -> tuple[Carry, Out]:
        return super().chunk(weights, carry, drive.inner)

    def readout(self, weights: Weights, out: Out, drive: WrappedDrive) -> Outputs:
        return super().readout(weights, out, drive.inner)


class Pointwise(DrivenWrapper):
    """A wrapper of inputs and outputs only: the state neither sees nor feels it.

    Subclasses write `after`. A linear cell stays linear, and a stack is still run layer by layer.
    """

    @abc.abstractmethod
    def after(self, weights: Weights, x: Inputs, y: Any) -> Any:
        """The output of a tick, from its input (without time stamps) and the inner cell's output."""

    @property
    def layered(self) -> bool:
        return self.cell.layered

    def project(self, weights: Weights, x: Inputs, key: chex.PRNGKey | None = None) -> Drive:
        return WrappedDrive(super().project(weights, x, key), values_of(x))

    def readout(self, weights: Weights, out: Out, drive: WrappedDrive) -> Outputs:
        return self.after(weights, drive.own, super().readout(weights, out, drive))

    def over(self, scan: Scan, run: Run) -> Result:
        result = super().over(scan, run)
        if not self.layered:
            return result
        ys = jax.vmap(self.after, (None, 0, 0))(run.weights, values_of(run.ticks.x), result.ys)
        if run.ticks.alive is not None:
            ys = select(run.ticks.alive, ys, jax.tree.map(jnp.zeros_like, ys))
        return result._replace(ys=ys)


def values_of(x: Any) -> Any:
    """An input without its time stamps."""
    return x.x if isinstance(x, Timed) else x


def per_leaf(name: str, value: Any, tree: Any) -> Any:
    """A number for every leaf of the state: one for all, or as many as the state has, in its structure."""
    if jax.tree_util.all_leaves([value]):
        value = jax.tree.broadcast(value, tree)
    expected: Any = jax.tree.structure(tree)
    if expected != jax.tree.structure(value):
        raise ValueError(
            f"{name}: expected one number, or one for each part of the state"
            f" {checks.describe(tree)}, got {checks.describe(value)}."
        )
    for number, leaf in zip(jax.tree.leaves(value), jax.tree.leaves(tree), strict=True):
        checks.fits(name, number, leaf.shape)
    return value


def carried_out(out: Any, old: Any, new: Any) -> Any:
    """The output where the state was replaced: what was a part of the state `old`, the same array object,
    becomes that of `new`."""
    parts = list(zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True))

    def replaced(leaf: Any) -> Any:
        return next((after for before, after in parts if before is leaf), leaf)

    return jax.tree.map(replaced, out)


def with_kernels(wrapper: Wrapper, weights: Weights, name: str, new: Callable[[Cell, Any], Any]) -> Weights:
    """The weights of a wrapper with their kernels replaced by `new(the cell that has it, kernel)`; a cell
    that
    has none is refused."""
    made, count = replace_kernels(wrapper, weights, name, new)
    if count == 0:
        raise ValueError(
            f"{type(wrapper).__name__}: expected a cell with a `{name}` among its weights, got"
            f" {wrapper.cell}, which has {checks.describe(weights)}."
        )
    return made


def require_matrices(wrapper: Wrapper, weights: Weights, name: str) -> None:
    """Kernels of that name, all of them matrices."""

    def check(cell: Cell, kernel: Any) -> Any:
        check_matrix(wrapper, kernel)
        return kernel

    with_kernels(wrapper, weights, name, check)


def check_matrix(wrapper: Wrapper, kernel: Any) -> None:
    """Refuses kernels with more than two axes, and what `check_array` refuses."""
    check_array(wrapper, kernel)
    if len(kernel.shape) != 2:
        raise ValueError(
            f"{type(wrapper).__name__}: expected kernels [K, N], got {checks.describe(kernel)} in"
            f" {wrapper.cell}."
        )


def check_array(wrapper: Wrapper, kernel: Any) -> None:
    """Refuses the parts in which another wrapper keeps a kernel among the params."""
    if isinstance(kernel, dict):
        raise ValueError(
            f"{type(wrapper).__name__}: expected a cell whose recurrent kernel is one array, got"
            f" {wrapper.cell}; a kernel can be factored or normalised by weights once."
        )


def shaped_weights(cell: Cell, params: Params, input_size: int, dtype: DTypeLike) -> Weights:
    """The weights that `prepare` makes, as shapes: computed in `init`, so that a cell that does not suit a
    wrapper is refused there, not later."""
    like = jax.ShapeDtypeStruct((*(1,) * (cell.input_ndim - 1), input_size), dtype)
    return jax.eval_shape(lambda params: cell.prepare(params, like=like), params)
