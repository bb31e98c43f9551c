"""The quasi-recurrent network: gates from a convolution, and a pooling over time that they steer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Cell, Params, Weights, derived
from rnncells.cells.linear.convolution import CausalConvolution, side_by_side
from rnncells.dtypes import accumulator, computes_in
from rnncells.fields import choice, number, static
from rnncells.initializers import ForgetBias
from rnncells.parts.cascade import Cascade
from rnncells.parts.diagonal import average
from rnncells.parts.gated import ProjectedCell
from rnncells.parts.linear import LinearCell, LinearDrive

GATES = {"f": ("z", "f"), "fo": ("z", "f", "o"), "ifo": ("z", "f", "o", "i")}
"""Of each pooling."""
_gates = derived(lambda cell: GATES[cell.pooling])


class QRNNCarry(NamedTuple):
    """The state of a `QRNN`."""

    window: jax.Array
    """[..., K, I]: the last inputs, the latest one last."""
    cell: jax.Array
    """[..., H]"""


class _Window(CausalConvolution):
    """Gives out the last inputs, side by side."""

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        return side_by_side(out).astype(computes_in(weights))


class _Pooling(LinearCell, ProjectedCell):
    """The gates of a window, and the memory that they steer."""

    gates = _gates

    pooling: str = static(default="fo")

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        fused = ProjectedCell.project(self, weights, x)
        gates = self.split_drive(fused.astype(accumulator(fused.dtype)))
        f, z = gates["f"], jnp.tanh(gates["z"])
        element = average(f, z)
        if "i" in gates:
            element = element._replace(update=jax.nn.sigmoid(gates["i"]) * z)
        return LinearDrive(element, jax.nn.sigmoid(gates["o"]) if "o" in gates else None)

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        y = out if drive.extra is None else drive.extra * out
        return y.astype(computes_in(weights))


class QRNN(Cascade, ProjectedCell):
    """Quasi-recurrent network: a convolution over the last inputs makes gates, which steer a memory.

        X = [x_(t-K+1) ... x_t]
        z = tanh(X W_z + b_z)      f = s(X W_f + b_f)      o = s(X W_o + b_o)      i = s(X W_i + b_i)
        c' = f c + (1 - f) z,    y = c'          pooling="f"
        c' = f c + (1 - f) z,    y = o c'        pooling="fo"
        c' = f c + i z,          y = o c'        pooling="ifo"

    Inputs before the first are zero. The window and the memory are two recurrences, each linear, one after
    the other: the windows of all ticks first, then c, in parallel where that pays. The window is a part of
    the state, so that a sequence may be split anywhere.

    Shapes: x [..., I], carry `QRNNCarry(window, cell)` of [..., K, I] and [..., H], the latter in float32
    or wider, y [..., H]; kernel W [K I, G*H] and bias b [G*H], gates in the order z, f, o, i, those that
    the pooling has.

    Args:
        features: H.
        width: K, 2 by default: each input and the one before it.
        pooling: "fo" by default.
        forget_bias: initial b_f, 0 by default.
        kernel_init: drawn for each gate; Glorot uniform.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Bradbury, Merity, Xiong & Socher 2017, arXiv 1611.01576. The paper has no biases in its
    equations, the authors' code has, and writes 1 - f for f.
    """

    paper = "Bradbury, Merity, Xiong & Socher 2017, arXiv 1611.01576"
    gates = _gates
    keep = "f"
    carry_type = QRNNCarry

    width: int = static(default=2, check=checks.positive_int)
    pooling: str = choice("fo", "f", "ifo", default="fo")
    forget_bias: ForgetBias = number(default=0.0)

    @property
    def stages(self) -> Sequence[Cell]:
        window = _Window(self.features, width=self.width)
        return window, _Pooling(self.features, pooling=self.pooling, use_bias=self.use_bias)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        return ProjectedCell.init(self, key, self.width * input_size, dtype)
