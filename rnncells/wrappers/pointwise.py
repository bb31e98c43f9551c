"""Wrappers of inputs and outputs: residual, highway, projection."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Carry, Cell, Drive, Inputs, Like, Out, Params, Shape, Weights
from rnncells.fields import Number, number, static
from rnncells.initializers import Glorot, Initializer, gate_kernel, scheme
from rnncells.parts.arithmetic import dense
from rnncells.parts.gated import GatedCell
from rnncells.wrappers.wrapper import Pointwise


def _same_width(wrapper: Cell, cell: Cell, input_size: int) -> None:
    if cell.output_size != input_size:
        name = type(wrapper).__name__
        raise ValueError(
            f"{name}: expected a cell whose output is as wide as its input, {input_size}, got {cell} with"
            f" an output of {cell.output_size}; give the cell features={input_size}, or put"
            f" Projection(cell, {input_size}, recurrent=False) inside."
        )


class Residual(Pointwise):
    """y = x + f(x): the input is added to the output; the state is the cell's own.

    A linear cell stays linear. No parameters.

    Args:
        cell: any cell whose output is as wide as its input.

    Source: He, Zhang, Ren & Sun 2015, arXiv 1512.03385; between recurrent layers Wu et al. 2016, arXiv
    1609.08144.
    """

    paper = "He, Zhang, Ren & Sun 2015, arXiv 1512.03385"

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        _same_width(self, self.cell, input_size)
        return self.cell.init(key, input_size, dtype)

    def after(self, weights: Weights, x: Inputs, y: Any) -> Any:
        return x + y


class Highway(Pointwise):
    """An output that a gate mixes with the input.

        t = s(x W_t + b_t),    y = t f(x) + (1 - t) x

    The gate sees the input only. A linear cell stays linear.

    Params: {"cell": the cell's, "transform_kernel": [I, I], "transform_bias": [I]}.

    Args:
        cell: any cell whose output is as wide as its input.
        transform_bias: initial b_t, -1 by default: at first the input passes.
        kernel_init: of W_t; Glorot uniform.

    Source: Srivastava, Greff & Schmidhuber 2015, arXiv 1505.00387.
    """

    paper = "Srivastava, Greff & Schmidhuber 2015, arXiv 1505.00387"

    has_params = True

    transform_bias: Number = number(default=-1.0)
    kernel_init: Initializer = scheme(Glorot())

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        _same_width(self, self.cell, input_size)
        cell_key, kernel_key = jax.random.split(key)
        checks.fits("Highway.transform_bias", self.transform_bias, (input_size,))
        bias = jnp.asarray(self.transform_bias, dtype)
        return {
            "cell": self.cell.init(cell_key, input_size, dtype),
            "transform_kernel": self.kernel_init(kernel_key, (input_size, input_size), dtype),
            "transform_bias": jnp.broadcast_to(bias, (input_size,)),
        }

    def after(self, weights: Weights, x: Inputs, y: Any) -> Any:
        gate = jax.nn.sigmoid(dense(x, weights["transform_kernel"], weights["transform_bias"]))
        return gate * y + (1 - gate) * x


def _emitting(cell: Cell) -> GatedCell:
    """The cell, whose output must be a part of its state that nothing but its recurrent kernel reads."""
    if not (isinstance(cell, GatedCell) and cell.emits):
        raise ValueError(
            "Projection: with recurrent=True expected a cell of the LSTM family, not wrapped, whose"
            f" output only its recurrent kernel reads, got {cell}; pass recurrent=False to project"
            " its output alone, or put other wrappers around the Projection."
        )
    return cell


class Projection(Pointwise):
    """An output of another width, by a matrix; with `recurrent`, what the cell reads of its past is
    that projection too (LSTMP).

        y = f(x) P                               recurrent=False: any cell
        r' = h' P,  y = r',  gates read r        recurrent=True: cells with an `emits` field (LSTMs)

    With `recurrent` the state stores r [..., size] in place of h, and the recurrent kernel is [size, G*H]:
    as in PyTorch's `proj_size`. Without it a linear cell stays linear.

    Params: {"cell": the cell's, "projection": P [H, size]}.

    Args:
        cell: any cell; with `recurrent`, one of the LSTM family itself, not wrapped.
        size: width of the output.
        recurrent: whether the recurrence sees the projection; True by default.
        kernel_init: of P; Glorot uniform.

    Source: Sak, Senior & Beaufays 2014, arXiv 1402.1128, without its second, non-recurrent projection.
    """

    paper = "Sak, Senior & Beaufays 2014, arXiv 1402.1128"

    has_params = True

    size: int = static(check=checks.positive_int)
    recurrent: bool = static(default=True)
    kernel_init: Initializer = scheme(Glorot())

    @property
    def output_size(self) -> int:
        return self.size

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        cell_key, kernel_key, recurrent_key = jax.random.split(key, 3)
        params = self.cell.init(cell_key, input_size, dtype)
        if self.recurrent:
            cell = _emitting(self.cell)
            shape = (self.size, cell.features, len(cell.gates))
            kernel = gate_kernel(cell.recurrent_init, recurrent_key, *shape, dtype)
            params = {**params, "recurrent_kernel": kernel}
        projection = self.kernel_init(kernel_key, (self.cell.output_size, self.size), dtype)
        return {"cell": params, "projection": projection}

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> Carry:
        carry = super().initial_carry(params, batch_shape, like=like)
        if not self.recurrent:
            return carry
        name = _emitting(self.cell).emits
        old = getattr(carry, name)
        return carry._replace(**{name: jnp.zeros((*batch_shape, self.size), old.dtype)})

    def step(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Out]:
        carry, out = super().step(weights, carry, drive)
        if not self.recurrent:
            return carry, out
        out = dense(out, weights["projection"])
        return carry._replace(**{_emitting(self.cell).emits: out}), out

    def after(self, weights: Weights, x: Inputs, y: Any) -> Any:
        return y if self.recurrent else dense(y, weights["projection"])
