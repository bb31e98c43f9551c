"""A recurrent network without a nonlinearity."""

from __future__ import annotations

from typing import Any

import chex
import jax

from rnncells import checks
from rnncells.cell import Weights
from rnncells.dtypes import accumulator
from rnncells.linear_scan import Matrix, MatrixElement, Monoid
from rnncells.parts.gated import DenseCell
from rnncells.parts.linear import LinearCell, LinearDrive
from rnncells.parts.stand_ins import on_array


class MatrixOnVector(Matrix):
    """`Matrix` for states that are vectors [..., H], with updates [..., H, 1]."""

    def apply(self, element: MatrixElement, state: jax.Array) -> jax.Array:
        return super().apply(element, state[..., None])[..., 0]


class LinearRNN(LinearCell, DenseCell):
    """Linear recurrent network: an Elman network without its nonlinearity, with a dense matrix on the state.

        h' = x W + h U + b,    y = h'

    Shapes: x [..., I], h [..., H] in float32 or wider, y [..., H]; kernel W [I, H], recurrent_kernel U [H,
    H], bias b [H].

    Args:
        features: H.
        kernel_init, recurrent_init, bias_init: Glorot uniform, orthogonal and zeros: without input the state
            keeps its length at first.
        use_bias: False leaves b out.

    Nothing holds U within the unit circle: where it is trained beyond, the state grows without bound. Ticks
    compose by products of matrices, H^3 each, so that `parallel=None` always takes a loop.

    Source: Martin & Cundy 2018, arXiv 1709.04057, on recurrences in parallel; they take a diagonal matrix,
    which composes in H, as the other cells of this family do.
    """

    paper = "Martin & Cundy 2018, arXiv 1709.04057"
    gates = ("h",)
    associative = False

    @property
    def monoid(self) -> Monoid:
        return MatrixOnVector()

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        drive = DenseCell.project(self, weights, x)
        kernel: Any = on_array(weights["recurrent_kernel"], lambda array: array)
        if not isinstance(kernel, jax.Array):
            raise TypeError(
                "recurrent_kernel: expected a matrix, as a linear recurrence composes ticks, got"
                f" {checks.describe(kernel)}."
            )
        wide = accumulator(drive.dtype)
        transition = kernel.astype(wide).T
        transition = transition.reshape((1,) * (drive.ndim - 1) + transition.shape)
        return LinearDrive(MatrixElement(transition, drive.astype(wide)[..., None]))
