"""Wrappers of the matrices that a cell multiplies with: dropout, dropped, factored, normalised kernels.

Kernels are found by name, `recurrent_kernel` and `kernel`, among the weights that `prepare` returns, also
inside other wrappers and stacks. See rnncells/kernels.py for what takes their place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.cell import Carry, Drive, Number, Params, Weights, locked, number, static
from rnncells.initializers import Normal
from rnncells.kernels import Factored, Masked, Normalised, drop, on_array, replace_kernels
from rnncells.wrappers.wrapper import TickWrapper, Wrapped, Wrapper, split

INPUT, RECURRENT = "kernel", "recurrent_kernel"


def _replace(wrapper: Wrapper, weights: Weights, name: str, new: Callable[[Any], Any]) -> Weights:
    """The weights with their kernels replaced; a cell that has none is refused."""
    made, count = replace_kernels(weights, name, new)
    if count == 0:
        raise ValueError(
            f"{type(wrapper).__name__}: expected a cell with a `{name}` among its weights, got"
            f" {wrapper.cell}, which has {checks.describe(weights)}."
        )
    return made


def _require(wrapper: Wrapper, weights: Weights, name: str) -> None:
    """Kernels of that name, all of them matrices."""

    def check(kernel: Any) -> Any:
        _is_matrix(wrapper, kernel)
        return kernel

    _replace(wrapper, weights, name, check)


def _is_matrix(wrapper: Wrapper, kernel: Any) -> None:
    _is_array(wrapper, kernel)
    if len(kernel.shape) != 2:
        raise ValueError(
            f"{type(wrapper).__name__}: expected kernels [K, N], got {checks.describe(kernel)} in"
            f" {wrapper.cell}."
        )


def _is_array(wrapper: Wrapper, kernel: Any) -> None:
    if isinstance(kernel, dict):
        raise ValueError(
            f"{type(wrapper).__name__}: expected a cell whose recurrent kernel is one array, got"
            f" {wrapper.cell}; a kernel can be factored or normalised by weights once."
        )


def _masks(
    wrapper: Wrapper, weights: Weights, name: str, key: chex.PRNGKey, rate: Any, batch_shape: tuple[int, ...]
) -> list[jax.Array]:
    """A mask for what each kernel reads, in the order in which `_mask` meets them."""
    masks: list[jax.Array] = []

    def draw(kernel: Any) -> Any:
        _is_matrix(wrapper, kernel)
        seed, shape = jax.random.fold_in(key, len(masks)), (*batch_shape, kernel.shape[0])
        masks.append(drop(seed, rate, shape, jax.tree.leaves(kernel)[0].dtype))
        return kernel

    _replace(wrapper, weights, name, draw)
    return masks


def _mask(wrapper: Wrapper, weights: Weights, name: str, masks: list[jax.Array]) -> Weights:
    rest = iter(masks)
    return _replace(wrapper, weights, name, lambda kernel: Masked(kernel, next(rest)))


class _KernelWrapper(Wrapper):
    def init(self, key: chex.PRNGKey, input_size: int, dtype: Any = jnp.float32) -> Params:
        params = super().init(key, input_size, dtype)
        jax.eval_shape(self.prepare, params)  # refuses a cell without such kernels now, not later
        return params


class _Dropout(_KernelWrapper):
    rate: Number | None = number(default=None, low=0, high=1)
    input_rate: Number | None = number(default=None, low=0, high=1)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: tuple[int, ...] = ()
    ) -> Weights:
        if self.rate is None and self.input_rate is None:
            raise ValueError(f"{type(self).__name__}.rate: expected a rate or an input_rate, got neither.")
        weights = super().prepare(params, key, batch_shape)
        for name, rate in ((INPUT, self.input_rate), (RECURRENT, self.rate)):
            if rate is not None:
                _require(self, weights, name)
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

    paper: ClassVar[str] = "Gal & Ghahramani 2016, arXiv 1512.05287"

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: tuple[int, ...] = ()
    ) -> Weights:
        own, inner_key = split(locked(key))
        weights = super().prepare(params, inner_key, batch_shape)
        for name, rate, seed in zip(
            (INPUT, RECURRENT), (self.input_rate, self.rate), split(own), strict=True
        ):
            if rate is not None and seed is not None:
                masks = _masks(self, weights, name, seed, rate, batch_shape)
                weights = _mask(self, weights, name, masks)
        return weights


class RecurrentDropout(_Dropout, TickWrapper):
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

    paper: ClassVar[str] = "Semeniuta, Severyn & Barth 2016, arXiv 1603.05118"

    def project(self, weights: Weights, x: Any, key: chex.PRNGKey | None = None) -> Drive:
        own, inner_key = split(key)
        input_key, state_key = split(own)
        batch_shape = jax.tree.leaves(x)[0].shape[: -self.input_ndim]
        masks = None
        if self.rate is not None and state_key is not None:
            masks = _masks(self, weights, RECURRENT, state_key, self.rate, batch_shape)
        if self.input_rate is not None and input_key is not None:
            seen = _masks(self, weights, INPUT, input_key, self.input_rate, batch_shape)
            weights = _mask(self, weights, INPUT, seen)
        return Wrapped(super().project(weights, x, inner_key), masks)

    def step(self, weights: Weights, carry: Carry, drive: Wrapped) -> tuple[Carry, Any]:
        if drive.own is not None:
            weights = _mask(self, weights, RECURRENT, drive.own)
        return super().step(weights, carry, drive.inner)

    def readout(self, weights: Weights, out: Any, drive: Wrapped) -> Any:
        return super().readout(weights, out, drive.inner)


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

    paper: ClassVar[str] = "Wan et al. 2013, ICML; Merity, Keskar & Socher 2018, arXiv 1708.02182"

    rate: Number = number(default=0.5, low=0, high=1)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: tuple[int, ...] = ()
    ) -> Weights:
        own, inner_key = split(locked(key))
        weights = super().prepare(params, inner_key, batch_shape)
        count = 0

        def new(kernel: Any) -> Any:
            nonlocal count
            count += 1
            if own is None:
                return kernel
            seed = jax.random.fold_in(own, count)
            return on_array(kernel, lambda array: array * drop(seed, self.rate, array.shape, array.dtype))

        return _replace(self, weights, RECURRENT, new)


class LowRank(Wrapper):
    """Recurrent kernels as products of two narrow matrices.

        U = L R,    L [H, rank], R [rank, G*H]

    The loop multiplies with one after the other, and U is never formed. Entries start normal with variance
    1 / sqrt(H rank), so that those of U have variance 1 / H.

    Params: the cell's, with {"left": L, "right": R} for each "recurrent_kernel". Not for linear cells.

    Args:
        cell: a cell with a recurrent kernel among its parameters.
        rank: number of columns of L.

    Source: factored recurrent kernels as in Kusupati et al. 2018 (FastGRNN), arXiv 1901.02358.
    """

    paper: ClassVar[str] = "Kusupati et al. 2018, arXiv 1901.02358"

    rank: int = static(check=checks.positive_int)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: Any = jnp.float32) -> Params:
        cell_key, factor_key = jax.random.split(key)
        count = 0

        def new(kernel: jax.Array) -> dict[str, jax.Array]:
            nonlocal count
            count += 1
            _is_matrix(self, kernel)
            size, wide = kernel.shape
            keys = jax.random.split(jax.random.fold_in(factor_key, count))
            normal = Normal((size * self.rank) ** -0.25)
            left, right = normal(keys[0], (size, self.rank), dtype), normal(keys[1], (self.rank, wide), dtype)
            return {"left": left, "right": right}

        return _replace(self, super().init(cell_key, input_size, dtype), RECURRENT, new)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: tuple[int, ...] = ()
    ) -> Weights:
        return super().prepare(_replace(self, params, RECURRENT, lambda f: Factored(**f)), key, batch_shape)


class WeightNorm(Wrapper):
    """Recurrent kernels with direction and length apart, column by column.

        U[:, j] = g_j V[:, j] / |V[:, j]|

    g starts as the lengths of the columns drawn, so that the cell starts as it would without.

    Params: the cell's, with {"direction": V, "length": g [G*H]} for each "recurrent_kernel". Not for
    linear cells.

    Args:
        cell: a cell with a recurrent kernel among its parameters.

    Source: Salimans & Kingma 2016, arXiv 1602.07868.
    """

    paper: ClassVar[str] = "Salimans & Kingma 2016, arXiv 1602.07868"

    def init(self, key: chex.PRNGKey, input_size: int, dtype: Any = jnp.float32) -> Params:
        def new(kernel: jax.Array) -> dict[str, jax.Array]:
            _is_array(self, kernel)
            return {"direction": kernel, "length": _lengths(kernel).reshape(-1)}

        return _replace(self, super().init(key, input_size, dtype), RECURRENT, new)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: tuple[int, ...] = ()
    ) -> Weights:
        def new(parts: dict[str, jax.Array]) -> jax.Array:
            direction, length = parts["direction"], parts["length"]
            shape = (1,) * (direction.ndim - 1) + length.shape
            return length.reshape(shape) / _lengths(direction) * direction

        return super().prepare(_replace(self, params, RECURRENT, new), key, batch_shape)


def _lengths(kernel: jax.Array) -> jax.Array:
    """Of the columns: all axes but the last. 1 for a column of zeros, which has no direction."""
    squares = jnp.sum(jnp.square(kernel), tuple(range(kernel.ndim - 1)), keepdims=True)
    return jnp.sqrt(jnp.where(squares > 0, squares, 1))


class _NormalisedProducts(Wrapper):
    """Params {"cell": the cell's, "scale": {name of the kernel: [G*H]}}."""

    has_params: ClassVar[bool] = True
    centre: ClassVar[bool]

    epsilon: Number = number(default=1e-5, low=1e-12)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: Any = jnp.float32) -> Params:
        params = self.cell.init(key, input_size, dtype)
        weights = jax.eval_shape(self.cell.prepare, params)
        scale = {}
        for name in (INPUT, RECURRENT):
            found: list[Any] = []
            replace_kernels(weights, name, found.append)
            if found and (len(found) > 1 or not self.gates):
                raise ValueError(
                    f"{type(self).__name__}: expected one cell with gates, got {self.cell}; normalise"
                    " the layers of a stack one by one."
                )
            for kernel in found:
                _is_matrix(self, kernel)
                scale[name] = jnp.ones((kernel.shape[1],), dtype)
        if not scale:
            _require(self, weights, INPUT)
        return {"cell": params, "scale": scale}

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: tuple[int, ...] = ()
    ) -> Weights:
        weights = self.cell.prepare(params["cell"], key, batch_shape)
        for name, scale in params["scale"].items():
            width = scale.shape[0] // len(self.gates)

            def new(kernel: Any, scale: jax.Array = scale, width: int = width) -> Normalised:
                return Normalised(kernel, scale, jnp.asarray(self.epsilon, scale.dtype), width, self.centre)

            weights, _ = replace_kernels(weights, name, new)
        return {"cell": weights}


class LayerNorm(_NormalisedProducts):
    """Layer normalisation of the products with the input and with the state, gate by gate.

        x W_g becomes n(x W_g; a_g),    h U_g becomes n(h U_g; a'_g)    for every gate g
        n(v; a) = a (v - mean v) / sqrt(var v + epsilon)

    over the H units of a gate; the cell's own bias is the shift. A linear cell stays linear.
    `LayerNormLSTM` and `LayerNormGRU` are the published cells, which also share statistics between gates and
    normalise the memory.

    Params: {"cell": the cell's, "scale": {"kernel": a [G*H], "recurrent_kernel": a' [G*H]}}.

    Args:
        cell: a cell with gates and kernels, not a stack.
        epsilon: 1e-5 by default, at least 1e-12: the state starts at zero.

    Source: Ba, Kiros & Hinton 2016, arXiv 1607.06450.
    """

    paper: ClassVar[str] = "Ba, Kiros & Hinton 2016, arXiv 1607.06450"

    centre: ClassVar[bool] = True


class RMSNorm(_NormalisedProducts):
    """As `LayerNorm`, without subtracting the mean.

        n(v; a) = a v / sqrt(mean v^2 + epsilon)

    Params and arguments as `LayerNorm`; a linear cell stays linear.

    Source: Zhang & Sennrich 2019, arXiv 1910.07467.
    """

    paper: ClassVar[str] = "Zhang & Sennrich 2019, arXiv 1910.07467"

    centre: ClassVar[bool] = False
