"""The backward pass of a scan: a loop that replays every tick from the values of its nodes, then one product
for each kernel."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend import core

from rnncells.engine.products import Product
from rnncells.engine.program import Env, Equation, Node, Program, Values, Var, is_inexact, value


class _State(NamedTuple):
    """What the backward loop carries."""

    d_carry: list[Array]
    sums: list[Array]
    """Cotangents of weights that ticks read outside products, added up."""
    buffers: list[Array]
    """The values of nodes, of all ticks, and their cotangents in the place of those that are done."""
    zs: list[Array]
    """The values of nodes in the tick that comes next."""


@dataclasses.dataclass(frozen=True)
class Backward:
    """Called with the cotangents of what the loop gives, it returns those of the inexact leaves of shared,
    carry and xs, in this order."""

    program: Program
    reverse: bool
    saved: Env
    """By variable: the values, in all ticks, of nodes and of the carries that are read again."""
    shared: Values
    carry: Values
    xs: Values

    def __call__(self, cotangents: list[Array]) -> list[Array]:
        program, saved = self.program, self.saved
        d_carry = dict(zip(self.real_carry, cotangents[: len(self.real_carry)], strict=True))
        dys = cotangents[len(self.real_carry) :]
        start = _State(
            [d_carry[v] for v in self.real_carry],
            [jnp.zeros_like(self.names[v]) for v in self.in_loop],
            [saved[node.out] for node in self.kept],
            _rows([saved[node.out] for node in self.kept], 0 if self.reverse else self.length - 1),
        )
        ticks = (jnp.arange(self.length), dys, [saved[v] for v in program.history], list(self.xs))
        last, (d_inputs, late, left) = jax.lax.scan(self._tick, start, ticks, reverse=not self.reverse)

        total = dict(zip(self.in_loop, last.sums, strict=True))
        total |= dict(zip(self.x_in_loop, d_inputs, strict=True))
        lefts = {v: saved[v] for v in program.history}
        lefts |= dict(zip(program.emitted, left, strict=True)) | self.names
        previous: Array | None = None
        for node, dz in zip(self.nodes, [*last.buffers, *late], strict=True):
            previous = self._add_products(total, lefts, node, dz, previous)

        def cotangent(v: Var) -> Array:
            return total[v] if v in total else jnp.zeros_like(self.names[v])

        d_shared = [cotangent(v) for v in program.shared if is_inexact(v.aval)]
        return [*d_shared, *last.d_carry, *(cotangent(v) for v in program.x if is_inexact(v.aval))]

    def _tick(self, state: _State, tick: Any) -> tuple[_State, Any]:
        # A buffer is read only after it was written, one tick ahead: read and write in any other order
        # look to XLA as if they might be swapped, and it copies the buffer at every tick.
        t, dys, before, x = tick
        program = self.program
        env = dict(zip((*program.shared, *program.x), (*self.shared, *x), strict=True))
        env |= dict(zip(program.history, before, strict=True))
        zs = [*state.zs, *(_node_value(node, env) for node in self.cheap)]
        own = [env[v] for v in self.in_loop]
        carry = [env.get(v) for v in self.real_carry]
        inputs = [env[v] for v in self.x_in_loop]
        replay = functools.partial(self._replay, env)
        _, pull, left = jax.vjp(replay, own, carry, inputs, zs, has_aux=True)
        d_own, d_carry, d_inputs, dzs = pull([*state.d_carry, *dys])
        d_carry = [
            jnp.zeros_like(d) if new is None else new for d, new in zip(state.d_carry, d_carry, strict=True)
        ]
        buffers = [
            jax.lax.dynamic_update_index_in_dim(buffer, dz, t, 0)
            for buffer, dz in zip(state.buffers, dzs[: len(self.kept)], strict=True)
        ]
        sums = [total + d for total, d in zip(state.sums, d_own, strict=True)]
        following = jnp.clip(t + 1 if self.reverse else t - 1, 0, self.length - 1)
        return _State(d_carry, sums, buffers, _rows(buffers, following)), (
            d_inputs,
            dzs[len(self.kept) :],
            left,
        )

    def _replay(
        self, env: Env, own: Values, carry: Values, inputs: Values, zs: Values
    ) -> tuple[list[Array], list[Array]]:
        """A tick whose nodes are known: what it gives, and the left sides that are used after the loop."""
        local = (
            env | dict(zip(self.in_loop, own, strict=True)) | dict(zip(self.x_in_loop, inputs, strict=True))
        )
        local |= {v: state for v, state in zip(self.real_carry, carry, strict=True) if state is not None}
        known = {node.out: (node, z) for node, z in zip(self.nodes, zs, strict=True)}
        _replay(self.program, local, known)
        return [value(v, local) for v in self.wanted], [local[v] for v in self.program.emitted]

    def _add_products(
        self, total: Env, lefts: Env, node: Node, dz: Array, previous: Array | None
    ) -> Array | None:
        """What the cotangents of a node, of all ticks, give to the kernels, inputs and biases in it. Where
        products come in turn, it begins when the previous one is there, and returns its last one."""

        def add(v: Var, more: Array) -> None:
            total[v] = total[v] + more if v in total else more

        for product in node.products:
            kernel = self.names[product.kernel]
            # XLA copies a left side, transposed: after the loop, not while the stacks of the loop are there.
            left, dz_after, _ = jax.lax.optimization_barrier((lefts[product.left], dz, previous))
            d_kernel = product.to_kernel(left, dz_after, kernel)
            previous = d_kernel if self.program.in_turn else None
            add(product.kernel, d_kernel)
            if product.left in self.program.x:
                add(product.left, jax.vmap(functools.partial(product.to_left, kernel=kernel))(dz))
        for v in node.shared:
            if not isinstance(v, core.Literal):
                add(v, _unbroadcast(dz.sum(0), v.aval.shape))
        return previous

    @property
    def length(self) -> int:
        return self.xs[0].shape[0]

    @functools.cached_property
    def names(self) -> Env:
        """The values of weights, and of inputs in all ticks."""
        return dict(zip((*self.program.shared, *self.program.x), (*self.shared, *self.xs), strict=True))

    @functools.cached_property
    def real_carry(self) -> list[Var]:
        return [v for v in self.program.carry if is_inexact(v.aval)]

    @functools.cached_property
    def wanted(self) -> list[Var]:
        """The inexact ones of what a tick gives."""
        return [v for v in self.program.outs if is_inexact(v.aval)]

    @functools.cached_property
    def in_loop(self) -> list[Var]:
        """Weights, and inputs, that ticks read outside products."""
        return [v for v in self.program.shared if v in self.program.replayed and is_inexact(v.aval)]

    @functools.cached_property
    def x_in_loop(self) -> list[Var]:
        return [v for v in self.program.x if v in self.program.replayed and is_inexact(v.aval)]

    @functools.cached_property
    def kept(self) -> list[Node]:
        """Nodes whose values were kept, and those that are computed again."""
        return [node for node in self.program.nodes if not self.program.cheap(node)]

    @functools.cached_property
    def cheap(self) -> list[Node]:
        return [node for node in self.program.nodes if self.program.cheap(node)]

    @property
    def nodes(self) -> list[Node]:
        return [*self.kept, *self.cheap]


def _rows(buffers: Values, t: Array | int) -> list[Array]:
    return [jax.lax.dynamic_index_in_dim(buffer, t, 0, keepdims=False) for buffer in buffers]


def _replay(program: Program, env: Env, known: dict[Var, tuple[Node, Array]]) -> None:
    """A tick whose nodes are known: every other equation is evaluated."""
    inside = {identity for node in program.nodes for identity in node.inside}
    pending: list[Equation] = []
    for eqn in program.equations:
        if eqn.outvars[0] in known:
            program.evaluate(pending, env)
            pending = []
            node, z = known[eqn.outvars[0]]
            loose = tuple(product for product in node.products if product.left not in program.x)
            env[node.out] = _recall(
                loose,
                z,
                [env[product.left] for product in loose],
                [env[product.kernel] for product in loose],
                [env[v] for v in node.varying],
            )
        elif id(eqn) not in inside:
            pending.append(eqn)
    program.evaluate(pending, env)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recall(
    products: tuple[Product, ...], z: Array, lefts: list[Array], kernels: list[Array], varying: list[Array]
) -> Array:
    """z, which is known to be the sum of these products and more: nothing is computed, but the
    cotangent of z goes to what it was computed from, and to z itself, to be kept."""
    return z


def _recall_forward(
    products: tuple[Product, ...], z: Array, lefts: list[Array], kernels: list[Array], varying: list[Array]
) -> tuple[Array, Any]:
    return z, (kernels, varying)


def _recall_backward(products: tuple[Product, ...], residuals: Any, dz: Array) -> Any:
    kernels, varying = residuals
    return (
        dz,
        [product.to_left(dz, kernel) for product, kernel in zip(products, kernels, strict=True)],
        [jnp.zeros_like(kernel) for kernel in kernels],
        [_unbroadcast(dz, term.shape) for term in varying],
    )


_recall.defvjp(_recall_forward, _recall_backward)


def _unbroadcast(cotangent: Array, shape: tuple[int, ...]) -> Array:
    """The cotangent of a term of a sum, of which it may have filled whole axes."""
    axes = tuple(i for i, size in enumerate(shape) if size != cotangent.shape[i]) if shape else None
    return cotangent.sum(axes, keepdims=bool(shape)) if axes != () else cotangent


def _node_value(node: Node, env: Env) -> Array:
    terms = [product.value(env[product.left], env[product.kernel]) for product in node.products]
    return sum([*terms[1:], *(value(v, env) for v in node.shared)], terms[0])
