"""The phased LSTM: an LSTM that each unit runs at its own times."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Inputs, Like, Params, Shape, Weights
from rnncells.cells.gated.lstm import LSTMCarry, PeepholeLSTM
from rnncells.dtypes import accumulator, dtype_of
from rnncells.fields import Number, number
from rnncells.initializers import ForgetBias, Initializer, Normal, scheme
from rnncells.parts.arithmetic import align, constant
from rnncells.parts.integrators import relax, with_time


class PhasedLSTMCarry(NamedTuple):
    """Memory and hidden state [..., H], and the time of the last tick, [..., 1] in float32 or wider."""

    cell: jax.Array
    hidden: jax.Array
    clock: jax.Array


class PhasedLSTM(PeepholeLSTM):
    """Phased LSTM: a gate that opens and closes with the time lets each unit change in its own rhythm.

        t' = t + elapsed,    phi = ((t' - shift) mod period) / period
        k = 2 phi / r           for phi < r / 2
            2 - 2 phi / r       for r / 2 <= phi < r
            leak phi            otherwise
        c', h' = (1 - k) (c, h) + k PeepholeLSTM(x, (c, h)),    y = h'

    with r the `open_ratio`. While the gate is shut a unit keeps its state, but for the leak, so that it sees
    few of the ticks and its memory lives as much longer.

    Shapes: x [..., I] or `Timed(x, elapsed)` with elapsed [..., 1], carry `PhasedLSTMCarry(cell, hidden,
    clock)`, y [..., H]; kernel W [I, 4H], recurrent_kernel U [H, 4H], bias b [4H], gates in the order i, f,
    g, o; peephole [3, H] in the order i, f, o; log_period and shift [H], in the unit of elapsed, where a
    tick without elapsed time takes 1. `prepare` returns `period` in place of `log_period`.

    Args:
        features: H.
        forget_bias: initial b_f, 2 by default, as the authors' layer.
        open_ratio: r, 0.05 by default.
        leak: 0.001 by default, for training; the authors take 0 for what is trained.
        log_period_min, log_period_max: periods start exp(U(log_period_min, log_period_max)); 1 and 5 by
            default, 3 to 148 ticks, which the authors recommend for hundreds to thousands of ticks.
        kernel_init, recurrent_init, peephole_init: N(0, 0.1^2), as the authors' layer.
        gate_activation, candidate_activation, output_activation, bias_init, use_bias: as LSTM.

    Shifts start U(0, period).

    Source: Neil, Pfeiffer & Liu 2016, arXiv 1610.09513. Deviations: the authors train the periods themselves
    and take their absolute value; their code adds the shift where the paper subtracts it, as here, starts
    periods U(10, 100) and shifts U(0, 1000), or exp(U(1, 3)) and U(0, 100) in its first task, and trains
    open_ratio as well. Their layer is given time stamps, here the time since the tick before; the first tick
    is at its own elapsed time.
    """

    paper = "Neil, Pfeiffer & Liu 2016, arXiv 1610.09513"
    emits = ""
    timed = True
    blendable = False

    forget_bias: ForgetBias = number(default=2.0)
    open_ratio: Number = number(default=0.05, low=1e-4, high=1.0)
    leak: Number = number(default=0.001, low=0.0, high=1.0)
    log_period_min: Number = number(default=1.0)
    log_period_max: Number = number(default=5.0)
    kernel_init: Initializer = scheme(Normal(0.1), kw_only=True)
    recurrent_init: Initializer = scheme(Normal(0.1), kw_only=True)
    peephole_init: Initializer = scheme(Normal(0.1), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, period_key, shift_key = jax.random.split(key, 3)
        low, high = (jnp.asarray(edge, dtype) for edge in (self.log_period_min, self.log_period_max))
        log_period = low + (high - low) * jax.random.uniform(period_key, (self.features,), dtype)
        shift = jnp.exp(log_period) * jax.random.uniform(shift_key, (self.features,), dtype)
        return super().init(key, input_size, dtype) | {"log_period": log_period, "shift": shift}

    def initial_carry(  # type: ignore[override]
        self, params: Params = None, batch_shape: Shape = (), like: Like = None
    ) -> PhasedLSTMCarry:
        cell, hidden = super().initial_carry(params, batch_shape, like=like)
        clock = jnp.zeros((*batch_shape, 1), accumulator(dtype_of(params, like)))
        return PhasedLSTMCarry(cell, hidden, clock)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        kept = {name: leaf for name, leaf in params.items() if name != "log_period"}
        log_period = params["log_period"]
        return kept | {"period": jnp.exp(log_period.astype(accumulator(log_period.dtype)))}

    def project(
        self, weights: Weights, x: Inputs, key: chex.PRNGKey | None = None
    ) -> tuple[jax.Array, jax.Array]:
        x, elapsed = with_time(x)
        return super().project(weights, x), elapsed

    def step(  # type: ignore[override]
        self, weights: Weights, carry: PhasedLSTMCarry, drive: tuple[jax.Array, jax.Array]
    ) -> tuple[PhasedLSTMCarry, jax.Array]:
        fed, elapsed = drive
        (cell, hidden), _ = super().step(weights, LSTMCarry(carry.cell, carry.hidden), fed)
        clock = carry.clock + elapsed.astype(carry.clock.dtype)
        share = self.openness(weights, clock).astype(cell.dtype)
        hidden = relax(carry.hidden, hidden, share)
        return PhasedLSTMCarry(relax(carry.cell, cell, share), hidden, clock), hidden

    def openness(self, weights: Weights, clock: jax.Array) -> jax.Array:
        """k [..., H] at the times [..., 1]."""
        period, shift = (align(weights[name].astype(clock.dtype), clock) for name in ("period", "shift"))
        ratio, leak = constant(self.open_ratio, clock), constant(self.leak, clock)
        phase = jnp.mod(clock - shift, period) / period
        ramp = 2 * phase / ratio
        return jnp.where(phase < ratio, jnp.minimum(ramp, 2 - ramp), leak * phase)
