"""MinGRU and MinLSTM: gated cells whose gates see the input only, so that time runs in parallel."""

from __future__ import annotations

import abc

import chex
import jax
import jax.numpy as jnp

from rnncells.cell import Weights
from rnncells.dtypes import accumulator
from rnncells.fields import number, static
from rnncells.initializers import ForgetBias
from rnncells.linear_scan import Diagonal, DiagonalElement, LogElement, LogSpace, Monoid
from rnncells.parts.arithmetic import split_gates
from rnncells.parts.gated import ProjectedCell
from rnncells.parts.linear import LinearCell, LinearDrive


class _MinRNN(LinearCell, ProjectedCell):
    """The last gate is the candidate, the others decide."""

    log_space: bool = static(default=False)
    forget_bias: ForgetBias = number(default=0.0)

    @property
    def monoid(self) -> Monoid:
        return LogSpace() if self.log_space else Diagonal()

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        fused = ProjectedCell.project(self, weights, x)
        *gates, candidate = split_gates(fused.astype(accumulator(fused.dtype)), len(self.gates))
        if self.log_space:
            logit = self._write_logit(*gates)
            log_write = jax.nn.log_sigmoid(logit) + _log_positive(candidate)
            return LinearDrive(LogElement(jax.nn.log_sigmoid(-logit), log_write))
        write = self._write(*gates)
        return LinearDrive(DiagonalElement(1 - write, write * candidate))

    @abc.abstractmethod
    def _write(self, *gates: jax.Array) -> jax.Array:
        """w, where the new state is (1 - w) h + w n."""

    @abc.abstractmethod
    def _write_logit(self, *gates: jax.Array) -> jax.Array:
        """ln w - ln (1 - w)."""


class MinGRU(_MinRNN):
    """A GRU without its dependence on the previous state.

        z = s(x W_z + b_z)
        n = x W_n + b_n                     log_space=False
        n = g(x W_n + b_n)                  log_space=True, g(u) = u + 1/2 if u >= 0, s(u) if u < 0
        h' = (1 - z) h + z n,    y = h'

    With log_space the candidate is positive and ticks compose by logarithms, the paper's remedy for
    long products; both compute the same recurrence and both store h itself, never its logarithm.

    Shapes: x [..., I], h [..., H] in float32 or wider, y [..., H]; kernel W [I, 2H], bias b [2H], gates
    in the order z, n.

    Args:
        features: H.
        log_space: positive candidates, composed in log space.
        forget_bias: initial -b_z, 0 by default (z takes the new value).
        kernel_init: drawn for each gate; Glorot uniform.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, arXiv 2410.01201. The paper's log-space
    form applies g to the initial state too; here the carry is the state after g.
    """

    paper = "Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, arXiv 2410.01201"
    gates = ("z", "n")
    write = "z"

    def _write(self, *gates: jax.Array) -> jax.Array:
        (z,) = gates
        return jax.nn.sigmoid(z)

    def _write_logit(self, *gates: jax.Array) -> jax.Array:
        (z,) = gates
        return z


class MinLSTM(_MinRNN):
    """An LSTM without its dependence on the previous state, its gates normalised to sum to one.

        f = s(x W_f + b_f)      i = s(x W_i + b_i)
        n = x W_n + b_n                     log_space=False
        n = g(x W_n + b_n)                  log_space=True, g(u) = u + 1/2 if u >= 0, s(u) if u < 0
        h' = f / (f + i) h + i / (f + i) n,    y = h'

    Shapes: x [..., I], h [..., H] in float32 or wider, y [..., H]; kernel W [I, 3H], bias b [3H], gates
    in the order f, i, n.

    Args:
        features: H.
        log_space: positive candidates, composed in log space.
        forget_bias: initial b_f, 0 by default; Chrono sets b_i = -b_f as well.
        kernel_init: drawn for each gate; Glorot uniform.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, arXiv 2410.01201. As for MinGRU, the
    carry is the state after g.
    """

    paper = "Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, arXiv 2410.01201"
    gates = ("f", "i", "n")
    keep = "f"
    write = "i"

    def _write(self, *gates: jax.Array) -> jax.Array:
        """i / (f + i) = (1 + e^-f) / ((1 + e^-f) + (1 + e^-i)), where no gate over- or underflows."""
        f, i = gates
        scale = jax.lax.stop_gradient(jnp.maximum(jnp.maximum(-f, -i), 0))
        one, f, i = jnp.exp(-scale), jnp.exp(-f - scale), jnp.exp(-i - scale)
        return (one + f) / ((one + f) + (one + i))

    def _write_logit(self, *gates: jax.Array) -> jax.Array:
        f, i = gates
        return jax.nn.softplus(-f) - jax.nn.softplus(-i)  # ln i - ln f


def _log_positive(u: jax.Array) -> jax.Array:
    """ln g(u), with relu inside so that the branch not taken has a finite gradient."""
    return jnp.where(u >= 0, jnp.log(jax.nn.relu(u) + 0.5), jax.nn.log_sigmoid(u))
