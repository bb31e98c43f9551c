"""Gated impulse linear recurrence, and the LSTM that has it for a surrogate of its state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Cell, Params, Weights
from rnncells.dtypes import accumulator, computes_in
from rnncells.fields import number
from rnncells.initializers import ForgetBias, Glorot, Initializer, scheme
from rnncells.linear_scan import DiagonalElement
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import dense, split_gates
from rnncells.parts.cascade import Cascade
from rnncells.parts.diagonal import average
from rnncells.parts.gated import DenseCell, GatedCell, ProjectedCell
from rnncells.parts.linear import LinearCell, LinearDrive


class GILR(LinearCell, ProjectedCell):
    """Gated impulse linear recurrence: a running average of what the input makes, at a rate that it sets.

        g = s(x W_g + b_g)      i = act(x W_i + b_i)
        h' = g h + (1 - g) i,    y = h'

    Shapes: x [..., I], h [..., H] in float32 or wider, y [..., H]; kernel W [I, 2H], bias b [2H], gates in
    the order g, i.

    Args:
        features: H.
        activation: act, tanh by default; with "identity" it is MinGRU with z = 1 - g.
        forget_bias: initial b_g, 0 by default.
        kernel_init: drawn for each gate; Glorot uniform, as in the paper.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Martin & Cundy 2018, arXiv 1709.04057, where any act will do; tanh is that of their LSTM, elu
    that of their code.
    """

    paper = "Martin & Cundy 2018, arXiv 1709.04057"
    gates = ("g", "i")
    keep = "g"

    activation: Activation = activation("tanh")
    forget_bias: ForgetBias = number(default=0.0)

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        fused = ProjectedCell.project(self, weights, x)
        g, i = split_gates(fused.astype(accumulator(fused.dtype)), 2)
        return LinearDrive(average(g, self.activation(i)))


class LSLSTMCarry(NamedTuple):
    """The state of an `LSLSTM`."""

    surrogate: jax.Array
    """[..., H]: what the gates see in place of the hidden state."""
    cell: jax.Array
    """[..., H]"""


class _Surrogate(GILR):
    """Gives out the state before the tick."""

    reads = "before"


class _Memory(LinearCell, DenseCell):
    """An LSTM's cell behind gates that see (x, surrogate)."""

    gates = ("f", "i", "o", "z")

    def project(self, weights: Weights, x: Any, key: chex.PRNGKey | None = None) -> LinearDrive:
        x, surrogate = x
        fused = DenseCell.project(self, weights, x) + dense(surrogate, weights["recurrent_kernel"])
        f, i, o, z = split_gates(fused.astype(accumulator(fused.dtype)), 4)
        element = DiagonalElement(jax.nn.sigmoid(f), jax.nn.sigmoid(i) * jnp.tanh(z))
        return LinearDrive(element, jax.nn.sigmoid(o))

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        return (drive.extra * out).astype(computes_in(weights))


class LSLSTM(Cascade, GatedCell):
    """Linear surrogate LSTM, GILR-LSTM: an LSTM whose gates see a `GILR` of the inputs in place of its
    output.

        g = s(x V_g + c_g)      j = tanh(x V_j + c_j)      r' = g r + (1 - g) j
        (f i o) = s(x W_fio + r U_fio + b_fio)             z = tanh(x W_z + r U_z + b_z)
        c' = f c + i z,    y = o c'

    The gates see r before the tick, as those of an LSTM see h. Both recurrences are linear, one after the
    other: r of all ticks first, then c, each in parallel where that pays.

    Shapes: x [..., I], carry `LSLSTMCarry(surrogate r, cell c)` of two [..., H] in float32 or wider, y
    [..., H]; kernel W [I, 4H], recurrent_kernel U [H, 4H], bias b [4H], gates in the order f, i, o, z;
    surrogate_kernel V [I, 2H], surrogate_bias c [2H], gates g, j.

    Args:
        features: H.
        forget_bias: initial b_f, 5 by default, as in the authors' code; c_g starts at 0.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform, as in the paper.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Martin & Cundy 2018, arXiv 1709.04057: LS-LSTM in its first version, GILR-LSTM in its second.
    Their code gives the gates r after the tick.
    """

    paper = "Martin & Cundy 2018, arXiv 1709.04057"
    gates = ("f", "i", "o", "z")
    keep = "f"
    carry_type = LSLSTMCarry

    forget_bias: ForgetBias = number(default=5.0)
    recurrent_init: Initializer = scheme(Glorot(), kw_only=True)

    @property
    def stages(self) -> Sequence[Cell]:
        surrogate = _Surrogate(
            self.features,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            use_bias=self.use_bias,
        )
        return surrogate, _Memory(self.features, use_bias=self.use_bias)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, surrogate_key = jax.random.split(key)
        surrogate = self.stages[0].init(surrogate_key, input_size, dtype)
        return GatedCell.init(self, key, input_size, dtype) | {
            f"surrogate_{name}": leaf for name, leaf in surrogate.items()
        }

    def of_stage(self, i: int, params: Params) -> Params:
        if i == 1:
            return params
        return {name: params[f"surrogate_{name}"] for name in ("kernel", "bias") if name in params}

    def feed(self, i: int, drive: jax.Array, ys: Sequence[Any]) -> Any:
        return (drive, ys[0]) if ys else drive
