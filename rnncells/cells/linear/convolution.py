"""A convolution over the last few inputs, as a cell."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import computes_in, dtype_of
from rnncells.fields import static
from rnncells.initializers import Glorot, Initializer, Zeros, scheme
from rnncells.linear_scan import Monoid, Shift, ShiftElement
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import dense
from rnncells.parts.linear import LinearCell, LinearDrive


class CausalConvolution(LinearCell):
    """A causal convolution: the window over the last inputs that other cells are composed with.

        y_t = act(x_(t-K+1) W_1 + ... + x_t W_K + b)

    Its state is the window, so that a sequence may be split anywhere, and resets and lengths hold for the
    window too. Inputs before the first are zero.

    Shapes: x [..., I], carry [..., K, I] with the latest input last, y [..., H]; kernel W [K I, H] and
    bias b [H].

    Args:
        features: H.
        width: K, 2 by default: each input and the one before it.
        activation: act, "identity" by default.
        kernel_init, bias_init: Glorot uniform and zeros.

    Source: time-delay neural networks, Waibel, Hanazawa, Hinton, Shikano & Lang 1989, doi 10.1109/29.21701.
    In front of linear recurrences, `Stack([CausalConvolution(...), ...])`, it is the convolution of QRNN and
    the short convolution of Mamba and DeltaNet, and holds the token shift of RWKV.
    """

    paper = "Waibel, Hanazawa, Hinton, Shikano & Lang 1989, doi 10.1109/29.21701"
    gates = ("y",)
    associative = False

    features: int = static(check=checks.positive_int)
    width: int = static(default=2, check=checks.positive_int)
    activation: Activation = activation("identity")
    kernel_init: Initializer = scheme(Glorot())
    bias_init: Initializer = scheme(Zeros())

    @property
    def monoid(self) -> Monoid:
        return Shift(self.width)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        kernel_key, bias_key = jax.random.split(key)
        return {
            "kernel": self.kernel_init(kernel_key, (self.width * input_size, self.features), dtype),
            "bias": self.bias_init(bias_key, (self.features,), dtype),
        }

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> jax.Array:
        if params is None and like is None:
            raise ValueError(
                "params: expected those of the cell, which know the width of the input, got None."
            )
        size = like.shape[-1] if params is None else params["kernel"].shape[0] // self.width
        return jnp.zeros((*batch_shape, self.width, size), dtype_of(params, like))

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        checks.features("x", x, weights["kernel"].shape[0] // self.width)
        return LinearDrive(ShiftElement(jnp.ones_like(x[..., 0], jnp.int32), x))

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        window = side_by_side(out).astype(computes_in(weights))
        return self.activation(dense(window, weights["kernel"], weights["bias"]))


def side_by_side(window: jax.Array) -> jax.Array:
    """[..., K, I] -> [..., K I]."""
    return window.reshape(*window.shape[:-2], window.shape[-2] * window.shape[-1])
