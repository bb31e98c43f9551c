"""Simple recurrent units: gates of the input, and a highway past the memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells.cell import Carry, Like, Out, Params, Shape, Weights
from rnncells.dtypes import accumulator, computes_in, dtype_of
from rnncells.fields import Number, number, static
from rnncells.initializers import ForgetBias, Initializer, LeCun, scheme
from rnncells.linear_scan import Diagonal
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import align, constant, split_gates
from rnncells.parts.diagonal import average
from rnncells.parts.linear import LinearCell, LinearDrive
from rnncells.parts.raw_input import RawInput


class _Unit(RawInput):
    """What both have: the parameters, and the highway."""

    gates = ("z", "f", "r")
    biased_gates = ("f", "r")
    keep = "f"

    activation: Activation = activation("identity")
    forget_bias: ForgetBias = number(default=0.0)
    highway_bias: Number = number(default=0.0)
    rescale: bool = static(default=True)
    kernel_init: Initializer = scheme(LeCun(distribution="uniform"), kw_only=True)

    def added_biases(self, key: chex.PRNGKey, dtype: DTypeLike) -> dict[str, jax.Array]:
        highway = jnp.broadcast_to(jnp.asarray(self.highway_bias, dtype), (self.features,))
        return {**super().added_biases(key, dtype), "r": highway}

    def pre_activations(self, weights: Weights, x: jax.Array) -> list[jax.Array]:
        """z, f and r [..., H] in the dtype of the accumulator."""
        fused = super().project(weights, x)
        return split_gates(fused.astype(accumulator(fused.dtype)), 3)

    def skip(self, weights: Weights, x: jax.Array) -> jax.Array:
        """alpha x."""
        skip = self.raw(weights, x)
        if not self.rescale:
            return skip
        return jnp.sqrt(1 + 2 * jnp.exp(constant(self.highway_bias, skip))) * skip

    def highway(self, weights: Weights, r: jax.Array, cell: jax.Array, skip: jax.Array) -> jax.Array:
        skip = skip.astype(r.dtype)
        return (r * self.activation(cell) + (1 - r) * skip).astype(computes_in(weights))


class SRU(LinearCell, _Unit):
    """Simple recurrent unit, in its first version, whose gates see the input only.

        z = x W_z      f = s(x W_f + b_f)      r = s(x W_r + b_r)
        c' = f c + (1 - f) z
        y = r g(c') + (1 - r) a x              x V in place of x where I is not H

    Shapes: x [..., I], c [..., H] in float32 or wider, y [..., H]; kernel W [I, 3H], gates in the order z,
    f, r, bias b [2H] of f and r; input_kernel V [I, H] where I is not H.

    Args:
        features: H.
        activation: g, "identity" by default; the paper also has tanh and relu.
        forget_bias: initial b_f, 0 by default.
        highway_bias: initial b_r, 0 by default; below 0, more of the input passes by.
        rescale: a is sqrt(1 + 2 e^highway_bias), so that y varies as x does at first, in deep stacks too;
            with False it is 1.
        kernel_init: drawn for each gate, and for V; uniform, of variance 1 / I.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Lei, Zhang, Wang, Dai & Artzi 2018, arXiv 1709.02755, in its first version of 2017; a is of the
    last one, whose gates see the memory as well: `SRU2`. The authors' code multiplies V with a when it is
    drawn.
    """

    paper = "Lei, Zhang, Wang, Dai & Artzi 2018, arXiv 1709.02755"

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        z, f, r = self.pre_activations(weights, x)
        return LinearDrive(average(f, z), (jax.nn.sigmoid(r), self.skip(weights, x)))

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        r, skip = drive.extra
        return self.highway(weights, r, out, skip)


class _Drive(NamedTuple):
    z: jax.Array
    f: jax.Array
    r: jax.Array
    skip: jax.Array


class SRU2(_Unit):
    """Simple recurrent unit, in its last version, whose gates see the memory through one weight per unit.

        z = x W_z      f = s(x W_f + v_f c + b_f)      r = s(x W_r + v_r c + b_r)
        c' = f c + (1 - f) z
        y = r g(c') + (1 - r) a x              x V in place of x where I is not H

    Both gates see the memory before the tick. So c does not enter linearly, and time runs in order. With
    v = 0 it is `SRU`.

    Shapes: x [..., I], c [..., H] in float32 or wider, y [..., H]; kernel W [I, 3H], gates in the order z,
    f, r, bias b [2H] of f and r; peephole [2, H], v_f and v_r; input_kernel V [I, H] where I is not H.

    Args:
        features: H.
        activation, forget_bias, highway_bias, rescale, kernel_init, bias_init, use_bias: as for `SRU`.

    v starts uniform with variance 1/2.

    Source: Lei, Zhang, Wang, Dai & Artzi 2018, arXiv 1709.02755. The authors' code also starts the kernels of
    both gates sqrt(1/2) times as large.
    """

    paper = "Lei, Zhang, Wang, Dai & Artzi 2018, arXiv 1709.02755"

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, peephole_key = jax.random.split(key)
        edge = np.sqrt(1.5)
        peephole = jax.random.uniform(peephole_key, (2, self.features), dtype, -edge, edge)
        return {**super().init(key, input_size, dtype), "peephole": peephole}

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> Carry:
        return jnp.zeros((*batch_shape, self.features), accumulator(dtype_of(params, like)))

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> _Drive:
        z, f, r = self.pre_activations(weights, x)
        return _Drive(z, f, r, self.skip(weights, x))

    def step(self, weights: Weights, carry: jax.Array, drive: _Drive) -> tuple[Carry, Out]:
        v_f, v_r = (align(v.astype(carry.dtype), carry) for v in weights["peephole"])
        element = average(drive.f + v_f * carry, drive.z)
        cell = Diagonal().apply(element, carry)
        return cell, (jax.nn.sigmoid(drive.r + v_r * carry), cell)

    def readout(self, weights: Weights, out: Any, drive: _Drive) -> jax.Array:
        r, cell = out
        return self.highway(weights, r, cell, drive.skip)
