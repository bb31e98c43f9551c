"""Multiplicative integration: gates that multiply what the input and the state give them, in any cell."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Carry, Drive, Out, Params, Weights
from rnncells.cells.gated.gru import GRU
from rnncells.cells.gated.lstm import LSTM
from rnncells.cells.simple.elman import Elman
from rnncells.fields import Number, data, number, static
from rnncells.parts.arithmetic import align, dense
from rnncells.parts.gated import DenseCell
from rnncells.parts.stand_ins import StandIn

SCALES = {"product_scale": "alpha", "recurrent_scale": "beta1", "kernel_scale": "beta2"}
"""Parameters, and the fields that hold their initial values."""


class IntegratedDrive(NamedTuple):
    """A pre-activation as a function of what the state gives: gain * r + offset; both [..., G*H]."""

    gain: jax.Array
    offset: jax.Array


class Amplified(StandIn):
    """A kernel, and what its product with the state is multiplied with."""

    kernel: Any = data()
    gain: Any = data()
    """[..., N]"""

    def times(self, x: jax.Array) -> jax.Array:
        return self.gain * dense(x, self.kernel)

    def __getitem__(self, columns: Any) -> Amplified:
        return Amplified(self.kernel[columns], self.gain[..., columns[-1]])

    @property
    def shape(self) -> tuple[int, int]:
        return self.kernel.shape


class MultiplicativeIntegration(DenseCell):
    """Before another cell among the bases of a class, it changes the sums in that cell's gates to

        p = alpha (x W) (h U) + beta1 (h U) + beta2 (x W) + b

    with a vector alpha, beta1 and beta2 in every gate. h is whatever that cell multiplies with U.
    """

    alpha: Number = number(default=1.0)
    beta1: Number = number(default=0.5)
    beta2: Number = number(default=0.5)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        params = super().init(key, input_size, dtype)
        wide = (len(self.gates) * self.features,)
        return params | {name: jnp.full(wide, getattr(self, field), dtype) for name, field in SCALES.items()}

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> IntegratedDrive:
        seen = dense(x, weights["kernel"])
        product, recurrent, kernel = (align(weights[name].astype(seen.dtype), seen) for name in SCALES)
        offset = kernel * seen
        if self.use_bias:
            offset = offset + align(weights["bias"].astype(seen.dtype), seen)
        return IntegratedDrive(product * seen + recurrent, offset)

    def step(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Out]:
        weights = weights | {"recurrent_kernel": Amplified(weights["recurrent_kernel"], drive.gain)}
        return super().step(weights, carry, drive.offset)  # type: ignore[safe-super]  # that of the other cell


class MIRNN(MultiplicativeIntegration, Elman):
    """MI-RNN: a simple recurrent network in which the input multiplies what the state gives.

        p = alpha (x W) (h U) + beta1 (h U) + beta2 (x W) + b
        h' = act(p),    y = h'

    With alpha = 0 and beta1 = beta2 = 1 it is an `Elman`. With beta1 = beta2 = b = 0, the paper's simple form
    without a bias, a state of zero stays zero for ever.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], recurrent_kernel U [H, H], bias b, product_scale
    alpha, recurrent_scale beta1 and kernel_scale beta2 [H].

    Args:
        features: H.
        alpha, beta1, beta2: their initial values, 1, 0.5 and 0.5.
        activation: act, "tanh".
        kernel_init, recurrent_init: Glorot uniform and orthogonal.
        bias_init, use_bias: zeros by default; without, b is left out.

    Source: Wu, Zhang, Zhang, Bengio & Salakhutdinov 2016, arXiv 1606.06630, the general form.
    """

    paper = "Wu, Zhang, Zhang, Bengio & Salakhutdinov 2016, arXiv 1606.06630"


class MILSTM(MultiplicativeIntegration, LSTM):
    """MI-LSTM: an LSTM whose gates multiply what the input and the state give them.

        p_k = alpha_k (x W_k) (h U_k) + beta1_k (h U_k) + beta2_k (x W_k) + b_k,    for k = i, f, g, o
        c' = s(p_f) c + s(p_i) tanh(p_g)
        h' = s(p_o) tanh(c'),    y = h'

    With alpha = 0 and beta1 = beta2 = 1 it is an `LSTM`.

    Shapes: x [..., I], carry `LSTMCarry(cell, hidden)` of two [..., H], y [..., H]; kernel W [I, 4H],
    recurrent_kernel U [H, 4H]; bias b, product_scale alpha, recurrent_scale beta1 and kernel_scale beta2
    [4H], gates in the order i, f, g, o.

    Args:
        features: H.
        alpha, beta1, beta2: their initial values in every gate, 1, 0.5 and 0.5.
        forget_bias, kernel_init, recurrent_init and the activations: as LSTM.

    Source: Wu, Zhang, Zhang, Bengio & Salakhutdinov 2016, arXiv 1606.06630, the general form.
    """

    paper = "Wu, Zhang, Zhang, Bengio & Salakhutdinov 2016, arXiv 1606.06630"


class MIGRU(MultiplicativeIntegration, GRU):
    """MI-GRU: a GRU whose gates multiply what the input and the state give them.

        p_k = alpha_k (x W_k) (h U_k) + beta1_k (h U_k) + beta2_k (x W_k) + b_k,    for k = r, z
        n = tanh(alpha_n (x W_n) ((r h) U_n) + beta1_n ((r h) U_n) + beta2_n (x W_n) + b_n),    r = s(p_r)
        h' = (1 - s(p_z)) n + s(p_z) h,    y = h'

    With alpha = 0 and beta1 = beta2 = 1 it is a `GRU`. z keeps the past, the paper's 1 - z.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 3H], recurrent_kernel U [H, 3H]; bias b, product_scale
    alpha, recurrent_scale beta1 and kernel_scale beta2 [3H], gates in the order r, z, n; with reset_after,
    recurrent_bias q [H].

    Args:
        features: H.
        alpha, beta1, beta2: their initial values in every gate, 1, 0.5 and 0.5.
        reset_after: False, the paper's form; with True r multiplies all that the state gives to n, and q, as
            in `GRU(reset_after=True)`.
        forget_bias, kernel_init, recurrent_init and the activations: as GRU.

    Source: Wu, Zhang, Zhang, Bengio & Salakhutdinov 2016, arXiv 1606.06630, the general form.
    """

    paper = "Wu, Zhang, Zhang, Bengio & Salakhutdinov 2016, arXiv 1606.06630"

    reset_after: bool = static(default=False)
