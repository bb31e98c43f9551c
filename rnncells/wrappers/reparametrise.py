"""Products with kernels that have other parameters: factors, directions and lengths, scales.

Kernels are found by name, `kernel` and `recurrent_kernel`, also inside other wrappers and stacks. See
rnncells/kernels.py for what takes their place.
"""

from __future__ import annotations

from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.cell import Number, Params, Weights, number, static
from rnncells.initializers import Normal
from rnncells.kernels import Factored, Normalised, replace_kernels
from rnncells.wrappers.wrapper import (
    INPUT,
    RECURRENT,
    Wrapper,
    check_array,
    check_matrix,
    require_matrices,
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

    paper: ClassVar[str] = "Kusupati et al. 2018, arXiv 1901.02358"

    rank: int = static(check=checks.positive_int)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: Any = jnp.float32) -> Params:
        cell_key, factor_key = jax.random.split(key)
        count = 0

        def new(kernel: jax.Array) -> dict[str, jax.Array]:
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
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: tuple[int, ...] = ()
    ) -> Weights:
        factored = with_kernels(self, params, RECURRENT, lambda factors: Factored(**factors))
        return super().prepare(factored, key, batch_shape)


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
            check_array(self, kernel)
            return {"direction": kernel, "length": _lengths(kernel).reshape(-1)}

        return with_kernels(self, super().init(key, input_size, dtype), RECURRENT, new)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: tuple[int, ...] = ()
    ) -> Weights:
        def new(parts: dict[str, jax.Array]) -> jax.Array:
            direction, length = parts["direction"], parts["length"]
            shape = (1,) * (direction.ndim - 1) + length.shape
            return length.reshape(shape) / _lengths(direction) * direction

        return super().prepare(with_kernels(self, params, RECURRENT, new), key, batch_shape)


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
                check_matrix(self, kernel)
                scale[name] = jnp.ones((kernel.shape[1],), dtype)
        if not scale:
            require_matrices(self, weights, INPUT)
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
