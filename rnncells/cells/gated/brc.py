"""Bistable recurrent cells."""

from __future__ import annotations

import abc

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Params, Weights
from rnncells.fields import number
from rnncells.initializers import Constant, ForgetBias, Glorot, Initializer, fuse, scheme
from rnncells.parts.arithmetic import align, dense, split_gates
from rnncells.parts.gated import DenseCell, ProjectedCell


class _Bistable(ProjectedCell):
    """Two gates that see the state in one way or another."""

    paper = "Vecoven, Ernst & Drion 2021, doi 10.1371/journal.pone.0252676, arXiv 2006.05252"
    gates = ("a", "c", "h")
    biased_gates = ("a", "c")
    keep = "c"

    forget_bias: ForgetBias = number(default=0.0)

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        gates, x_h = drive[..., : 2 * self.features], drive[..., 2 * self.features :]
        a, c = self._logits(weights, carry, gates)
        a, c = 1 + jnp.tanh(a), jax.nn.sigmoid(c)
        hidden = c * carry + (1 - c) * jnp.tanh(x_h + a * carry)
        return hidden, hidden

    @abc.abstractmethod
    def _logits(self, weights: Weights, carry: jax.Array, gates: jax.Array) -> list[jax.Array]:
        """a and c before their activations, from what they read of the input."""


class BRC(_Bistable):
    """Bistable recurrent cell: each unit is a memory of its own, with one stable state or with two.

        a = 1 + tanh(x W_a + w_a h + b_a)      c = s(x W_c + w_c h + b_c)
        h' = c h + (1 - c) tanh(x W_h + a h),    y = h'

    Without input, a unit with a <= 1 goes to zero; with a > 1 it goes to the root of h = tanh(a h) on its
    side, and stays. c is how slowly. Products with w are elementwise: no unit sees another.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 3H] in the order a, c, h; bias b [2H] and
    recurrent_weight w [2, H] in the order a, c.

    Args:
        features: H.
        forget_bias: initial b_c, 0 by default; a number, an array [H], or `Chrono(t_max)`, `UniformGate()`.
        kernel_init: drawn for each gate; Glorot uniform.
        weight_init: of w, drawn for each gate as [1, H]; ones.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Vecoven, Ernst & Drion 2021, doi 10.1371/journal.pone.0252676, arXiv 2006.05252.
    """

    weight_init: Initializer = scheme(Constant(1.0), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, weight_key = jax.random.split(key)
        rows = [self.weight_init(row, (1, self.features), dtype) for row in jax.random.split(weight_key)]
        return {**super().init(key, input_size, dtype), "recurrent_weight": fuse(rows, axis=0)}

    def _logits(self, weights: Weights, carry: jax.Array, gates: jax.Array) -> list[jax.Array]:
        rows = zip(split_gates(gates, 2), weights["recurrent_weight"], strict=True)
        return [gate + align(row, carry) * carry for gate, row in rows]


class NBRC(_Bistable, DenseCell):
    """Neuromodulated bistable recurrent cell: the whole state decides how each unit remembers.

        a = 1 + tanh(x W_a + h U_a + b_a)      c = s(x W_c + h U_c + b_c)
        h' = c h + (1 - c) tanh(x W_h + a h),    y = h'

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 3H] in the order a, c, h; recurrent_kernel U [H, 2H]
    and bias b [2H] in the order a, c.

    Args:
        features: H.
        forget_bias: initial b_c, 0 by default; a number, an array [H], or `Chrono(t_max)`, `UniformGate()`.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform both, as the authors' code.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: as BRC.
    """

    recurrent_gates = ("a", "c")

    recurrent_init: Initializer = scheme(Glorot(), kw_only=True)

    def _logits(self, weights: Weights, carry: jax.Array, gates: jax.Array) -> list[jax.Array]:
        return split_gates(gates + dense(carry, weights["recurrent_kernel"]), 2)
