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

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from rnncells.engine.body import Node, Program, Values, Var, is_inexact, read, value
from rnncells.engine.linear_call import linear_call

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
    slices = [jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in xs_flat]
    closed = jax.make_jaxpr(flat_body)(*weights_flat, *carry_flat, *slices)
    if closed.effects:
        return jax.lax.scan(functools.partial(body, weights), carry, xs, reverse=reverse)
    program = read(closed.jaxpr, len(weights_flat), len(carry_flat))
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
    kept_carry = [v for v in program.carry if v in program.replayed or v in program.left_sides]
    kept = [*(node.out for node in kept_nodes), *kept_carry]

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
            return _backward(program, reverse, saved, shared, carry, xs, list(cotangents))

        slopes = iter(linear_call(forward, backward, (stacks, real, other), directions))
        out_tangents = [
            next(slopes) if is_real else _no_tangent(out)
            for out, is_real in zip((*last, *ys), real_out, strict=True)
        ]
        return (last, ys), (out_tangents[:count], out_tangents[count:])

    return run(list(shared), list(carry), list(xs))


def _backward(
    program: Program,
    reverse: bool,
    saved: dict[Var, Any],
    shared: Values,
    carry: Values,
    xs: Values,
    cotangents: list[Any],
) -> list[Any]:
    """Cotangents of the inexact leaves of shared, carry and xs, in this order."""
    length = xs[0].shape[0]
    names = dict(zip((*program.shared, *program.x), (*shared, *xs), strict=True))
    carry_out, y_out = program.outs[: len(carry)], program.outs[len(carry) :]
    real_carry = [v for v in program.carry if is_inexact(v.aval)]
    d_carry = dict(zip(real_carry, cotangents[: len(real_carry)], strict=True))
    dys = cotangents[len(real_carry) :]
    wanted = [v for v in (*carry_out, *y_out) if is_inexact(v.aval)]

    in_loop = [v for v in program.shared if v in program.replayed and is_inexact(v.aval)]
    x_in_loop = [v for v in program.x if v in program.replayed and is_inexact(v.aval)]
    cheap = [node for node in program.nodes if program.cheap(node)]
    kept = [node for node in program.nodes if not program.cheap(node)]
    nodes = [*kept, *cheap]
    emitted = [v for v in program.left_sides if v not in program.carry and v not in program.x]
    history = [v for v in program.carry if v in saved]

    def rows(buffers: Values, t: Any) -> list[Any]:
        return [jax.lax.dynamic_index_in_dim(buffer, t, 0, keepdims=False) for buffer in buffers]

    def body(state: Any, tick: Any) -> tuple[Any, Any]:
        # A buffer is read only after it was written, one tick ahead: read and write in any other order
        # look to XLA as if they might be swapped, and it copies the buffer at every tick.
        d_carry, sums, buffers, zs = state
        t, dys, before, x = tick
        env = {**dict(zip(program.shared, shared, strict=True)), **dict(zip(program.x, x, strict=True))}
        env |= dict(zip(history, before, strict=True))
        zs = [*zs, *(_node_value(node, env) for node in cheap)]

        def replay(own: Values, state: Values, inputs: Values, zs: Values) -> tuple[Any, Any]:
            local = env | dict(zip(in_loop, own, strict=True)) | dict(zip(x_in_loop, inputs, strict=True))
            local |= {v: value for v, value in zip(real_carry, state, strict=True) if value is not None}
            known = {node.out: (node, z) for node, z in zip(nodes, zs, strict=True)}
            _replay(program, local, known)
            return [value(v, local) for v in wanted], [local[v] for v in emitted]

        state_values = [env.get(v) for v in real_carry]
        _, pull, left = jax.vjp(
            replay, [env[v] for v in in_loop], state_values, [env[v] for v in x_in_loop], zs, has_aux=True
        )
        d_own, d_state, d_inputs, dzs = pull([*d_carry, *dys])
        d_state = [jnp.zeros_like(d) if new is None else new for d, new in zip(d_carry, d_state, strict=True)]
        buffers = [
            jax.lax.dynamic_update_index_in_dim(buffer, dz, t, 0)
            for buffer, dz in zip(buffers, dzs[: len(kept)], strict=True)
        ]
        sums = [total + d for total, d in zip(sums, d_own, strict=True)]
        following = jnp.clip(t + 1 if reverse else t - 1, 0, length - 1)
        return (d_state, sums, buffers, rows(buffers, following)), (d_inputs, dzs[len(kept) :], left)

    start = (
        [d_carry[v] for v in real_carry],
        [jnp.zeros_like(names[v]) for v in in_loop],
        [saved[node.out] for node in kept],
        rows([saved[node.out] for node in kept], 0 if reverse else length - 1),
    )
    ticks = (jnp.arange(length), dys, [saved[v] for v in history], list(xs))
    (d_first, sums, buffers, _), (d_inputs, late, left) = jax.lax.scan(
        body, start, ticks, reverse=not reverse
    )

    lhs = {**{v: saved[v] for v in history}, **dict(zip(emitted, left, strict=True)), **names}
    total = dict(zip(in_loop, sums, strict=True)) | dict(zip(x_in_loop, d_inputs, strict=True))

    def add(v: Var, value: Any) -> None:
        total[v] = total[v] + value if v in total else value

    for node, dz in zip(nodes, [*buffers, *late], strict=True):
        leading = tuple(range(dz.ndim - 1))  # time and batch, not merged: the batch may be sharded
        for left_side, kernel in node.products:
            add(kernel, jax.lax.dot_general(lhs[left_side], dz, ((leading, leading), ((), ()))))
            if left_side in program.x:
                add(left_side, _times_transposed(dz, names[kernel]))
        for v in node.shared:
            if not isinstance(v, core.Literal):
                add(v, _unbroadcast(dz.sum(0), v.aval.shape))
    return [
        total[v] if v in total else jnp.zeros_like(names[v]) for v in program.shared if is_inexact(v.aval)
    ] + [
        *d_first,
        *(total[v] if v in total else jnp.zeros_like(names[v]) for v in program.x if is_inexact(v.aval)),
    ]


def _replay(program: Program, env: dict[Var, Any], known: dict[Var, tuple[Node, Any]]) -> None:
    """A tick whose nodes are known: every other equation is evaluated."""
    inside = {identity for node in program.nodes for identity in node.inside}
    pending: list[Any] = []
    for eqn in program.equations:
        if eqn.outvars[0] in known:
            program.evaluate(pending, env)
            pending = []
            node, z = known[eqn.outvars[0]]
            loose = [(lhs, kernel) for lhs, kernel in node.products if lhs not in program.x]
            env[node.out] = _recall(
                z,
                [env[lhs] for lhs, _ in loose],
                [env[kernel] for _, kernel in loose],
                [env[v] for v in node.varying],
            )
        elif id(eqn) not in inside:
            pending.append(eqn)
    program.evaluate(pending, env)


@jax.custom_vjp
def _recall(z: Any, lhs: list[Any], kernels: list[Any], varying: list[Any]) -> Any:
    """z, which is known to be the sum of lhs @ kernels and more: nothing is computed, but the
    cotangent of z goes to what it was computed from, and to z itself, to be kept."""
    return z


def _recall_forward(z: Any, lhs: Any, kernels: list[Any], varying: list[Any]) -> Any:
    return z, (kernels, varying)


def _recall_backward(residuals: Any, dz: Any) -> Any:
    kernels, varying = residuals
    d_lhs = [_times_transposed(dz, kernel) for kernel in kernels]
    return (
        dz,
        d_lhs,
        [jnp.zeros_like(kernel) for kernel in kernels],
        [_unbroadcast(dz, term.shape) for term in varying],
    )


_recall.defvjp(_recall_forward, _recall_backward)


def _times_transposed(dz: Any, kernel: Any) -> Any:
    """dz [..., N] @ kernel^T, kernel [K, N] -> [..., K]."""
    return jax.lax.dot_general(dz, kernel, (((dz.ndim - 1,), (1,)), ((), ())))


def _unbroadcast(cotangent: Any, shape: tuple[int, ...]) -> Any:
    """The cotangent of a term of a sum, of which it may have filled whole axes."""
    axes = tuple(i for i, size in enumerate(shape) if size != cotangent.shape[i]) if shape else None
    return cotangent.sum(axes, keepdims=bool(shape)) if axes != () else cotangent


def _node_value(node: Node, env: dict[Var, Any]) -> Any:
    terms = [env[lhs] @ env[kernel] for lhs, kernel in node.products]
    return sum([*terms[1:], *(value(v, env) for v in node.shared)], terms[0])


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
