"""Kernels in integers of 8 bits, for cells that have learned."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Cell, Like, Params, Shape, Weights
from rnncells.parts.stand_ins import Scaled, replace_kernels
from rnncells.wrappers.wrapper import INPUT, RECURRENT, Wrapper

KERNELS = (INPUT, RECURRENT)


class Int8(Wrapper):
    """Input and recurrent kernels in integers of 8 bits, with a scale for each column.

        U[:, j] is about s_j Q[:, j],    s_j = max |U[:, j]| / 127,    Q integers from -127 to 127

    The product with the integers is scaled, not the integers. For cells that have learned: `quantise` makes
    the params from theirs, and nothing is learned through the integers. So it is not among `WRAPPERS`.

    Params: the cell's, with {"int8": Q, "scale": s} for each "kernel" and "recurrent_kernel" [K, N]. What
    another wrapper keeps in parts, and kernels for heads, stay as they are.

    Args:
        cell: a cell with such a kernel among its parameters.

    Source: Krishnamoorthi 2018, arXiv 1806.08342: symmetric integers, a scale for each channel.
    """

    paper = "Krishnamoorthi 2018, arXiv 1806.08342"

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        return self.quantise(self.cell.init(key, input_size, dtype))

    def quantise(self, params: Params) -> Params:
        """The params of the cell, with its kernels rounded.

        Raises:
            ValueError: where there is no matrix among them.
        """
        found: list[jax.Array] = []

        def rounded(cell: Cell, kernel: Any) -> Any:
            if isinstance(kernel, dict) or kernel.ndim != 2:
                return kernel
            found.append(kernel)
            largest = jnp.max(jnp.abs(kernel), 0)
            scale = jnp.where(largest > 0, largest, 1) / 127
            return {"int8": jnp.rint(kernel / scale[None]).astype(jnp.int8), "scale": scale}

        for name in KERNELS:
            params, _ = replace_kernels(self.cell, params, name, rounded)
        if not found:
            raise ValueError(
                f"Int8: expected a cell with a `kernel` [K, N] among its params, got {self.cell}, which has"
                f" {checks.describe(params)}."
            )
        return params

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        def scaled(cell: Cell, kernel: Any) -> Any:
            whole = isinstance(kernel, dict) and "int8" in kernel
            return Scaled(kernel["int8"], kernel["scale"]) if whole else kernel

        for name in KERNELS:
            params, _ = replace_kernels(self.cell, params, name, scaled)
        return super().prepare(params, key, batch_shape, like=like)
