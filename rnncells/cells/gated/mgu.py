"""The minimal gated unit, and its three variants with slimmer gates."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from rnncells.cell import Weights
from rnncells.parts.arithmetic import align, dense, split_gates
from rnncells.parts.gated import DenseCell, GatedCell


class _MinimalGated(DenseCell):
    """One gate f that both resets and updates, whatever it reads."""

    gates = ("f", "n")

    def _renewed(self, weights: Weights, carry: jax.Array, f: jax.Array, x_n: jax.Array) -> jax.Array:
        n = jnp.tanh(x_n + dense(f * carry, weights["recurrent_kernel"][:, -self.features :]))
        return (1 - f) * carry + f * n


class MGU(_MinimalGated, GatedCell):
    """Minimal gated unit: one gate both resets and updates.

        f = s(x W_f + h U_f + b_f)
        n = tanh(x W_n + (f h) U_n + b_n)
        h' = (1 - f) h + f n,    y = h'

    Here f = 1 takes the new value, as in the paper. Flax's MGUCell keeps the past with f and resets
    after the product; because the same gate also resets, that is another cell and its weights do
    not convert.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 2H], recurrent_kernel U [H, 2H], bias b [2H],
    gates in the order f, n.

    Args:
        features: H.
        forget_bias: initial -b_f, 0 by default (f takes the new value, so a positive forget bias
            closes it); a number, an array [H], or `Chrono(t_max)`, `UniformGate()`.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform and orthogonal.

    Source: Zhou, Wu, Zhang & Zhou 2016, arXiv 1603.09420.
    """

    paper = "Zhou, Wu, Zhang & Zhou 2016, arXiv 1603.09420"
    write = "f"

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        x_f, x_n = split_gates(drive, 2)
        f = jax.nn.sigmoid(x_f + dense(carry, weights["recurrent_kernel"][:, : self.features]))
        hidden = self._renewed(weights, carry, f, x_n)
        return hidden, hidden


class _Slim(_MinimalGated):
    """A minimal gated unit whose gate does not read the input."""

    paper = "Heck & Salem 2017, arXiv 1701.03452"
    input_gates = ("n",)

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
        return dense(x, weights["kernel"], self.split_bias(weights).get("n"))

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = self._renewed(weights, carry, jax.nn.sigmoid(self._logit(weights, carry)), drive)
        return hidden, hidden

    def _logit(self, weights: Weights, carry: jax.Array) -> jax.Array:
        kernel = weights["recurrent_kernel"][:, : self.features]
        return dense(carry, kernel, self.split_bias(weights).get("f"))


class MGU1(_Slim, GatedCell):
    """Minimal gated unit whose gate reads the state alone.

        f = s(h U_f + b_f)
        n = tanh(x W_n + (f h) U_n + b_n)
        h' = (1 - f) h + f n,    y = h'

    Shapes: x [..., I], h and y [..., H]; kernel W_n [I, H], recurrent_kernel U [H, 2H], bias b [2H], gates in
    the order f, n.

    Args:
        features, forget_bias, kernel_init, recurrent_init: as MGU.

    Source: Heck & Salem 2017, arXiv 1701.03452, doi 10.1109/MWSCAS.2017.8053242.
    """

    write = "f"


class MGU2(_Slim):
    """Minimal gated unit whose gate reads the state alone and has no bias.

        f = s(h U_f)
        n = tanh(x W_n + (f h) U_n + b_n)
        h' = (1 - f) h + f n,    y = h'

    From h = 0 the gate is half open, whatever its weights are.

    Shapes: x [..., I], h and y [..., H]; kernel W_n [I, H], recurrent_kernel U [H, 2H] in the order f, n,
    bias b_n [H].

    Args:
        features, kernel_init, recurrent_init: as MGU.

    Source: Heck & Salem 2017, arXiv 1701.03452, doi 10.1109/MWSCAS.2017.8053242.
    """

    biased_gates = ("n",)


class MGU3(_Slim, GatedCell):
    """Minimal gated unit whose gate is a learned constant.

        f = s(b_f)
        n = tanh(x W_n + (f h) U_n + b_n)
        h' = (1 - f) h + f n,    y = h'

    A network of leaky units: each unit learns its own rate.

    Shapes: x [..., I], h and y [..., H]; kernel W_n [I, H], recurrent_kernel U_n [H, H], bias b [2H] in the
    order f, n.

    Args:
        features, forget_bias, kernel_init, recurrent_init: as MGU.
        use_bias: without biases every f is 1/2.

    Source: Heck & Salem 2017, arXiv 1701.03452, doi 10.1109/MWSCAS.2017.8053242.
    """

    recurrent_gates = ("n",)
    write = "f"

    def _logit(self, weights: Weights, carry: jax.Array) -> jax.Array:
        bias = self.split_bias(weights).get("f")
        return jnp.zeros_like(carry) if bias is None else align(bias, carry)
