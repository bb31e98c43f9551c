"""What a tick costs, counted in the jaxprs of a cell's functions, the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core

from rnncells import Cell

FUNCTIONS = {
    "atan2",
    "cbrt",
    "cos",
    "erf",
    "erf_inv",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "logistic",
    "pow",
    "rsqrt",
    "sin",
    "sqrt",
    "tan",
    "tanh",
}
PRODUCTS = {"div", "integer_pow", "mul", "square"}


class Work(NamedTuple):
    """What a computation does to real numbers. A product of complex ones is four of these."""

    products: int
    """Multiplications and divisions; the additions between them come free."""
    values: int
    """Values of tanh, exp, sqrt and their like."""


class Cost(NamedTuple):
    """Of one tick of one sequence."""

    step: Work
    """Tick by tick."""
    rest: Work
    """In `project` and `readout`: for all ticks at once, where that pays."""


def cost(cell: Cell, params: Any, x: jax.ShapeDtypeStruct) -> Cost:
    """Of a cell with these shapes of params and of the input of a tick."""
    weights = jax.eval_shape(lambda params: cell.prepare(params, like=x), params)
    carry = cell.carry_shape(params, (), x)
    drive = jax.eval_shape(cell.project, weights, x)
    _, out = jax.eval_shape(cell.step, weights, carry, drive)
    project = work(jax.make_jaxpr(cell.project)(weights, x).jaxpr)
    readout = work(jax.make_jaxpr(cell.readout)(weights, out, drive).jaxpr)
    step = work(jax.make_jaxpr(cell.step)(weights, carry, drive).jaxpr)
    return Cost(step, _sum([project, readout]))


def work(jaxpr: core.Jaxpr) -> Work:
    """Of a jaxpr, its branches and loops included."""
    return _sum([_work(equation) for equation in jaxpr.eqns])


def _work(equation: core.JaxprEqn) -> Work:
    name, params = equation.primitive.name, equation.params
    inner = [work(jaxpr) for jaxpr in _inner(params)]
    if name == "while":
        raise ValueError("cost: expected loops of a known length, got a while loop.")
    if name == "cond":
        return max(inner)
    if inner:
        times = params["length"] if name == "scan" else 1
        return Work(times * sum(each.products for each in inner), times * sum(each.values for each in inner))
    made: Any = equation.outvars[0].aval
    if not jax.numpy.issubdtype(made.dtype, jax.numpy.inexact):
        return Work(0, 0)
    parts = 4 if jax.numpy.issubdtype(made.dtype, jax.numpy.complexfloating) else 1
    if name in FUNCTIONS:
        return Work(0, made.size)
    if name in PRODUCTS:
        return Work(parts * made.size, 0)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        first: Any = equation.invars[0].aval
        return Work(parts * made.size * math.prod(first.shape[axis] for axis in contracted), 0)
    if name == "conv_general_dilated":
        kernel: Any = equation.invars[1].aval
        features = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        return Work(parts * made.size * kernel.size // features, 0)
    if name == "fft":  # of radix 2
        length = math.prod(params["fft_lengths"])
        return Work(2 * made.size * math.ceil(math.log2(length)), 0)
    return Work(0, 0)


def _inner(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    def is_jaxpr(value: Any) -> bool:
        return isinstance(value, (core.Jaxpr, core.ClosedJaxpr))

    for value in jax.tree.leaves(list(params.values()), is_leaf=is_jaxpr):
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value


def _sum(works: list[Work]) -> Work:
    return Work(sum(each.products for each in works), sum(each.values for each in works))
