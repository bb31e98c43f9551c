"""The protocol. Read this page first.

A cell is four pure functions. Two depend on the state or the parameters and run once; two are
pointwise in time and run for one tick or for all ticks at once, with the same result:

    function                                   depends on           runs
    prepare(params, key, batch_shape) -> weights   parameters       once per sequence
    project(weights, x, key) -> drive              the input        pointwise in time
    step(weights, carry, drive) -> (carry, out)    the state        one tick, in order
    readout(weights, out, drive) -> y              out and drive    pointwise in time

The author of a cell writes `init`, `project` and `step`; `prepare`, `readout` and `initial_carry`
where the defaults below do not fit. Everything else in this library (unrolling, masks, resets,
Flax modules, experiments) is written against these functions, and against nothing more.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias, dataclass_transform

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from rnncells import checks
from rnncells.dtypes import cast_like, dtype_of, promote, widen

Params: TypeAlias = Any  # a nested dict of arrays; the others are pytrees that the cell chooses
Weights: TypeAlias = Any
Carry: TypeAlias = Any
Drive: TypeAlias = Any
Number: TypeAlias = float | jax.Array | np.ndarray


def static(*, default: Any = dataclasses.MISSING, check: Callable[[str, Any], Any] | None = None) -> Any:
    """A field that decides shapes or control flow: part of the compiled program, never traced."""
    if check is None and isinstance(default, bool):
        check = checks.boolean
    return flax.struct.field(pytree_node=False, default=default, metadata={"check": check})


def number(*, default: Any = dataclasses.MISSING, low: float | None = None, high: float | None = None) -> Any:
    """A numeric field: a leaf of the pytree, so it may be traced, swept and differentiated."""
    return flax.struct.field(default=default, metadata={"low": low, "high": high})


def data(*, default: Any = None) -> Any:
    """Arrays that travel with an object and are no hyperparameters: traced and differentiated as its
    leaves, but not checked for being finite; such as the memory that a decoder attends to."""
    return flax.struct.field(default=default, metadata={"data": True})


def inner() -> Any:
    """A field that holds another cell. Checked when it is used: a twin of the object that holds axes for
    `jax.vmap`, with None or an int in place of the cell, is legal."""

    def check(name: str, value: Any) -> None:
        checks.cell(name, value, Cell)

    return flax.struct.field(metadata={"check": checks.not_a_class, "check_in_use": check})


@dataclass_transform(frozen_default=True, field_specifiers=(static, number, data, inner, flax.struct.field))
class Pytree:
    """A frozen dataclass that is a pytree: `static` fields in its type, numbers as its leaves.

    Equal by value: `==` always returns one bool. Hashable as long as every field is, that is, with
    plain numbers; with array fields an object travels through JAX as a pytree instead.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        flax.struct.dataclass(cls, eq=False, repr=False)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if check := field.metadata.get("check"):
                check(f"{type(self).__name__}.{field.name}", getattr(self, field.name))

    def _values(self) -> list[Any]:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        return all(map(_equal, self._values(), other._values()))

    def __hash__(self) -> int:
        return hash((type(self), *self._values()))

    def __repr__(self) -> str:
        """`LSTM(features=64)`: the fields that are not at their defaults."""
        fields = zip(dataclasses.fields(self), self._values(), strict=True)  # type: ignore[arg-type]
        own = [
            f"{f.name}={checks.describe(v) if hasattr(v, 'dtype') else repr(v)}"
            for f, v in fields
            if not _equal(v, f.default)
        ]
        return f"{type(self).__name__}({', '.join(own)})"


def _equal(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if a is None or b is None:
        return False
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
        return False
    if isinstance(a, (jax.Array, np.ndarray)) or isinstance(b, (jax.Array, np.ndarray)):
        alike = jnp.shape(a) == jnp.shape(b) and jnp.result_type(a) == jnp.result_type(b)
        return alike and bool(np.array_equal(a, b))
    return bool(a == b)


def locked(key: chex.PRNGKey | None) -> Any:
    """The key for what `prepare` draws, noise that is locked over a sequence.

    Not the key itself, nor its splits: tick t has `fold_in(key, t)`, which is what `jax.random.split(key)[t]`
    gives as well.
    """
    return None if key is None else jax.random.fold_in(key, np.uint32(2**32 - 1))


class Ticks(NamedTuple):
    """A sequence as cells are given it: every leaf is [T, ...]; None is what a call does not use."""

    x: Any
    key: chex.PRNGKey | None = None
    alive: jax.Array | None = None
    """bool [T, *B]: False where the tick does not exist."""
    resets: jax.Array | None = None
    """bool [T, *B]: True where a segment begins, in the order of the input."""


Scan: TypeAlias = Callable[["Cell", Weights, Carry, Carry, Ticks, bool], tuple[Carry, Any, Any]]
"""(cell, weights, initial, carry, ticks, reverse) -> (carry, ys, carries): one cell over a sequence."""


class Cell(Pytree, abc.ABC):
    """One tick of a recurrent network, as four pure functions over pytrees.

    Subclasses are frozen dataclasses and pytrees without further decoration. Annotate what decides
    shapes with `static()` and every number with `number()`.
    """

    paper: ClassVar[str]
    """Authors, year, arXiv id or DOI."""
    gates: ClassVar[tuple[str, ...]] = ()
    """Names of the blocks that are fused, in this order, on the last axis of kernels and biases."""
    linear: ClassVar[bool] = False
    """Whether the state enters linearly, so that an associative scan serves (see linear_scan.py)."""
    input_ndim: ClassVar[int] = 1
    """How many trailing axes of an input belong to one tick; the axes before them are batch."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "init" in cls.__dict__:
            cls.init = _checked(cls.init)  # type: ignore[method-assign]

    @abc.abstractmethod
    def init(self, key: chex.PRNGKey, input_size: int, dtype: Any = jnp.float32) -> Params:
        """Parameters for inputs [..., input_size]: a nested dict of what trains, nothing else."""

    def initial_carry(self, params: Params, batch_shape: tuple[int, ...] = ()) -> Carry:
        """The state before the first tick; params give shapes and dtypes (and learned states)."""
        return jnp.zeros((*batch_shape, self.output_size), dtype_of(params))

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: tuple[int, ...] = ()
    ) -> Weights:
        """What a whole sequence shares: orthogonal maps, constants, noise locked over time, drawn from
        `locked(key)` for the batch axes of the sequence."""
        return params

    @abc.abstractmethod
    def project(self, weights: Weights, x: Any, key: chex.PRNGKey | None = None) -> Drive:
        """All that depends on the input alone. May carry leaves that only `readout` uses."""

    @abc.abstractmethod
    def step(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Any]:
        """The sequential part: deterministic, one tick, nothing that could be done elsewhere."""

    def readout(self, weights: Weights, out: Any, drive: Drive) -> Any:
        """The output of a tick, from what `step` gave out and the drive."""
        return out

    @property
    def layered(self) -> bool:
        """Whether `over` runs several cells, one after the other."""
        return False

    def over(
        self, scan: Scan, weights: Weights, initial: Carry, carry: Carry, ticks: Ticks, reverse: bool
    ) -> tuple[Carry, Any, Any]:
        """The cell over a sequence: one scan, but for stacks, which scan layer by layer."""
        return scan(self, weights, initial, carry, ticks, reverse)

    @property
    def output_size(self) -> int:
        """Width of y. Never depends on the input size."""
        return self.features  # type: ignore[attr-defined]

    def tick(
        self, weights: Weights, carry: Carry, x: Any, key: chex.PRNGKey | None = None
    ) -> tuple[Carry, Any]:
        """One tick with prepared weights: carry, x [*B, I] -> carry, y [*B, O].

        With noise, pass `jax.random.fold_in(key, t)` as the key of tick t. The carry keeps its dtype.
        """
        weights, x = promote(weights, x)
        drive = self.project(weights, x, key)
        new, out = self.step(weights, widen(carry, dtype_of(weights)), drive)
        return cast_like(new, carry), self.readout(weights, out, drive)

    def __call__(
        self, params: Params, carry: Carry, x: Any, key: chex.PRNGKey | None = None
    ) -> tuple[Carry, Any]:
        """One tick from parameters, the body of a `jax.lax.scan`: prepare, project, step, readout."""
        checks.key(key)
        _, batch_shape = checks.sequence(
            jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x), self.input_ndim
        )
        checks.alike("carry: expected", self.carry_shape(promote(params, x)[0], batch_shape), carry)
        weights = self.prepare(params, key, batch_shape)
        return self.tick(weights, carry, x, None if key is None else jax.random.fold_in(key, 0))

    def carry_shape(self, params: Params, batch_shape: tuple[int, ...] = ()) -> Carry:
        """`initial_carry` as shapes and dtypes, without computing it."""
        return jax.eval_shape(functools.partial(self.initial_carry, batch_shape=batch_shape), params)


def _checked(init: Callable[..., Params]) -> Callable[..., Params]:
    """Checks the cell's numeric fields and init's arguments before any author's `init`."""

    @functools.wraps(init)
    def checked(self: Cell, key: chex.PRNGKey, input_size: int, dtype: Any = jnp.float32) -> Params:
        checks.numbers(self)
        checks.key(key)
        checks.float_dtype("dtype", dtype)
        return init(self, key, checks.positive_int("input_size", input_size), dtype)

    return checked
