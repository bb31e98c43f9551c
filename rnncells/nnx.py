"""Cells as Flax nnx modules. Parameters lie under `cell_params`, in the tree of `cell.init`.

Noise is that of `nnx.Dropout`: a cell that draws some (`cell.noisy`) draws it at every call, from the `rngs`
or the key of the call, or from the module's own stream, forked from the `rngs` that made it; not when
`deterministic`, which `eval()` sets and `train()` unsets. Modules without noise hold no stream and draw
nothing: they work under plain `jax.jit`, `jax.grad` and `jax.vmap` on split state.

The cell that makes a module is part of its type, its numbers included, so that `nnx.split(module, nnx.Param)`
has all there is of a module without noise. A cell that is assigned later is state: in
`module.cell = decoder.attend(memory)` the memory passes through nnx's transforms. So do the numbers of a cell
that was made inside `nnx.vmap` or `nnx.jit`, after `module.cell = module.cell`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from flax.core.meta import AxisMetadata
from flax.nnx.bridge.variables import to_nnx_var
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Carry, Cell, Params, Shape, plain
from rnncells.flax_layer import as_arrays, drawn, in_dtype, layer, no_key, start


class Held(nnx.Variable):  # type: ignore[type-arg]
    """An array of a cell that is state of its module."""


class _Fixed:
    """The parts of a cell in a module's type: equal by value, so that nnx's transforms compile once. None is
    in place of what is state."""

    def __init__(self, structure: Any, leaves: list[Any]) -> None:
        self.structure, self.leaves = structure, leaves

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Fixed) and self._cell() == other._cell()

    def __hash__(self) -> int:
        return hash(self.structure)

    def __repr__(self) -> str:
        return repr(self._cell())

    def _cell(self) -> Any:
        return jax.tree.unflatten(self.structure, self.leaves)


class _Module(nnx.Module):
    """A cell and its parameters."""

    def __init__(
        self,
        cell: Cell,
        in_features: int,
        *,
        hidden_features: int | None = None,
        deterministic: bool = False,
        rng_collection: str = "dropout",
        carry_init: Callable[..., jax.Array] | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        checks.cell("cell", cell)
        if hidden_features not in (None, cell.output_size):
            raise ValueError(
                f"hidden_features: expected {cell.output_size}, those of {cell}, got {hidden_features}."
            )
        self.cell = cell
        self.in_features = in_features
        self.deterministic = deterministic
        self.rng_collection = rng_collection
        self.carry_init = carry_init
        self.dtype = dtype
        self.params = cell.init(rngs.params(), in_features, param_dtype)
        stream = _stream(rngs, rng_collection) if cell.noisy else None
        self.rngs = nnx.data(None if stream is None else stream.fork())

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("cell", "params"):  # older versions of nnx do not look for properties
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def cell(self) -> Cell:
        """The cell; of one that is assigned, the arrays are state."""
        leaves = [
            self.held[str(i)].get_value() if str(i) in self.held else leaf
            for i, leaf in enumerate(self.fixed.leaves)
        ]
        return jax.tree.unflatten(self.fixed.structure, leaves)  # type: ignore[no-any-return]

    @cell.setter
    def cell(self, cell: Cell) -> None:
        leaves, structure = jax.tree.flatten(cell)
        assigned = hasattr(self, "fixed")
        held = {str(i): Held(leaf) for i, leaf in enumerate(leaves) if assigned and hasattr(leaf, "dtype")}
        self.held = nnx.data(held)
        self.fixed = _Fixed(structure, [None if str(i) in held else leaf for i, leaf in enumerate(leaves)])

    @property
    def params(self) -> Params:
        """The parameters as `cell.init` makes them; may be assigned."""
        return plain(self.cell_params)

    @params.setter
    def params(self, params: Params) -> None:
        if hasattr(self, "cell_params"):
            checks.params(self.cell, self.params, plain(params), self.in_features)
            nnx.update(self, nnx.State({"cell_params": plain(params)}))
        else:
            one = functools.partial(to_nnx_var, "params")
            boxed = jax.tree.map(one, params, is_leaf=lambda leaf: isinstance(leaf, AxisMetadata))
            self.cell_params = nnx.data(boxed)

    @property
    def hidden_features(self) -> int:
        """Size of the outputs."""
        return self.cell.output_size

    def set_view(self, deterministic: bool | None = None) -> None:
        """For `nnx.view`."""
        if deterministic is not None:
            self.deterministic = deterministic

    def _key(self, deterministic: bool | None, rngs: Any, key: chex.PRNGKey | None) -> chex.PRNGKey | None:
        """The key for the noise of a call, if there is to be any."""
        if self.deterministic if deterministic is None else deterministic:
            return None
        if key is not None or not self.cell.noisy:
            return key
        stream = _stream(rngs, self.rng_collection) or self.rngs
        if stream is None:
            raise no_key(
                self.cell,
                f"a stream {self.rng_collection!r} in the rngs of the module or of the call, or"
                " deterministic=True, as after `eval()`",
            )
        return stream()


class RNN(_Module):
    """A layer: a cell over a sequence, with `rnncells.unroll` underneath.

    Arguments and defaults are those of `flax.nnx.RNN` (batch-major; `reverse` gives the outputs in
    the order read, unless `keep_order`), and beside them those of `unroll`. Outputs past a sequence's length
    are zero, unlike Flax's: `return_sequences=False` gives the last one within it, `ys[:, -1]` does not.

    Args:
        cell: any `rnncells.Cell`.
        in_features, hidden_features: size of the inputs and of the outputs; the latter is the cell's, and
            need not be given.
        unroll: taken for the sake of programs written for Flax's RNN; changes nothing here.
        return_sequences: False gives the last output of each sequence, [*B, O], in place of all; with
            `reverse` the one at its first tick, which is read last. Of a `Bidirectional` it is the output at
            the last tick, of which the backward half has read nothing else.
        deterministic: True draws no noise.
        rng_collection: name of the stream that noise comes from.
        carry_init: a Flax initialiser for the state before the first tick, drawn from the `rngs` of the call;
            the cell's own initial state by default. Resets return to the latter.
        dtype: of the computation; by default the promotion of parameters and inputs.
        param_dtype: of the parameters.
        rngs: draws the parameters, and where the cell is noisy has its stream forked for this module.
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
        unroll: int = 1,
        return_sequences: bool = True,
        parallel: bool | None = None,
        remat_every: int | None = None,
        truncate_every: int | None = None,
        rngs: nnx.Rngs,
        **module: Any,
    ) -> None:
        super().__init__(cell, in_features, rngs=rngs, **module)
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order
        self.unroll = unroll
        self.return_sequences = return_sequences
        self.parallel = parallel
        self.remat_every = remat_every
        self.truncate_every = truncate_every

    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: Carry | None = None,
        seq_lengths: chex.Array | None = None,
        mask: chex.Array | None = None,
        resets: chex.Array | None = None,
        key: chex.PRNGKey | None = None,
        deterministic: bool | None = None,
        return_carry: bool | None = None,
        return_carries: bool = False,
        return_sequences: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | chex.PRNGKey | None = None,
    ) -> Any:
        """inputs [*B, T, I] -> outputs [*B, T, O], or (carry, outputs) with `return_carry`.

        seq_lengths is [*B]; mask and resets, booleans or zeros and ones, are [*B, T], or [T, *B] with
        `time_major`. Noise comes from `key`, `rngs` or the module's stream, whichever is there first.
        """
        carries = _stream(rngs, "carry") if self.carry_init is not None else None
        return layer(
            self,
            self.params,
            as_arrays(inputs),
            initial_carry=initial_carry,
            init_key=None if carries is None else carries(),
            seq_lengths=seq_lengths,
            mask=mask,
            resets=resets,
            key=self._key(deterministic, rngs, key),
            return_carries=return_carries,
            return_carry=return_carry,
            return_sequences=return_sequences,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
        )


class RNNCell(_Module, nnx.RNNCellBase):
    """One tick, for Flax's own `RNN`, `Bidirectional` and `nnx.scan`.

    `prepare` runs at every tick here, and draws anew what is locked over a sequence; `rnncells.nnx.RNN` runs
    it once per sequence. Arguments: as those of `RNN`, without those of layout and of `unroll`.
    """

    def __call__(
        self,
        carry: Carry,
        inputs: Any,
        key: chex.PRNGKey | None = None,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | chex.PRNGKey | None = None,
    ) -> tuple[Carry, Any]:
        """carry, inputs [*B, I] -> carry, outputs [*B, O]."""
        params, inputs = in_dtype(self, self.params, as_arrays(inputs))
        return self.cell(params, carry, inputs, self._key(deterministic, rngs, key))

    def initialize_carry(
        self,
        input_shape: Shape,
        rngs: nnx.Rngs | nnx.RngStream | chex.PRNGKey | None = None,
        carry_init: Callable[..., jax.Array] | None = None,
    ) -> Carry:
        """The carry for inputs of this shape: the cell's own, or drawn by `carry_init` from `rngs`."""
        carry = start(self, self.params, input_shape, jnp.float32)
        init = self.carry_init if carry_init is None else carry_init
        if init is None:
            return carry
        carries = _stream(rngs, "carry")
        return drawn(carry, init, None if carries is None else carries())

    @property
    def num_feature_axes(self) -> int:
        return self.cell.input_ndim


def _stream(source: Any, name: str) -> Any:
    """The stream of a name in what nnx calls rngs: streams, one stream or a key. The stream `carry`, which
    Flax's `Bidirectional` passes on unasked, serves for carries alone."""
    if isinstance(source, nnx.Rngs):
        return source[name] if name in source or "default" in source else None
    if isinstance(source, nnx.RngStream):
        return source if name == "carry" or source.tag != "carry" else None
    checks.key(source)
    return None if source is None else lambda: source
