"""The body of a loop as a program, and how it runs.

What depends on the weights alone is told apart from what depends on the input alone, and from the *nodes*,
sums of products with weights. `body.py` makes it of a jaxpr, `scan.py` differentiates the loop by it.
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

from rnncells.engine.products import Product

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
    made: tuple[Var, ...]
    """The same as they are before the loop, where some are narrower; see `_widened`."""
    nodes: tuple[Node, ...]
    read: frozenset[Var]
    """All variables that anything reads."""
    template: core.Jaxpr
    """The jaxpr that all this was read from."""
    in_turn: bool = False
    """Whether the products after the loop wait for each other, so that no two copy a left side at once."""

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
        return size_in_bytes([*(node.out for node in self.nodes), *self.history, *self.emitted])

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
        pairs = zip(self.made, self.shared, strict=True)
        return [env[v] if v is wide else jnp.broadcast_to(env[v], wide.aval.shape) for v, wide in pairs]

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


def size_in_bytes(variables: Sequence[Var]) -> int:
    return sum(math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in variables)


def value(v: Var | core.Literal, env: Env) -> Array:
    return v.val if isinstance(v, core.Literal) else env[v]


def results(eqn: Equation) -> list[Var]:
    return list(eqn.outvars)


def variables(atoms: Sequence[Var | core.Literal]) -> list[Var]:
    return [v for v in atoms if not isinstance(v, core.Literal)]


def is_inexact(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jnp.inexact)
