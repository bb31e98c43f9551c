"""Cells whose memory is a matrix for each head, into which keys and values write (parts/key_value.py).

HeadedCell    heads
OuterCell     and a query that reads, S' = e^g S + k v^T, and what is made of what it sees
KeyedCell     and queries and keys with a kernel of their own
SelectiveCell and a rate of forgetting that the input chooses
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Carry, Drive, Like, Out, Params, Shape, Weights
from rnncells.dtypes import accumulator, computes_in, dtype_of
from rnncells.fields import Number, number, static
from rnncells.initializers import Glorot, Initializer, gate_kernel, scheme
from rnncells.linear_scan import Monoid
from rnncells.parts.arithmetic import align, dense, inverse_softplus, normalise, split_gates
from rnncells.parts.diagonal import log_uniform, widened_exp
from rnncells.parts.gated import ProjectedCell
from rnncells.parts.key_value import Outer, attend, attend_by_rows, inward, log_decays, outward
from rnncells.parts.linear import LinearCell


class HeadedCell(LinearCell, ProjectedCell):
    """A linear cell whose H features are those of `heads`, side by side.

    Its state is a matrix for each head, so an associative scan, which holds one for each tick, is never worth
    it; subclasses write `chunk`.
    """

    associative = False
    chunk_size = 64

    heads: int = static(default=1, check=checks.positive_int)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features % self.heads:
            raise ValueError(
                f"{type(self).__name__}.features: expected a multiple of heads={self.heads}, got"
                f" {self.features}."
            )

    @property
    def width(self) -> int:
        """V, the features of one head."""
        return self.features // self.heads

    def by_head(self, fused: jax.Array) -> jax.Array:
        """[..., h * N] -> [..., h, N]."""
        return fused.reshape(*fused.shape[:-1], self.heads, fused.shape[-1] // self.heads)

    def merged(self, out: jax.Array) -> jax.Array:
        """[..., h, V] -> [..., H]."""
        return out.reshape(*out.shape[:-2], self.features)

    def gate_parts(self, weights: Weights, x: jax.Array) -> list[jax.Array]:
        """x W + b of each gate, [..., H], in the dtype of the accumulator."""
        fused = ProjectedCell.project(self, weights, x)
        return split_gates(fused.astype(accumulator(fused.dtype)), len(self.gates))


class Reading(NamedTuple):
    """What the output of a tick needs besides the memory."""

    query: jax.Array
    """[..., h, K]"""
    gate: Any = None
    """[..., H], where what is seen is gated."""


class OuterCell(HeadedCell):
    """o = q S for each head, y = (gate * n(o)) W_o: `project` makes an `OuterElement` and a `Reading`.

    n divides by the root mean square, over each head by itself or over all together, and multiplies by
    norm_scale, one number for each place in a head, or in all.
    """

    normalised: ClassVar[Literal["heads", "whole", "not"]] = "heads"
    norm_trains: ClassVar[bool] = True
    """Whether there is a norm_scale; 1 otherwise."""

    epsilon: Number = number(default=1e-5, low=1e-12)
    use_bias: bool = static(default=False, kw_only=True)
    output_init: Initializer = scheme(Glorot(), kw_only=True)

    @property
    def monoid(self) -> Monoid:
        return Outer()

    @property
    def rows(self) -> int:
        """Of the memory of one head."""
        return self.width

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, output_key, bias_key = jax.random.split(key, 3)
        params, size = super().init(key, input_size, dtype), self.features
        params["output_kernel"] = self.output_init(output_key, (size, size), dtype)
        if self.use_bias:
            params["output_bias"] = self.bias_init(bias_key, (size,), dtype)
        if self.normalised != "not" and self.norm_trains:
            params["norm_scale"] = jnp.ones((self._norm_width,), dtype)
        return params

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> jax.Array:
        shape = (*batch_shape, self.heads, self.rows, self.width)
        return jnp.zeros(shape, accumulator(dtype_of(params, like)))

    def read(self, weights: Weights, state: Carry, drive: Drive) -> Any:
        return jnp.sum(drive.extra.query[..., :, None] * state, -2)

    def chunk(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Out]:
        log_decay, key, value = map(inward, drive.element)
        query = inward(drive.extra.query)
        if log_decay.shape[-1] > 1:
            seen, state = attend_by_rows(log_decay, query, key, value, carry)
        else:
            between, past = map(jnp.exp, log_decays(log_decay))
            seen, state = attend(between, past, query, key, value, carry)
        return state, outward(seen)

    def readout(self, weights: Weights, out: Out, drive: Drive) -> jax.Array:
        seen = self.normal(weights, self.merged(out))
        gate = drive.extra.gate
        return self.emitted(weights, seen if gate is None else gate * seen)

    def normal(self, weights: Weights, seen: jax.Array) -> jax.Array:
        """n(o), of [..., H]."""
        if self.normalised == "not":
            return seen
        width = self._norm_width
        scale = weights["norm_scale"] if self.norm_trains else jnp.ones((width,), seen.dtype)
        scale = jnp.tile(scale, self.features // width)
        return normalise(seen, scale, self.epsilon, width, centre=False)

    def emitted(self, weights: Weights, seen: jax.Array) -> jax.Array:
        """The output, in the dtype of the weights."""
        seen = seen.astype(computes_in(weights))
        return dense(seen, weights["output_kernel"], weights.get("output_bias"))

    @property
    def _norm_width(self) -> int:
        return self.width if self.normalised == "heads" else self.features


def _positive_or_none(name: str, value: Any) -> None:
    if value is not None:
        checks.positive_int(name, value)


class KeyedCell(OuterCell):
    """An `OuterCell` with queries and keys of a size of their own: key_kernel [I, 2 h K], q of every head,
    then k, and with biases key_bias [2 h K]."""

    shared_keys: ClassVar[bool] = False
    """Whether all heads have the same query and key; key_kernel is then [I, 2 K]."""

    key_size: int | None = static(default=None, check=_positive_or_none)
    key_init: Initializer = scheme(Glorot(), kw_only=True)

    @property
    def own_key_size(self) -> int:
        """K where `key_size` is None."""
        return self.width

    @property
    def keys(self) -> int:
        """K, numbers in the key of one head."""
        return self.own_key_size if self.key_size is None else self.key_size

    @property
    def rows(self) -> int:
        return self.keys

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, kernel_key, bias_key = jax.random.split(key, 3)
        params = super().init(key, input_size, dtype)
        size = self.keys * (1 if self.shared_keys else self.heads)
        params["key_kernel"] = gate_kernel(self.key_init, kernel_key, input_size, size, 2, dtype)
        if self.use_bias:
            params["key_bias"] = self.bias_init(bias_key, (2 * size,), dtype)
        return params

    def query_and_key(self, weights: Weights, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """q and k [..., h, K], in the dtype of the accumulator; h is 1 where heads share them."""
        fused = dense(x, weights["key_kernel"], weights.get("key_bias"))
        query, key = split_gates(fused.astype(accumulator(fused.dtype)), 2)
        count = query.shape[-1] // self.keys
        shape = (*query.shape[:-1], count, self.keys)
        return query.reshape(shape), key.reshape(shape)

    def head_gate(self, weights: Weights, x: jax.Array, name: str) -> jax.Array:
        """x W of a gate with one number for each head, [..., h, 1], by the name of its kernel [I, h]."""
        product = dense(x, weights[name])
        return product.astype(accumulator(product.dtype))[..., None]


class SelectiveCell(KeyedCell):
    """A `KeyedCell` that forgets at a rate of its own for each head, for as long as its input says.

        d = softplus(x W_d + b_d)      g = -e^a d

    step_kernel W_d [I, h], step_bias b_d and log_rate a [h]. b_d starts so that softplus(b_d) is log-uniform
    between step_min and step_max, e^a uniform between the two numbers of `rates`.
    """

    rates: ClassVar[tuple[float, float]]

    step_min: Number = number(default=1e-3, low=1e-4)
    step_max: Number = number(default=0.1, low=1e-4)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, kernel_key, step_key, rate_key = jax.random.split(key, 4)
        params, wide = super().init(key, input_size, dtype), accumulator(dtype)
        step = jnp.exp(log_uniform(step_key, self.heads, self.step_min, self.step_max, wide))
        rate = jax.random.uniform(rate_key, (self.heads,), wide, *self.rates)
        params["step_kernel"] = self.kernel_init(kernel_key, (input_size, self.heads), dtype)
        params["step_bias"] = inverse_softplus(step).astype(dtype)
        params["log_rate"] = jnp.log(rate).astype(dtype)
        return params

    def step_and_log_decay(self, weights: Weights, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """d and g, [..., h, 1]."""
        step = self.head_gate(weights, x, "step_kernel")
        bias, rate = weights["step_bias"].astype(step.dtype), widened_exp(weights["log_rate"])
        step = jax.nn.softplus(step + align(bias[:, None], step))
        return step, -align(rate[:, None], step) * step
