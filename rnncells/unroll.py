"""A cell over a sequence."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from rnncells import checks
from rnncells.cell import Carry, Cell, Out, Params, plain, shapes_of
from rnncells.dtypes import cast_like, promote
from rnncells.engine.loops import check_linear, scan
from rnncells.fields import check_numbers
from rnncells.parts.arithmetic import select
from rnncells.run import Run, Ticks
from rnncells.sequences import existing


def unroll(
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry | None = None,
    *,
    lengths: chex.Array | None = None,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
    reverse: bool = False,
    key: chex.PRNGKey | None = None,
    parallel: bool | None = None,
    remat_every: int | None = None,
    truncate_every: int | None = None,
    return_carries: bool = False,
) -> tuple[Carry, Out]:
    """Runs a cell over a sequence: xs [T, *B, I] -> (carry, ys [T, *B, O]).

    Without options this is `jax.lax.scan(functools.partial(cell, params), carry, xs)` with
    `cell.prepare` done once. All options combine, for every cell; forward-mode, reverse-mode and
    higher derivatives pass through all of them.

    Args:
        cell: any `Cell`.
        params: from `cell.init`.
        xs: [T, *B, I] with any number of batch axes, none included, or the pytree that the cell takes.
        carry: the state before the first tick; `cell.initial_carry` by default.
        lengths: int [*B]. Ticks at or past the length do not exist: the carry passes them by and
            their output is zero; `last` finds the last one before. 0 is legal. Concrete values must lie in
            [0, T], traced ones are clipped.
        mask: bool [T, *B]. A False tick does not exist, nor does its reset; its input is never read.
        resets: bool [T, *B]. True marks the first tick of a segment, in input order: the state there
            is `cell.initial_carry`, whatever came before, and no gradient crosses.
        reverse: from the last tick to the first, each sequence within its own length; ys stays
            aligned with xs.
        key: a PRNG key for cells that draw noise: tick t (counted in xs) uses `fold_in(key, t)`.
        parallel: for linear cells: False scans tick by tick, True uses an associative scan, None the
            first on CPU and the second elsewhere. In a stack, for each layer.
        remat_every: k: keep every k-th carry and recompute the rest in the backward pass; memory
            O(T / k + k) instead of O(T). T need not divide.
        truncate_every: k: no gradient crosses from tick k - 1 to tick k, nor at 2k, 3k, ... of xs.
            The incoming carry is not cut.
        return_carries: ys becomes `(ys, carries)`, with the carry after every tick, [T, *B, ...].

    Returns:
        The carry after the last tick (of each sequence), and the outputs. Everything computes in
        the promotion of the floating dtypes of params and xs.

    Raises:
        TypeError, ValueError: at trace time, for an argument of the wrong kind, shape or value.
    """
    checks.boolean("reverse", reverse)
    checks.boolean("return_carries", return_carries)
    for name, every in (("remat_every", remat_every), ("truncate_every", truncate_every)):
        if every is not None:
            checks.positive_int(name, every)
    if parallel is not None:
        checks.boolean("parallel", parallel)
    checks.cell("cell", cell)
    if parallel:
        check_linear(cell)
    params, xs, carry, axes = checked(cell, params, xs, carry, key)
    if lengths is not None:
        lengths = checks.lengths(lengths, axes[1:], axes[0])
    if mask is not None:
        mask = checks.flags("mask", mask, axes)
    if resets is not None:
        resets = checks.flags("resets", resets, axes)
    options = Run(
        reverse=bool(reverse),
        parallel=parallel,
        remat_every=remat_every,
        truncate_every=truncate_every,
        return_carries=bool(return_carries),
    )
    return _unroll(cell, params, xs, carry, lengths, mask, resets, key, options)


def checked(
    cell: Cell, params: Params, xs: Any, carry: Carry | None, key: chex.PRNGKey | None
) -> tuple[Params, Any, Carry | None, tuple[int, ...]]:
    """What every entrance checks: (params, xs and carry in the dtypes that they compute in, the axes [T, *B]
    of xs)."""
    checks.cell("cell", cell)
    check_numbers(cell)
    checks.key(key)
    length, batch_shape = checks.sequence(xs, cell.input_ndim)
    cell.check_timed(xs)
    cell.check_data()
    params = plain(params)
    if cell.input_ndim == 1:
        size = jax.tree.leaves(xs)[0].shape[-1]
        if not isinstance(size, int):
            raise ValueError(f"xs: expected a number of features, got the symbol {size}.")
        checks.params(cell, params_shape(cell, size), params, size)
    params, xs = promote(params, xs)
    if carry is not None:
        expected = cell.carry_shape(params, batch_shape, _tick_of(xs))
        carry = cast_like(checks.alike("carry: expected", expected, carry), expected)
    return params, xs, carry, (length, *batch_shape)


def _tick_of(xs: Any) -> Any:
    """The input of one tick, as shapes and dtypes."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)


def params_shape(cell: Cell, input_size: int) -> Params:
    """What `cell.init` makes, as shapes and dtypes. Traced once for all cells of one form; it runs where it
    cannot be traced."""
    leaves, structure = jax.tree.flatten(cell)
    forms = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    try:
        return _params_shape(structure, forms, input_size)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        with jax.ensure_compile_time_eval():
            return shapes_of(plain(cell.init(jax.random.key(0), input_size)))


@functools.lru_cache(maxsize=1024)
def _params_shape(structure: Any, forms: tuple[Any, ...], input_size: int) -> Params:
    def init(leaves: list[Any]) -> Params:
        return plain(structure.unflatten(leaves).init(jax.random.key(0), input_size))

    return jax.eval_shape(init, [jax.ShapeDtypeStruct(*form) for form in forms])


@jax.jit
def _unroll(
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry | None,
    lengths: jax.Array | None,
    mask: jax.Array | None,
    resets: jax.Array | None,
    key: chex.PRNGKey | None,
    options: Run,
) -> tuple[Carry, Out]:
    """`unroll` after its checks. Jitted, so that a call outside jit compiles once, not every time."""
    shape = jax.tree.leaves(xs)[0].shape
    length, batch_shape = shape[0], shape[1 : len(shape) - cell.input_ndim]
    like = _tick_of(xs)
    batch = batch_sharding(xs, len(batch_shape))
    initial = batch(cell.initial_carry(params, batch_shape, like=like))
    carry, lengths = batch(carry), batch(lengths)
    mask, resets = batch(mask, 1), batch(resets, 1)
    alive = existing(length, lengths, mask)
    if resets is not None and alive is not None:
        resets = resets & alive
    if alive is not None:  # before anything reads the input: a derivative must not see it either
        xs = select(alive, xs, jax.tree.map(jnp.zeros_like, xs))
    keys = None if key is None else jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(length))
    run = dataclasses.replace(
        options,
        weights=cell.prepare(params, key, batch_shape, like=like),
        initial=initial,
        carry=initial if carry is None else carry,
        ticks=Ticks(xs, keys, alive, resets),
    )
    last, ys, carries = cell.over(scan, run)
    return last, (ys, carries) if options.return_carries else ys


def batch_sharding(xs: Any, batch_ndim: int) -> Callable[..., Any]:
    """A function that divides arrays [*B, ...] as the batch of xs [T, *B, ...] is, on meshes whose axes are
    explicit; `before` counts axes in front of the batch."""
    sharding = jax.typeof(jax.tree.leaves(xs)[0]).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return lambda tree, before=0: tree
    spec = tuple(sharding.spec)[1 : 1 + batch_ndim]

    def divided(tree: Any, before: int = 0) -> Any:
        def one(leaf: jax.Array) -> jax.Array:
            axes = (*[None] * before, *spec, *[None] * (leaf.ndim - before - batch_ndim))
            return jax.sharding.reshard(leaf, PartitionSpec(*axes))

        return jax.tree.map(one, tree)

    return divided
