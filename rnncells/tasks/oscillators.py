"""Damped oscillators."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rnncells import checks
from rnncells.fields import static
from rnncells.tasks.base import Batch
from rnncells.tasks.scores import Prediction

SLOW, FAST = 2 * math.pi / 40, 2 * math.pi / 10
"""Lowest and highest frequency, in radians per tick."""
DAMPING = 0.02
"""Highest damping per tick."""


class DampedOscillators(Prediction):
    """Damped oscillators: say where one will be `horizon` ticks later, at every tick.

        x(t) = A exp(-g t) cos(w t + p),    t = 0, 1, ...

    Of its own for every sequence: A ~ U[1/2, 3/2], damping g ~ U[0, 0.02], frequency w uniform, for periods
    of 10 to 40 ticks, and phase p ~ U[0, 2 pi). Two values do not tell frequency and damping, four do:

        x(t + 1) = 2 exp(-g) cos(w) x(t) - exp(-2 g) x(t - 1)

    Ticks count from the fourth on, and an error of 0 is possible.

    Shapes: inputs and targets [length, B, 1]. The loss is the mean squared error. Baseline: that of the best
    multiple of the last value. Solved: an error of a hundredth of that.

    Args:
        length: ticks, at least 4.
        horizon: ticks ahead.

    Source: the solution of the damped harmonic oscillator, in closed form; the ranges are this library's.
    """

    length: int = static(default=100, check=checks.positive_int)
    horizon: int = static(default=5, check=checks.positive_int)

    input_size = 1
    output_size = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length < 4:
            raise ValueError(f"DampedOscillators.length: expected at least 4, got {self.length}.")

    def sample(self, key: chex.PRNGKey, batch_size: int) -> Batch:
        """Batch of inputs [length, B, 1], targets [length, B, 1], mask [length, B]."""
        low = jnp.array([0.5, 0.0, SLOW, 0.0])[:, None]
        high = jnp.array([1.5, DAMPING, FAST, 2 * math.pi])[:, None]
        size, damping, frequency, phase = jax.random.uniform(key, (4, batch_size), minval=low, maxval=high)
        time = jnp.arange(self.length + self.horizon, dtype=size.dtype)[:, None]
        x = size[None] * jnp.exp(-damping[None] * time) * jnp.cos(frequency[None] * time + phase[None])
        mask = jnp.broadcast_to(jnp.arange(self.length)[:, None] >= 3, (self.length, batch_size))
        return Batch(x[: self.length, :, None], x[self.horizon :, :, None], mask)

    @property
    def variance(self) -> float:
        """E[x(t + k)^2], averaged over the ticks t that count."""
        return _product(np.arange(3, self.length) + self.horizon, 0)

    @property
    def baseline(self) -> float:
        """Mean squared error of the best multiple c x(t) as a prediction of x(t + k), k = horizon: averaged
        over the ticks t that count, E[x(t + k)^2] - E[x(t) x(t + k)]^2 / E[x(t)^2]."""
        time = np.arange(3, self.length)
        return self.variance - _product(time, self.horizon) ** 2 / _product(time, 0)


def _product(time: np.ndarray, lag: int) -> float:
    """The mean over these ticks of E[x(t) x(t + lag)].

    With a uniform phase, E[x(s) x(t)] = E[A^2] / 2 E[exp(-g (s + t))] E[cos(w (t - s))], where

        E[A^2] = 13/12
        E[exp(-g s)] = (1 - exp(-G s)) / (G s)                             for g ~ U[0, G]
        E[cos(w k)] = (sin(w1 k) - sin(w0 k)) / ((w1 - w0) k)              for w ~ U[w0, w1]
    """
    exponent = DAMPING * (2 * time + lag)
    swing = (math.sin(FAST * lag) - math.sin(SLOW * lag)) / ((FAST - SLOW) * lag) if lag else 1.0
    return float(13 / 24 * swing * np.mean(-np.expm1(-exponent) / exponent))
