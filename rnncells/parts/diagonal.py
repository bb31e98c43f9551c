"""What cells with a diagonal recurrence s' = a s + b share: averages, decays on a ring, and models in
continuous time as ticks.

    average        s' = a s + (1 - a) v
    ring           complex decays, drawn between two circles
    discretised    one tick of ds/dt = a s + u
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape
from rnncells.dtypes import accumulator, dtype_of, wider
from rnncells.fields import Number
from rnncells.linear_scan import DiagonalElement
from rnncells.parts import hippo


def average(logit: jax.Array, value: jax.Array) -> DiagonalElement:
    """s' = a s + (1 - a) value, with a the logistic function of the logit; both [..., H], in the dtype of an
    accumulator."""
    return DiagonalElement(jax.nn.sigmoid(logit), jax.nn.sigmoid(-logit) * value)


def complex_zeros(shape: Shape, params: Params, like: Like) -> jax.Array:
    """A state of complex64 or wider."""
    return jnp.zeros(shape, wider(accumulator(dtype_of(params, like)), jnp.complex64))


def as_complex(x: jax.Array) -> jax.Array:
    """Real numbers as complex ones."""
    return jax.lax.complex(x, jnp.zeros_like(x))


def ring(
    keys: Any, size: int, r_min: Number, r_max: Number, max_phase: Number, dtype: DTypeLike
) -> dict[str, jax.Array]:
    """log_decay nu and log_phase theta [size] of lambda = exp(-exp(nu) + i exp(theta)), by two keys: |lambda|
    between r_min and r_max, uniform in area, the phase from U(0, max_phase)."""
    radius_key, phase_key = keys
    wide = accumulator(dtype)
    low, high = (jnp.square(jnp.asarray(r, wide)) for r in (r_min, r_max))
    inside = jax.random.uniform(radius_key, (size,), wide, 1e-6, 1 - 1e-6)  # logarithms follow
    decay = jnp.log(-0.5 * jnp.log(inside * (high - low) + low))
    phase = jax.random.uniform(phase_key, (size,), wide, 1e-6, 1) * jnp.asarray(max_phase, wide)
    return {"log_decay": decay, "log_phase": jnp.log(phase)}


def on_ring(params: Params) -> jax.Array:
    """lambda [size] of `ring`."""
    decay, phase = (widened_exp(params[name]) for name in ("log_decay", "log_phase"))
    return jnp.exp(jax.lax.complex(-decay, phase))


def variance_gain(log_decay: jax.Array) -> jax.Array:
    """sqrt(1 - |lambda|^2) by nu, in float32 or wider: white noise times it gives states of unit variance."""
    return jnp.sqrt(-jnp.expm1(-2 * widened_exp(log_decay)))


def widened_exp(log: jax.Array) -> jax.Array:
    """The exponential in float32 or wider."""
    return jnp.exp(log.astype(accumulator(log.dtype)))


def log_uniform(key: Any, size: int, low: Number, high: Number, dtype: DTypeLike) -> jax.Array:
    """Logarithms [size], uniform between ln low and ln high."""
    ends = (jnp.log(jnp.asarray(end, dtype)) for end in (low, high))
    first, last = ends
    return first + jax.random.uniform(key, (size,), dtype) * (last - first)


def discretised(rule: str, a: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The decay and the gain of one tick, s' = decay s + gain u, of ds/dt = a s + u over a time `step`, for
    complex a; elementwise.

        zero_order_hold    decay = e^(a step),                               gain = (e^(a step) - 1) / a
        bilinear           decay = (1 + a step / 2) / (1 - a step / 2),      gain = step / (1 - a step / 2)

    The first is exact where u is constant over a tick; the second is the trapezoidal rule.
    """
    wide = as_complex(step)
    z = wide * a
    if rule == "bilinear":
        denominator = 1 - z / 2
        return (1 + z / 2) / denominator, wide / denominator
    nothing = z == 0
    other = jnp.where(nothing, jnp.ones_like(z), z)
    return jnp.exp(z), wide * jnp.where(nothing, jnp.ones_like(z), jnp.expm1(other) / other)


RULES = ("zero_order_hold", "bilinear")
"""Of `discretised`."""


def legs_frequencies(states: int) -> npt.NDArray[np.floating]:
    """The positive imaginary parts [states / 2] of the eigenvalues of the normal part of HiPPO-LegS, which is
    the matrix A plus q q^T with q_n = sqrt(n + 1/2); all real parts are -1/2. In float64."""
    q = np.sqrt(np.arange(states) + 0.5)
    skew = hippo.legs(states)[0] + q[:, None] * q + np.eye(states) / 2
    return np.linalg.eigvalsh(1j * skew)[states // 2 :]


def even(name: str, value: Any) -> None:
    """A positive even int: states that come in conjugate pairs, of which one is stored."""
    if checks.positive_int(name, value) % 2:
        raise ValueError(f"{name}: expected an even int, as states come in conjugate pairs, got {value}.")
