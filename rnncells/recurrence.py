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
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from rnncells.linear_call import linear_call

_ELEMENTWISE = {"add", "sub", "mul", "div"}
Body = Callable[[Any, Any, Any], tuple[Any, Any]]
Var = Any
Values = Sequence[Any]


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
    program = _read(closed.jaxpr, len(weights_flat), len(carry_flat))
    shared = program.before_the_loop([*closed.consts, *weights_flat])
    last, ys = _scan(program, reverse, shared, carry_flat, xs_flat)
    return carry_tree.unflatten(last), y_tree.unflatten(ys)


def _flatten(tree: Any) -> tuple[list[Any], Any]:
    return jax.tree.flatten(tree)


@dataclasses.dataclass(frozen=True)
class _Node:
    """z = sum of lhs @ kernel, plus terms that are shared by all ticks, plus terms that are not."""

    out: Var
    products: tuple[tuple[Var, Var], ...]
    shared: tuple[Var, ...]
    varying: tuple[Var, ...]
    inside: frozenset[int]
    """Ids of the equations that the node replaces."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Program:
    """A body, read. Variables are those of its jaxpr."""

    weights: tuple[Var, ...]
    carry: tuple[Var, ...]
    x: tuple[Var, ...]
    outs: tuple[Var, ...]
    early: tuple[Any, ...]
    """Equations that depend on the weights alone."""
    equations: tuple[Any, ...]
    """The others."""
    shared: tuple[Var, ...]
    """Weights, and values made of them, that the loop reads."""
    nodes: tuple[_Node, ...]
    read: frozenset[Var]
    """All variables that anything reads."""
    template: Any
    """The jaxpr that all this was read from."""

    def evaluate(self, equations: Sequence[Any], env: dict[Var, Any]) -> None:
        """Runs equations in an environment, which gains their results."""
        made = dict.fromkeys(v for eqn in equations for v in eqn.outvars if v in self.read)
        needed = dict.fromkeys(v for eqn in equations for v in _variables(eqn.invars) if v not in made)
        part = self.template.replace(
            constvars=[], invars=list(needed), outvars=list(made), eqns=list(equations)
        )
        results = core.jaxpr_as_fun(core.ClosedJaxpr(part, []))(*(env[v] for v in needed))
        env.update(zip(made, results, strict=True))

    @functools.cached_property
    def rest(self) -> tuple[Any, ...]:
        """Equations that no node replaces."""
        inside = frozenset().union(*(node.inside for node in self.nodes))
        return tuple(eqn for eqn in self.equations if id(eqn) not in inside)

    @functools.cached_property
    def replayed(self) -> frozenset[Var]:
        """Variables that the backward loop reads when it replays the rest of a tick."""
        read = {v for eqn in self.rest for v in _variables(eqn.invars)} | set(_variables(self.outs))
        return frozenset(read | {v for node in self.nodes for v in node.varying})

    @functools.cached_property
    def left_sides(self) -> tuple[Var, ...]:
        """What kernels are multiplied with, each once."""
        return tuple(dict.fromkeys(lhs for node in self.nodes for lhs, _ in node.products))

    def cheap(self, node: _Node) -> bool:
        """Whether a node is recomputed in the backward loop, not kept: wide ones of narrow inputs."""
        width = sum(lhs.aval.shape[-1] for lhs, _ in node.products)
        only_inputs = not node.varying and all(lhs in self.x for lhs, _ in node.products)
        return only_inputs and 8 * width <= node.out.aval.shape[-1] and node.out.aval.size >= 4096

    def before_the_loop(self, weights: Values) -> list[Any]:
        env = dict(zip(self.weights, weights, strict=True))
        self.evaluate(self.early, env)
        return [env[v] if _is_key(v) else jnp.broadcast_to(env[v], self.width(v)) for v in self.shared]

    def width(self, v: Var) -> tuple[int, ...]:
        """The shape in which the loop holds a shared value: where it only meets wider arrays, theirs.

        Its gradient is then summed over the batch once, after the loop, not at every tick: for
        vectors such as peepholes, and where the batch is sharded and each sum would be a message.
        """
        meets = [eqn for eqn in self.equations if v in _variables(eqn.invars)]
        shapes = {eqn.outvars[0].aval.shape for eqn in meets}
        plain = v in self.replayed and all(eqn.primitive.name in _ELEMENTWISE for eqn in meets)
        in_nodes = {term for node in self.nodes for term in _variables(node.shared)}
        if plain and len(shapes) == 1 and v not in in_nodes and v not in self.outs and _is_inexact(v.aval):
            return shapes.pop()
        return v.aval.shape

    @functools.cached_property
    def of_inputs(self) -> tuple[tuple[Any, ...], tuple[Var, ...]]:
        """Equations that do not depend on the carry, and those of their results that the others read."""
        known, equations = {*self.shared, *self.x}, []
        for eqn in self.equations:
            if all(v in known for v in _variables(eqn.invars)):
                equations.append(eqn)
                known.update(eqn.outvars)
        ids = {id(eqn) for eqn in equations}
        later = [v for eqn in self.equations if id(eqn) not in ids for v in _variables(eqn.invars)]
        read = dict.fromkeys((*later, *(node.out for node in self.nodes), *_variables(self.outs)))
        made = {v for eqn in equations for v in eqn.outvars}
        return tuple(equations), tuple(v for v in read if v in made)

    def loop(
        self, shared: Values, carry: Values, xs: Values, kept: Sequence[Var], reverse: bool, hoist: bool
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """The last carry, the outputs, and the values in every tick of the variables to be kept.

        With `hoist` everything that depends on the input alone is computed for all ticks at once,
        before the loop: better where a tick costs a kernel launch. On CPU the slices of what was
        computed before would be fused into the activations, which then no longer vectorise.
        """
        equations, boundary = self.of_inputs if hoist else ((), ())
        ids = {id(eqn) for eqn in equations}
        rest = [eqn for eqn in self.equations if id(eqn) not in ids]

        def inputs(*x: Any) -> list[Any]:
            env = dict(zip((*self.shared, *self.x), (*shared, *x), strict=True))
            self.evaluate(equations, env)
            return [env[v] for v in boundary]

        def tick(carry: Values, slices: Any) -> tuple[Any, Any]:
            x, ready = slices
            env = dict(zip((*self.shared, *self.carry, *self.x), (*shared, *carry, *x), strict=True))
            env.update(zip(boundary, ready, strict=True))
            self.evaluate(rest, env)
            outs = [_value(v, env) for v in self.outs]
            return outs[: len(carry)], (outs[len(carry) :], [env[v] for v in kept])

        ready = jax.vmap(inputs)(*xs) if hoist else []
        last, (ys, stacks) = jax.lax.scan(tick, list(carry), (list(xs), ready), reverse=reverse)
        return last, ys, stacks


def _read(jaxpr: Any, weights: int, carry: int) -> _Program:
    weight_vars = (*jaxpr.constvars, *jaxpr.invars[:weights])
    known = set(weight_vars)
    early, equations = [], []
    for eqn in jaxpr.eqns:
        if all(v in known for v in _variables(eqn.invars)):
            early.append(eqn)
            known.update(eqn.outvars)
        else:
            equations.append(eqn)
    uses: dict[Var, int] = {}
    for v in (*(v for eqn in equations for v in _variables(eqn.invars)), *_variables(jaxpr.outvars)):
        uses[v] = uses.get(v, 0) + 1
    return _Program(
        weights=weight_vars,
        carry=tuple(jaxpr.invars[weights : weights + carry]),
        x=tuple(jaxpr.invars[weights + carry :]),
        outs=tuple(jaxpr.outvars),
        early=tuple(early),
        equations=tuple(equations),
        shared=tuple(v for v in uses if v in known),
        nodes=_nodes(equations, known, uses),
        read=frozenset(v for eqn in jaxpr.eqns for v in _variables(eqn.invars))
        | frozenset(_variables(jaxpr.outvars)),
        template=jaxpr,
    )


def _nodes(equations: list[Any], known: set[Var], uses: dict[Var, int]) -> tuple[_Node, ...]:
    """Products with shared kernels, each with the sum that it is a term of."""
    maker = {v: eqn for eqn in equations for v in eqn.outvars}
    product = {eqn.outvars[0] for eqn in equations if _is_product(eqn, known)}
    holds = set(product)  # sums with a product somewhere inside
    inner: set[Var] = set()  # parts of a larger sum, read nowhere else
    for eqn in equations:
        shape = eqn.outvars[0].aval.shape
        parts = {v for v in _variables(eqn.invars) if v in holds and uses[v] == 1 and v.aval.shape == shape}
        if eqn.primitive.name == "add" and parts:
            holds.add(eqn.outvars[0])
            inner |= parts

    def gather(v: Var, node: dict[str, list[Any]], top: bool) -> None:
        if isinstance(v, core.Literal) or v in known:
            node["shared"].append(v)
        elif v not in holds or not (top or v in inner):
            node["varying"].append(v)
        else:
            node["inside"].append(id(maker[v]))
            if v in product:
                node["products"].append(tuple(maker[v].invars))
            else:
                for part in maker[v].invars:
                    gather(part, node, False)

    nodes = []
    for v in [v for eqn in equations for v in eqn.outvars if v in holds and v not in inner]:
        node: dict[str, list[Any]] = {"products": [], "shared": [], "varying": [], "inside": []}
        gather(v, node, True)
        nodes.append(
            _Node(
                v,
                tuple(node["products"]),
                tuple(node["shared"]),
                tuple(node["varying"]),
                frozenset(node["inside"]),
            )
        )
    return tuple(nodes)


def _is_product(eqn: Any, known: set[Var]) -> bool:
    """[..., K] @ kernel [K, N], of one inexact dtype."""
    if eqn.primitive.name != "dot_general":
        return False
    lhs, kernel = eqn.invars
    if isinstance(lhs, core.Literal) or lhs in known or kernel not in known:
        return False
    plain = eqn.params["dimension_numbers"] == (((lhs.aval.ndim - 1,), (0,)), ((), ()))
    dtypes = {lhs.aval.dtype, kernel.aval.dtype, eqn.outvars[0].aval.dtype}
    return plain and kernel.aval.ndim == 2 and len(dtypes) == 1 and _is_inexact(lhs.aval)


def _scan(
    program: _Program, reverse: bool, shared: Values, carry: Values, xs: Values
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
        directions = [t for p, t in zip(_leaves(primals), _leaves(tangents), strict=True) if _is_inexact(p)]
        real_out = [_is_inexact(out) for out in (*last, *ys)]

        def forward(residuals: Any, directions: Values) -> list[Any]:
            _, real, other = residuals

            def outputs(*real: Any) -> list[Any]:
                shared, carry, xs = merge(real, other)
                out = loop(shared, carry, xs, ())
                return [leaf for leaf in (*out[0], *out[1]) if _is_inexact(leaf)]

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
    program: _Program,
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
    real_carry = [v for v in program.carry if _is_inexact(v.aval)]
    d_carry = dict(zip(real_carry, cotangents[: len(real_carry)], strict=True))
    dys = cotangents[len(real_carry) :]
    wanted = [v for v in (*carry_out, *y_out) if _is_inexact(v.aval)]

    in_loop = [v for v in program.shared if v in program.replayed and _is_inexact(v.aval)]
    x_in_loop = [v for v in program.x if v in program.replayed and _is_inexact(v.aval)]
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
            return [_value(v, local) for v in wanted], [local[v] for v in emitted]

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
        total[v] if v in total else jnp.zeros_like(names[v]) for v in program.shared if _is_inexact(v.aval)
    ] + [
        *d_first,
        *(total[v] if v in total else jnp.zeros_like(names[v]) for v in program.x if _is_inexact(v.aval)),
    ]


def _replay(program: _Program, env: dict[Var, Any], known: dict[Var, tuple[_Node, Any]]) -> None:
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


def _node_value(node: _Node, env: dict[Var, Any]) -> Any:
    terms = [env[lhs] @ env[kernel] for lhs, kernel in node.products]
    return sum([*terms[1:], *(_value(v, env) for v in node.shared)], terms[0])


def _value(v: Var, env: dict[Var, Any]) -> Any:
    return v.val if isinstance(v, core.Literal) else env[v]


def _variables(atoms: Sequence[Any]) -> list[Var]:
    return [v for v in atoms if not isinstance(v, core.Literal)]


def _is_key(value: Any) -> bool:
    return jnp.issubdtype(value.aval.dtype, jax.dtypes.prng_key)


def _is_inexact(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jnp.inexact)


def _leaves(tree: Any) -> list[Any]:
    return [leaf for part in tree for leaf in part]


def _no_tangent(value: Any) -> Any:
    return np.zeros(value.shape, jax.dtypes.float0)


def _by_kind(primals: Any) -> Any:
    """The inexact leaves, the others, and the function that puts them back together."""
    leaves = _leaves(primals)
    sizes = [len(part) for part in primals]
    kinds = [_is_inexact(leaf) for leaf in leaves]

    def merge(real: Values, other: Values) -> list[list[Any]]:
        real_parts, other_parts = iter(real), iter(other)
        merged = iter([next(real_parts if kind else other_parts) for kind in kinds])
        return [[next(merged) for _ in range(size)] for size in sizes]

    real = [leaf for leaf, kind in zip(leaves, kinds, strict=True) if kind]
    other = [leaf for leaf, kind in zip(leaves, kinds, strict=True) if not kind]
    return real, other, merge
