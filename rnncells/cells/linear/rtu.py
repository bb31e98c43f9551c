"""Recurrent trace units: rotating, decaying traces of the input."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Cell, Like, Out, Params, Shape, Weights
from rnncells.dtypes import computes_in
from rnncells.fields import Number, number, static
from rnncells.initializers import Initializer, LeCun, gate_kernel, scheme
from rnncells.linear_scan import Diagonal, DiagonalElement
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import align, dense, split_gates
from rnncells.parts.diagonal import complex_zeros, on_ring, ring, variance_gain
from rnncells.parts.linear import LinearCell, LinearDrive


class _Traces(Cell):
    """What both have: parameters, state, and s' = lambda s + n (x B)."""

    gates = ("re", "im")

    features: int = static(check=checks.positive_int)
    activation: Activation = activation("relu")
    r_min: Number = number(default=0.0, low=0.0, high=1.0)
    r_max: Number = number(default=1.0, low=0.0, high=1.0)
    max_phase: Number = number(default=2 * np.pi, low=0.0)
    kernel_init: Initializer = scheme(LeCun(), kw_only=True)

    @property
    def output_size(self) -> int:
        return 2 * self.features

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        kernel_key, *keys = jax.random.split(key, 3)
        logs = ring(keys, self.features, self.r_min, self.r_max, self.max_phase, dtype)
        kernel = gate_kernel(self.kernel_init, kernel_key, input_size, self.features, 2, dtype)
        return {"kernel": kernel} | {name: leaf.astype(dtype) for name, leaf in logs.items()}

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> jax.Array:
        return complex_zeros((*batch_shape, self.features), params, like)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        gain, kernel = variance_gain(params["log_decay"]), params["kernel"]
        scaled = kernel.astype(gain.dtype) * jnp.concatenate([gain, gain])[None]
        return {"kernel": scaled.astype(kernel.dtype), "lambda": on_ring(params)}

    def element(self, weights: Weights, x: jax.Array) -> DiagonalElement:
        fused = dense(x, weights["kernel"])
        re, im = split_gates(fused.astype(weights["lambda"].real.dtype), 2)
        return DiagonalElement(align(weights["lambda"], re), jax.lax.complex(re, im))

    def traces(self, weights: Weights, state: jax.Array) -> jax.Array:
        """Both parts of a state, [..., 2H]."""
        return jnp.concatenate([state.real, state.imag], -1).astype(computes_in(weights))


class RTU(_Traces, LinearCell):
    """Recurrent trace unit, linear: decaying, rotating traces of the input, both parts of which are given
    out.

        lambda = r e^(i exp(theta)),    r = exp(-exp(nu)),    n = sqrt(1 - r^2)
        s' = lambda s + n (x B),        y = act([Re s', Im s'])

    In real numbers, with s = u + i v and the angle t = exp(theta): u' = r (cos t u - sin t v) + n x B_re,
    v' = r (cos t v + sin t u) + n x B_im. Unlike in `LRU`, n stays tied to r while r is trained. `prepare`
    multiplies it into the kernel.

    Shapes: x [..., I], s [..., H] complex64 or wider, y [..., 2H]; kernel [I, 2H], the real part of B, then
    the imaginary one; log_decay nu, log_phase theta [H].

    Args:
        features: H.
        activation: act, relu by default, as in the authors' code.
        r_min, r_max: r is drawn uniformly, in area, on the ring between them; 0 and 1 by default.
        max_phase: the angles are drawn from U(0, max_phase); 2 pi by default.
        kernel_init: drawn for each part of B; LeCun normal.

    Source: Elelimy, White, Bowling & White 2024, arXiv 2409.01449. The authors' code adds 1e-8 to n. Their
    traces of gradients, real-time recurrent learning, are a way to train and no part of the cell.
    """

    paper = "Elelimy, White, Bowling & White 2024, arXiv 2409.01449"

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        return LinearDrive(self.element(weights, x))

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        return self.activation(self.traces(weights, out))


class NonlinearRTU(_Traces):
    """Recurrent trace unit with its activation within the recurrence.

        z = lambda s + n (x B)
        s' = act(Re z) + i act(Im z),    y = [Re s', Im s']

    with lambda and n as in `RTU`, which it is where act is the identity. Time runs in order.

    Shapes: x [..., I], s [..., H] complex64 or wider, y [..., 2H]; kernel [I, 2H], the real part of B, then
    the imaginary one; log_decay nu, log_phase theta [H].

    Args:
        features: H.
        activation, r_min, r_max, max_phase, kernel_init: as for `RTU`.

    Source: Elelimy, White, Bowling & White 2024, arXiv 2409.01449. The authors' code adds 1e-8 to n.
    """

    paper = "Elelimy, White, Bowling & White 2024, arXiv 2409.01449"

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> DiagonalElement:
        return self.element(weights, x)

    def step(self, weights: Weights, carry: jax.Array, drive: DiagonalElement) -> tuple[jax.Array, Out]:
        z = Diagonal().apply(drive, carry)
        state = jax.lax.complex(self.activation(z.real), self.activation(z.imag))
        return state, state

    def readout(self, weights: Weights, out: jax.Array, drive: DiagonalElement) -> jax.Array:
        return self.traces(weights, out)
