"""Cells as Flax linen modules. Parameters lie under `params/cell`, in the tree of `cell.init`."""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp

from rnncells.cell import Carry, Cell, Params
from rnncells.flax_layer import cast, layer


class RNN(nn.Module):
    """A layer: a cell over a sequence, with `rnncells.unroll` underneath.

    Arguments and defaults are those of `flax.linen.RNN` (batch-major; `reverse` gives the outputs in
    the order read, unless `keep_order`), and beside them those of `unroll`. A `dropout` rng, where one
    is given, is the key of cells that draw noise.

    Attributes:
        cell: any `rnncells.Cell`.
        dtype: of the computation; by default the promotion of parameters and inputs.
        param_dtype: of the parameters.
    """

    cell: Cell
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    parallel: bool | None = None
    remat_every: int | None = None
    truncate_every: int | None = None
    dtype: Any | None = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: Carry | None = None,
        init_key: chex.PRNGKey | None = None,
        seq_lengths: chex.Array | None = None,
        mask: chex.Array | None = None,
        resets: chex.Array | None = None,
        return_carry: bool | None = None,
        return_carries: bool = False,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """inputs [*B, T, I] -> outputs [*B, T, O], or (carry, outputs) with `return_carry`.

        seq_lengths is [*B]; mask and resets are [*B, T], or [T, *B] with `time_major`. `init_key` is
        accepted because Flax's `Bidirectional` passes it; initial carries here need no key.
        """
        return layer(
            self,
            _params(self, inputs.shape[-1]),
            inputs,
            initial_carry=initial_carry,
            seq_lengths=seq_lengths,
            mask=mask,
            resets=resets,
            key=_key(self),
            return_carries=return_carries,
            return_carry=return_carry,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
        )


class RNNCell(nn.RNNCellBase):
    """One tick, for Flax's own `RNN`, `Bidirectional` and `nn.scan`.

    `prepare` runs at every tick here, and draws anew what is locked over a sequence;
    `rnncells.linen.RNN` runs it once per sequence. Flax's own `RNN` hands a `dropout` rng to its cell
    only with `split_rngs={"dropout": True}`.
    """

    cell: Cell
    dtype: Any | None = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, carry: Carry, inputs: Any) -> tuple[Carry, Any]:
        """carry, inputs [*B, I] -> carry, outputs [*B, O]."""
        params = _params(self, inputs.shape[-1])
        return self.cell(cast(params, self.dtype), carry, cast(inputs, self.dtype), _key(self))

    @nn.nowrap
    def initialize_carry(self, rng: chex.PRNGKey, input_shape: tuple[int, ...]) -> Carry:
        """The initial carry for inputs of this shape, learned states included once bound."""
        params: Params = self.get_variable("params", "cell") if self.scope is not None else None
        if params is None:
            params = self.cell.init(rng, input_shape[-1], self.param_dtype)
        batch_shape = input_shape[: len(input_shape) - self.cell.input_ndim]
        return self.cell.initial_carry(cast(params, self.dtype), batch_shape)

    @property
    def num_feature_axes(self) -> int:
        return self.cell.input_ndim


def _params(module: nn.Module, input_size: int) -> Params:
    return module.param("cell", lambda key: module.cell.init(key, input_size, module.param_dtype))


def _key(module: nn.Module) -> chex.PRNGKey | None:
    return module.make_rng("dropout") if module.has_rng("dropout") else None
