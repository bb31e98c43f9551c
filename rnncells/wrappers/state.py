"""Wrappers of the state: zoneout, noise, a learned beginning."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp

from rnncells.cell import Carry, Drive, Params, Weights, number
from rnncells.dtypes import accumulator
from rnncells.ops import align, select
from rnncells.wrappers.wrapper import (
    TickWrapper,
    WrappedDrive,
    Wrapper,
    carried_out,
    per_leaf,
    split,
    with_element,
)


class _StateWrapper(TickWrapper):
    """Changes the state that a tick leaves, with noise drawn at every tick.

    Where `step` gives out a part of the state, the same array object, the output is that part as changed.
    """

    operation: ClassVar[str]
    """The method of a monoid that does the same to its elements, so that a linear cell stays linear."""

    @property
    def linear(self) -> bool:  # type: ignore[override]
        return self.cell.linear and hasattr(self.monoid, self.operation)

    @abc.abstractmethod
    def change(self, key: chex.PRNGKey | None, old: Carry, new: Carry) -> Carry:
        """The state after a tick, from that before it and what the cell makes of it."""

    @abc.abstractmethod
    def change_element(self, key: chex.PRNGKey | None, element: Any) -> Any:
        """The same for the element of a linear cell."""

    def init(self, key: chex.PRNGKey, input_size: int, dtype: Any = jnp.float32) -> Params:
        params = super().init(key, input_size, dtype)
        state = self.initial_carry(params)
        jax.eval_shape(self.change, None, state, state)  # refuses rates that do not fit the state now
        return params

    def project(self, weights: Weights, x: Any, key: chex.PRNGKey | None = None) -> Drive:
        own, inner_key = split(key)
        drive = super().project(weights, x, inner_key)
        if self.linear:
            return with_element(drive, self.change_element(own, drive.element))
        return WrappedDrive(drive, own)

    def step(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Any]:
        if self.linear:
            return super().step(weights, carry, drive)
        new, out = super().step(weights, carry, drive.inner)
        changed = self.change(drive.own, carry, new)
        return changed, carried_out(out, new, changed)

    def readout(self, weights: Weights, out: Any, drive: Drive) -> Any:
        return super().readout(weights, out, drive if self.linear else drive.inner)


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

    paper: ClassVar[str] = "Krueger et al. 2016, arXiv 1606.01305"

    operation: ClassVar[str] = "blend"

    rate: Any = number(low=0, high=1)

    def change(self, key: chex.PRNGKey | None, old: Carry, new: Carry) -> Carry:
        rates = per_leaf("Zoneout.rate", self.rate, new)
        if key is None:
            return jax.tree.map(_mix, rates, old, new)
        leaves, structure = jax.tree.flatten(new)
        keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))
        masks = jax.tree.map(_mask, keys, rates, new)
        return jax.tree.map(jnp.where, masks, old, new)

    def change_element(self, key: chex.PRNGKey | None, element: Any) -> Any:
        like = jax.tree.leaves(element)[0]
        rate = per_leaf("Zoneout.rate", self.rate, like)
        if key is None:
            return self.monoid.blend(element, align(jnp.asarray(rate, like.dtype), like))  # type: ignore[attr-defined]
        return select(_mask(key, rate, like), self.monoid.identity(element), element)


def _mask(key: chex.PRNGKey, rate: Any, like: jax.Array) -> jax.Array:
    wide = jnp.asarray(rate, accumulator(like.real.dtype))  # 16 bits cannot hold small rates
    return jax.random.bernoulli(key, jnp.broadcast_to(wide, like.shape))


def _mix(rate: Any, old: jax.Array, new: jax.Array) -> jax.Array:
    rate = align(jnp.asarray(rate, new.dtype), new)
    return rate * old + (1 - rate) * new


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

    paper: ClassVar[str] = "Jim, Giles & Horne 1996, doi 10.1109/72.548170"

    operation: ClassVar[str] = "shift"

    stddev: Any = number(low=0)

    def change(self, key: chex.PRNGKey | None, old: Carry, new: Carry) -> Carry:
        stddevs = per_leaf("StateNoise.stddev", self.stddev, new)
        if key is None:
            return new
        leaves, structure = jax.tree.flatten(new)
        keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))
        noise = jax.tree.map(_normal, keys, stddevs, new)
        return jax.tree.map(jnp.add, new, noise)

    def change_element(self, key: chex.PRNGKey | None, element: Any) -> Any:
        like = jax.tree.leaves(element)[0]
        stddev = per_leaf("StateNoise.stddev", self.stddev, like)
        if key is None:
            return element
        return self.monoid.shift(element, _normal(key, stddev, like))  # type: ignore[attr-defined]


def _normal(key: chex.PRNGKey, stddev: Any, like: jax.Array) -> jax.Array:
    stddev = align(jnp.asarray(stddev, like.real.dtype), like)
    return stddev.astype(like.dtype) * jax.random.normal(key, like.shape, like.dtype)


class LearnedCarry(Wrapper):
    """The state before the first tick, learned.

        s_0 = parameters, one array for each part of the state, the same for every sequence

    Resets return to it too. It starts as the cell's own initial state. A linear cell stays linear.

    Params: {"cell": the cell's, "carry": {name of the part: array}}; complex parts as [..., 2] pairs of
    real and imaginary part. Usually trained without weight decay.

    Args:
        cell: any cell.

    Source: Forcada & Carrasco 1995, Learning the initial state of a second-order recurrent neural
    network during regular-language inference, doi 10.1162/neco.1995.7.5.923.
    """

    paper: ClassVar[str] = "Forcada & Carrasco 1995, doi 10.1162/neco.1995.7.5.923"

    has_params: ClassVar[bool] = True

    def init(self, key: chex.PRNGKey, input_size: int, dtype: Any = jnp.float32) -> Params:
        params = self.cell.init(key, input_size, dtype)
        start = self.cell.initial_carry(params)
        return {
            "cell": params,
            "carry": {name: _to_real(leaf).astype(dtype) for name, leaf in _named(start)},
        }

    def initial_carry(self, params: Params, batch_shape: tuple[int, ...] = ()) -> Carry:
        like = self.cell.initial_carry(params["cell"], batch_shape)
        learned = [_from_real(params["carry"][name], leaf) for name, leaf in _named(like)]
        return jax.tree.unflatten(jax.tree.structure(like), learned)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: tuple[int, ...] = ()
    ) -> Weights:
        return {"cell": self.cell.prepare(params["cell"], key, batch_shape)}


def _named(carry: Carry) -> list[tuple[str, Any]]:
    paths, _ = jax.tree_util.tree_flatten_with_path(carry)
    return [(jax.tree_util.keystr(path, simple=True, separator=".") or "state", leaf) for path, leaf in paths]


def _to_real(leaf: jax.Array) -> jax.Array:
    return jnp.stack([leaf.real, leaf.imag], -1) if jnp.iscomplexobj(leaf) else leaf


def _from_real(pair: jax.Array, like: jax.Array) -> jax.Array:
    wide = pair.astype(like.real.dtype)
    value = jax.lax.complex(wide[..., 0], wide[..., 1]) if jnp.iscomplexobj(like) else wide
    return jnp.broadcast_to(value.reshape((1,) * (like.ndim - value.ndim) + value.shape), like.shape)
