"""Cells whose gates share one fused kernel on the input and one on the state."""

from __future__ import annotations

from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp

from rnncells import checks
from rnncells.cell import Cell, Drive, Params, Weights, number, static
from rnncells.initializers import ForgetBias, Glorot, Initializer, Orthogonal, gate_bias, gate_kernel
from rnncells.ops import dense


class GatedCell(Cell):
    """kernel [I, G*H], recurrent_kernel [H, G*H], bias [G*H], the gates fused in the order of `gates`.

    Subclasses name their gates, say which of them keeps the past (`keep`) and which lets the new
    value in (`write`), and write `step`; the drive is x W + b, [..., G*H].
    """

    keep: ClassVar[str] = ""
    write: ClassVar[str] = ""
    emits: ClassVar[str] = ""
    """The field of the state that is the output, and that the recurrent kernel alone reads, if any."""

    features: int = static(check=checks.positive_int)
    forget_bias: ForgetBias = number(default=0.0)
    kernel_init: Initializer = Glorot()
    recurrent_init: Initializer = Orthogonal()

    def init(self, key: chex.PRNGKey, input_size: int, dtype: Any = jnp.float32) -> Params:
        kernel_key, recurrent_key, bias_key = jax.random.split(key, 3)
        size, gates = self.features, self.gates
        bias = gate_bias(self.forget_bias, bias_key, size, gates, dtype, keep=self.keep, write=self.write)
        return {
            "kernel": gate_kernel(self.kernel_init, kernel_key, input_size, size, len(gates), dtype),
            "recurrent_kernel": gate_kernel(
                self.recurrent_init, recurrent_key, size, size, len(gates), dtype
            ),
            "bias": bias,
        }

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> Drive:
        return dense(x, weights["kernel"], weights["bias"])
