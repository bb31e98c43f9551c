"""The echo state network."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Cell, Like, Params, Shape, Weights
from rnncells.dtypes import dtype_of
from rnncells.fields import Number, number, static
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import constant, dense
from rnncells.parts.integrators import relax

Matrix = npt.NDArray[np.floating]


class EchoState(Cell):
    """Echo state network: a fixed random network of leaky units, whose echoes of the input are read out.

        h' = (1 - leak) h + leak act(x W + h U + b),    y = h'

    Nothing in it is trained, so that it has no parameters: a layer above learns to read y, by ridge
    regression for example. The matrices are drawn by NumPy from `seed` and depend on the sizes alone.

    Shapes: x [..., I], h and y [..., H]; no parameters. `prepare`, which is told the size of the input by
    `like`, returns kernel W [I, H], recurrent_kernel U [H, H] and bias b [H].

    Args:
        features: H.
        spectral_radius: of U, the largest modulus of its eigenvalues; 0.9 by default.
        leak: 1 by default, a network without leak.
        input_scale, bias_scale: W is -input_scale or input_scale where it is not zero, 1 by default; b is
            U(-bias_scale, bias_scale), 0 by default.
        density: the share of the inputs, and of the units, that each unit reads, at least one of each; 0.1 by
            default. U is normal where it is not zero.
        activation: act, "tanh" by default.
        seed: of the matrices, 0 by default.

    Source: Jaeger 2001, GMD report 148; leaky: Jaeger, Lukosevicius, Popovici & Siewert 2007,
    doi 10.1016/j.neunet.2007.04.016, h' = (1 - a g) h + g act(...) with a = 1. Densities, signs and normal
    weights as in the library reservoirpy. Noise and feedback from the output are left out.
    """

    paper = "Jaeger 2001, GMD report 148; Jaeger et al. 2007, doi 10.1016/j.neunet.2007.04.016"
    gates = ("h",)

    features: int = static(check=checks.positive_int)
    spectral_radius: Number = number(default=0.9, low=0.0)
    leak: Number = number(default=1.0, low=0.0, high=1.0)
    input_scale: Number = number(default=1.0, low=0.0)
    bias_scale: Number = number(default=0.0, low=0.0)
    density: float = static(default=0.1, check=functools.partial(checks.number, low=0.0, high=1.0))
    activation: Activation = activation("tanh")
    seed: int = static(default=0, check=checks.count)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        return {}

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> jax.Array:
        return jnp.zeros((*batch_shape, self.features), dtype_of(params, like))

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        if like is None:
            raise ValueError(
                "like: expected the input of one tick as a jax.ShapeDtypeStruct, as an EchoState has no"
                " parameters to know its size from, got None."
            )
        drawn = reservoir(self.seed, like.shape[-1], self.features, float(self.density))
        scales = (self.input_scale, self.spectral_radius, self.bias_scale)
        names = ("kernel", "recurrent_kernel", "bias")
        return {
            name: jnp.asarray(matrix, like.dtype) * jnp.asarray(scale, like.dtype)
            for name, matrix, scale in zip(names, drawn, scales, strict=True)
        }

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
        return dense(x, weights["kernel"], weights["bias"])

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        target = self.activation(drive + dense(carry, weights["recurrent_kernel"]))
        hidden = relax(carry, target, constant(self.leak, carry))
        return hidden, hidden


@functools.lru_cache(maxsize=16)
def reservoir(seed: int, input_size: int, features: int, density: float) -> tuple[Matrix, Matrix, Matrix]:
    """W [I, H] of signs, U [H, H] of spectral radius 1 and b [H] between -1 and 1, in float64."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (input_size, features)) * _reads(rng, input_size, features, density)
    weights = rng.standard_normal((features, features)) * _reads(rng, features, features, density)
    radius = np.abs(np.linalg.eigvals(weights)).max()
    return signs, weights / radius, rng.uniform(-1.0, 1.0, features)


def _reads(rng: np.random.Generator, rows: int, columns: int, density: float) -> npt.NDArray[np.bool_]:
    """Which rows each column reads: as many for each, and one at least. Where every unit reads one, there is
    a cycle, and the spectral radius is not zero."""
    count = max(1, round(density * rows))
    order = np.argsort(rng.random((rows, columns)), 0)
    return order < count
