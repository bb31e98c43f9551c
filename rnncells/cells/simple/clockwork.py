"""The clockwork network: groups of units, each at its own pace."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import dtype_of
from rnncells.fields import static
from rnncells.initializers import Initializer, Normal, scheme
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import align, dense
from rnncells.parts.gated import ProjectedCell


class ClockworkCarry(NamedTuple):
    """The state, and the ticks so far."""

    hidden: jax.Array
    """[..., H]"""
    ticks: jax.Array
    """int32 [...]"""


def _periods(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, tuple) or not value:
        raise TypeError(f"{name}: expected a tuple of positive ints, got {checks.describe(value)}.")
    for period in value:
        checks.positive_int(name, period)
    if list(value) != sorted(value):
        raise ValueError(f"{name}: expected periods in ascending order, got {value}.")


class ClockworkRNN(ProjectedCell):
    """Clockwork recurrent network: units in groups, of which group g changes every T_g ticks.

        c = act(x W + h U + b)
        h'_g = c_g where t mod T_g = 0, else h_g;    t' = t + 1,    y = h'

    A group reads itself and groups of the same or a longer period, never a faster one: U is triangular in
    blocks. t counts from 0, so that all groups change at the first tick.

    Shapes: x [..., I], carry `ClockworkCarry(hidden, ticks)` of [..., H] and int32 [...], y [..., H]; kernel
    W [I, H], bias b [H], recurrent_blocks: the entries of U that are not zero, row by row. `prepare` returns
    `recurrent_kernel` U [H, H] in their place.

    Args:
        features: H.
        periods: T_1, T_2, ..., ascending. By default 1, 2, 4, ..., 256, or as many of these as there are
            units. H is divided evenly; where it does not go, faster groups have one unit more.
        activation: act, "tanh".
        kernel_init, blocks_init: N(0, 0.1^2); the latter is drawn as [H, H].
        bias_init, use_bias: zeros by default; without, b is left out.

    Source: Koutnik, Greff, Gomez & Schmidhuber 2014, arXiv 1402.3511. All groups are computed at every tick;
    sequences of a batch may count differently.
    """

    paper = "Koutnik, Greff, Gomez & Schmidhuber 2014, arXiv 1402.3511"
    gates = ("h",)

    periods: tuple[int, ...] | None = static(default=None, check=_periods)
    activation: Activation = activation("tanh")
    kernel_init: Initializer = scheme(Normal(0.1), kw_only=True)
    blocks_init: Initializer = scheme(Normal(0.1), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.periods is not None and len(self.periods) > self.features:
            raise ValueError(
                f"ClockworkRNN.periods: expected at most {self.features} periods, got {self.periods}."
            )

    @property
    def period_of_unit(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """int32 [H]"""
        periods = self.periods or tuple(2**i for i in range(min(9, self.features)))
        sizes = [len(part) for part in np.array_split(np.arange(self.features), len(periods))]
        return np.repeat(np.array(periods, np.int32), sizes)

    @property
    def _connected(self) -> Any:
        """bool [H, H]: which unit (row) is read by which (column)."""
        period = self.period_of_unit
        return period[:, None] >= period[None]

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, blocks_key = jax.random.split(key)
        whole = self.blocks_init(blocks_key, (self.features, self.features), dtype)
        return super().init(key, input_size, dtype) | {"recurrent_blocks": whole[np.nonzero(self._connected)]}

    def initial_carry(
        self, params: Params = None, batch_shape: Shape = (), like: Like = None
    ) -> ClockworkCarry:
        hidden = jnp.zeros((*batch_shape, self.features), dtype_of(params, like))
        return ClockworkCarry(hidden, jnp.zeros(batch_shape, jnp.int32))

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        weights = dict(params)
        blocks = weights.pop("recurrent_blocks")
        none = jnp.zeros((self.features, self.features), blocks.dtype)
        return weights | {"recurrent_kernel": none.at[np.nonzero(self._connected)].set(blocks)}

    def step(
        self, weights: Weights, carry: ClockworkCarry, drive: jax.Array
    ) -> tuple[ClockworkCarry, jax.Array]:
        hidden, ticks = carry
        period = align(jnp.asarray(self.period_of_unit), hidden)
        new = self.activation(drive + dense(hidden, weights["recurrent_kernel"]))
        hidden = jnp.where(ticks[..., None] % period == 0, new, hidden)
        return ClockworkCarry(hidden, ticks + 1), hidden
