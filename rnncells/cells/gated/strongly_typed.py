"""Strongly typed cells: no product mixes the units of the state, so that time runs in parallel."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, dtype_of
from rnncells.fields import number
from rnncells.initializers import ForgetBias, gate_kernel
from rnncells.linear_scan import DiagonalElement, Monoid
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import dense, select, split_gates
from rnncells.parts.diagonal import average
from rnncells.parts.gated import ProjectedCell
from rnncells.parts.linear import LinearCell, LinearDrive


class TRNN(LinearCell, ProjectedCell):
    """Strongly typed recurrent network: an average of linear views of the input, with a gate.

        z = x W_z      f = s(x W_f + b_f)
        h' = f h + (1 - f) z,    y = h'

    with s the logistic function.

    Shapes: x [..., I], h [..., H] in float32 or wider, y [..., H]; kernel W [I, 2H], gates in the order z, f;
    bias b [H], of f alone.

    Args:
        features: H.
        forget_bias: initial b_f, 0 by default; a number, an array [H] or a scheme such as `Chrono(t_max)`.
        kernel_init: drawn for each gate; Glorot uniform.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Balduzzi & Ghifary 2016, arXiv 1602.02218. Initial values are this library's.
    """

    paper = "Balduzzi & Ghifary 2016, arXiv 1602.02218"
    gates = ("z", "f")
    biased_gates = ("f",)
    keep = "f"

    forget_bias: ForgetBias = number(default=0.0)

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        fused = ProjectedCell.project(self, weights, x)
        z, f = split_gates(fused.astype(accumulator(fused.dtype)), 2)
        return LinearDrive(average(f, z))


class TypedCarry(NamedTuple):
    """The state of TGRU and TLSTM."""

    before: jax.Array
    """[..., 3H]: what the input of the tick before adds to the gates of the next."""
    cell: jax.Array
    """[..., H]"""


class TypedElement(NamedTuple):
    """One tick. Its gates are known once what the tick before adds to them is."""

    ticks: jax.Array
    """int32 [*B]: 1, or 0 where there is no tick."""
    now: jax.Array
    """[*B, 3H]: what the input gives to the gates of its own tick."""
    later: jax.Array
    """[*B, 3H]: what it adds to those of the next."""


class TypedSpan(NamedTuple):
    """Some ticks: the first still waits for what comes before it, the map of the others is known."""

    ticks: jax.Array
    now: jax.Array
    later: jax.Array
    decay: jax.Array
    """[*B, H]"""
    update: jax.Array
    """[*B, H]"""


class TwoInputs(Monoid):
    """c' = a c + b with a and b made of this input and the one before; the state is a `TypedCarry`. The maps
    between two neighbours are known as soon as both are, so that spans of ticks compose."""

    def __init__(self, made_of: Callable[[jax.Array], DiagonalElement]) -> None:
        self.made_of = made_of

    def identity(self, like: Any) -> Any:
        nothing = jax.tree.map(jnp.zeros_like, like)
        return nothing._replace(decay=jnp.ones_like(like.decay)) if isinstance(like, TypedSpan) else nothing

    def lift(self, element: TypedElement) -> TypedSpan:
        update = jnp.zeros_like(self.made_of(element.now).update)
        return TypedSpan(*element, decay=jnp.ones_like(update), update=update)

    def combine(self, earlier: TypedSpan, later: TypedSpan) -> TypedSpan:
        decay, update = self.made_of(later.now + earlier.later)
        both = TypedSpan(
            jnp.maximum(earlier.ticks, later.ticks),
            earlier.now,
            later.later,
            later.decay * decay * earlier.decay,
            later.decay * (decay * earlier.update + update) + later.update,
        )
        span: TypedSpan = select(earlier.ticks > 0, select(later.ticks > 0, both, earlier), later)
        return span

    def apply(self, element: Any, state: TypedCarry) -> TypedCarry:
        decay, update = self.made_of(element.now + state.before)
        cell = decay * state.cell + update
        if isinstance(element, TypedSpan):
            cell = element.decay * cell + element.update
        after: TypedCarry = select(element.ticks > 0, TypedCarry(element.later, cell), state)
        return after


class _TwoInputCell(LinearCell, ProjectedCell):
    """Gates z, f and o that read this input and the one before."""

    gates = ("z", "f", "o")
    keep = "f"

    forget_bias: ForgetBias = number(default=0.0)
    output_activation: Activation = activation("tanh")

    @abc.abstractmethod
    def made_of(self, gates: jax.Array) -> DiagonalElement:
        """What a tick does to the memory, from what its gates compute, [..., 3H]."""

    @property
    def monoid(self) -> Monoid:
        return TwoInputs(self.made_of)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, previous_key = jax.random.split(key)
        previous = gate_kernel(self.kernel_init, previous_key, input_size, self.features, 3, dtype)
        return super().init(key, input_size, dtype) | {"previous_kernel": previous}

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> TypedCarry:
        dtype = accumulator(dtype_of(params, like))
        return TypedCarry(*(jnp.zeros((*batch_shape, n * self.features), dtype) for n in (3, 1)))

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> LinearDrive:
        now = ProjectedCell.project(self, weights, x)
        later, wide = dense(x, weights["previous_kernel"]), accumulator(now.dtype)
        ticks = jnp.ones_like(now[..., 0], jnp.int32)
        return LinearDrive(TypedElement(ticks, now.astype(wide), later.astype(wide)))


class TGRU(_TwoInputCell):
    """Strongly typed gated recurrent unit: its gates read this input and the one before, not the state.

        z = x W_z + x_ V_z + b_z      f = s(x W_f + x_ V_f + b_f)      o = t(x W_o + x_ V_o + b_o)
        h' = f h + z o,    y = h'

    with x_ the input of the tick before, zero at first, s the logistic function and t `output_activation`.
    The window of two inputs is part of the state, as x_ V, so that a sequence may be split anywhere.

    Shapes: x [..., I], carry `TypedCarry(before, cell)` of x_ V [..., 3H] and h [..., H] in float32 or wider,
    y [..., H]; kernel W and previous_kernel V [I, 3H], bias b [3H], gates in the order z, f, o.

    Args:
        features: H.
        forget_bias: initial b_f, 0 by default; a number, an array [H] or a scheme such as `Chrono(t_max)`.
        output_activation: t, "tanh" by default.
        kernel_init: of W and V, drawn for each gate; Glorot uniform.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Balduzzi & Ghifary 2016, arXiv 1602.02218. Initial values are this library's.
    """

    paper = "Balduzzi & Ghifary 2016, arXiv 1602.02218"

    def made_of(self, gates: jax.Array) -> DiagonalElement:
        z, f, o = split_gates(gates, 3)
        return DiagonalElement(jax.nn.sigmoid(f), z * self.output_activation(o))

    def read(self, weights: Weights, state: TypedCarry, drive: LinearDrive) -> jax.Array:
        return state.cell


class TLSTM(_TwoInputCell):
    """Strongly typed LSTM: its gates read this input and the one before, not the state.

        z = x W_z + x_ V_z + b_z      f = s(x W_f + x_ V_f + b_f)      o = t(x W_o + x_ V_o + b_o)
        c' = f c + (1 - f) z          y = c' o

    with x_ the input of the tick before, zero at first, s the logistic function and t `output_activation`.
    The window of two inputs is part of the state, as x_ V, so that a sequence may be split anywhere.

    Shapes: x [..., I], carry `TypedCarry(before, cell)` of x_ V [..., 3H] and c [..., H] in float32 or wider,
    y [..., H]; kernel W and previous_kernel V [I, 3H], bias b [3H], gates in the order z, f, o.

    Args:
        features, forget_bias, output_activation, kernel_init, bias_init, use_bias: as TGRU.

    Source: Balduzzi & Ghifary 2016, arXiv 1602.02218. Initial values are this library's.
    """

    paper = "Balduzzi & Ghifary 2016, arXiv 1602.02218"
    reads = "before"

    def made_of(self, gates: jax.Array) -> DiagonalElement:
        z, f, _ = split_gates(gates, 3)
        return average(f, z)

    def read(self, weights: Weights, state: TypedCarry, drive: LinearDrive) -> jax.Array:
        _, _, o = split_gates(drive.element.now + state.before, 3)
        after: TypedCarry = self.monoid.apply(drive.element, state)
        return after.cell * self.output_activation(o)
