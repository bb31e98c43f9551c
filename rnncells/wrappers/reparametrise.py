"""Products with kernels that have other parameters: factors, directions and lengths, scales.

Kernels are found by name, `kernel` and `recurrent_kernel`, also inside other wrappers and stacks. See
parts/stand_ins.py for what takes their place.
"""

from __future__ import annotations

from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Cell, Like, Params, Shape, Weights
from rnncells.dtypes import accumulator
from rnncells.fields import Number, number, static
from rnncells.initializers import Normal
from rnncells.parts.stand_ins import Factored, Normalised, replace_kernels
from rnncells.wrappers.wrapper import (
    INPUT,
    RECURRENT,
    Wrapper,
    check_array,
    check_matrix,
    shaped_weights,
    with_kernels,
)


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

    paper = "Kusupati et al. 2018, arXiv 1901.02358"

    rank: int = static(check=checks.positive_int)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        cell_key, factor_key = jax.random.split(key)
        count = 0

        def new(cell: Cell, kernel: jax.Array) -> dict[str, jax.Array]:
            nonlocal count
            count += 1
            check_matrix(self, kernel)
            size, wide = kernel.shape
            keys = jax.random.split(jax.random.fold_in(factor_key, count))
            normal = Normal((size * self.rank) ** -0.25)
            left, right = normal(keys[0], (size, self.rank), dtype), normal(keys[1], (self.rank, wide), dtype)
            return {"left": left, "right": right}

        return with_kernels(self, super().init(cell_key, input_size, dtype), RECURRENT, new)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        factored = with_kernels(self, params, RECURRENT, lambda cell, factors: Factored(**factors))
        return super().prepare(factored, key, batch_shape, like=like)


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

    paper = "Salimans & Kingma 2016, arXiv 1602.07868"

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        def new(cell: Cell, kernel: jax.Array) -> dict[str, jax.Array]:
            check_array(self, kernel)
            return {"direction": kernel, "length": _lengths(kernel).reshape(-1)}

        return with_kernels(self, super().init(key, input_size, dtype), RECURRENT, new)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        def new(cell: Cell, parts: dict[str, jax.Array]) -> jax.Array:
            direction, length = parts["direction"], parts["length"]
            shape = (1,) * (direction.ndim - 1) + length.shape
            return length.reshape(shape) / _lengths(direction) * direction

        return super().prepare(with_kernels(self, params, RECURRENT, new), key, batch_shape, like=like)


def _lengths(kernel: jax.Array) -> jax.Array:
    """Of the columns: all axes but the last. 1 for a column of zeros, which has no direction."""
    squares = jnp.sum(jnp.square(kernel), tuple(range(kernel.ndim - 1)), keepdims=True)
    return jnp.sqrt(jnp.where(squares > 0, squares, 1))


class _NormalisedProducts(Wrapper):
    """Params {"cell": the cell's, "scale": {name of the kernel: [G*H]}}."""

    has_params = True
    centre: ClassVar[bool]

    epsilon: Number = number(default=1e-5, low=1e-12)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        params = self.cell.init(key, input_size, dtype)
        weights = shaped_weights(self.cell, params, input_size, dtype)
        scale = {}
        for name in (INPUT, RECURRENT):
            found: list[tuple[Cell, Any]] = []
            replace_kernels(self.cell, weights, name, lambda *kernel, found=found: found.append(kernel))
            if len(found) > 1 or (found and not self.gates):
                raise ValueError(
                    f"{type(self).__name__}: expected one cell with gates, got {self.cell}; normalise"
                    " the layers of a stack one by one."
                )
            for cell, kernel in found:
                check_matrix(self, kernel)
                if kernel.shape[1] % cell.block(name):
                    raise ValueError(
                        f"{type(self).__name__}: expected a `{name}` made of blocks of {cell.block(name)}"
                        f" columns, got {checks.describe(kernel)} in {self.cell}."
                    )
                scale[name] = jnp.ones((kernel.shape[1],), dtype)
        if not scale:
            with_kernels(self, {"cell": weights}, INPUT, lambda cell, kernel: kernel)  # refuses
        return {"cell": params, "scale": scale}

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        weights = self.cell.prepare(params["cell"], key, batch_shape, like=like)
        for name, scale in params["scale"].items():

            def new(cell: Cell, kernel: Any, name: str = name, scale: jax.Array = scale) -> Normalised:
                epsilon = jnp.asarray(self.epsilon, accumulator(scale.dtype))  # 16 bits underflow
                return Normalised(kernel, scale, epsilon, cell.block(name), self.centre)

            weights, _ = replace_kernels(self.cell, weights, name, new)
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

    paper = "Ba, Kiros & Hinton 2016, arXiv 1607.06450"

    centre = True


class RMSNorm(_NormalisedProducts):
    """As `LayerNorm`, without subtracting the mean.

        n(v; a) = a v / sqrt(mean v^2 + epsilon)

    Params and arguments as `LayerNorm`; a linear cell stays linear.

    Source: Zhang & Sennrich 2019, arXiv 1910.07467.
    """

    paper = "Zhang & Sennrich 2019, arXiv 1910.07467"

    centre = False
