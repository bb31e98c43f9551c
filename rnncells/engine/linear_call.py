"""A linear function with a transpose of its own, under every transformation.

`jax.custom_vjp` gives a function its own backward pass but takes forward mode away;
`jax.custom_derivatives.linear_call` has no batching rule. This is the missing piece, in one primitive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import ad, batching, mlir


def linear_call(
    forward: Callable[[Any, Sequence[Any]], list[Any]],
    backward: Callable[[Any, Sequence[Any]], list[Any]],
    residuals: Any,
    tangents: Sequence[Any],
) -> list[Any]:
    """forward(residuals, tangents), transposed by backward(residuals, cotangents).

    forward is linear in the list of tangents and returns a list; backward is its transpose, which is
    not checked, and returns a cotangent for each tangent.
    """
    flat: list[Any]
    tree: Any
    flat, tree = jax.tree.flatten(residuals)
    count = len(flat)

    def run(*args: Any) -> list[Any]:
        return forward(tree.unflatten(args[:count]), args[count:])

    def transpose(args: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        return backward(tree.unflatten(args), cotangents)

    program = jax.make_jaxpr(run)(*flat, *tangents)
    constants = program.consts
    closed = _without_constants(program)

    def transpose_past_constants(args: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        return transpose(args[len(constants) :], cotangents)

    return linear_p.bind(
        *constants,
        *flat,
        *tangents,
        program=closed,
        transpose=transpose_past_constants,
        count=len(constants) + count,
    )


def _without_constants(program: Any) -> Any:
    """The program with its constants as leading arguments."""
    jaxpr = program.jaxpr.replace(constvars=[], invars=[*program.jaxpr.constvars, *program.jaxpr.invars])
    return core.ClosedJaxpr(jaxpr, [])


linear_p = core.Primitive("linear_call")
linear_p.multiple_results = True


def _run(*args: Any, program: Any, transpose: Any, count: int) -> list[Any]:
    return core.jaxpr_as_fun(program)(*args)


def _shapes(*args: Any, program: Any, transpose: Any, count: int) -> list[Any]:
    return program.out_avals


linear_p.def_impl(_run)
linear_p.def_abstract_eval(_shapes)
mlir.register_lowering(linear_p, mlir.lower_fun(_run, multiple_results=True))


def _transpose(cotangents: Sequence[Any], *args: Any, program: Any, transpose: Any, count: int) -> list[Any]:
    cotangents = [ad.instantiate_zeros(ct) for ct in cotangents]
    return [None] * count + list(transpose(args[:count], cotangents))


ad.primitive_transposes[linear_p] = _transpose


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, program: Any, transpose: Any, count: int) -> Any:
    """Linear in what it is linear in; in the residuals the program is differentiated as it stands."""
    settings = {"program": program, "transpose": transpose, "count": count}
    outs = linear_p.bind(*primals, **settings)
    slopes = [jnp.zeros_like(out) for out in outs]
    residuals, inputs = list(primals[:count]), primals[count:]
    if any(type(t) is not ad.Zero for t in tangents[count:]):
        directions = [ad.instantiate_zeros(t) for t in tangents[count:]]
        slopes = linear_p.bind(*residuals, *directions, **settings)
    moving = [i for i, t in enumerate(tangents[:count]) if type(t) is not ad.Zero]
    if moving:

        def run(*moved: Any) -> list[Any]:
            given = dict(zip(moving, moved, strict=True))
            held = [given.get(i, residual) for i, residual in enumerate(residuals)]
            return core.jaxpr_as_fun(program)(*held, *inputs)

        directions = [tangents[i] for i in moving]
        _, more = jax.jvp(run, tuple(residuals[i] for i in moving), tuple(directions))
        slopes = [a + b for a, b in zip(slopes, more, strict=True)]
    return outs, slopes


ad.primitive_jvps[linear_p] = _jvp


def _batch(args: Sequence[Any], axes: Sequence[Any], *, program: Any, transpose: Any, count: int) -> Any:
    size = next(a.shape[axis] for a, axis in zip(args, axes, strict=True) if axis is not None)
    moved = [a if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(args, axes, strict=True)]
    residual_axes = [None if axis is None else 0 for axis in axes[:count]]
    tangents = [
        jnp.broadcast_to(a, (size, *a.shape)) if axis is None else a
        for a, axis in zip(moved[count:], axes[count:], strict=True)
    ]
    run = jax.vmap(core.jaxpr_as_fun(program), (*residual_axes, *[0] * len(tangents)))
    batched = jax.make_jaxpr(run)(*moved[:count], *tangents)

    def batched_transpose(args: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        return jax.vmap(transpose, (residual_axes, 0))(list(args), list(cotangents))

    outs = linear_p.bind(*moved[:count], *tangents, program=batched, transpose=batched_transpose, count=count)
    return outs, [0] * len(outs)


batching.primitive_batchers[linear_p] = _batch
