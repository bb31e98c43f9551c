"""What rnncells.linen and rnncells.nnx share: a cell over a sequence in Flax's layout and words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Carry, Cell, Params, Shape, Timed
from rnncells.dtypes import cast_like, dtype_of
from rnncells.sequences import in_order_read, last
from rnncells.unroll import params_shape, unroll


def layer(
    module: Any,
    params: Params,
    inputs: Any,
    *,
    initial_carry: Carry | None,
    init_key: chex.PRNGKey | None,
    seq_lengths: chex.Array | None,
    mask: chex.Array | None,
    resets: chex.Array | None,
    key: chex.PRNGKey | None,
    return_carries: bool,
    **overrides: bool | None,
) -> Any:
    """`unroll` with Flax's argument names, batch-major layout and order of reversed outputs.

    module: has the cell and the settings as attributes; those of the settings that a call gives
    (`return_carry`, `time_major`, ... , where not None) override them.
    """
    cell: Cell = module.cell
    settings = {name: getattr(module, name) if value is None else value for name, value in overrides.items()}
    time_major, reverse = settings["time_major"], settings["reverse"]
    checks.positive_int("unroll", module.unroll)
    params, inputs = in_dtype(module, params, inputs)
    axis = _time_axis(cell, inputs, time_major)
    xs = inputs if time_major else jax.tree.map(lambda x: jnp.moveaxis(x, axis, 0), inputs)
    axes = jax.tree.leaves(xs)[0].shape[: axis + 1]
    mask = _flags("mask", mask, axes, time_major)
    if seq_lengths is not None:
        seq_lengths = checks.lengths(seq_lengths, axes[1:], axes[0])
    if initial_carry is None and module.carry_init is not None:
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
        initial_carry = drawn(cell.initial_carry(params, axes[1:], like=like), module.carry_init, init_key)
    carry, ys = unroll(
        cell,
        params,
        xs,
        initial_carry,
        lengths=seq_lengths,
        mask=mask,
        resets=_flags("resets", resets, axes, time_major),
        reverse=reverse,
        key=key,
        parallel=module.parallel,
        remat_every=module.remat_every,
        truncate_every=module.truncate_every,
        return_carries=return_carries,
    )

    def laid_out(ys: Any) -> Any:
        if reverse and not settings["keep_order"]:
            ys = in_order_read(ys, seq_lengths)
        return ys if time_major else jax.tree.map(lambda y: jnp.moveaxis(y, 0, axis), ys)

    ys, carries = ys if return_carries else (ys, None)
    whole = settings["return_sequences"]
    ys = laid_out(ys) if whole else last(ys, seq_lengths, mask=mask, reverse=reverse)
    if return_carries:
        ys = ys, laid_out(carries)
    return (carry, ys) if settings["return_carry"] else ys


def _time_axis(cell: Cell, inputs: Any, time_major: bool) -> int:
    """Where time is in batch-major inputs; the number of batch axes."""
    axis: int = jax.tree.leaves(inputs)[0].ndim - cell.input_ndim - 1
    if axis < 0:
        layout = "time, *batch" if time_major else "*batch, time"
        raise ValueError(
            f"inputs: expected [{layout}] and {cell.input_ndim} feature axes, got {checks.describe(inputs)}."
        )
    return axis


def _flags(name: str, value: Any, axes: Shape, time_major: bool) -> jax.Array | None:
    """Booleans, or zeros and ones, as booleans with the axes [T, *B]."""
    if value is None:
        return None
    array: Any = value if isinstance(value, jax.core.Tracer) else np.asarray(value)
    if array.dtype != jnp.bool_ and jnp.issubdtype(array.dtype, jnp.number):
        if not isinstance(array, jax.core.Tracer):
            others = array[(array != 0) & (array != 1)]
            if others.size:
                raise ValueError(f"{name}: expected booleans, or zeros and ones, got {others[0]} among them.")
        array = array != 0
    flags = checks.flags(name, array, axes if time_major else (*axes[1:], axes[0]))
    return flags if time_major else jnp.moveaxis(flags, -1, 0)


def as_arrays(inputs: Any) -> Any:
    """Inputs as JAX arrays; a list is one array, other pytrees keep their form."""
    return jnp.asarray(inputs) if isinstance(inputs, list) else jax.tree.map(jnp.asarray, inputs)


def size(inputs: Any) -> int:
    """The width of inputs."""
    leaf = jax.tree.leaves(inputs)[0]
    if not leaf.ndim:
        raise ValueError(f"inputs: expected a last axis of features, got {checks.describe(inputs)}.")
    return leaf.shape[-1]  # type: ignore[no-any-return]


def in_dtype(module: Any, params: Params, inputs: Any) -> tuple[Params, Any]:
    """Both in the dtype of the module, if it has one. Integers become floating numbers, as in Flax's layers;
    not those in pytrees of the user's own, which may be indices."""
    if isinstance(inputs, (jax.Array, Timed)):
        dtype = dtype_of(params)
        inputs = jax.tree.map(lambda x: x if _floating(x) else x.astype(dtype), inputs)
    return _cast(params, module.dtype), _cast(inputs, module.dtype)


def _floating(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _cast(tree: Any, dtype: DTypeLike | None) -> Any:
    """Real floating leaves in `dtype`; as they are where it is None."""

    def one(leaf: Any) -> Any:
        return jnp.asarray(leaf, dtype) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf

    return tree if dtype is None else jax.tree.map(one, tree)


def start(module: Any, params: Params | None, input_shape: Shape, param_dtype: DTypeLike) -> Carry:
    """The initial carry for inputs [*B, ...] of one tick. Without params none are drawn, but for cells whose
    state is learned."""
    cell: Cell = module.cell
    dtype = param_dtype if module.dtype is None else module.dtype
    batch_shape = input_shape[: len(input_shape) - cell.input_ndim]
    like = jax.ShapeDtypeStruct(input_shape, jnp.dtype(dtype))
    if params is None:
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype if _floating(leaf) else leaf.dtype),
            params_shape(cell, input_shape[-1]),
        )
        expected = cell.carry_shape(shapes, batch_shape, like)
        try:
            return cast_like(cell.initial_carry(None, batch_shape, like=like), expected)
        except (TypeError, ValueError):
            params = cell.init(jax.random.key(0), input_shape[-1], param_dtype)
    return cell.initial_carry(_cast(params, module.dtype), batch_shape, like=like)


def drawn(carry: Carry, init: Callable[..., jax.Array], key: chex.PRNGKey | None) -> Carry:
    """A carry of these shapes with its floating parts drawn by an initialiser; without a key from `key(0)`,
    as Flax does it."""
    leaves, structure = jax.tree.flatten(carry)
    keys = jax.random.split(jax.random.key(0) if key is None else key, len(leaves))
    return jax.tree.unflatten(
        structure,
        [
            init(k, leaf.shape, leaf.dtype) if _floating(leaf) else leaf
            for k, leaf in zip(keys, leaves, strict=True)
        ],
    )


def no_key(cell: Cell, ways: str) -> ValueError:
    """The cell is to draw noise, and there is nothing to draw it from."""
    return ValueError(f"rngs: {cell} draws noise; expected {ways}, got neither.")
