"""The protocol. Read this page first.

A cell is four pure functions. Two depend on the state or the parameters and run once; two are
pointwise in time and run for one tick or for all ticks at once, with the same result:

    function                                   depends on           runs
    prepare(params, key, batch_shape) -> weights   parameters       once per sequence
    project(weights, x, key) -> drive              the input        pointwise in time
    step(weights, carry, drive) -> (carry, out)    the state        one tick, in order
    readout(weights, out, drive) -> y              out and drive    pointwise in time

The author of a cell writes `init`, `project` and `step`; `prepare`, `readout` and `initial_carry`
where the defaults below do not fit; and a few class attributes that say what kind of cell it is.
`unroll` and the Flax modules are written against these. A cell made of cells declares them as its
`children`, and may say in `over` how they run over a whole sequence.
"""

from __future__ import annotations

import abc
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.dtypes import cast_like, computes_in, dtype_of, promote, widen
from rnncells.fields import Pytree, check_numbers

if TYPE_CHECKING:
    from rnncells.run import Result, Run, Scan

Params: TypeAlias = Any  # a nested dict of arrays; the others are pytrees that the cell chooses
Weights: TypeAlias = Any
Inputs: TypeAlias = Any  # of one tick, or of all
Carry: TypeAlias = Any
Drive: TypeAlias = Any
Out: TypeAlias = Any  # what `step` gives to `readout`
Outputs: TypeAlias = Any
Like: TypeAlias = Any  # inputs of one tick as `jax.ShapeDtypeStruct`s, or None
Shape: TypeAlias = tuple[int, ...]


class Timed(NamedTuple):
    """An input with the time that has passed since the tick before, for cells with `timed = True`.

    A cell takes the time that comes with a tick: read backwards, it is still that of the tick, so that time
    stamps t want `elapsed` [k] = t[k + 1] - t[k] there; and the time of a tick that a mask skips is not added
    to the next one.
    """

    x: chex.Array
    """[..., I]"""
    elapsed: chex.Array
    """[..., 1], in the unit of the cell's time constants. Inputs without it are 1 apart."""

    @property
    def shape(self) -> Shape:
        """Of x; with `ndim`, what Flax's own RNN asks of its inputs."""
        return self.x.shape

    @property
    def ndim(self) -> int:
        return self.x.ndim


def locked(key: chex.PRNGKey | None) -> Any:
    """The key for what `prepare` draws, noise that is locked over a sequence.

    Not the key itself, nor its splits: tick t has `fold_in(key, t)`, which is what `jax.random.split(key)[t]`
    gives as well.
    """
    return None if key is None else jax.random.fold_in(key, np.uint32(2**32 - 1))


class _Derived:
    def __init__(self, get: Callable[[Any], Any]) -> None:
        self.get = get

    def __get__(self, instance: Any, owner: type) -> Any:
        try:
            return self.get(owner if instance is None else instance)
        except AttributeError:
            if instance is not None:
                raise
            return self


def derived(get: Callable[[Any], Any]) -> Any:
    """A class attribute that an instance computes, such as `linear` of a wrapper. Of the class itself it is
    what the defaults of its fields say, where they all have one."""
    return _Derived(get)


class Cell(Pytree, abc.ABC):
    """One tick of a recurrent network, as four pure functions over pytrees.

    Subclasses are frozen dataclasses and pytrees without further decoration. Annotate what decides
    shapes with `static()` and every number with `number()`.

    `prepare` and `initial_carry` may take one more argument, `like`: the input of one tick, [*B, I], as
    `jax.ShapeDtypeStruct`s, for cells that must know its size or dtype without having parameters.
    """

    paper: ClassVar[str]
    """Authors, year, arXiv id or DOI."""
    gates: ClassVar[tuple[str, ...]] = ()
    """Names of the blocks that are fused, in this order, on the last axis of kernels and biases."""
    linear: ClassVar[bool] = False
    """Whether the state enters linearly, so that time may run in parallel (see parts/linear.py)."""
    timed: ClassVar[bool] = False
    """Whether inputs may be `Timed`."""
    blendable: ClassVar[bool] = True
    """Whether every floating part of the state may be averaged with its old value, or disturbed, by
    itself."""
    input_ndim: ClassVar[int] = 1
    """How many trailing axes of an input belong to one tick; the axes before them are batch."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, opened in (("init", _init), ("prepare", _with_params), ("initial_carry", _with_params)):
            if name in cls.__dict__:
                setattr(cls, name, opened(cls.__dict__[name]))

    @abc.abstractmethod
    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        """Parameters for inputs [..., input_size]: a nested dict of what trains, nothing else."""

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> Carry:
        """The state before the first tick; params give dtypes (and learned states), or shapes where the
        fields of the cell do not decide them. Without params it is in the dtype of `like`, or float32."""
        return jnp.zeros((*batch_shape, self.output_size), dtype_of(params, like))

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        """What a whole sequence shares: orthogonal maps, constants, noise locked over time, drawn from
        `locked(key)` for the batch axes of the sequence."""
        return params

    @abc.abstractmethod
    def project(self, weights: Weights, x: Inputs, key: chex.PRNGKey | None = None) -> Drive:
        """All that depends on the input alone. May carry leaves that only `readout` uses."""

    @abc.abstractmethod
    def step(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Out]:
        """The sequential part: deterministic, one tick, nothing that could be done elsewhere."""

    def readout(self, weights: Weights, out: Out, drive: Drive) -> Outputs:
        """The output of a tick, from what `step` gave out and the drive."""
        return out

    @property
    def output_size(self) -> int:
        """Width of y. Never depends on the input size."""
        return self.features  # type: ignore[attr-defined]

    def block(self, kernel: str) -> int:
        """Columns of one gate in the kernel of this name: what is normalised together."""
        return self.features  # type: ignore[attr-defined]

    @property
    def children(self) -> Mapping[str, Cell]:
        """The cells that this one is made of, by the name of their entry in params and weights. The name ""
        is of a single child whose params and weights are this cell's own."""
        return {}

    @property
    def noisy(self) -> bool:
        """Whether a key changes anything. A cell that draws noise says `noisy = True`; a cell made of cells
        is noisy where one of them is. By this the Flax modules ask for a key."""
        return any(cell.noisy for cell in self.children.values())

    @property
    def layered(self) -> bool:
        """Whether `over` runs several cells, one after the other."""
        return False

    def over(self, scan: Scan, run: Run) -> Result:
        """The cell over a sequence: one scan, but for stacks, which scan layer by layer."""
        return scan(self, run)

    def tick(
        self, weights: Weights, carry: Carry, x: Inputs, key: chex.PRNGKey | None = None
    ) -> tuple[Carry, Out]:
        """One tick with prepared weights: carry, x [*B, I] -> carry, y [*B, O].

        With noise, pass `jax.random.fold_in(key, t)` as the key of tick t. The carry keeps its dtype.
        """
        dtype = computes_in(weights, x)
        weights, x = widen(weights, dtype), widen(x, dtype)
        drive = self.project(weights, x, key)
        new, out = self.step(weights, widen(carry, dtype), drive)
        return cast_like(new, carry), self.readout(weights, out, drive)

    def __call__(
        self, params: Params, carry: Carry, x: Inputs, key: chex.PRNGKey | None = None
    ) -> tuple[Carry, Out]:
        """One tick from parameters, the body of a `jax.lax.scan`: prepare, project, step, readout."""
        checks.key(key)
        xs = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x)
        _, batch_shape = checks.sequence(xs, self.input_ndim)
        self.check_timed(x)
        params, x = promote(plain(params), jax.tree.map(jnp.asarray, x))
        like = shapes_of(x)
        state = checks.alike("carry: expected", self.carry_shape(params, batch_shape, like), carry)
        weights = self.prepare(params, key, batch_shape, like=like)
        state, y = self.tick(weights, state, x, None if key is None else jax.random.fold_in(key, 0))
        # A scan wants the carry back in the tuples in which it gave it.
        return jax.tree.unflatten(jax.tree.structure(carry), jax.tree.leaves(state)), y

    def check_timed(self, x: Inputs) -> None:
        """Refuses elapsed times where nothing takes them."""
        if isinstance(x, Timed) and not self.timed:
            raise TypeError(f"xs: expected arrays, as {self} takes no elapsed times, got Timed.")

    def check_data(self) -> None:
        """Refuses arrays that travel with a cell and do not fit, while their values can be seen."""
        for cell in self.children.values():
            cell.check_data()

    @property
    def num_feature_axes(self) -> int:
        """What Flax's own RNN asks of its cells, which are Flax modules: refused with what to write."""
        raise TypeError(
            f"cell: Flax's RNN expects a Flax module, got {self!r}; write rnncells.linen.RNN(cell), or Flax's"
            " RNN around rnncells.linen.RNNCell(cell); for nnx the same from rnncells.nnx."
        )

    def carry_shape(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> Carry:
        """`initial_carry` as shapes and dtypes, without computing it."""
        return jax.eval_shape(lambda params: self.initial_carry(params, batch_shape, like=like), params)


def _init(init: Callable[..., Params]) -> Callable[..., Params]:
    """Checks the cell's numeric fields and init's arguments before any author's `init`."""

    @functools.wraps(init)
    def checked(self: Cell, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        check_numbers(self)
        checks.key(key)
        checks.float_dtype("dtype", dtype)
        return init(self, key, checks.positive_int("input_size", input_size), dtype)

    return checked


def _with_params(method: Callable[..., Any]) -> Callable[..., Any]:
    """Params may be any mapping, or none; `like` is handed on to the methods that take it."""
    takes_like = "like" in inspect.signature(method).parameters

    @functools.wraps(method)
    def opened(self: Cell, params: Params = None, *args: Any, like: Like = None, **given: Any) -> Any:
        if takes_like:
            given["like"] = like
        return method(self, plain(params), *args, **given)

    return opened


def plain(params: Params) -> Params:
    """Params as a nested dict of arrays, whatever mapping they came in (a FrozenDict, an `nnx.State`), and
    without the boxes of Flax's `with_partitioning`."""
    if isinstance(params, Mapping):
        return {name: plain(value) for name, value in params.items()}
    for opened in ("get_value", "unbox"):
        if hasattr(params, opened):
            return getattr(params, opened)()
    return params


def shapes_of(x: Inputs) -> Like:
    """Arrays as shapes and dtypes."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), x)
