"""The three best cells of an architecture search."""

from __future__ import annotations

import abc
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp

from rnncells.cell import Weights
from rnncells.parts.arithmetic import dense, split_gates
from rnncells.parts.gated import GatedCell
from rnncells.parts.raw_input import RawInput


class _Mutation(GatedCell):
    """A new value of a state that r resets, which z lets in."""

    paper = "Jozefowicz, Zaremba & Sutskever 2015, PMLR 37:2342"
    gates = ("z", "r", "n")
    write = "z"

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        gates, x_n = drive[..., : 2 * self.features], drive[..., 2 * self.features :]
        kernel = weights["recurrent_kernel"]
        z, r = (jax.nn.sigmoid(logit) for logit in self._logits(kernel, carry, gates))
        n = jnp.tanh(x_n + dense(r * carry, kernel[:, -self.features :]))
        hidden = z * n + (1 - z) * carry
        return hidden, hidden

    @abc.abstractmethod
    def _logits(self, kernel: jax.Array, h: jax.Array, gates: jax.Array) -> list[jax.Array]:
        """z and r before the logistic function, from what they read of the input."""


class _RawMutation(RawInput, _Mutation):
    """One gate takes the input itself."""

    raw_gate: ClassVar[str]

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
        drive = super().project(weights, x)
        blocks = self.split_drive(drive)
        blocks[self.raw_gate] = self._enter(self.raw(weights, x)).astype(drive.dtype) + blocks.get(
            self.raw_gate, 0
        )
        return jnp.concatenate([blocks[gate] for gate in self.gates], -1)

    def _enter(self, x: jax.Array) -> jax.Array:
        return x


class MUT1(_RawMutation):
    """The first mutation: the update gate does not see the state, the candidate sees the input as it is.

        z = s(x W_z + b_z)
        r = s(x W_r + h U_r + b_r)
        n = tanh((r h) U_n + tanh(x) + b_n)
        h' = z n + (1 - z) h,    y = h'

    The paper's tanh(x) needs I = H. Otherwise it is tanh(x V).

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 2H] in the order z, r; recurrent_kernel U [H, 2H] in
    the order r, n; bias b [3H] in the order z, r, n; input_kernel V [I, H] where I is not H.

    Args:
        features: H.
        forget_bias: initial -b_z, 0 by default (z takes the new value); a number, an array [H], or
            `Chrono(t_max)`, `UniformGate()`.
        kernel_init, recurrent_init: the paper draws uniform weights of a size that it searches for; Glorot
            uniform and orthogonal, drawn for each gate.

    Source: Jozefowicz, Zaremba & Sutskever 2015, An empirical exploration of recurrent network architectures,
    PMLR 37:2342.
    """

    input_gates = ("z", "r")
    recurrent_gates = ("r", "n")
    raw_gate = "n"
    unsigned_gates = ("n",)

    def _enter(self, x: jax.Array) -> jax.Array:
        return jnp.tanh(x)

    def _logits(self, kernel: jax.Array, h: jax.Array, gates: jax.Array) -> list[jax.Array]:
        x_z, x_r = split_gates(gates, 2)
        return [x_z, x_r + dense(h, kernel[:, : self.features])]


class MUT2(_RawMutation):
    """The second mutation: the reset gate sees the input as it is.

        z = s(x W_z + h U_z + b_z)
        r = s(x + h U_r + b_r)
        n = tanh((r h) U_n + x W_n + b_n)
        h' = z n + (1 - z) h,    y = h'

    The paper's x in r needs I = H. Otherwise it is x V, and the cell is the GRU with its reset before the
    product, in other words: z takes the new value here.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 2H] in the order z, n; recurrent_kernel U [H, 3H] and
    bias b [3H] in the order z, r, n; input_kernel V [I, H] where I is not H.

    Args:
        features, forget_bias, kernel_init, recurrent_init: as MUT1.

    Source: as MUT1.
    """

    input_gates = ("z", "n")
    raw_gate = "r"
    unsigned_gates = ("r",)

    def _logits(self, kernel: jax.Array, h: jax.Array, gates: jax.Array) -> list[jax.Array]:
        return split_gates(gates + dense(h, kernel[:, : 2 * self.features]), 2)


class MUT3(_Mutation):
    """The third mutation: the update gate sees the state through tanh.

        z = s(x W_z + tanh(h) U_z + b_z)
        r = s(x W_r + h U_r + b_r)
        n = tanh((r h) U_n + x W_n + b_n)
        h' = z n + (1 - z) h,    y = h'

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 3H], recurrent_kernel U [H, 3H], bias b [3H], gates in
    the order z, r, n.

    Args:
        features, forget_bias, kernel_init, recurrent_init: as MUT1.

    Source: as MUT1.
    """

    def _logits(self, kernel: jax.Array, h: jax.Array, gates: jax.Array) -> list[jax.Array]:
        update, reset = kernel[:, : self.features], kernel[:, self.features : 2 * self.features]
        x_z, x_r = split_gates(gates, 2)
        return [x_z + dense(jnp.tanh(h), update), x_r + dense(h, reset)]
