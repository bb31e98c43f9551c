"""Layer normalisation inside cells, as published. For other cells see `rnncells.LayerNorm`."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Params, Weights
from rnncells.cells.gated.lstm import LSTMCarry, LSTMFamily
from rnncells.fields import Number, number
from rnncells.parts.arithmetic import align, dense, normalise, split_gates
from rnncells.parts.gated import GatedCell


class LayerNormLSTM(LSTMFamily):
    """LSTM with its products and its memory normalised.

        (i f g o) = n(x W; a) + n(h U; a') + b
        c' = s(f) c + s(i) tanh(g),    h' = s(o) tanh(n(c'; a_c) + b_c),    y = h'
        n(v; a) = a (v - mean v) / sqrt(var v + epsilon)

    The statistics of both products are over the four gates together, 4H units. The memory is carried
    as it is, and normalised only where the output reads it.

    Shapes: x [..., I], carry `LSTMCarry(cell, hidden)` of two [..., H], y [..., H]; kernel W [I, 4H],
    recurrent_kernel U [H, 4H], bias b [4H], kernel_scale a [4H], recurrent_scale a' [4H], cell_scale a_c and
    cell_bias b_c [H], gates in the order i, f, g, o.

    Args:
        features: H.
        epsilon: 1e-5 by default, at least 1e-12: the state starts at zero.
        forget_bias, kernel_init, recurrent_init and the activations: as LSTM.

    Source: Ba, Kiros & Hinton 2016, arXiv 1607.06450, whose two shifts of the products are the one b
    here. TensorFlow Addons' cell of this name carries the normalised memory, which is another model.
    """

    paper = "Ba, Kiros & Hinton 2016, arXiv 1607.06450"
    gates = ("i", "f", "g", "o")
    write = "i"

    epsilon: Number = number(default=1e-5, low=1e-12)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        wide, size = 4 * self.features, self.features
        return {
            **super().init(key, input_size, dtype),
            "kernel_scale": jnp.ones((wide,), dtype),
            "recurrent_scale": jnp.ones((wide,), dtype),
            "cell_scale": jnp.ones((size,), dtype),
            "cell_bias": jnp.zeros((size,), dtype),
        }

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
        product = normalise(dense(x, weights["kernel"]), weights["kernel_scale"], self.epsilon)
        return product + align(weights["bias"], product) if self.use_bias else product

    def step(self, weights: Weights, carry: LSTMCarry, drive: jax.Array) -> tuple[LSTMCarry, jax.Array]:
        product = dense(carry.hidden, weights["recurrent_kernel"])
        product = normalise(product, weights["recurrent_scale"], self.epsilon)
        i, f, g, o = split_gates(drive + product, 4)
        cell = self.write_to(carry.cell, i, f, g)
        seen = normalise(cell, weights["cell_scale"], self.epsilon) + align(weights["cell_bias"], cell)
        hidden = self.read_from(seen, o)
        return LSTMCarry(cell, hidden), hidden


class LayerNormGRU(GatedCell):
    """GRU with its products normalised.

        (r z) = n(x W_rz; a) + n(h U_rz; a') + b_rz
        n' = tanh(n(x W_n; a_n) + b_n + s(r) (n(h U_n; a'_n) + q))
        h' = (1 - s(z)) n' + s(z) h,    y = h'
        n(v; a) = a (v - mean v) / sqrt(var v + epsilon)

    The statistics are over r and z together, 2H units, and over the candidate by itself. The reset gate
    multiplies the product, as in `GRU(reset_after=True)`; z keeps the past (the paper's 1 - z).

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 3H], recurrent_kernel U [H, 3H], bias b [3H],
    recurrent_bias q [H], kernel_scale a [3H], recurrent_scale a' [3H], gates in the order r, z, n.

    Args:
        features: H.
        epsilon: 1e-5 by default, at least 1e-12: the state starts at zero.
        forget_bias, kernel_init, recurrent_init: as GRU.

    Source: Ba, Kiros & Hinton 2016, arXiv 1607.06450, supplement.
    """

    paper = "Ba, Kiros & Hinton 2016, arXiv 1607.06450"
    gates = ("r", "z", "n")
    keep = "z"

    epsilon: Number = number(default=1e-5, low=1e-12)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        wide, params = 3 * self.features, super().init(key, input_size, dtype)
        if self.use_bias:
            params["recurrent_bias"] = jnp.zeros((self.features,), dtype)
        scales = {name: jnp.ones((wide,), dtype) for name in ("kernel_scale", "recurrent_scale")}
        return {**params, **scales}

    def _normalised(self, x: jax.Array, kernel: Any, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The gates r and z together, and the candidate."""
        split = 2 * self.features
        product = dense(x, kernel)
        gates = normalise(product[..., :split], scale[:split], self.epsilon)
        return gates, normalise(product[..., split:], scale[split:], self.epsilon)

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
        drive = jnp.concatenate(self._normalised(x, weights["kernel"], weights["kernel_scale"]), -1)
        return drive + align(weights["bias"], drive) if self.use_bias else drive

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        x_r, x_z, x_n = split_gates(drive, 3)
        gates, h_n = self._normalised(carry, weights["recurrent_kernel"], weights["recurrent_scale"])
        h_r, h_z = split_gates(gates, 2)
        if self.use_bias:
            h_n = h_n + align(weights["recurrent_bias"], h_n)
        n = jnp.tanh(x_n + jax.nn.sigmoid(x_r + h_r) * h_n)
        z = jax.nn.sigmoid(x_z + h_z)
        hidden = n + z * (carry - n)
        return hidden, hidden
