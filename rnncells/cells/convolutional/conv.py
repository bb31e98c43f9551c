"""Gated cells whose products are convolutions, for states that are sequences, images or volumes."""

from __future__ import annotations

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Carry, Cell, Drive, Like, Params, Shape, Weights, derived
from rnncells.cells.gated.lstm import LSTMCarry
from rnncells.dtypes import dtype_of, wider
from rnncells.fields import number, static
from rnncells.initializers import (
    ForgetBias,
    Glorot,
    Initializer,
    Orthogonal,
    forget_blocks,
    fuse,
    gate_kernel,
    scheme,
)
from rnncells.parts.arithmetic import align, split_gates


def _spatial(name: str, value: Any) -> None:
    expected = f"{name}: expected a tuple of 1 to 3 spatial sizes, such as (28, 28)"
    if not isinstance(value, tuple):
        raise TypeError(f"{expected}, got {checks.describe(value)}.")
    if not 1 <= len(value) <= 3:
        raise ValueError(f"{expected}, got {value}.")
    for axis, size in enumerate(value):
        checks.positive_int(f"{name}[{axis}]", size)


def _odd(name: str, value: Any) -> None:
    if isinstance(value, list):
        raise TypeError(f"{name}: expected an odd int, or a tuple of them, got {value}.")
    for size in value if isinstance(value, tuple) else (value,):
        if checks.positive_int(name, size) % 2 == 0:
            raise ValueError(f"{name}: expected odd sizes, which have a centre, got {value}.")


class _ConvCell(Cell):
    """kernel [*k, I, G*H], recurrent_kernel [*k, H, G*H], bias [G*H], the gates fused in the order of
    `gates`; the drive is W * x + b, [..., *shape, G*H]."""

    keep = ""
    write = ""

    features: int = static(check=checks.positive_int)
    shape: tuple[int, ...] = static(check=_spatial)
    kernel_size: int | tuple[int, ...] = static(default=3, check=_odd)
    forget_bias: ForgetBias = number(default=0.0)
    kernel_init: Initializer = scheme(Glorot())
    recurrent_init: Initializer = scheme(Orthogonal())

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self._taps) != len(self.shape):
            raise ValueError(
                f"{type(self).__name__}.kernel_size: expected one odd int, or {len(self.shape)} of them, one"
                f" per axis of shape {self.shape}, got {self.kernel_size}."
            )

    @derived
    def input_ndim(self) -> int:
        """The spatial axes and the channels."""
        return len(self.shape) + 1

    @property
    def _taps(self) -> tuple[int, ...]:
        size = self.kernel_size
        return size if isinstance(size, tuple) else (size,) * len(self.shape)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        kernel_key, recurrent_key, bias_key = jax.random.split(key, 3)
        size = self.features
        forget = forget_blocks(self.forget_bias, bias_key, size, dtype, keep=self.keep, write=self.write)
        return {
            "kernel": self._kernel(self.kernel_init, kernel_key, input_size, dtype),
            "recurrent_kernel": self._kernel(self.recurrent_init, recurrent_key, size, dtype),
            "bias": fuse([forget.get(gate, jnp.zeros((size,), dtype)) for gate in self.gates]),
        }

    def _kernel(self, scheme: Initializer, key: chex.PRNGKey, channels: int, dtype: DTypeLike) -> jax.Array:
        """[*k, channels, G*H], each gate drawn by itself as a matrix [prod(k) * channels, H]."""
        taps, size, gates = math.prod(self._taps), self.features, len(self.gates)
        rows = taps * channels
        drawn = gate_kernel(scheme, key, rows, size, gates, dtype)
        if isinstance(scheme, Glorot):  # the fan-out of a convolution, which the matrix does not show
            drawn = drawn * math.sqrt((rows + size) / (rows + taps * size))
        return drawn.reshape(*self._taps, channels, gates * size)

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> Carry:
        return jnp.zeros((*batch_shape, *self.shape, self.features), dtype_of(params))

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        size = params["kernel"].shape[-2] if "kernel" in params else 1
        checks.params(self, jax.eval_shape(lambda: self.init(jax.random.key(0), size)), params, size)
        return params

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> Drive:
        kernel, bias = weights["kernel"], weights["bias"]
        checks.features("x", x, kernel.shape[-2])
        if x.shape[-self.input_ndim : -1] != self.shape:
            sizes = ", ".join(map(str, (*self.shape, kernel.shape[-2])))
            raise ValueError(
                f"x: expected [*batch, {sizes}], the spatial sizes being {type(self).__name__}.shape,"
                f" got {checks.describe(x)}."
            )
        y = _convolve(x, kernel)
        return y + align(bias.astype(y.dtype), y)


def _convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """kernel [*k, I, O] * x [*B, *S, I] -> [*B, *S, O], with zeros beyond the border.

    A matrix product on CPU, where XLA's convolutions are many times slower, gradients included.
    """
    dtype = wider(x.dtype, kernel.dtype)
    return jax.lax.platform_dependent(
        x.astype(dtype), kernel.astype(dtype), cpu=_by_product, default=_by_convolution
    )


def _by_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    *taps, _, out = kernel.shape
    for behind, count in enumerate(reversed(taps)):  # gathers [*B, *S, I] -> [*B, *S, prod(k) * I]
        axis = x.ndim - 2 - behind
        padding = [(0, 0)] * x.ndim
        padding[axis] = (count // 2, count // 2)
        padded = jnp.pad(x, padding)
        shifted = [jax.lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i in range(count)]
        x = jnp.concatenate(shifted, -1)
    return x @ kernel.reshape(-1, out)


def _by_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    axes = kernel.ndim - 2
    batch, tick = x.shape[: -axes - 1], x.shape[-axes - 1 :]
    spatial = "DHW"[-axes:]
    y = jax.lax.conv_general_dilated(
        x.reshape(math.prod(batch), *tick),
        kernel,
        (1,) * axes,
        "SAME",
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
    )
    return y.reshape(*batch, *y.shape[1:])


class ConvLSTM(_ConvCell):
    """Convolutional long short-term memory, in one, two or three dimensions.

        i = s(W_i * x + U_i * h + p_i c + b_i)      f = s(W_f * x + U_f * h + p_f c + b_f)
        c' = f c + i tanh(W_g * x + U_g * h + b_g)
        o = s(W_o * x + U_o * h + p_o c' + b_o)     h' = o tanh(c'),    y = h'

    with s the logistic function, * a convolution (in today's sense: the kernel is not flipped) of stride
    1 with zeros beyond the border, and all other products elementwise. The terms with p are there only
    with `peepholes`; the output gate sees the new memory c'.

    Shapes: x [..., *shape, I], carry `LSTMCarry(cell, hidden)` of two [..., *shape, H], y [..., *shape, H];
    kernel W [*k, I, 4H], recurrent_kernel U [*k, H, 4H], bias b [4H], gates in the order i, f, g, o; with
    peepholes, peephole p [3, *shape, H] in the order i, f, o. `init` takes I, the channels of x.

    Args:
        features: H, the channels of the state.
        shape: the spatial sizes, such as (28, 28); a tuple of 1, 2 or 3 ints.
        kernel_size: k, an odd int for all axes or a tuple of one per axis; for both convolutions.
        forget_bias: initial b_f, 1 by default; a number, an array [H], or `Chrono(t_max)`, `UniformGate()`.
        kernel_init, recurrent_init: drawn for each gate as a matrix [prod(k) * channels, H]; Glorot
            uniform (with the fans of the convolution) and orthogonal.
        peepholes: whether the gates see the memory; p starts at zero.

    Raises:
        TypeError, ValueError: for an even kernel, a shape of no or more than 3 axes, and inputs that are
            not floating or not of this shape.

    Source: Shi, Chen, Wang, Yeung, Wong & Woo 2015, arXiv 1506.04214, where the peepholes are always
    there. Keras, Flax and Haiku leave them out. Keras computes the same with padding="same" (its default
    for the input is "valid", which shrinks the state) and draws all gates as one array; Flax and Haiku
    order the gates i, g, f, o, have a second bias and a hidden +1 on f (here both are in the one bias).
    """

    paper = "Shi, Chen, Wang, Yeung, Wong & Woo 2015, arXiv 1506.04214"
    gates = ("i", "f", "g", "o")
    keep = "f"
    write = "i"

    forget_bias: ForgetBias = number(default=1.0)
    peepholes: bool = static(default=False)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        params = super().init(key, input_size, dtype)
        if self.peepholes:
            params["peephole"] = jnp.zeros((3, *self.shape, self.features), dtype)
        return params

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> LSTMCarry:
        cell, hidden = (super(ConvLSTM, self).initial_carry(params, batch_shape) for _ in range(2))
        return LSTMCarry(cell, hidden)

    def step(self, weights: Weights, carry: LSTMCarry, drive: jax.Array) -> tuple[LSTMCarry, jax.Array]:
        i, f, g, o = split_gates(drive + _convolve(carry.hidden, weights["recurrent_kernel"]), 4)
        if self.peepholes:
            p_i, p_f, p_o = (align(p, carry.cell) for p in weights["peephole"])
            i, f = i + p_i * carry.cell, f + p_f * carry.cell
        cell = jax.nn.sigmoid(f) * carry.cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        if self.peepholes:
            o = o + p_o * cell
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return LSTMCarry(cell, hidden), hidden


class ConvGRU(_ConvCell):
    """Convolutional gated recurrent unit, in one, two or three dimensions.

        r = s(W_r * x + U_r * h + b_r)      z = s(W_z * x + U_z * h + b_z)
        n = tanh(W_n * x + U_n * (r h) + b_n)
        h' = (1 - z) n + z h,    y = h'

    with s the logistic function, * a convolution (in today's sense: the kernel is not flipped) of stride
    1 with zeros beyond the border, and all other products elementwise. The reset state is convolved.

    Shapes: x [..., *shape, I], h and y [..., *shape, H]; kernel W [*k, I, 3H], recurrent_kernel U
    [*k, H, 3H], bias b [3H], gates in the order r, z, n. `init` takes I, the channels of x.

    Args:
        features, shape, kernel_size, kernel_init, recurrent_init: as ConvLSTM.
        forget_bias: initial b_z, 0 by default; a number, an array [H], or `Chrono(t_max)`, `UniformGate()`.

    Raises:
        TypeError, ValueError: as ConvLSTM.

    Source: Ballas, Yao, Pal & Courville 2016, arXiv 1511.06432 (GRU-RCN). Deviations: their z lets the
    new value in (a relabelling: negate the z columns), and they have no biases. In the ConvGRU of Shi et
    al. 2017, arXiv 1706.03458, r multiplies the convolution of h instead, and n is a leaky relu. Keras,
    Flax and Haiku have no convolutional GRU.
    """

    paper = "Ballas, Yao, Pal & Courville 2016, arXiv 1511.06432"
    gates = ("r", "z", "n")
    keep = "z"

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        x_r, x_z, x_n = split_gates(drive, 3)
        kernel, split = weights["recurrent_kernel"], 2 * self.features
        h_r, h_z = split_gates(_convolve(carry, kernel[..., :split]), 2)
        r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
        n = jnp.tanh(x_n + _convolve(r * carry, kernel[..., split:]))
        hidden = (1 - z) * n + z * carry
        return hidden, hidden
