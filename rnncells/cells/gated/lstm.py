"""Long short-term memory and its closest relatives."""

from __future__ import annotations

import abc
from typing import ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import dtype_of
from rnncells.fields import number
from rnncells.initializers import ForgetBias, Initializer, Zeros, fuse, scheme
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import align, dense, split_gates
from rnncells.parts.gated import GatedCell


class LSTMCarry(NamedTuple):
    """The state of the LSTM family: `c, h = carry`; both [..., H]."""

    cell: jax.Array
    hidden: jax.Array


class LSTMFamily(GatedCell):
    """The three activations, a state of two arrays, and how the memory is written and read."""

    keep = "f"
    emits = "hidden"

    forget_bias: ForgetBias = number(default=1.0)
    gate_activation: Activation = activation("sigmoid")
    candidate_activation: Activation = activation("tanh")
    output_activation: Activation = activation("tanh")

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> LSTMCarry:
        shape, dtype = (*batch_shape, self.features), dtype_of(params)
        return LSTMCarry(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def write_to(self, cell: jax.Array, i: jax.Array, f: jax.Array, g: jax.Array) -> jax.Array:
        """The new memory f c + i g, from what the gates compute before their activations."""
        return self.gate_activation(f) * cell + self.gate_activation(i) * self.candidate_activation(g)

    def read_from(self, cell: jax.Array, o: jax.Array) -> jax.Array:
        """What the gate o shows of the memory, o t(c)."""
        return self.gate_activation(o) * self.output_activation(cell)


class LSTM(LSTMFamily):
    """Long short-term memory with a forget gate.

        i = s(x W_i + h U_i + b_i)      f = s(x W_f + h U_f + b_f)
        g = a(x W_g + h U_g + b_g)      o = s(x W_o + h U_o + b_o)
        c' = f c + i g                  h' = o t(c'),    y = h'

    with s `gate_activation`, a `candidate_activation` and t `output_activation`. The textbook
    variant with the logistic function everywhere is
    `LSTM(H, candidate_activation="sigmoid", output_activation="sigmoid")`.

    Shapes: x [..., I], carry `LSTMCarry(cell, hidden)` of two [..., H], y [..., H]; kernel W [I, 4H],
    recurrent_kernel U [H, 4H], bias b [4H], gates in the order i, f, g, o.

    Args:
        features: H.
        forget_bias: initial b_f, 1 by default (Jozefowicz et al. 2015); a number, an array [H], or a
            scheme: `Chrono(t_max)` sets b_i = -b_f as well, `UniformGate()` sets b_f. Added to `bias_init`.
        gate_activation, candidate_activation, output_activation: s, a and t; by name or as functions.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform and orthogonal.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735; forget gate Gers,
    Schmidhuber & Cummins 2000, doi 10.1162/089976600300015015. PyTorch, Keras, Flax and Haiku compute
    the same function; they differ in the order of the gates, in PyTorch's second bias (the bias here is
    the sum of the two) and in Haiku's hidden +1 on f (here in the parameters, where it can be seen).
    """

    paper = (
        "Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735;"
        " Gers, Schmidhuber & Cummins 2000, doi 10.1162/089976600300015015"
    )
    gates = ("i", "f", "g", "o")
    write = "i"

    def step(self, weights: Weights, carry: LSTMCarry, drive: jax.Array) -> tuple[LSTMCarry, jax.Array]:
        i, f, g, o = split_gates(drive + dense(carry.hidden, weights["recurrent_kernel"]), 4)
        cell = self.write_to(carry.cell, i, f, g)
        hidden = self.read_from(cell, o)
        return LSTMCarry(cell, hidden), hidden


def squash(x: jax.Array) -> jax.Array:
    """2 s(x) - 1, between -1 and 1."""
    return jnp.tanh(x / 2)


def wide_squash(x: jax.Array) -> jax.Array:
    """4 s(x) - 2, between -2 and 2."""
    return 2 * jnp.tanh(x / 2)


class OriginalLSTM(LSTMFamily):
    """Long short-term memory as it was first published: nothing is ever forgotten.

        i = s(x W_i + h U_i + b_i)      g = a(x W_g + h U_g + b_g)      o = s(x W_o + h U_o + b_o)
        c' = c + i g                    h' = o t(c'),    y = h'

    with s the logistic function, a(x) = 4 s(x) - 2 and t(x) = 2 s(x) - 1. An error reaches any c unchanged
    through the sum, and c may drift without bound: against this the input gates start almost closed.

    Shapes: x [..., I], carry `LSTMCarry(cell, hidden)` of two [..., H], y [..., H]; kernel W [I, 3H],
    recurrent_kernel U [H, 3H], bias b [3H], gates in the order i, g, o.

    Args:
        features: H.
        forget_bias: initial -b_i, 3 by default: a positive one closes the input gate, the paper's remedy for
            drifting memories; between 1 and 6 in its experiments, another value for each block of cells,
            which an array [H] gives.
        gate_activation, candidate_activation, output_activation: s, a and t.
        kernel_init, recurrent_init: drawn for each gate; Glorot uniform and orthogonal, where the paper has
            U(-.1, .1) or U(-.2, .2).
        bias_init, use_bias: zeros by default. Some of the paper's output gates start at -1 to -6 as well.

    Source: Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735, with memory blocks of one cell.
    Here gates do not see other gates, there are no hidden units beside the cells, and gradients are whole
    where the paper cuts them at the gates.
    """

    paper = "Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735"
    gates = ("i", "g", "o")
    keep = ""
    write = "i"

    forget_bias: ForgetBias = number(default=3.0)
    candidate_activation: Activation = activation(wide_squash)
    output_activation: Activation = activation(squash)

    def step(self, weights: Weights, carry: LSTMCarry, drive: jax.Array) -> tuple[LSTMCarry, jax.Array]:
        i, g, o = split_gates(drive + dense(carry.hidden, weights["recurrent_kernel"]), 3)
        cell = carry.cell + self.gate_activation(i) * self.candidate_activation(g)
        hidden = self.read_from(cell, o)
        return LSTMCarry(cell, hidden), hidden


class MemoryGatedLSTM(LSTMFamily):
    """LSTMs whose gates also see the memory: i and f as it was, o as it is now."""

    gates = ("i", "f", "g", "o")
    write = "i"

    @abc.abstractmethod
    def seen_before(self, weights: Weights, cell: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the memory before the tick adds to i and to f."""

    @abc.abstractmethod
    def seen_after(self, weights: Weights, cell: jax.Array) -> jax.Array:
        """What the new memory adds to o."""

    def step(self, weights: Weights, carry: LSTMCarry, drive: jax.Array) -> tuple[LSTMCarry, jax.Array]:
        i, f, g, o = split_gates(drive + dense(carry.hidden, weights["recurrent_kernel"]), 4)
        to_i, to_f = self.seen_before(weights, carry.cell)
        cell = self.write_to(carry.cell, i + to_i, f + to_f, g)
        hidden = self.read_from(cell, o + self.seen_after(weights, cell))
        return LSTMCarry(cell, hidden), hidden


class PeepholeLSTM(MemoryGatedLSTM):
    """LSTM whose gates also see the memory, through one weight per unit.

        i = s(x W_i + h U_i + p_i c + b_i)      f = s(x W_f + h U_f + p_f c + b_f)
        c' = f c + i a(x W_g + h U_g + b_g)
        o = s(x W_o + h U_o + p_o c' + b_o)     h' = o t(c'),    y = h'

    The output gate sees the new memory c'. Products with p are elementwise.

    Shapes: as LSTM, and peephole p [3, H] in the order i, f, o.

    Args:
        features, forget_bias, kernel_init, recurrent_init and the activations: as LSTM.
        peephole_init: drawn for each gate as [1, H]; zeros by default, which starts as the LSTM.

    Source: Gers, Schraudolph & Schmidhuber 2002, JMLR 3:115-143. The activations s, a = t = tanh are
    today's; the paper's own experiments also use others.
    """

    paper = "Gers, Schraudolph & Schmidhuber 2002, JMLR 3:115-143"

    peephole_init: Initializer = scheme(Zeros(), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, peephole_key = jax.random.split(key)
        rows = [
            self.peephole_init(row, (1, self.features), dtype) for row in jax.random.split(peephole_key, 3)
        ]
        return {**super().init(key, input_size, dtype), "peephole": fuse(rows, axis=0)}

    def seen_before(self, weights: Weights, cell: jax.Array) -> tuple[jax.Array, jax.Array]:
        p_i, p_f, _ = weights["peephole"]
        return align(p_i, cell) * cell, align(p_f, cell) * cell

    def seen_after(self, weights: Weights, cell: jax.Array) -> jax.Array:
        _, _, p_o = weights["peephole"]
        return align(p_o, cell) * cell


class CoupledLSTM(LSTMFamily):
    """LSTM whose input gate is one minus its forget gate (CIFG).

        f = s(x W_f + h U_f + b_f)      g = a(x W_g + h U_g + b_g)
        o = s(x W_o + h U_o + b_o)
        c' = f c + (1 - f) g            h' = o t(c'),    y = h'

    The memory is a convex combination, so |c| <= max(|c_0|, 1) with the default activations.

    Shapes: as LSTM with three gates, in the order f, g, o.

    Args:
        features, forget_bias, kernel_init, recurrent_init and the activations: as LSTM.

    Source: Greff, Srivastava, Koutnik, Steunebrink & Schmidhuber 2017, arXiv 1503.04069. Their CIFG
    keeps the peepholes of their vanilla LSTM; here, as in most libraries, there are none.
    """

    paper = "Greff, Srivastava, Koutnik, Steunebrink & Schmidhuber 2017, arXiv 1503.04069"
    gates: ClassVar[tuple[str, ...]] = ("f", "g", "o")

    def step(self, weights: Weights, carry: LSTMCarry, drive: jax.Array) -> tuple[LSTMCarry, jax.Array]:
        *gates, g, o = split_gates(drive + dense(carry.hidden, weights["recurrent_kernel"]), len(self.gates))
        kept = self.kept(*gates)
        cell = kept * carry.cell + (1 - kept) * self.candidate_activation(g)
        hidden = self.read_from(cell, o)
        return LSTMCarry(cell, hidden), hidden

    def kept(self, *gates: jax.Array) -> jax.Array:
        """How much of the memory stays, from what the gates before g compute."""
        (f,) = gates
        return self.gate_activation(f)
