"""A scan whose derivative is fast: products with weights leave the backward loop.

`scan(body, weights, carry, xs)` equals `jax.lax.scan(functools.partial(body, weights), carry, xs)`, results
and derivatives of every mode and order included. What differs is how the backward pass is computed.
Automatic differentiation of a scan adds h_t^T dz_t into the gradient of a kernel at every tick, T small
products and T passes over the kernel. Here the body is traced once and read as a program:

- What depends on the weights alone is computed before the loop.
- A sum of products with weights, such as z = x W + h U + b, is a *node*. The forward loop keeps its value,
  the backward loop replays the rest of the tick from it and writes dz over z, in place.
- After the loop each kernel gets its gradient as one product, dU = sum over t of h_t^T dz_t.

Authors of cells need to know nothing of this: any product of a varying array [..., K] with a weight
[K, N] is found. Whatever is not of this form is differentiated as usual, inside the loop.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from rnncells.engine.backward import Backward
from rnncells.engine.body import read, stored_by_plain_scan
from rnncells.engine.linear_call import linear_call
from rnncells.engine.program import Program, Values, Var, is_inexact, size_in_bytes

Body = Callable[[Any, Any, Any], tuple[Any, Any]]


def scan(body: Body, weights: Any, carry: Any, xs: Any, *, reverse: bool = False) -> tuple[Any, Any]:
    """`jax.lax.scan(functools.partial(body, weights), carry, xs, reverse=reverse)`, with a fast gradient.

    body: (weights, carry, x) -> (carry, y), without side effects.
    """
    weights_flat, weights_tree = _flatten(weights)
    carry_flat, carry_tree = _flatten(carry)
    xs_flat, xs_tree = _flatten(xs)
    y_tree: Any = None

    def flat_body(*leaves: Any) -> list[Any]:
        nonlocal y_tree
        parts = iter(leaves)
        w, c, x = (
            tree.unflatten([next(parts) for _ in range(tree.num_leaves)])
            for tree in (weights_tree, carry_tree, xs_tree)
        )
        after, y = body(w, c, x)
        y_flat, y_tree = _flatten(y)
        return [*carry_tree.flatten_up_to(after), *y_flat]

    if not xs_flat or xs_flat[0].shape[0] == 0:
        return jax.lax.scan(functools.partial(body, weights), carry, xs, reverse=reverse)
    slices = jax.eval_shape(lambda xs: [x[0] for x in xs], xs_flat)
    closed = jax.make_jaxpr(flat_body)(*weights_flat, *carry_flat, *slices)
    if closed.effects:
        return jax.lax.scan(functools.partial(body, weights), carry, xs, reverse=reverse)
    program = read(closed.jaxpr, len(weights_flat), len(carry_flat))
    ours, plain = program.stored, stored_by_plain_scan(closed, len(weights_flat), len(carry_flat))
    if isinstance(ours, int) and isinstance(plain, int):  # not symbols of jax.export
        if ours > plain:
            return jax.lax.scan(functools.partial(body, weights), carry, xs, reverse=reverse)
        copies, outputs = map(size_in_bytes, (program.left_sides, program.outs[len(carry_flat) :]))
        # The outputs and their cotangents are there in the backward loop, but not after it.
        program = dataclasses.replace(program, in_turn=ours + copies > plain + 2 * outputs)
    shared = program.before_the_loop([*closed.consts, *weights_flat])
    last, ys = _scan(program, reverse, shared, carry_flat, xs_flat)
    return carry_tree.unflatten(last), y_tree.unflatten(ys)


def _flatten(tree: Any) -> tuple[list[Any], Any]:
    return jax.tree.flatten(tree)


def _scan(
    program: Program, reverse: bool, shared: Values, carry: Values, xs: Values
) -> tuple[list[Any], list[Any]]:
    count = len(carry)

    def loop(shared: Values, carry: Values, xs: Values, kept: Sequence[Var]) -> tuple[Any, Any, Any]:
        inside, before = (
            functools.partial(program.loop, kept=kept, reverse=reverse, hoist=hoist)
            for hoist in (False, True)
        )
        return jax.lax.platform_dependent(shared, carry, xs, cpu=inside, default=before)

    kept_nodes = [node for node in program.nodes if not program.cheap(node)]
    kept = [*(node.out for node in kept_nodes), *program.history]

    @jax.custom_jvp
    def run(shared: Values, carry: Values, xs: Values) -> tuple[Any, Any]:
        return loop(shared, carry, xs, ())[:2]

    @run.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        shared, carry, xs = primals
        last, ys, stacks = loop(shared, carry, xs, kept)
        real, other, merge = _by_kind(primals)
        directions = [t for p, t in zip(_leaves(primals), _leaves(tangents), strict=True) if is_inexact(p)]
        real_out = [is_inexact(out) for out in (*last, *ys)]

        def forward(residuals: Any, directions: Values) -> list[Any]:
            _, real, other = residuals

            def outputs(*real: Any) -> list[Any]:
                shared, carry, xs = merge(real, other)
                out = loop(shared, carry, xs, ())
                return [leaf for leaf in (*out[0], *out[1]) if is_inexact(leaf)]

            return jax.jvp(outputs, tuple(real), tuple(directions))[1]

        def backward(residuals: Any, cotangents: Values) -> list[Any]:
            stacks, real, other = residuals
            saved = dict(zip(kept, stacks, strict=True))
            shared, carry, xs = merge(real, other)
            return Backward(program, reverse, saved, shared, carry, xs)(list(cotangents))

        slopes = iter(linear_call(forward, backward, (stacks, real, other), directions))
        out_tangents = [
            next(slopes) if is_real else _no_tangent(out)
            for out, is_real in zip((*last, *ys), real_out, strict=True)
        ]
        return (last, ys), (out_tangents[:count], out_tangents[count:])

    return run(list(shared), list(carry), list(xs))


def _leaves(tree: Any) -> list[Any]:
    return [leaf for part in tree for leaf in part]


def _no_tangent(value: Any) -> Any:
    return np.zeros(value.shape, jax.dtypes.float0)


def _by_kind(primals: Any) -> Any:
    """The inexact leaves, the others, and the function that puts them back together."""
    leaves = _leaves(primals)
    sizes = [len(part) for part in primals]
    kinds = [is_inexact(leaf) for leaf in leaves]

    def merge(real: Values, other: Values) -> list[list[Any]]:
        real_parts, other_parts = iter(real), iter(other)
        merged = iter([next(real_parts if kind else other_parts) for kind in kinds])
        return [[next(merged) for _ in range(size)] for size in sizes]

    real = [leaf for leaf, kind in zip(leaves, kinds, strict=True) if kind]
    other = [leaf for leaf, kind in zip(leaves, kinds, strict=True) if not kind]
    return real, other, merge
