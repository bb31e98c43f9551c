"""Dropout on what the kernels read, and of the weights in them.

Kernels are found by name, `kernel` and `recurrent_kernel`, among the weights that `prepare` returns, also
inside other wrappers and stacks. See parts/stand_ins.py for what takes their place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Carry, Cell, Drive, Inputs, Like, Out, Params, Shape, Weights, locked
from rnncells.fields import Number, number
from rnncells.parts.stand_ins import Masked, drop, on_array
from rnncells.wrappers.wrapper import (
    INPUT,
    RECURRENT,
    DrivenWrapper,
    TickWrapper,
    WrappedDrive,
    Wrapper,
    check_matrix,
    require_matrices,
    shaped_weights,
    split,
    with_kernels,
)


def _masks(
    wrapper: Wrapper, weights: Weights, name: str, key: chex.PRNGKey, rate: Any, batch_shape: Shape
) -> list[jax.Array]:
    """A mask for what each kernel reads, in the order in which `_mask` meets them."""
    masks: list[jax.Array] = []

    def draw(cell: Cell, kernel: Any) -> Any:
        check_matrix(wrapper, kernel)
        seed, shape = jax.random.fold_in(key, len(masks)), (*batch_shape, kernel.shape[0])
        masks.append(drop(seed, rate, shape, jax.tree.leaves(kernel)[0].dtype))
        return kernel

    with_kernels(wrapper, weights, name, draw)
    return masks


def _mask(wrapper: Wrapper, weights: Weights, name: str, masks: list[jax.Array]) -> Weights:
    rest = iter(masks)
    return with_kernels(wrapper, weights, name, lambda cell, kernel: Masked(kernel, next(rest)))


class _KernelWrapper(Wrapper):
    noisy = True

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        params = super().init(key, input_size, dtype)
        shaped_weights(self, params, input_size, dtype)  # refuses a cell without such kernels now, not later
        return params


class _Dropout(_KernelWrapper):
    rate: Number | None = number(default=None, low=0, high=1)
    input_rate: Number | None = number(default=None, low=0, high=1)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        if self.rate is None and self.input_rate is None:
            raise ValueError(f"{type(self).__name__}.rate: expected a rate or an input_rate, got neither.")
        weights = super().prepare(params, key, batch_shape, like=like)
        for name, rate in ((INPUT, self.input_rate), (RECURRENT, self.rate)):
            if rate is not None:
                require_matrices(self, weights, name)
        return weights


class VariationalDropout(_Dropout):
    """Dropout on what the kernels read, with one mask per sequence.

        x W becomes (z_x x) W,    h U becomes (z_h h) U,    z ~ Bernoulli(1 - rate) / (1 - rate)

    with a key, drawn once per sequence and shared by all ticks and gates ("tied" masks); nothing
    without. What a cell reads of its state outside products is not dropped (the z h of a GRU), as in Keras,
    whose masks differ from gate to gate. A linear cell stays linear. No parameters.

    Args:
        cell: any cell with kernels.
        rate: of the state, for cells with a recurrent kernel, in [0, 1].
        input_rate: of the input, in [0, 1].

    Source: Gal & Ghahramani 2016, arXiv 1512.05287.
    """

    paper = "Gal & Ghahramani 2016, arXiv 1512.05287"

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        own, inner_key = split(locked(key))
        weights = super().prepare(params, inner_key, batch_shape, like=like)
        for name, rate, seed in zip(
            (INPUT, RECURRENT), (self.input_rate, self.rate), split(own), strict=True
        ):
            if rate is not None and seed is not None:
                masks = _masks(self, weights, name, seed, rate, batch_shape)
                weights = _mask(self, weights, name, masks)
        return weights


class _TickMasks(NamedTuple):
    """For every kernel of that kind one mask, or None where nothing is dropped."""

    state: Any = None
    input: Any = None


class RecurrentDropout(DrivenWrapper, _Dropout, TickWrapper):
    """Dropout on what the kernels read, with a new mask at every tick.

        x_t W becomes (z_t x_t) W,    h U becomes (z'_t h) U,    z ~ Bernoulli(1 - rate) / (1 - rate)

    with a key; nothing without. Otherwise as `VariationalDropout`; what a cell reads of its state outside
    products is not dropped either. A linear cell stays linear. No parameters.

    Args:
        cell: any cell with kernels.
        rate: of the state, for cells with a recurrent kernel, in [0, 1].
        input_rate: of the input, in [0, 1].

    Source: per-step masks Semeniuta, Severyn & Barth 2016, arXiv 1603.05118, who put them on the candidate of
    the gates, which is another method; what Keras calls `recurrent_dropout` masks the same products.
    """

    paper = "Semeniuta, Severyn & Barth 2016, arXiv 1603.05118"

    def project(self, weights: Weights, x: Inputs, key: chex.PRNGKey | None = None) -> Drive:
        own, inner_key = split(key)
        input_key, state_key = split(own)
        batch_shape = jax.tree.leaves(x)[0].shape[: -self.input_ndim]
        own = _TickMasks()
        if self.rate is not None and state_key is not None:
            own = own._replace(state=_masks(self, weights, RECURRENT, state_key, self.rate, batch_shape))
        if self.input_rate is not None and input_key is not None:
            own = own._replace(input=_masks(self, weights, INPUT, input_key, self.input_rate, batch_shape))
            weights = _mask(self, weights, INPUT, own.input)
        return WrappedDrive(super().project(weights, x, inner_key), own)

    def step(self, weights: Weights, carry: Carry, drive: WrappedDrive) -> tuple[Carry, Out]:
        if drive.own.state is not None:
            weights = _mask(self, weights, RECURRENT, drive.own.state)
        return super().step(weights, carry, drive)

    def readout(self, weights: Weights, out: Out, drive: WrappedDrive) -> Out:
        """A window over inputs meets its kernel only here."""
        if drive.own.input is not None:
            weights = _mask(self, weights, INPUT, drive.own.input)
        return super().readout(weights, out, drive)


class DropConnect(_KernelWrapper):
    """Recurrent weights dropped at random, one mask per sequence and batch ("weight drop").

        U becomes m U / (1 - rate),    m ~ Bernoulli(1 - rate) for every weight

    with a key, the mask being the same for all sequences of the batch and all ticks; nothing without.
    Kernels of any shape; not for linear cells, which have none. No parameters.

    Args:
        cell: any cell with a recurrent kernel.
        rate: probability that a weight is zero, in [0, 1].

    Source: Wan et al. 2013, ICML (DropConnect); Merity, Keskar & Socher 2018, arXiv 1708.02182. With their
    option `variational`, the authors' code also drops when it evaluates; here nothing does.
    """

    paper = "Wan et al. 2013, ICML; Merity, Keskar & Socher 2018, arXiv 1708.02182"

    rate: Number = number(default=0.5, low=0, high=1)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        own, inner_key = split(locked(key))
        weights = super().prepare(params, inner_key, batch_shape, like=like)
        count = 0

        def new(cell: Cell, kernel: Any) -> Any:
            nonlocal count
            count += 1
            if own is None:
                return kernel
            seed = jax.random.fold_in(own, count)
            return on_array(kernel, lambda array: array * drop(seed, self.rate, array.shape, array.dtype))

        return with_kernels(self, weights, RECURRENT, new)
