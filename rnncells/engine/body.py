"""The body of a loop, read as a program: which of its sums are products with weights.

`read` takes the jaxpr of one tick and tells apart what depends on the weights alone, what on the input
alone, and the *nodes*, sums of products with weights. `scan.py` differentiates the loop by these.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend import core

from rnncells.engine.products import Product, as_product

_ELEMENTWISE = {"add", "sub", "mul", "div"}
Var: TypeAlias = Any  # a `jax.extend.core.Var`, whose type knows no shape
Equation: TypeAlias = core.JaxprEqn
Values: TypeAlias = Sequence[Array]
Env: TypeAlias = dict[Var, Array]
"""Values by variable."""


@dataclasses.dataclass(frozen=True)
class Node:
    """z = sum of lhs @ kernel, plus terms that are shared by all ticks, plus terms that are not."""

    out: Var
    products: tuple[Product, ...]
    shared: tuple[Var, ...]
    varying: tuple[Var, ...]
    inside: frozenset[int]
    """Ids of the equations that the node replaces."""


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A body, read. Variables are those of its jaxpr."""

    weights: tuple[Var, ...]
    carry: tuple[Var, ...]
    x: tuple[Var, ...]
    outs: tuple[Var, ...]
    early: tuple[Equation, ...]
    """Equations that depend on the weights alone."""
    equations: tuple[Equation, ...]
    """The others."""
    shared: tuple[Var, ...]
    """Weights, and values made of them, that the loop reads."""
    nodes: tuple[Node, ...]
    read: frozenset[Var]
    """All variables that anything reads."""
    template: core.Jaxpr
    """The jaxpr that all this was read from."""

    def evaluate(self, equations: Sequence[Equation], env: Env) -> None:
        """Runs equations in an environment, which gains their results."""
        made = dict.fromkeys(v for eqn in equations for v in eqn.outvars if v in self.read)
        needed = dict.fromkeys(v for eqn in equations for v in variables(eqn.invars) if v not in made)
        part = self.template.replace(
            constvars=[], invars=list(needed), outvars=list(made), eqns=list(equations)
        )
        results = core.jaxpr_as_fun(core.ClosedJaxpr(part, []))(*(env[v] for v in needed))
        env.update(zip(made, results, strict=True))

    @functools.cached_property
    def rest(self) -> tuple[Equation, ...]:
        """Equations that no node replaces."""
        inside = frozenset().union(*(node.inside for node in self.nodes))
        return tuple(eqn for eqn in self.equations if id(eqn) not in inside)

    @functools.cached_property
    def replayed(self) -> frozenset[Var]:
        """Variables that the backward loop reads when it replays the rest of a tick."""
        read = {v for eqn in self.rest for v in variables(eqn.invars)} | set(variables(self.outs))
        return frozenset(read | {v for node in self.nodes for v in node.varying})

    @functools.cached_property
    def left_sides(self) -> tuple[Var, ...]:
        """What kernels are multiplied with, each once."""
        return tuple(dict.fromkeys(product.left for node in self.nodes for product in node.products))

    @functools.cached_property
    def history(self) -> tuple[Var, ...]:
        """Carries that the backward pass reads."""
        return tuple(v for v in self.carry if v in self.replayed or v in self.left_sides)

    @functools.cached_property
    def emitted(self) -> tuple[Var, ...]:
        """Left sides that the backward loop makes again, to be used after it."""
        return tuple(v for v in self.left_sides if v not in self.carry and v not in self.x)

    @functools.cached_property
    def stored(self) -> int:
        """Bytes of a tick that the backward pass holds for all ticks at once."""
        held = [*(node.out for node in self.nodes), *self.history, *self.emitted]
        return sum(math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in held)

    def cheap(self, node: Node) -> bool:
        """Whether a node is recomputed in the backward loop, not kept: wide ones of narrow inputs."""
        width = sum(product.width for product in node.products)
        only_inputs = not node.varying and all(product.left in self.x for product in node.products)
        size, columns = node.out.aval.size, node.out.aval.shape[-1]
        known = isinstance(size, int) and isinstance(width, int)  # not symbols of jax.export
        return only_inputs and known and 8 * width <= columns and size >= 4096

    def before_the_loop(self, weights: Values) -> list[Array]:
        env = dict(zip(self.weights, weights, strict=True))
        self.evaluate(self.early, env)
        return [env[v] if _is_key(v) else jnp.broadcast_to(env[v], self.width(v)) for v in self.shared]

    def width(self, v: Var) -> tuple[int, ...]:
        """The shape in which the loop holds a shared value: where it only meets wider arrays, theirs.

        Its gradient is then summed over the batch once, after the loop, not at every tick: for
        vectors such as peepholes, and where the batch is sharded and each sum would be a message.
        """
        meets = [eqn for eqn in self.equations if v in variables(eqn.invars)]
        shapes = {made.aval.shape for eqn in meets for made in results(eqn)[:1]}
        plain = v in self.replayed and all(eqn.primitive.name in _ELEMENTWISE for eqn in meets)
        in_nodes = {term for node in self.nodes for term in variables(node.shared)}
        if plain and len(shapes) == 1 and v not in in_nodes and v not in self.outs and is_inexact(v.aval):
            return shapes.pop()
        return v.aval.shape

    @functools.cached_property
    def of_inputs(self) -> tuple[tuple[Equation, ...], tuple[Var, ...]]:
        """Equations that do not depend on the carry, and those of their results that the others read."""
        known, equations = {*self.shared, *self.x}, []
        for eqn in self.equations:
            if all(v in known for v in variables(eqn.invars)):
                equations.append(eqn)
                known.update(eqn.outvars)
        ids = {id(eqn) for eqn in equations}
        later = [v for eqn in self.equations if id(eqn) not in ids for v in variables(eqn.invars)]
        read = dict.fromkeys((*later, *(node.out for node in self.nodes), *variables(self.outs)))
        made = {v for eqn in equations for v in eqn.outvars}
        return tuple(equations), tuple(v for v in read if v in made)

    def loop(
        self, shared: Values, carry: Values, xs: Values, kept: Sequence[Var], reverse: bool, hoist: bool
    ) -> tuple[list[Array], list[Array], list[Array]]:
        """The last carry, the outputs, and the values in every tick of the variables to be kept.

        With `hoist` everything that depends on the input alone is computed for all ticks at once,
        before the loop: better where a tick costs a kernel launch. On CPU the slices of what was
        computed before would be fused into the activations, which then no longer vectorise.
        """
        equations, boundary = self.of_inputs if hoist else ((), ())
        ids = {id(eqn) for eqn in equations}
        rest = [eqn for eqn in self.equations if id(eqn) not in ids]

        def inputs(*x: Array) -> list[Array]:
            env = dict(zip((*self.shared, *self.x), (*shared, *x), strict=True))
            self.evaluate(equations, env)
            return [env[v] for v in boundary]

        def tick(carry: Values, slices: Any) -> tuple[Any, Any]:
            x, ready = slices
            env = dict(zip((*self.shared, *self.carry, *self.x), (*shared, *carry, *x), strict=True))
            env.update(zip(boundary, ready, strict=True))
            self.evaluate(rest, env)
            outs = [value(v, env) for v in self.outs]
            return outs[: len(carry)], (outs[len(carry) :], [env[v] for v in kept])

        ready = jax.vmap(inputs)(*xs) if hoist else []
        last, (ys, stacks) = jax.lax.scan(tick, list(carry), (list(xs), ready), reverse=reverse)
        return last, ys, stacks


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
    return Program(
        weights=weight_vars,
        carry=tuple(jaxpr.invars[weights : weights + carry]),
        x=tuple(jaxpr.invars[weights + carry :]),
        outs=tuple(jaxpr.outvars),
        early=tuple(early),
        equations=tuple(equations),
        shared=tuple(v for v in uses if v in known),
        nodes=_nodes(equations, known, uses),
        read=frozenset(v for eqn in (*early, *equations) for v in variables(eqn.invars))
        | frozenset(variables(jaxpr.outvars)),
        template=jaxpr,
    )


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
    return sum(
        math.prod(v.aval.shape) * v.aval.dtype.itemsize
        for v in dict.fromkeys(variables(jaxpr.outvars))
        if v not in free
    )


def value(v: Var | core.Literal, env: Env) -> Array:
    return v.val if isinstance(v, core.Literal) else env[v]


def results(eqn: Equation) -> list[Var]:
    return list(eqn.outvars)


def variables(atoms: Sequence[Var | core.Literal]) -> list[Var]:
    return [v for v in atoms if not isinstance(v, core.Literal)]


def _is_key(value: Any) -> bool:
    return jnp.issubdtype(value.aval.dtype, jax.dtypes.prng_key)


def is_inexact(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jnp.inexact)
