"""Cells as Flax nnx modules. Parameters lie under `params`, in the tree of `cell.init`."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import nnx

from rnncells.cell import Carry, Cell, Params
from rnncells.flax_layer import cast, layer


class RNN(nnx.Module):
    """A layer: a cell over a sequence, with `rnncells.unroll` underneath.

    Arguments and defaults are those of `flax.nnx.RNN` (batch-major; `reverse` gives the outputs in
    the order read, unless `keep_order`), and beside them those of `unroll`. Calls draw no random
    numbers but from `key`, so that the module works under plain `jax.jit`, `jax.grad` and `jax.vmap`
    on split state as well as under nnx's own transforms.

    Args:
        cell: any `rnncells.Cell`.
        in_features: size of the inputs.
        dtype: of the computation; by default the promotion of parameters and inputs.
        param_dtype: of the parameters.
        rngs: draws the parameters.
    """

    def __init__(
        self,
        cell: Cell,
        in_features: int,
        *,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        parallel: bool | None = None,
        remat_every: int | None = None,
        truncate_every: int | None = None,
        dtype: Any | None = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.cell = nnx.data(cell)
        self.params = _params(cell, in_features, param_dtype, rngs)
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order
        self.parallel = parallel
        self.remat_every = remat_every
        self.truncate_every = truncate_every
        self.dtype = dtype

    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: Carry | None = None,
        seq_lengths: chex.Array | None = None,
        mask: chex.Array | None = None,
        resets: chex.Array | None = None,
        key: chex.PRNGKey | None = None,
        return_carry: bool | None = None,
        return_carries: bool = False,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ) -> Any:
        """inputs [*B, T, I] -> outputs [*B, T, O], or (carry, outputs) with `return_carry`.

        seq_lengths is [*B]; mask and resets are [*B, T], or [T, *B] with `time_major`. `rngs` is
        accepted because Flax's `Bidirectional` passes it; initial carries here need no key.
        """
        return layer(
            self,
            _values(self.params),
            inputs,
            initial_carry=initial_carry,
            seq_lengths=seq_lengths,
            mask=mask,
            resets=resets,
            key=key,
            return_carries=return_carries,
            return_carry=return_carry,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
        )


class RNNCell(nnx.RNNCellBase):
    """One tick, for Flax's own `RNN`, `Bidirectional` and `nnx.scan`.

    `prepare` runs at every tick here, and draws anew what is locked over a sequence;
    `rnncells.nnx.RNN` runs it once per sequence.
    """

    def __init__(
        self,
        cell: Cell,
        in_features: int,
        *,
        dtype: Any | None = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.cell = nnx.data(cell)
        self.params = _params(cell, in_features, param_dtype, rngs)
        self.dtype = dtype

    def __call__(self, carry: Carry, inputs: Any, key: chex.PRNGKey | None = None) -> tuple[Carry, Any]:
        """carry, inputs [*B, I] -> carry, outputs [*B, O]."""
        return self.cell(cast(_values(self.params), self.dtype), carry, cast(inputs, self.dtype), key)

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> Carry:
        """The initial carry for inputs of this shape. It belongs to the cell, which draws nothing:
        `rngs` is what Flax's RNN passes, and `carry_init` is refused."""
        if carry_init is not None:
            raise ValueError("carry_init: expected None; the initial carry is the cell's own.")
        batch_shape = input_shape[: len(input_shape) - self.cell.input_ndim]
        return self.cell.initial_carry(cast(_values(self.params), self.dtype), batch_shape)

    @property
    def num_feature_axes(self) -> int:
        return self.cell.input_ndim


def _params(cell: Cell, in_features: int, dtype: Any, rngs: nnx.Rngs) -> Any:
    return nnx.data(jax.tree.map(nnx.Param, cell.init(rngs.params(), in_features, dtype)))


def _values(params: Any) -> Params:
    return jax.tree.map(lambda leaf: leaf[...], params, is_leaf=lambda leaf: isinstance(leaf, nnx.Param))
