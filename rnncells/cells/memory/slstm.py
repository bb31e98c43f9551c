"""The sLSTM of xLSTM: an LSTM with exponential gates and a normaliser."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, dtype_of
from rnncells.fields import choice, number, static
from rnncells.initializers import ForgetBias, Initializer, Zeros, gate_kernel, scheme
from rnncells.linear_scan import RunningMaximum, Scaled, ScaledElement
from rnncells.parts.arithmetic import dense, split_gates
from rnncells.parts.gated import DenseCell
from rnncells.parts.stand_ins import BlockDiagonal, on_array


class SLSTMCarry(NamedTuple):
    memory: Scaled
    """c and n, and the largest exponent taken out of both; [..., H] each, in float32 or wider."""
    hidden: jax.Array
    """[..., H]"""


class SLSTM(DenseCell):
    """sLSTM: an LSTM with an exponential input gate, whose memory is an average by weight.

        i = x W_i + h U_i + b_i      f = ln s(x W_f + h U_f + b_f)      forget="sigmoid"
                                     f = x W_f + h U_f + b_f            forget="exponential"
        z = tanh(x W_z + h U_z + b_z)      o = s(x W_o + h U_o + b_o)
        c' = e^f c + e^i z      n' = e^f n + e^i      h' = o c' / n',    y = h'

    with s the logistic function. c and n are stored with the running maximum of their exponents taken out,
    m' = max(f + m, i), so that no gate overflows; h does not depend on m. With heads, U is block diagonal:
    the units of a head see each other, those of different heads do not.

    Shapes: x [..., I], carry `SLSTMCarry(Scaled((c, n), m), hidden)` of [..., H] each, c, n and m in float32
    or wider, y [..., H]; kernel W [I, 4H], recurrent_kernel U [K, 4H] with K = H / heads, bias b [4H], gates
    in the order i, f, z, o, and within a gate head by head.

    Args:
        features: H, a multiple of heads.
        heads: 1 by default; the authors' layer has 4.
        forget: "sigmoid" or "exponential".
        forget_bias: initial b_f: 5 - 12 (k / (K - 1))^0.3 for unit k of a head by default, from 5 down to -7,
            the authors' power law for a single block; a number, an array [H] or a scheme.
        kernel_init: drawn for each gate; Glorot uniform.
        recurrent_init: drawn for each gate and head; zeros, as the authors'.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Beck et al. 2024, arXiv 2405.04517. The cell alone: the authors' layer adds a causal convolution
    in front of i and f, products by head, and a norm of each head behind. m starts at -1e30 here, where their
    code starts at 0 and ignores m at the first tick.
    """

    paper = "Beck et al. 2024, arXiv 2405.04517"
    gates = ("i", "f", "z", "o")
    keep = "f"
    blendable = False

    heads: int = static(default=1, check=checks.positive_int)
    forget: str = choice("sigmoid", "exponential", default="sigmoid")
    forget_bias: ForgetBias | None = number(default=None)
    recurrent_init: Initializer = scheme(Zeros(), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features % self.heads:
            raise ValueError(
                f"SLSTM.features: expected a multiple of heads={self.heads}, got {self.features}."
            )

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, recurrent_key = jax.random.split(key)
        width = self.features // self.heads
        kernel = gate_kernel(self.recurrent_init, recurrent_key, width, width, 4 * self.heads, dtype)
        return super().init(key, input_size, dtype) | {"recurrent_kernel": kernel}

    def added_biases(self, key: chex.PRNGKey, dtype: DTypeLike) -> dict[str, jax.Array]:
        if self.forget_bias is not None:
            return super().added_biases(key, dtype)
        width = self.features // self.heads
        unit = np.arange(width) / max(width - 1, 1)
        return {"f": jnp.asarray(np.tile(5 - 12 * unit**0.3, self.heads), dtype)}

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> SLSTMCarry:
        shape, dtype = (*batch_shape, self.features), dtype_of(params, like)
        wide = accumulator(dtype)
        values = jnp.zeros(shape, wide), jnp.zeros(shape, wide)
        return SLSTMCarry(Scaled(values, jnp.full(shape, -1e30, wide)), jnp.zeros(shape, dtype))

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        if self.heads == 1:
            return params
        kernel = on_array(params["recurrent_kernel"], lambda array: array)
        return {**params, "recurrent_kernel": BlockDiagonal(kernel, self.heads)}

    def step(self, weights: Weights, carry: SLSTMCarry, drive: jax.Array) -> tuple[SLSTMCarry, jax.Array]:
        fused = drive + dense(carry.hidden, weights["recurrent_kernel"])
        i, f, z, o = split_gates(fused.astype(accumulator(fused.dtype)), 4)
        kept = jax.nn.log_sigmoid(f) if self.forget == "sigmoid" else f
        z = jnp.tanh(z)
        memory = RunningMaximum().apply(ScaledElement(kept, i, (z, jnp.ones_like(z))), carry.memory)
        total, count = memory.values
        hidden = (jax.nn.sigmoid(o) * total / count).astype(fused.dtype)
        return SLSTMCarry(memory, hidden), hidden
