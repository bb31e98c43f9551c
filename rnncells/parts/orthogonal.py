"""Maps that keep lengths, made of numbers that are free, and the cells that step with them.

    skew, skew_hermitian    generators: exp and the Cayley transform of them keep lengths
    cayley                  (I + K)^-1 (I - K)
    reflection_product      a product of Householder reflections
    Rotations               layers of rotations of pairs of units
    ModReLUCell             h' = modrelu(x W + U h), with a real state
    UnitaryCell             the same with a complex one

States are rows here: what papers write as U h is h U^T.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Cell, Drive, Like, Out, Params, Shape, Weights
from rnncells.dtypes import accumulator, computes_in, dtype_of, real, wider
from rnncells.fields import static
from rnncells.initializers import Glorot, Initializer, scheme
from rnncells.parts.activations import modrelu
from rnncells.parts.arithmetic import align, dense, split_gates


def skew(entries: jax.Array, size: int) -> jax.Array:
    """A - A^T [H, H], A strictly upper triangular with these entries [H (H - 1) / 2], row by row."""
    upper = jnp.zeros((size, size), entries.dtype).at[np.triu_indices(size, 1)].set(entries)
    return upper - upper.T


def skew_hermitian(numbers: jax.Array) -> jax.Array:
    """K = -K^* [H, H] from as many real numbers [H, H]: those above the diagonal are the real parts of K
    there, those below and on it the imaginary parts."""
    upper, lower = jnp.triu(numbers, 1), jnp.tril(numbers, -1)
    return jax.lax.complex(upper - upper.T, lower + lower.T + jnp.diag(jnp.diag(numbers)))


def numbers_of(generator: jax.Array) -> jax.Array:
    """The real numbers [H, H] of which `skew_hermitian` makes this matrix."""
    return jnp.triu(generator.real, 1) + jnp.tril(generator.imag)


def turning_blocks(angles: jax.Array, size: int) -> jax.Array:
    """Entries for `skew` with blocks [[0, a], [-a, 0]] along the diagonal, one for each of H // 2 angles."""
    even = np.arange(0, size - 1, 2)
    upper = jnp.zeros((size, size), angles.dtype).at[even, even + 1].set(angles)
    return upper[np.triu_indices(size, 1)]


def cayley_angles(key: chex.PRNGKey, count: int, dtype: DTypeLike) -> jax.Array:
    """-tan(t / 2) with t ~ U(0, pi / 2): blocks whose Cayley transforms turn by t."""
    return -jnp.tan(jax.random.uniform(key, (count,), dtype, 0.0, np.pi / 2) / 2)


def cayley(generator: jax.Array) -> jax.Array:
    """(I + K)^-1 (I - K) of a skew-symmetric K [H, H]: a rotation without the eigenvalue -1."""
    eye = jnp.eye(len(generator), dtype=generator.dtype)
    return jnp.linalg.solve(eye + generator, eye - generator)


def reflection_product(vectors: jax.Array) -> jax.Array:
    """R_1 R_2 ... R_M [H, H] with R_k = I - 2 v_k v_k^T / |v_k|^2, for the rows v_k of vectors [M, H].

    As I - V^T S^-1 V with S the upper triangle of V V^T, its diagonal halved: one product and one solve.
    """
    gram = vectors @ vectors.T
    upper = jnp.triu(gram, 1) + 0.5 * jnp.diag(jnp.diag(gram))
    return jnp.eye(vectors.shape[1], dtype=vectors.dtype) - vectors.T @ jax.scipy.linalg.solve_triangular(
        upper, vectors
    )


class RotationLayer(NamedTuple):
    """Units first and first + stride are turned in pairs."""

    stride: int
    first: npt.NDArray[np.int_]


def rotation_layers(size: int, capacity: int, style: str) -> list[RotationLayer]:
    """The pairs of each layer; units without a partner stay as they are.

    tunable: `capacity` layers, which pair neighbours, from unit 0 and from unit 1 in turn.
    fft: layers whose pairs lie H/2, H/4, ... 1 apart, as in a fast Fourier transform, whatever the capacity.
    """
    if style == "tunable":
        return [RotationLayer(1, np.arange(layer % 2, size - 1, 2)) for layer in range(capacity)]
    strides = [2**k for k in reversed(range((size - 1).bit_length()))]
    units = np.arange(size)
    return [
        RotationLayer(stride, units[(units // stride % 2 == 0) & (units + stride < size)])
        for stride in strides
    ]


def angle_count(layers: list[RotationLayer]) -> int:
    """How many pairs there are in all layers."""
    return sum(len(layer.first) for layer in layers)


def rotation_weights(
    layers: list[RotationLayer], size: int, theta: jax.Array, phi: jax.Array | None = None
) -> jax.Array:
    """What `rotate` multiplies with, [layers, 3, H], from the angles [pairs], layer by layer.

    A pair (i, j) becomes e^(i phi) (cos theta h_i - sin theta h_j) and sin theta h_i + cos theta h_j.
    """
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    phase = jnp.ones_like(cos) if phi is None else jax.lax.complex(jnp.cos(phi), jnp.sin(phi))
    cos, sin = cos.astype(phase.dtype), sin.astype(phase.dtype)
    stacked, start = [], 0
    for stride, first in layers:
        now = slice(start, start + len(first))
        start += len(first)
        keep = jnp.ones((size,), phase.dtype)
        keep = keep.at[first].set(phase[now] * cos[now]).at[first + stride].set(cos[now])
        nothing = jnp.zeros((size,), phase.dtype)
        ahead = nothing.at[first].set(-phase[now] * sin[now])
        behind = nothing.at[first + stride].set(sin[now])
        stacked.append(jnp.stack([keep, ahead, behind]))
    return jnp.stack(stacked) if stacked else jnp.ones((0, 3, size), phase.dtype)


def rotate(layers: list[RotationLayer], weights: jax.Array, hidden: jax.Array) -> jax.Array:
    """h [..., H] after all layers, the first one first."""
    for (stride, _), layer in zip(layers, weights, strict=True):
        keep, ahead, behind = (align(row, hidden) for row in layer)
        hidden = keep * hidden + ahead * jnp.roll(hidden, -stride, -1) + behind * jnp.roll(hidden, stride, -1)
    return hidden


class ModReLUCell(Cell):
    """h' = modrelu_b(x W + U h),    y = h': subclasses make U, as `recurrent_kernel` U^T in `prepare`, or
    write `turn`."""

    gates: ClassVar[tuple[str, ...]] = ("h",)

    features: int = static(check=checks.positive_int)

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> Drive:
        return dense(x, weights["kernel"])

    def turn(self, weights: Weights, hidden: jax.Array) -> jax.Array:
        """U h [..., H]."""
        return dense(hidden, weights["recurrent_kernel"])

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = modrelu(drive + self.turn(weights, carry), weights["bias"])
        return hidden, hidden


class UnitaryCell(ModReLUCell):
    """A `ModReLUCell` with a complex state: the output [..., 2H] is its real parts, then its imaginary
    parts, and so are the columns of the kernel [I, 2H]."""

    gates = ("re", "im")

    kernel_init: Initializer = scheme(Glorot(), kw_only=True)

    @property
    def output_size(self) -> int:
        return 2 * self.features

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        kernel_key, bias_key, own_key = jax.random.split(key, 3)
        return {
            "kernel": self.kernel_init(kernel_key, (input_size, 2 * self.features), dtype),
            "bias": self.start_bias(bias_key, dtype),
        } | self.turning_params(own_key, dtype)

    def start_bias(self, key: chex.PRNGKey, dtype: DTypeLike) -> jax.Array:
        """b [H]."""
        return jax.random.uniform(key, (self.features,), dtype, -0.01, 0.01)

    @abc.abstractmethod
    def turning_params(self, key: chex.PRNGKey, dtype: DTypeLike) -> Params:
        """The parameters of U."""

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> jax.Array:
        dtype = wider(accumulator(dtype_of(params, like)), jnp.complex64)
        return jnp.zeros((*batch_shape, self.features), dtype)

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> Drive:
        re, im = split_gates(dense(x, weights["kernel"]), 2)
        wide = accumulator(re.dtype)
        return jax.lax.complex(re.astype(wide), im.astype(wide))

    def readout(self, weights: Weights, out: Out, drive: Drive) -> Any:
        return jnp.concatenate([out.real, out.imag], -1).astype(computes_in(weights))


def unit_circle(angles: jax.Array) -> jax.Array:
    """e^(i angle), in complex64 or wider."""
    wide = angles.astype(accumulator(real(angles.dtype)))
    return jax.lax.complex(jnp.cos(wide), jnp.sin(wide))
