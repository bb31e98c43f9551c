"""Cells as Flax linen modules. Parameters lie under `params/cell`, in the tree of `cell.init`.

Noise is that of Flax's `Dropout`: a cell that draws some (`cell.noisy`) needs the rng named `rng_collection`
at every call, or `deterministic=True`, given to the module or to the call; without either it is an error.
With the rng and without `deterministic` there is noise; `init` asks for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core.meta import unbox
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Carry, Cell, Params, Shape
from rnncells.flax_layer import as_arrays, drawn, in_dtype, layer, no_key, size, start


class RNN(nn.Module):
    """A layer: a cell over a sequence, with `rnncells.unroll` underneath.

    Arguments and defaults are those of `flax.linen.RNN` (batch-major; `reverse` gives the outputs in
    the order read, unless `keep_order`), and beside them those of `unroll`. Outputs past a sequence's length
    are zero, unlike Flax's: `return_sequences=False` gives the last one within it, `ys[:, -1]` does not.

    Attributes:
        cell: any `rnncells.Cell`.
        unroll, variable_axes, variable_broadcast, variable_carry, split_rngs: taken for the sake of programs
            written for Flax's RNN, which lifts variables into a scan. They change nothing here.
        return_sequences: False gives the last output of each sequence, [*B, O], in place of all; with
            `reverse` the one at its first tick, which is read last. Of a `Bidirectional` it is the output at
            the last tick, of which the backward half has read nothing else.
        deterministic: True draws no noise.
        rng_collection: name of the rng that noise comes from.
        carry_init: a Flax initialiser for the state before the first tick, drawn from `init_key`; the cell's
            own initial state by default. Resets return to the latter.
        dtype: of the computation; by default the promotion of parameters and inputs.
        param_dtype: of the parameters.
    """

    cell: Cell
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    unroll: int = 1
    variable_axes: Any = None
    variable_broadcast: Any = None
    variable_carry: Any = None
    split_rngs: Any = None
    return_sequences: bool = True
    parallel: bool | None = None
    remat_every: int | None = None
    truncate_every: int | None = None
    deterministic: bool | None = None
    rng_collection: str = "dropout"
    carry_init: Callable[..., jax.Array] | None = None
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        checks.cell("cell", self.cell)
        super().__post_init__()

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
        deterministic: bool | None = None,
        return_carry: bool | None = None,
        return_carries: bool = False,
        return_sequences: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """inputs [*B, T, I] -> outputs [*B, T, O], or (carry, outputs) with `return_carry`.

        seq_lengths is [*B]; mask and resets, booleans or zeros and ones, are [*B, T], or [T, *B] with
        `time_major`. `init_key` is for `carry_init` alone.
        """
        inputs = as_arrays(inputs)
        return layer(
            self,
            _params(self, size(inputs)),
            inputs,
            initial_carry=initial_carry,
            init_key=init_key,
            seq_lengths=seq_lengths,
            mask=mask,
            resets=resets,
            key=_key(self, deterministic),
            return_carries=return_carries,
            return_carry=return_carry,
            return_sequences=return_sequences,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
        )


class RNNCell(nn.RNNCellBase):
    """One tick, for Flax's own `RNN`, `Bidirectional` and `nn.scan`; attributes as those of `RNN`.

    `prepare` runs at every tick here, and draws anew what is locked over a sequence;
    `rnncells.linen.RNN` runs it once per sequence. Flax's own `RNN` hands an rng to its cell only with
    `split_rngs={"dropout": True}`.
    """

    cell: Cell
    deterministic: bool | None = None
    rng_collection: str = "dropout"
    carry_init: Callable[..., jax.Array] | None = None
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        checks.cell("cell", self.cell)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: Carry, inputs: Any, deterministic: bool | None = None) -> tuple[Carry, Any]:
        """carry, inputs [*B, I] -> carry, outputs [*B, O]."""
        inputs = as_arrays(inputs)
        params, inputs = in_dtype(self, _params(self, size(inputs)), inputs)
        return self.cell(params, carry, inputs, _key(self, deterministic))

    @nn.nowrap
    def initialize_carry(self, rng: chex.PRNGKey, input_shape: Shape) -> Carry:
        """The initial carry for inputs of this shape, learned states included once bound; rng is for
        `carry_init` alone."""
        params = None if self.scope is None else unbox(self.get_variable("params", "cell"))
        carry = start(self, params, input_shape, self.param_dtype)
        return carry if self.carry_init is None else drawn(carry, self.carry_init, rng)

    @property
    def num_feature_axes(self) -> int:
        return self.cell.input_ndim


def _params(module: nn.Module, input_size: int) -> Params:
    return module.param("cell", lambda key: module.cell.init(key, input_size, module.param_dtype))


def _key(module: nn.Module, deterministic: bool | None) -> chex.PRNGKey | None:
    """The key for the noise of a call, if there is to be any."""
    name, own = module.rng_collection, module.deterministic
    if deterministic is not None or own is not None:
        deterministic = nn.merge_param("deterministic", own, deterministic)
    if deterministic:
        return None
    # Where the rng of that name is missing, `make_rng` falls back to the one for parameters.
    asked = module.cell.noisy and module.has_rng("params") and not module.is_initializing()
    if asked or module.has_rng(name):
        return module.make_rng(name)
    if module.cell.noisy and not module.is_initializing():
        raise no_key(
            module.cell,
            f"rngs={{{name!r}: key}} in `apply` (and split_rngs={{{name!r}: True}} inside Flax's own RNN), or"
            " deterministic=True",
        )
    return None
