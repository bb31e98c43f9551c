"""A cell over a sequence."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from rnncells import checks, linear_scan, recurrence
from rnncells.cell import Carry, Cell, Params, Ticks
from rnncells.dtypes import cast_like, promote
from rnncells.ops import select


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
    checks.cell("cell", cell, Cell)
    checks.numbers(cell)
    checks.boolean("reverse", reverse)
    checks.boolean("return_carries", return_carries)
    checks.key(key)
    for name, every in (("remat_every", remat_every), ("truncate_every", truncate_every)):
        if every is not None:
            checks.positive_int(name, every)
    if parallel is not None:
        checks.boolean("parallel", parallel)
    if parallel and not cell.linear and not cell.layered:
        raise _not_linear(cell)
    length, batch_shape = checks.sequence(xs, cell.input_ndim)
    if cell.input_ndim == 1 and hasattr(xs, "shape"):
        size = xs.shape[-1]
        checks.params(cell, jax.eval_shape(lambda: cell.init(jax.random.key(0), size)), params, size)
    params, xs = promote(params, xs)
    if carry is not None:
        expected = cell.carry_shape(params, batch_shape)
        checks.alike("carry: expected", expected, carry)
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


Loop = Callable[[Carry, Ticks], tuple[Carry, Any]]


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
    if resets is not None and alive is not None:
        resets = resets & alive
    if alive is not None:  # before anything reads the input: a derivative must not see it either
        xs = select(alive, xs, jax.tree.map(jnp.zeros_like, xs))
    keys = None if key is None else jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(length))

    def scan(
        cell: Cell, weights: Any, initial: Carry, carry: Carry, ticks: Ticks, reverse: bool
    ) -> tuple[Carry, Any, Any]:
        if ticks.resets is not None:
            ticks = ticks._replace(resets=_fresh(ticks.resets, ticks.alive, reverse))
        loop = _loop(cell, weights, initial, reverse, parallel, return_carries)
        if remat_every is not None:
            loop = _in_chunks(jax.checkpoint(loop), remat_every, reverse)
        if truncate_every is not None:
            loop = _in_chunks(loop, truncate_every, reverse, between=jax.lax.stop_gradient)
        carry, (ys, carries) = loop(carry, ticks)
        return carry, ys, carries

    start = initial if carry is None else carry
    last, ys, carries = cell.over(scan, weights, initial, start, Ticks(xs, keys, alive, resets), reverse)
    return last, (ys, carries) if return_carries else ys


def _loop(
    cell: Any, weights: Any, initial: Carry, reverse: bool, parallel: bool | None, return_carries: bool
) -> Loop:
    """One cell over ticks; `resets` there are in the order read: the initial carry replaces the state.
    Returns the carry and (ys, carries or None)."""

    def by(how: Callable[..., tuple[Carry, Any]]) -> Loop:
        return lambda carry, ticks: how(
            cell, weights, initial, carry, ticks, reverse=reverse, return_carries=return_carries
        )

    if parallel and not cell.linear:
        raise _not_linear(cell)
    if not cell.linear:
        return by(_sequential)
    in_turn, at_once = by(_one_by_one), by(functools.partial(_linear, linear_scan.associative))

    def loop(carry: Carry, ticks: Ticks) -> tuple[Carry, Any]:
        if jax.tree.leaves(ticks.x)[0].shape[0] == 0:
            return by(_sequential)(carry, ticks)
        if parallel is None:
            return jax.lax.platform_dependent(carry, ticks, cpu=in_turn, default=at_once)
        return at_once(carry, ticks) if parallel else in_turn(carry, ticks)

    return loop


def _not_linear(cell: Cell) -> ValueError:
    return ValueError(
        f"parallel: expected a linear cell, got {cell}, whose state does not enter linearly;"
        " leave parallel at None to scan tick by tick."
    )


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
        if tick.resets is not None:
            before = select(tick.resets, initial, before)
        after, out = cell.step(weights, before, drive)
        after = cast_like(after, carry)
        y = cell.readout(weights, out, drive)
        if tick.alive is not None:
            after = select(tick.alive, after, carry)
            y = select(tick.alive, y, jax.tree.map(jnp.zeros_like, y))
        return after, (y, after if return_carries else None)

    return recurrence.scan(body, (weights, initial), carry, ticks, reverse=reverse)


def _one_by_one(
    cell: Any, weights: Any, initial: Carry, carry: Carry, ticks: Ticks, reverse: bool, return_carries: bool
) -> tuple[Carry, Any]:
    """A linear cell tick by tick, in chunks that only save time. Measured in docs/performance.md."""
    first = jax.tree.map(lambda leaf: leaf[0], ticks)
    element = jax.eval_shape(cell.project, weights, first.x, first.key).element
    length = jax.tree.leaves(ticks.x)[0].shape[0]
    every = linear_scan.chunk_length(length, element)
    if every is None:
        return _sequential(cell, weights, initial, carry, ticks, reverse, return_carries)
    narrow = 8 * linear_scan.size(first.x) <= linear_scan.size(element)

    def in_one_loop(*given: Any) -> tuple[Carry, Any]:
        cell, weights, initial, carry, ticks = given
        return _sequential(cell, weights, initial, carry, ticks, reverse, return_carries)

    def chunked(*given: Any) -> tuple[Carry, Any]:
        cell, weights, initial, carry, ticks = given

        def whole(carry: Carry, ticks: Ticks) -> tuple[Carry, Any]:
            step = linear_scan.sequential
            return _linear(step, cell, weights, initial, carry, ticks, reverse, return_carries)

        if every >= length:
            return whole(carry, ticks)
        policy = None if narrow else jax.checkpoint_policies.dots_saveable
        return _in_chunks(jax.checkpoint(whole, policy=policy), every, reverse)(carry, ticks)

    if not narrow:
        return chunked(cell, weights, initial, carry, ticks)
    run = jax.custom_jvp(in_one_loop)  # where nothing is kept for a backward pass, this is faster
    run.defjvp(lambda primals, tangents: jax.jvp(chunked, primals, tangents))
    return run(cell, weights, initial, carry, ticks)


def _linear(
    states_of: Callable[..., Carry],
    cell: Any,  # a LinearCell, or a wrapper that is linear because its cell is
    weights: Any,
    initial: Carry,
    carry: Carry,
    ticks: Ticks,
    reverse: bool,
    return_carries: bool,
) -> tuple[Carry, Any]:
    """All ticks projected at once, then their states, then all outputs at once."""
    project = jax.vmap(cell.project, (None, 0, None if ticks.key is None else 0))
    drive = project(weights, ticks.x, ticks.key)
    elements = drive.element
    if ticks.alive is not None:
        elements = select(ticks.alive, elements, cell.monoid.identity(elements))
    states = states_of(cell.monoid, elements, carry, initial, ticks.resets, reverse)
    ys = jax.vmap(cell.readout, (None, 0, 0))(weights, states, drive)
    if ticks.alive is not None:
        ys = select(ticks.alive, ys, jax.tree.map(jnp.zeros_like, ys))
    last = jax.tree.map(lambda leaf: leaf[0 if reverse else -1], states)
    return last, (ys, states if return_carries else None)


def _in_chunks(
    scan: Loop, every: int, reverse: bool, between: Callable[[Carry], Carry] | None = None
) -> Loop:
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
