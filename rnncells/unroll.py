"""A cell over a sequence."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import chex
import jax
import jax.numpy as jnp

from rnncells import checks, recurrence
from rnncells.cell import Carry, Cell, Params
from rnncells.dtypes import cast_like, promote


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
) -> tuple[Carry, Any]:
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
            their output is zero. 0 is legal. Concrete values must lie in [0, T], traced ones are clipped.
        mask: bool [T, *B]. A False tick does not exist, nor does its reset; its input is never read.
        resets: bool [T, *B]. True marks the first tick of a segment, in input order: the state there
            is `cell.initial_carry`, whatever came before, and no gradient crosses.
        reverse: from the last tick to the first, each sequence within its own length; ys stays
            aligned with xs.
        key: a PRNG key for cells that draw noise: tick t (counted in xs) uses `fold_in(key, t)`.
        parallel: for linear cells: False scans tick by tick, True uses an associative scan, None the
            first on CPU and the second elsewhere.
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
    checks.cell(cell, Cell)
    checks.numbers(cell)
    checks.boolean("reverse", reverse)
    checks.boolean("return_carries", return_carries)
    checks.key(key)
    for name, every in (("remat_every", remat_every), ("truncate_every", truncate_every)):
        if every is not None:
            checks.positive_int(name, every)
    if parallel is not None:
        checks.boolean("parallel", parallel)
    if parallel and not cell.linear:
        raise ValueError(
            f"parallel: expected a linear cell, got {cell}, whose state does not enter linearly;"
            " leave parallel at None to scan tick by tick."
        )
    length, batch_shape = checks.sequence(xs, cell.input_ndim)
    if cell.input_ndim == 1 and hasattr(xs, "shape"):
        size = xs.shape[-1]
        checks.params(cell, jax.eval_shape(lambda: cell.init(jax.random.key(0), size)), params, size)
    params, xs = promote(params, xs)
    if carry is not None:
        expected = cell.carry_shape(params, batch_shape)
        checks.carry(expected, carry)
        carry = cast_like(carry, expected)
    if lengths is not None:
        lengths = checks.lengths(lengths, batch_shape, length)
    if mask is not None:
        mask = checks.flags("mask", mask, (length, *batch_shape))
    if resets is not None:
        resets = checks.flags("resets", resets, (length, *batch_shape))
    return _unroll(
        cell,
        params,
        xs,
        carry,
        lengths,
        mask,
        resets,
        key,
        batch_shape=batch_shape,
        reverse=bool(reverse),
        parallel=parallel,
        remat_every=remat_every,
        truncate_every=truncate_every,
        return_carries=bool(return_carries),
    )


class Ticks(NamedTuple):
    """What each tick is given: every leaf is [T, ...]; None is what the call does not use."""

    x: Any
    key: chex.PRNGKey | None = None
    alive: jax.Array | None = None
    """bool [T, *B]: False where the tick does not exist."""
    fresh: jax.Array | None = None
    """bool [T, *B]: True where the initial carry replaces the state; only where the tick exists."""


Scan = Callable[[Carry, Ticks], tuple[Carry, Any]]


@functools.partial(
    jax.jit,
    static_argnames=(
        "batch_shape",
        "reverse",
        "parallel",
        "remat_every",
        "truncate_every",
        "return_carries",
    ),
)
def _unroll(
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry | None,
    lengths: jax.Array | None,
    mask: jax.Array | None,
    resets: jax.Array | None,
    key: chex.PRNGKey | None,
    *,
    batch_shape: tuple[int, ...],
    reverse: bool,
    parallel: bool | None,
    remat_every: int | None,
    truncate_every: int | None,
    return_carries: bool,
) -> tuple[Carry, Any]:
    """`unroll` after its checks. Jitted, so that a call outside jit compiles once, not every time."""
    length = jax.tree.leaves(xs)[0].shape[0]
    initial = cell.initial_carry(params, batch_shape)
    weights = cell.prepare(params, key, batch_shape)
    alive = _alive(length, lengths, mask)
    fresh = None if resets is None else _fresh(resets, alive, reverse)
    if alive is not None:  # before anything reads the input: a derivative must not see it either
        xs = select(alive, xs, jax.tree.map(jnp.zeros_like, xs))
    keys = None if key is None else jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(length))

    def sequential(carry: Carry, ticks: Ticks) -> tuple[Carry, Any]:
        return _sequential(cell, weights, initial, carry, ticks, reverse, return_carries)

    def associative(carry: Carry, ticks: Ticks) -> tuple[Carry, Any]:
        return _associative(cell, weights, initial, carry, ticks, reverse, return_carries)

    def by_platform(carry: Carry, ticks: Ticks) -> tuple[Carry, Any]:
        return jax.lax.platform_dependent(carry, ticks, cpu=sequential, default=associative)

    scan: Scan = sequential
    if cell.linear and length > 0 and parallel is not False:
        scan = associative if parallel else by_platform
    if remat_every is not None:
        scan = _in_chunks(jax.checkpoint(scan), remat_every, reverse)
    if truncate_every is not None:
        scan = _in_chunks(scan, truncate_every, reverse, between=jax.lax.stop_gradient)
    return scan(initial if carry is None else carry, Ticks(xs, keys, alive, fresh))


def _sequential(
    cell: Cell,
    weights: Any,
    initial: Carry,
    carry: Carry,
    ticks: Ticks,
    reverse: bool,
    return_carries: bool,
) -> tuple[Carry, Any]:
    """Tick by tick."""

    def body(shared: tuple[Any, Carry], carry: Carry, tick: Ticks) -> tuple[Carry, Any]:
        weights, initial = shared
        drive = cell.project(weights, tick.x, tick.key)
        before = carry
        if tick.alive is not None:  # the step of a dead tick is discarded, but must be harmless
            before = select(tick.alive, before, initial)
        if tick.fresh is not None:
            before = select(tick.fresh, initial, before)
        after, out = cell.step(weights, before, drive)
        after = cast_like(after, carry)
        y = cell.readout(weights, out, drive)
        if tick.alive is not None:
            after = select(tick.alive, after, carry)
            y = select(tick.alive, y, jax.tree.map(jnp.zeros_like, y))
        return after, (y, after) if return_carries else y

    return recurrence.scan(body, (weights, initial), carry, ticks, reverse=reverse)


def _associative(
    cell: Any,  # a LinearCell, or a wrapper that is linear because its cell is
    weights: Any,
    initial: Carry,
    carry: Carry,
    ticks: Ticks,
    reverse: bool,
    return_carries: bool,
) -> tuple[Carry, Any]:
    """All ticks at once: the elements up to each tick are combined into one, then applied."""
    monoid = cell.monoid
    project = jax.vmap(cell.project, (None, 0, None if ticks.key is None else 0))
    drive = project(weights, ticks.x, ticks.key)
    element = drive.element
    if ticks.alive is not None:
        element = select(ticks.alive, element, monoid.identity(element))
    if ticks.fresh is None:
        prefix = jax.lax.associative_scan(monoid.combine, element, reverse=reverse)
        states = jax.vmap(monoid.apply, (0, None))(prefix, carry)
    else:

        def combine(earlier: tuple[jax.Array, Any], later: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
            # Forget before combining: selecting afterwards would let NaN into the derivative.
            kept = select(later[0], monoid.identity(earlier[1]), earlier[1])
            return earlier[0] | later[0], monoid.combine(kept, later[1])

        forgotten, prefix = jax.lax.associative_scan(combine, (ticks.fresh, element), reverse=reverse)
        start = jax.vmap(select, (0, None, None))(forgotten, initial, carry)
        states = jax.vmap(monoid.apply)(prefix, start)
    states = cast_like(states, carry)
    ys = jax.vmap(cell.readout, (None, 0, 0))(weights, states, drive)
    if ticks.alive is not None:
        ys = select(ticks.alive, ys, jax.tree.map(jnp.zeros_like, ys))
    last = jax.tree.map(lambda leaf: leaf[0 if reverse else -1], states)
    return last, (ys, states) if return_carries else ys


def _in_chunks(
    scan: Scan, every: int, reverse: bool, between: Callable[[Carry], Carry] | None = None
) -> Scan:
    """`scan` over chunks of `every` ticks, one after the other; `between` is applied to the carry
    that one chunk hands to the next."""

    def chunked(carry: Carry, ticks: Ticks) -> tuple[Carry, Any]:
        length = jax.tree.leaves(ticks)[0].shape[0]
        count, rest = divmod(length, every)
        if length <= every:
            return scan(carry, ticks)
        whole = jax.tree.map(lambda a: a[: count * every].reshape(count, every, *a.shape[1:]), ticks)
        part = jax.tree.map(lambda a: a[count * every :], ticks)
        starts = jnp.zeros(count, bool)  # the chunk that gets the carry of the call
        if not (reverse and rest):
            starts = starts.at[-1 if reverse else 0].set(True)

        def body(carry: Carry, chunk: tuple[jax.Array, Ticks]) -> tuple[Carry, Any]:
            if between is not None:
                carry = select(chunk[0], carry, between(carry))
            return scan(carry, chunk[1])

        if rest and reverse:
            carry, part_ys = scan(carry, part)
        carry, whole_ys = jax.lax.scan(body, carry, (starts, whole), reverse=reverse)
        ys = jax.tree.map(lambda a: a.reshape(count * every, *a.shape[2:]), whole_ys)
        if rest and not reverse:
            carry, part_ys = scan(carry if between is None else between(carry), part)
        if rest:
            ys = jax.tree.map(lambda *parts: jnp.concatenate(parts), ys, part_ys)
        return carry, ys

    return chunked


def _alive(length: int, lengths: jax.Array | None, mask: jax.Array | None) -> jax.Array | None:
    if lengths is None:
        return mask
    within = jnp.arange(length).reshape(-1, *[1] * lengths.ndim) < lengths[None]
    return within if mask is None else within & mask


def _fresh(resets: jax.Array, alive: jax.Array | None, reverse: bool) -> jax.Array:
    """Where the state starts anew. Read backwards, a segment ends with its first tick, so the
    tick read after it starts anew: the one before it in input order, dead ones passed over."""
    if alive is not None:
        resets = resets & alive
    if not reverse:
        return resets
    length = resets.shape[0]
    if length == 0:
        return resets
    now = jnp.arange(length).reshape(-1, *[1] * (resets.ndim - 1))
    existing = jnp.broadcast_to(now, resets.shape) if alive is None else jnp.where(alive, now, length)
    read_before = jax.lax.cummin(existing, axis=0, reverse=True)
    read_before = jnp.concatenate([read_before[1:], jnp.full_like(read_before[:1], length)])
    padded = jnp.concatenate([resets, jnp.zeros_like(resets[:1])])
    fresh = jnp.take_along_axis(padded, read_before, axis=0)
    return fresh if alive is None else fresh & alive


def select(flags: jax.Array, where: Any, otherwise: Any) -> Any:
    """Per leaf `flags ? where : otherwise`; flags [*L] choose among leaves [*L, ...]."""

    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(flags.reshape(flags.shape + (1,) * (a.ndim - flags.ndim)), a, b)

    return cast(Any, jax.tree.map(choose, where, otherwise))
