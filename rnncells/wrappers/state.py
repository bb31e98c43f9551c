"""Wrappers of the state: zoneout, noise, a learned beginning."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Carry, Cell, Drive, Inputs, Like, Out, Outputs, Params, Shape, Weights, derived
from rnncells.dtypes import accumulator, real
from rnncells.fields import number
from rnncells.parts.arithmetic import constant
from rnncells.parts.linear import with_element
from rnncells.wrappers.wrapper import (
    TickWrapper,
    WrappedDrive,
    Wrapper,
    carried_out,
    per_leaf,
    split,
)


class _StateWrapper(TickWrapper):
    """Changes the state that a tick leaves, with noise drawn at every tick.

    Where `step` gives out a part of the state, the same array object, the output is that part as changed.
    Parts that are no floating numbers (counters, keys) stay as they are; cells whose parts mean something
    only together are refused.
    """

    noisy = True
    operation: ClassVar[str]
    """The method of a monoid that does the same to its elements, so that a linear cell stays linear."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.cell, Cell) and not self.cell.blendable:
            raise ValueError(
                f"{type(self).__name__}.cell: expected a cell whose state may change part by part, got"
                f" {self.cell}, whose parts share a scale or a count; wrap its output instead."
            )

    @derived
    def linear(self) -> bool:
        return self.cell.linear and self.reads == "after" and hasattr(self.monoid, self.operation)

    @abc.abstractmethod
    def change(self, key: chex.PRNGKey | None, old: Carry, new: Carry) -> Carry:
        """The state after a tick, from that before it and what the cell makes of it."""

    @abc.abstractmethod
    def change_element(self, key: chex.PRNGKey | None, element: Any) -> Any:
        """The same for the element of a linear cell."""

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        params = super().init(key, input_size, dtype)
        state = self.carry_shape(params)
        jax.eval_shape(self.change, None, state, state)  # refuses rates that do not fit the state now
        return params

    def project(self, weights: Weights, x: Inputs, key: chex.PRNGKey | None = None) -> Drive:
        own, inner_key = split(key)
        drive = super().project(weights, x, inner_key)
        if self.linear:
            return with_element(drive, self.change_element(own, drive.element))
        return WrappedDrive(drive, own)

    def step(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Out]:
        if self.linear:
            return super().step(weights, carry, drive)
        new, out = super().step(weights, carry, drive.inner)
        changed = self.change(drive.own, carry, new)
        return changed, carried_out(out, new, changed)

    def readout(self, weights: Weights, out: Out, drive: Drive) -> Outputs:
        return super().readout(weights, out, drive if self.linear else drive.inner)


def _floating(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _each(change: Callable[..., Any], key: chex.PRNGKey | None, numbers: Any, old: Any, new: Any) -> Any:
    """`change(key, number, old, new)` of every floating part of a state, each with a key of its own."""
    leaves: list[jax.Array]
    structure: Any
    leaves, structure = jax.tree.flatten(new)
    keys = [None] * len(leaves) if key is None else list(jax.random.split(key, len(leaves)))
    changed = [
        change(*given) if _floating(given[-1]) else given[-1]
        for given in zip(
            keys, structure.flatten_up_to(numbers), structure.flatten_up_to(old), leaves, strict=True
        )
    ]
    return jax.tree.unflatten(structure, changed)


class Zoneout(_StateWrapper):
    """Units that keep their old value, at random, instead of the new one.

        s' = m s + (1 - m) f(s, x),    m ~ Bernoulli(rate) for every unit and tick       with a key
        s' = rate s + (1 - rate) f(s, x)                                                 without

    The candidate of every part of the state is computed from the parts as they were, then each is
    zoned by itself: an LSTM's h' comes from the new c before its zoneout. Where `step` of the cell
    returns a part of its new state as the output, as all of `CELLS` do, the output is that part, zoned.

    A linear cell stays linear (`Diagonal` and `LogSpace`; there the derivative by a rate of exactly 0 or 1
    is not finite). No parameters. Layers of a stack are wrapped one by one.

    Args:
        cell: any cell.
        rate: probability to keep the old value, in [0, 1]: one number or array [H], or one for each part
            of the state, as `LSTMCarry(cell=0.5, hidden=0.05)`.

    Source: Krueger et al. 2016, arXiv 1606.01305. Haste zones the hidden state only, and TensorFlow's
    wrappers return the output before zoneout; here as in the paper.
    """

    paper = "Krueger et al. 2016, arXiv 1606.01305"

    operation = "blend"

    rate: Any = number(low=0, high=1)

    def change(self, key: chex.PRNGKey | None, old: Carry, new: Carry) -> Carry:
        return _each(_zone, key, per_leaf("Zoneout.rate", self.rate, new), old, new)

    def change_element(self, key: chex.PRNGKey | None, element: Any) -> Any:
        element = self.monoid.full(element)  # type: ignore[attr-defined]
        like = jax.tree.leaves(element)[0]
        rate = per_leaf("Zoneout.rate", self.rate, like)
        if key is None:
            return self.monoid.blend(element, constant(rate, like).astype(like.dtype))  # type: ignore[attr-defined]
        zoned = functools.partial(_choose, _mask(key, rate, like))
        return jax.tree.map(zoned, self.monoid.identity(element), element)  # type: ignore[attr-defined]


def _zone(key: chex.PRNGKey | None, rate: Any, old: jax.Array, new: jax.Array) -> jax.Array:
    if key is not None:
        return _choose(_mask(key, rate, new), old, new)
    kept = constant(rate, new).astype(new.dtype)
    return kept * old + (1 - kept) * new


def _mask(key: chex.PRNGKey, rate: Any, like: jax.Array) -> jax.Array:
    wide = jnp.asarray(rate, accumulator(real(like.dtype)))  # 16 bits cannot hold small rates
    return jax.random.bernoulli(key, jnp.broadcast_to(wide, like.shape))


def _choose(mask: jax.Array, where: jax.Array, otherwise: jax.Array) -> jax.Array:
    # A mask that is divided over devices as what it chooses from.
    return jnp.where(mask & jnp.ones_like(otherwise, jnp.bool_), where, otherwise)


class StateNoise(_StateWrapper):
    """Gaussian noise on the state after every tick.

        s' = f(s, x) + stddev e,    e ~ N(0, 1) for every unit and tick; without a key s' = f(s, x)

    Complex states get stddev e / sqrt(2) in both parts. Gradients reach stddev. A linear cell stays
    linear where states add up (`Diagonal`); with decay a the noise accumulates to a variance of
    stddev^2 / (1 - a^2). No parameters.

    Args:
        cell: any cell.
        stddev: at least 0: one number or array [H], or one for each part of the state.

    Source: Jim, Giles & Horne 1996, An analysis of noise in recurrent neural networks, doi
    10.1109/72.548170 (additive noise on the state, per tick).
    """

    paper = "Jim, Giles & Horne 1996, doi 10.1109/72.548170"

    operation = "shift"

    stddev: Any = number(low=0)

    def change(self, key: chex.PRNGKey | None, old: Carry, new: Carry) -> Carry:
        stddevs = per_leaf("StateNoise.stddev", self.stddev, new)
        return new if key is None else _each(_disturb, key, stddevs, old, new)

    def change_element(self, key: chex.PRNGKey | None, element: Any) -> Any:
        like = self.monoid.full(element).update  # type: ignore[attr-defined]
        stddev = per_leaf("StateNoise.stddev", self.stddev, like)
        if key is None:
            return element
        return self.monoid.shift(element, _normal(key, stddev, like))  # type: ignore[attr-defined]


def _disturb(key: chex.PRNGKey, stddev: Any, old: jax.Array, new: jax.Array) -> jax.Array:
    return new + _normal(key, stddev, new)


def _normal(key: chex.PRNGKey, stddev: Any, like: jax.Array) -> jax.Array:
    return constant(stddev, like).astype(like.dtype) * jax.random.normal(key, like.shape, like.dtype)


class LearnedCarry(Wrapper):
    """The state before the first tick, learned.

        s_0 = parameters, one array for each part of the state, the same for every sequence

    Resets return to it too. It starts as the cell's own initial state. A linear cell stays linear.

    Params: {"cell": the cell's, "carry": {name of the part: array}}; complex parts as [..., 2] pairs of
    real and imaginary part; counters and keys are not learned. Usually trained without weight decay.

    Args:
        cell: any cell.

    Source: Forcada & Carrasco 1995, Learning the initial state of a second-order recurrent neural
    network during regular-language inference, doi 10.1162/neco.1995.7.5.923.
    """

    paper = "Forcada & Carrasco 1995, doi 10.1162/neco.1995.7.5.923"

    has_params = True

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        params = self.cell.init(key, input_size, dtype)
        like = jax.ShapeDtypeStruct((*(1,) * (self.input_ndim - 1), input_size), jnp.dtype(dtype))
        start = self.cell.initial_carry(params, like=like)
        return {
            "cell": params,
            "carry": {name: _to_real(leaf).astype(dtype) for name, leaf in _named(start) if _floating(leaf)},
        }

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> Carry:
        if params is None:
            raise ValueError("params: expected those of the LearnedCarry, which hold the state, got None.")
        start = self.cell.initial_carry(params["cell"], batch_shape, like=like)
        learned = [
            _from_real(params["carry"][name], leaf) if name in params["carry"] else leaf
            for name, leaf in _named(start)
        ]
        return jax.tree.unflatten(jax.tree.structure(start), learned)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        return {"cell": self.cell.prepare(params["cell"], key, batch_shape, like=like)}


def _named(carry: Carry) -> list[tuple[str, Any]]:
    paths, _ = jax.tree_util.tree_flatten_with_path(carry)
    return [(jax.tree_util.keystr(path, simple=True, separator=".") or "state", leaf) for path, leaf in paths]


def _to_real(leaf: jax.Array) -> jax.Array:
    return jnp.stack([leaf.real, leaf.imag], -1) if jnp.iscomplexobj(leaf) else leaf


def _from_real(pair: jax.Array, like: jax.Array) -> jax.Array:
    wide = pair.astype(real(like.dtype))
    value = jax.lax.complex(wide[..., 0], wide[..., 1]) if jnp.iscomplexobj(like) else wide
    return jnp.broadcast_to(value.reshape((1,) * (like.ndim - value.ndim) + value.shape), like.shape)
