"""Cells in which the input itself meets the state, beside what kernels make of it."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Params, Weights
from rnncells.parts.arithmetic import dense
from rnncells.parts.gated import ProjectedCell


class RawInput(ProjectedCell):
    """x [..., H] as it is, where I = H; else x V, with input_kernel V [I, H] drawn by `kernel_init`."""

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, raw_key = jax.random.split(key)
        params = super().init(key, input_size, dtype)
        if input_size == self.features:
            return params
        return {**params, "input_kernel": self.kernel_init(raw_key, (input_size, self.features), dtype)}

    def raw(self, weights: Weights, x: jax.Array) -> jax.Array:
        """x in the width of the state."""
        return dense(x, weights["input_kernel"]) if "input_kernel" in weights else x
