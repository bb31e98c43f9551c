"""One cell over one sequence: tick by tick, in chunks, or all ticks at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from rnncells.cell import Carry, Cell, Out
from rnncells.dtypes import cast_like
from rnncells.engine.chunks import Loop, chunk_length, concrete, in_chunks, size
from rnncells.engine.scan import scan as fast_scan
from rnncells.linear_scan import Monoid
from rnncells.parts.arithmetic import select
from rnncells.parts.linear import with_element
from rnncells.run import Result, Run, Ticks

LinearCell: TypeAlias = Any  # or a wrapper that is linear because its cell is


def scan(cell: Cell, run: Run) -> Result:
    """The cell over the sequence, by the loop that suits it, under the options of the run."""
    ticks = run.ticks
    if ticks.resets is not None:
        run = dataclasses.replace(run, ticks=ticks._replace(resets=_fresh(run)))
    loop = _loop(cell, run)
    if run.remat_every is not None:
        loop = in_chunks(jax.checkpoint(loop), run.remat_every)
    if run.truncate_every is not None:
        loop = in_chunks(loop, run.truncate_every, between=jax.lax.stop_gradient)
    return loop(run)


def check_linear(cell: Cell, place: str = "") -> None:
    """Every layer must be linear, to be run in parallel."""
    if cell.layered:
        for name, child in cell.children.items():
            check_linear(child, ".".join(filter(None, (place, name))))
    elif not cell.linear:
        where = f" in {place}" if place else ""
        raise ValueError(
            f"parallel: expected a linear cell{where}, got {cell}, whose state does not enter linearly;"
            " leave parallel at None to scan tick by tick."
        )


def _loop(cell: Cell, run: Run) -> Loop:
    """Which loop; from here on `resets` are in the order read: the initial state replaces the carry."""
    if not cell.linear:
        if run.parallel:
            check_linear(cell)
        return lambda run: _sequential(cell, run)
    linear: LinearCell = cell

    def in_turn(run: Run) -> Result:
        return _one_by_one(linear, run)

    def at_once(run: Run) -> Result:
        if _brings_chunks(linear, run):
            return _own_chunks(linear, run)
        return _linear(associative, linear, run)

    def loop(run: Run) -> Result:
        if not concrete(run.length) and run.parallel:
            raise ValueError("parallel: expected None or False for a symbolic number of ticks, got True.")
        if not concrete(run.length) or run.length == 0:
            return _sequential(cell, run)
        if run.parallel is None and (linear.associative or _brings_chunks(linear, run)):
            return jax.lax.platform_dependent(run, cpu=in_turn, default=at_once)
        return at_once(run) if run.parallel else in_turn(run)

    return loop


def _sequential(cell: Cell, run: Run) -> Result:
    """Tick by tick."""

    def body(shared: tuple[Any, Carry], carry: Carry, tick: Ticks) -> tuple[Carry, Out]:
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
        return after, (y, after if run.return_carries else None)

    shared = (run.weights, run.initial)
    carry, (ys, carries) = fast_scan(body, shared, run.carry, run.ticks, reverse=run.reverse)
    return Result(carry, ys, carries)


def _one_by_one(cell: LinearCell, run: Run) -> Result:
    """A linear cell tick by tick, in chunks that only save time (docs/developers/performance.md)."""
    if _brings_chunks(cell, run):
        return _own_chunks(cell, run)
    first = jax.tree.map(lambda leaf: leaf[0], run.ticks)
    element = jax.eval_shape(cell.project, run.weights, first.x, first.key).element
    every = chunk_length(run.length, element)
    if every is None:
        return _sequential(cell, run)
    narrow = 8 * size(first.x) <= size(element)

    def chunked(cell: LinearCell, run: Run) -> Result:
        def whole(run: Run) -> Result:
            return _linear(sequential, cell, run)

        policy = None if narrow else jax.checkpoint_policies.dots_saveable
        return in_chunks(jax.checkpoint(whole, policy=policy), every)(run)

    if not narrow:
        return chunked(cell, run)
    forward = jax.custom_jvp(_sequential)  # where nothing is kept for a backward pass, this is faster
    forward.defjvp(lambda primals, tangents: jax.jvp(chunked, primals, tangents))
    return forward(cell, run)


def _linear(states_of: Callable[..., Carry], cell: LinearCell, run: Run) -> Result:
    """All ticks projected at once, then their states, then all outputs at once."""
    drive = _project(cell, run)
    states = states_of(cell.monoid, drive.element, run)
    seen = states if cell.reads == "after" else _before(states, run)
    outs = jax.vmap(cell.read, (None, 0, 0))(run.weights, seen, drive)
    last = jax.tree.map(lambda leaf: leaf[0 if run.reverse else -1], states)
    return Result(last, _read(cell, run, outs, drive), states if run.return_carries else None)


def _project(cell: LinearCell, run: Run) -> Any:
    """The drive of all ticks, with the element of a dead tick made the identity."""
    ticks = run.ticks
    project = jax.vmap(cell.project, (None, 0, None if ticks.key is None else 0))
    drive = project(run.weights, ticks.x, ticks.key)
    if ticks.alive is None:
        return drive
    elements, identity = _together(drive.element, cell.monoid, ticks.alive)
    return with_element(drive, select(ticks.alive, elements, identity))


def _read(cell: LinearCell, run: Run, outs: Any, drive: Any) -> Any:
    ys = jax.vmap(cell.readout, (None, 0, 0))(run.weights, outs, drive)
    if run.ticks.alive is None:
        return ys
    return select(run.ticks.alive, ys, jax.tree.map(jnp.zeros_like, ys))


def _before(states: Carry, run: Run) -> Carry:
    """The state that each tick found: that of the tick read before it, or the initial one."""

    def moved(leaf: jax.Array, first: jax.Array) -> jax.Array:
        ends = (leaf[1:], first[None]) if run.reverse else (first[None], leaf[:-1])
        return jnp.concatenate(ends)

    found = jax.tree.map(moved, states, cast_like(run.carry, states))
    if run.ticks.resets is None:
        return found
    return jax.vmap(select, (0, None, 0))(run.ticks.resets, run.initial, found)


def sequential(monoid: Monoid, elements: Any, run: Run) -> Carry:
    """The states after every tick, one after the other."""

    def tick(state: Carry, now: tuple[Any, jax.Array | None]) -> tuple[Carry, Carry]:
        element, start = now
        if start is not None:
            state = select(start, run.initial, state)
        state = cast_like(monoid.apply(element, state), run.carry)
        return state, state

    return jax.lax.scan(tick, run.carry, (elements, run.ticks.resets), reverse=run.reverse)[1]


def associative(monoid: Monoid, elements: Any, run: Run) -> Carry:
    """The same, all at once: the elements up to each tick are combined into one, then applied."""
    elements = jax.vmap(monoid.lift)(elements)
    fresh = run.ticks.resets
    if fresh is None:
        prefix = jax.lax.associative_scan(monoid.combine, elements, reverse=run.reverse)
        return cast_like(jax.vmap(monoid.apply, (0, None))(prefix, run.carry), run.carry)

    def combine(earlier: tuple[jax.Array, Any], later: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        # Forget before combining: selecting afterwards would let NaN into the derivative.
        kept = select(later[0], monoid.identity(earlier[1]), earlier[1])
        return earlier[0] | later[0], monoid.combine(kept, later[1])

    elements, _ = _together(elements, monoid, fresh)
    forgotten, prefix = jax.lax.associative_scan(combine, (fresh, elements), reverse=run.reverse)
    start = jax.vmap(select, (0, None, None))(forgotten, run.initial, run.carry)
    return cast_like(jax.vmap(monoid.apply)(prefix, start), run.carry)


def _together(elements: Any, monoid: Monoid, flags: jax.Array) -> tuple[Any, Any]:
    """The elements and as many identities, with the axes of flags in full."""

    def full(leaf: jax.Array) -> jax.Array:
        return jnp.broadcast_to(leaf, (*flags.shape, *leaf.shape[flags.ndim :]))

    elements = jax.tree.map(full, elements)
    return elements, monoid.identity(elements)


def _brings_chunks(cell: LinearCell, run: Run) -> bool:
    """Whether the cell has a form of its own for many ticks, and this run does not ask for what it lacks."""
    return cell.chunk_size is not None and run.ticks.resets is None and not run.return_carries


def _own_chunks(cell: LinearCell, run: Run) -> Result:
    """By the cell's own form for many ticks."""
    backward = run.reverse
    if backward:
        flipped = jax.tree.map(lambda leaf: jnp.flip(leaf, 0), run.ticks)
        run = dataclasses.replace(run, ticks=flipped, reverse=False)

    def whole(run: Run) -> Result:
        drive = _project(cell, run)
        state, outs = cell.chunk(run.weights, run.carry, drive)
        return Result(cast_like(state, run.carry), _read(cell, run, outs, drive))

    result = in_chunks(jax.checkpoint(whole), cell.chunk_size)(run)
    if not backward:
        return result
    return result._replace(ys=jax.tree.map(lambda leaf: jnp.flip(leaf, 0), result.ys))


def _fresh(run: Run) -> jax.Array:
    """Where the state starts anew. Read backwards, a segment ends with its first tick, so the
    tick read after it starts anew: the one before it in input order, dead ones passed over."""
    resets, alive = run.ticks.resets, run.ticks.alive
    assert resets is not None
    length = run.length
    if not run.reverse or (concrete(length) and length == 0):
        return resets
    now = jnp.arange(length).reshape(-1, *[1] * (resets.ndim - 1))
    existing = jnp.broadcast_to(now, resets.shape) if alive is None else jnp.where(alive, now, length)
    read_before = jax.lax.cummin(existing, axis=0, reverse=True)
    read_before = jnp.concatenate([read_before[1:], jnp.full_like(read_before[:1], length)])
    padded = jnp.concatenate([resets, jnp.zeros_like(resets[:1])])
    fresh = jnp.take_along_axis(padded, read_before, axis=0)
    return fresh if alive is None else fresh & alive
