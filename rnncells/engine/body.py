"""The body of a loop, read as a program: which of its sums are products with weights."""

from __future__ import annotations

import dataclasses

import jax
from jax import Array
from jax.extend import core

from rnncells.engine.products import Product, as_product
from rnncells.engine.program import (
    Equation,
    Node,
    Program,
    Var,
    is_inexact,
    results,
    size_in_bytes,
    variables,
)

_ELEMENTWISE = {"add", "sub", "mul", "div"}


def read(jaxpr: core.Jaxpr, weights: int, carry: int) -> Program:
    weight_vars = (*jaxpr.constvars, *jaxpr.invars[:weights])
    known = set(weight_vars)
    early, equations = [], []
    for eqn in _alive(jaxpr):
        if all(v in known for v in variables(eqn.invars)):
            early.append(eqn)
            known.update(eqn.outvars)
        else:
            equations.append(eqn)
    uses: dict[Var, int] = {}
    for v in (*(v for eqn in equations for v in variables(eqn.invars)), *variables(jaxpr.outvars)):
        uses[v] = uses.get(v, 0) + 1
    shared = tuple(v for v in uses if v in known)
    program = Program(
        weights=weight_vars,
        carry=tuple(jaxpr.invars[weights : weights + carry]),
        x=tuple(jaxpr.invars[weights + carry :]),
        outs=tuple(jaxpr.outvars),
        early=tuple(early),
        equations=tuple(equations),
        shared=shared,
        made=shared,
        nodes=_nodes(equations, known, uses),
        read=frozenset(v for eqn in (*early, *equations) for v in variables(eqn.invars))
        | frozenset(variables(jaxpr.outvars)),
        template=jaxpr,
    )
    return _widened(program)


def _widened(program: Program) -> Program:
    """A shared value that only meets wider arrays is one of their shape in the loop.

    Its gradient is then summed over the batch once, after the loop, not at every tick: for vectors such as
    peepholes, and where the batch is sharded and each sum would be a message.
    """
    in_nodes = {term for node in program.nodes for term in variables(node.shared)}
    wide: dict[Var, Var] = {}
    for v in program.shared:
        meets = [eqn for eqn in program.equations if v in variables(eqn.invars)]
        shapes = {made.aval.shape for eqn in meets for made in results(eqn)[:1]}
        plain = v in program.replayed and all(eqn.primitive.name in _ELEMENTWISE for eqn in meets)
        if plain and len(shapes) == 1 and v not in in_nodes and v not in program.outs and is_inexact(v.aval):
            like = jax.ShapeDtypeStruct(shapes.pop(), v.aval.dtype)
            wide[v] = v if like.shape == v.aval.shape else _variable(like)

    def renamed(eqn: Equation) -> Equation:
        """None of these is inside a node, so that none is known by its id."""
        if not any(v in wide for v in variables(eqn.invars)):
            return eqn
        return eqn.replace(invars=[v if isinstance(v, core.Literal) else wide.get(v, v) for v in eqn.invars])

    return dataclasses.replace(
        program,
        equations=tuple(map(renamed, program.equations)),
        shared=tuple(wide.get(v, v) for v in program.shared),
        read=program.read | frozenset(wide.values()),
    )


def _variable(like: jax.ShapeDtypeStruct) -> Var:
    """A new one."""
    return jax.make_jaxpr(lambda x: x)(like).jaxpr.invars[0]


def _alive(jaxpr: core.Jaxpr) -> list[Equation]:
    """The equations whose results anything reads."""
    needed, alive = set(variables(jaxpr.outvars)), []
    for eqn in reversed(jaxpr.eqns):
        if any(v in needed for v in eqn.outvars):
            alive.append(eqn)
            needed.update(variables(eqn.invars))
    return alive[::-1]


def _nodes(equations: list[Equation], known: set[Var], uses: dict[Var, int]) -> tuple[Node, ...]:
    """Products with shared kernels, each with the sum that it is a term of."""
    maker = {v: eqn for eqn in equations for v in eqn.outvars}
    found = {eqn.outvars[0]: as_product(eqn, known) for eqn in equations}
    products = {v: product for v, product in found.items() if product is not None}
    holds = set(products)  # sums with a product somewhere inside
    inner: set[Var] = set()  # parts of a larger sum, read nowhere else
    for eqn in equations:
        shape = results(eqn)[0].aval.shape
        parts = {v for v in variables(eqn.invars) if v in holds and uses[v] == 1 and v.aval.shape == shape}
        if eqn.primitive.name == "add" and parts:
            holds.add(eqn.outvars[0])
            inner |= parts

    def gathered(top: Var) -> Node:
        terms: list[Product] = []
        shared: list[Var] = []
        varying: list[Var] = []
        inside: list[int] = []
        pending = [top]
        while pending:
            v = pending.pop()
            if isinstance(v, core.Literal) or v in known:
                shared.append(v)
            elif v is not top and v not in inner:
                varying.append(v)
            else:
                inside.append(id(maker[v]))
                if v in products:
                    terms.append(products[v])
                else:
                    pending += reversed(maker[v].invars)
        return Node(top, tuple(terms), tuple(shared), tuple(varying), frozenset(inside))

    return tuple(gathered(v) for eqn in equations for v in eqn.outvars if v in holds and v not in inner)


def stored_by_plain_scan(closed: core.ClosedJaxpr, weights: int, carry: int) -> int:
    """Bytes of a tick that automatic differentiation of the loop holds for all ticks at once."""
    invars = closed.jaxpr.invars

    def residuals(*leaves: Array) -> list[Array]:
        real = [i for i, leaf in enumerate(leaves) if is_inexact(leaf)]

        def outputs(*moved: Array) -> list[Array]:
            given = dict(zip(real, moved, strict=True))
            outs = core.jaxpr_as_fun(closed)(*(given.get(i, leaf) for i, leaf in enumerate(leaves)))
            return [out for out in outs if is_inexact(out)]

        return jax.tree.leaves(jax.vjp(outputs, *(leaves[i] for i in real))[1])

    jaxpr = jax.make_jaxpr(residuals)(*(v.aval for v in invars)).jaxpr
    shared = {*jaxpr.constvars, *jaxpr.invars[:weights]}
    for eqn in jaxpr.eqns:
        if all(v in shared for v in variables(eqn.invars)):
            shared.update(eqn.outvars)
    free = {*shared, *jaxpr.invars[weights + carry :]}  # the inputs are there anyway
    return size_in_bytes([v for v in dict.fromkeys(variables(jaxpr.outvars)) if v not in free])
