"""Fast and forgetful memory: traces of the input at many rates and periods."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, computes_in
from rnncells.fields import Number, number, static
from rnncells.initializers import Glorot, Initializer, gate_kernel, scheme
from rnncells.linear_scan import DiagonalElement
from rnncells.parts.arithmetic import align, dense, normalise, split_gates
from rnncells.parts.diagonal import as_complex, complex_zeros
from rnncells.parts.linear import LinearCell, LinearDrive


class FFM(LinearCell):
    """Fast and forgetful memory: m traces of the input, each turning at c frequencies.

        u = (x W_u + b_u) s(x W_g + b_g)
        S'_jk = exp(-|a_j| + i w_k) S_jk + u_j
        z = [Re S', Im S'] W_z + b_z      o = s(x W_o + b_o)
        y = norm(z) o + (x W_x + b_x) (1 - o)

    with norm a layer normalisation without scale and offset.

    Shapes: x [..., I], S [..., m, c] complex64 or wider, y [..., H]; kernel [I, 2m] and bias [2m], gates in
    the order u, g; decay a [m], frequency w [c]; readout_kernel [I, 2H] and readout_bias [2H], of o, then
    x; output_kernel W_z [2mc, H], the real parts first, trace by trace, and output_bias b_z [H].

    Args:
        features: H, of y.
        traces: m, 32 by default.
        contexts: c, 4 by default.
        longest: the ticks after which the slowest trace has fallen to a hundredth, and the longest period;
            1024 by default.
        fastest: the largest a; .673 by default.
        epsilon: of the normalisation.
        kernel_init: drawn for each gate, and for W_z; Glorot uniform. Biases start at 0.

    a starts linear from `fastest` to ln(100) / longest, the period 2 pi / w linear from 1 to longest.

    Source: Morad, Kortvelesy, Liwicki & Prorok 2023, arXiv 2310.04128. The authors' code sums x gamma^-t
    over at most 1024 ticks, in float64, and bounds a by what that can hold, of which .673 is left; a
    recurrence needs no such bound. It keeps a negative by clipping.
    """

    paper = "Morad, Kortvelesy, Liwicki & Prorok 2023, arXiv 2310.04128"
    gates = ("u", "g")

    features: int = static(check=checks.positive_int)
    traces: int = static(default=32, check=checks.positive_int)
    contexts: int = static(default=4, check=checks.positive_int)
    longest: Number = number(default=1024.0, low=0.0)
    fastest: Number = number(default=0.673, low=0.0)
    epsilon: Number = number(default=1e-5, low=0.0)
    kernel_init: Initializer = scheme(Glorot(), kw_only=True)

    def block(self, kernel: str) -> int:
        return self.traces

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        kernel_key, readout_key, output_key = jax.random.split(key, 3)
        size, m, c = self.features, self.traces, self.contexts
        longest, fastest = (jnp.asarray(n, accumulator(dtype)) for n in (self.longest, self.fastest))
        along = (jnp.asarray(np.linspace(0, 1, count), longest.dtype) for count in (m, c))
        rate, period = along
        return {
            "kernel": gate_kernel(self.kernel_init, kernel_key, input_size, m, 2, dtype),
            "bias": jnp.zeros((2 * m,), dtype),
            "decay": (fastest + rate * (math.log(100.0) / longest - fastest)).astype(dtype),
            "frequency": (2 * np.pi / (1 + period * (longest - 1))).astype(dtype),
            "readout_kernel": gate_kernel(self.kernel_init, readout_key, input_size, size, 2, dtype),
            "readout_bias": jnp.zeros((2 * size,), dtype),
            "output_kernel": self.kernel_init(output_key, (2 * m * c, size), dtype),
            "output_bias": jnp.zeros((size,), dtype),
        }

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> jax.Array:
        return complex_zeros((*batch_shape, self.traces, self.contexts), params, like)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        decay, frequency = (params[n].astype(accumulator(params[n].dtype)) for n in ("decay", "frequency"))
        exponent = jax.lax.complex(*jnp.broadcast_arrays(-jnp.abs(decay)[:, None], frequency[None]))
        others = {name: leaf for name, leaf in params.items() if name not in ("decay", "frequency")}
        return others | {"lambda": jnp.exp(exponent)}

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        fused = dense(x, weights["kernel"], weights["bias"])
        u, g = split_gates(fused.astype(weights["lambda"].real.dtype), 2)
        u = (u * jax.nn.sigmoid(g))[..., None]
        decay = align(weights["lambda"], u)
        update = as_complex(jnp.broadcast_to(u, (*u.shape[:-1], self.contexts)))
        return LinearDrive(
            DiagonalElement(decay, update), dense(x, weights["readout_kernel"], weights["readout_bias"])
        )

    def readout(self, weights: Weights, out: jax.Array, drive: LinearDrive) -> jax.Array:
        flat = out.reshape(*out.shape[:-2], out.shape[-2] * out.shape[-1])
        parts = jnp.concatenate([flat.real, flat.imag], -1).astype(computes_in(weights))
        z = dense(parts, weights["output_kernel"], weights["output_bias"])
        z = normalise(z, jnp.ones(z.shape[-1:], z.dtype), self.epsilon)
        o, skip = split_gates(drive.extra, 2)
        o = jax.nn.sigmoid(o)
        return z * o + skip * (1 - o)
