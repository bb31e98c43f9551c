"""A chaotic series from a delay equation."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rnncells import checks
from rnncells.fields import static
from rnncells.tasks.base import Batch
from rnncells.tasks.scores import Prediction

STEPS = 10
"""Steps of the integration in one tick."""


class MackeyGlass(Prediction):
    """Mackey-Glass series: say the value of `horizon` ticks later, at every tick.

        dx/dt = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x(t),    shown as tanh(x - 1)

    With tau = 17 the series is mildly chaotic, with 30 more so; it swings about once in 50 ticks. Each
    sequence has a history of its own, uniform in [1.1, 1.3], and is read from a tick of its own, uniform in
    {100, ..., 599}: the transient is over, and sequences are at different places of their swings.

    What is seen during one delay determines what comes: ticks count from tau on. Shapes: inputs and targets
    [length, B, 1]. The loss is the mean squared error. Baseline: the error of the best line through the last
    value. Solved: an error of a hundredth of that.

    Args:
        length: ticks, more than tau.
        horizon: ticks ahead; 1 asks for the next value.
        tau: the delay of the equation, in ticks.

    Source: Mackey & Glass 1977, doi 10.1126/science.267326; integrated by Euler steps of a tenth of a tick,
    squashed and asked 15 ticks ahead as by Voelker, Kajic & Eliasmith 2019 (Legendre Memory Units, NeurIPS
    32), who start at x(0) = 1.2, read 5000 ticks from tick 100 on, all of which count, and take the mean
    away.
    """

    length: int = static(default=200, check=checks.positive_int)
    horizon: int = static(default=15, check=checks.positive_int)
    tau: int = static(default=17, check=checks.positive_int)

    input_size = 1
    output_size = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length <= self.tau:
            raise ValueError(f"MackeyGlass.length: expected more than tau, {self.tau}, got {self.length}.")

    def sample(self, key: chex.PRNGKey, batch_size: int) -> Batch:
        """Batch of inputs [length, B, 1], targets [length, B, 1], mask [length, B]."""
        history_key, start_key = jax.random.split(key)
        shape = STEPS * self.tau + 1, batch_size
        history = jax.random.uniform(history_key, shape, minval=1.1, maxval=1.3)
        span = self.length + self.horizon
        series = integrate(history, 600 + span)
        start = jax.random.randint(start_key, (1, batch_size), 100, 600)
        values = jnp.take_along_axis(series, start + jnp.arange(span)[:, None], 0)
        values = jnp.tanh(values - 1)[..., None]
        mask = jnp.broadcast_to(jnp.arange(self.length)[:, None] >= self.tau, (self.length, batch_size))
        return Batch(values[: self.length], values[self.horizon :], mask)

    @property
    def variance(self) -> float:
        """Of the targets, measured as `baseline` is."""
        return _statistics(self)[0]

    @property
    def baseline(self) -> float:
        """Mean squared error of the best line through the last value, (1 - r^2) variance, with r the
        correlation of values `horizon` ticks apart. No closed form is known: both are measured once, on 1024
        sequences."""
        variance, correlation = _statistics(self)
        return (1 - correlation**2) * variance


def integrate(history: jax.Array, ticks: int) -> jax.Array:
    """x [ticks, B] at ticks 1, 2, ..., from x [10 tau + 1, B] at the steps from -tau to 0, by Euler steps.

        x_{n+1} = 0.99 x_n + 0.02 x_{n-D} / (1 + x_{n-D}^10),    D = 10 tau

    What is added during one delay is known at its beginning: D steps are one product with a matrix.
    """
    delay = len(history) - 1
    before = np.subtract.outer(np.arange(delay), np.arange(delay))
    decay = jnp.asarray(0.99 ** np.arange(1, delay + 1)[:, None], history.dtype)
    kernel = jnp.asarray(np.where(before >= 0, 0.99 ** np.maximum(before, 0), 0), history.dtype)

    def onward(past: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        added = 0.02 * past[:-1] / (1 + past[:-1] ** 10)
        x = decay * past[-1:] + jnp.matmul(kernel, added, precision="highest")
        return jnp.concatenate([past[-1:], x]), x[STEPS - 1 :: STEPS]

    delays = -(-ticks * STEPS // delay)
    _, x = jax.lax.scan(onward, history, length=delays)
    return x.reshape(-1, history.shape[1])[:ticks]


@functools.cache
def _statistics(task: MackeyGlass) -> tuple[float, float]:
    """Variance of targets, and their correlation with inputs."""
    with jax.ensure_compile_time_eval():  # `solved` reads the baseline, also while it is traced
        batch = jax.jit(task.sample, static_argnums=1)(jax.random.key(0), 1024)
    now, later = (np.asarray(values, np.float64)[task.tau :].ravel() for values in batch[:2])
    return float(later.var()), float(np.corrcoef(now, later)[0, 1])
