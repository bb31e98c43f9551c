"""The fast gradient equals that of the plain scan: for cells of every kind, and bodies made to mislead it.
That the first derivatives of every cell are those of its equations is law 6 in test_laws.py."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import unroll
from rnncells.engine import scan as engine
from rnncells.engine.linear_call import linear_call
from tests.cases import CASES, INPUT, REGISTERED, over, random_like, random_params, sparing, tick_of

T, B, H = 5, 3, 4
KINDS = (
    *(
        "Elman",
        "LSTM",
        "PeepholeLSTM",
        "LayerNormLSTM",
        "GRU",
        "GRU-reset_after=False",
        "MGU",
        "RHN",
        "LEM",
        "LTC",
    ),
    *("ExpRNN", "GORU", "LMU", "FastSlowRNN", "MinGRU", "LRU", "S6", "RWKV4", "CausalConvolution", "MLSTM"),
)
"""Cells whose ticks differ in form."""
FEW = ("Elman", "LSTM", "PeepholeLSTM", "GRU-reset_after=False", "LTC", "ExpRNN", "LMU", "S6", "MLSTM")
"""Those between which the rules of differentiation differ."""
OF_KINDS = {name: CASES[name] for name in KINDS}
over_few_kinds = over({name: CASES[name] for name in FEW})
exact = pytest.mark.usefixtures("x64")
close = functools.partial(chex.assert_trees_all_close, atol=1e-10, rtol=1e-10)


def plain_scan(body, weights, carry, xs, *, reverse=False):
    return jax.lax.scan(functools.partial(body, weights), carry, xs, reverse=reverse)


def total(tree):
    inexact = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return sum(jnp.sum(jnp.sin(jnp.real(leaf) + 2 * jnp.imag(leaf))) for leaf in inexact)


def of_cell(cell):
    """The tick of a cell as a body, and arguments for it."""
    params = random_params(cell, dtype=jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (T, B, INPUT), jnp.float64)
    positive = lambda leaf: leaf if jnp.iscomplexobj(leaf) else jnp.abs(leaf)  # noqa: E731, sums are positive
    carry = jax.tree.map(positive, random_like(cell.initial_carry(params, (B,))))

    def body(weights, carry, x):
        drive = cell.project(weights, x)
        carry, out = cell.step(weights, carry, drive)
        return carry, cell.readout(weights, out, drive)

    def run(scan, params, carry, xs):
        return scan(body, cell.prepare(params), carry, xs)

    return run, (params, carry, xs)


@exact
@over(OF_KINDS, ("LSTM", "MinGRU"))
def test_first_derivatives_equal_those_of_the_plain_scan(cell):
    run, args = of_cell(cell)

    def everything(scan):
        f = functools.partial(run, scan)
        slopes = jax.grad(lambda *args: total(f(*args)), (0, 1, 2))(*args)
        return f(*args), slopes, jax.jvp(f, args, random_like(args, 3))

    close(everything(engine.scan), everything(plain_scan))


@exact
@pytest.mark.laws
@over_few_kinds
def test_all_other_derivatives_equal_those_of_the_plain_scan(cell):
    run, args = of_cell(cell)
    direction = random_like(args, 3)

    def everything(scan):
        f = functools.partial(run, scan)
        slope = jax.grad(lambda *args: total(f(*args)), (0, 1, 2))
        forward_over_reverse = jax.jvp(slope, args, direction)[1]
        reverse_over_reverse = jax.grad(lambda *args: total(slope(*args)), (0, 1, 2))(*args)
        push = lambda *args: total(jax.jvp(f, args, direction)[1])  # noqa: E731
        reverse_over_forward = jax.grad(push, (0, 1, 2))(*args)
        under_checkpoint = jax.grad(lambda *args: total(jax.checkpoint(f)(*args)), (0, 1, 2))(*args)
        many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), args[0])
        vmap_of_grad = jax.vmap(slope, (0, None, None))(many, *args[1:])
        batched = jax.vmap(lambda *args: total(f(*args)), (0, None, None))
        grad_of_vmap = jax.grad(lambda params: jnp.sum(batched(params, *args[1:])))(many)
        return (
            forward_over_reverse,
            reverse_over_reverse,
            reverse_over_forward,
            under_checkpoint,
            vmap_of_grad,
            grad_of_vmap,
        )

    close(everything(engine.scan), everything(plain_scan))


def kernel_from_the_state(w, h, x):
    """A product whose right side is no weight: fast weights, grown from the carry."""
    grown = jnp.tanh(h["fast"] + jnp.outer(x[0], x[0]))
    return {"fast": grown, "h": jnp.tanh(h["h"] @ grown + x @ w["a"])}, h["h"]


def product_read_twice(w, h, x):
    z = h["h"] @ w["a"]
    return {"h": jnp.tanh(z + x)}, jnp.square(z)


def one_kernel_in_two_places(w, h, x):
    z = x @ w["a"] + h["h"] @ w["a"]
    return {"h": jnp.tanh(z) + 0.1 * jnp.sum(w["a"])}, (jnp.tanh(h["h"]) @ w["a"].T) * w["a"][0, 0]


def a_sum_with_varying_terms(w, h, x):
    z = h["h"] + (x @ w["a"] + w["v"].reshape(1, -1)) + (jnp.sin(h["h"]) @ w["b"] + 2.0) + x
    return {"h": jnp.tanh(z)}, z


def products_in_a_row(w, h, x):
    first = jnp.tanh(x @ w["a"] + h["h"] @ w["b"])
    second = jnp.tanh(first @ w["b"] + w["v"].reshape(1, -1))
    return {"h": second @ w["a"] * 0.5}, second


def a_counter_and_a_constant(w, h, x):
    count = h["count"] + 1
    open_ = (count % 2 == 0).astype(x.dtype)
    new = jnp.tanh(h["h"] @ w["a"] + x) * open_ + h["h"] * (1 - open_)
    return {"h": new, "count": count, "kept": h["kept"]}, (w["v"], count, jnp.zeros(2, x.dtype))


def vectors_that_meet_the_batch(w, h, x):
    v = w["v"].reshape(1, -1)
    return {"h": jnp.tanh(v * h["h"] + x / (2 + v * v)) - v * jnp.sin(x)}, v * h["h"]


def a_batched_kernel(w, h, x):
    return {"h": jnp.tanh(jnp.einsum("bi,bij->bj", h["h"], w["each"]) + x @ w["a"])}, h["h"]


def a_complex_state(w, h, x):
    kernel = jax.lax.complex(w["a"], w["b"])
    turn = jnp.exp(jax.lax.complex(-jnp.square(w["v"]), w["v"])).reshape(1, -1)
    state = turn * h["z"] + x.astype(kernel.dtype) @ kernel
    return {"h": jnp.tanh(h["h"] @ w["a"] + jnp.real(state)), "z": state}, jnp.imag(state)


BODIES = {f.__name__: f for f in (
    kernel_from_the_state,
    product_read_twice,
    one_kernel_in_two_places,
    a_sum_with_varying_terms,
    products_in_a_row,
    a_counter_and_a_constant,
    vectors_that_meet_the_batch,
    a_batched_kernel,
    a_complex_state,
)}  # fmt: skip


@exact
@pytest.mark.parametrize("reverse", [False, pytest.param(True, marks=pytest.mark.laws)])
@pytest.mark.parametrize("name", sparing(BODIES, 2))
def test_misleading_bodies(name, reverse):
    body = BODIES[name]
    shapes = {"a": (H, H), "b": (H, H), "v": (H,), "each": (B, H, H)}
    weights = random_like({k: jnp.zeros(shape) for k, shape in shapes.items()})
    carry = {"h": jnp.zeros((B, H))}
    if name == "kernel_from_the_state":
        carry["fast"] = jnp.zeros((H, H))
    if name == "a_counter_and_a_constant":
        carry["kept"] = jnp.zeros(3)
    if name == "a_complex_state":
        carry["z"] = jnp.zeros((B, H), complex)
    carry = random_like(carry, 2)
    counter = {"count": jnp.array(0)} if name == "a_counter_and_a_constant" else {}
    xs = jax.random.normal(jax.random.key(3), (T, B, H), jnp.float64)

    def everything(scan):
        def f(weights, carry, xs):
            return scan(body, weights, {**carry, **counter}, xs, reverse=reverse)

        slope = jax.grad(lambda *args: total(f(*args)), (0, 1, 2))
        args = weights, carry, xs
        real = lambda *args: [x for x in jax.tree.leaves(f(*args)) if x.dtype == xs.dtype]  # noqa: E731
        return f(*args), slope(*args), jax.jvp(real, args, random_like(args, 4)), jax.jvp(slope, args, args)

    close(everything(engine.scan), everything(plain_scan))


@pytest.mark.laws
@over(OF_KINDS, ("LSTM",))
@pytest.mark.parametrize(
    "options", [{}, pytest.param({"lengths": [T, 2, 0], "reverse": True}, marks=pytest.mark.laws)]
)
def test_other_platforms_hoist_what_depends_on_the_input(cell, options, monkeypatch):
    """The branch that is not taken on CPU, taken on CPU."""
    params = random_params(cell)
    xs = jax.random.normal(jax.random.key(1), (T, B, INPUT))

    def everything():
        jax.clear_caches()
        return jax.value_and_grad(lambda p, x: total(unroll(cell, p, x, **options)), (0, 1))(params, xs)

    here = everything()
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    chex.assert_trees_all_close(everything(), here, atol=1e-4, rtol=1e-4)
    jax.clear_caches()


@over(REGISTERED, ("LSTM", "MinGRU"))
def test_no_more_memory_than_the_plain_scan(cell):
    check_memory(cell, 2)


@over({name: REGISTERED[name] for name in ("Elman", "AntisymmetricRNN", "MultiplicativeRNN")}, ("Elman",))
def test_no_more_memory_where_inputs_are_as_wide_as_states(cell):
    check_memory(cell, 32)


def check_memory(cell, inputs):
    """The residuals of the backward pass, as the compiler reserves them."""
    length, batch, width = 200, 16, 32
    cell = dataclasses.replace(cell, features=width)
    params, xs = cell.init(jax.random.key(0), inputs), jnp.zeros((length, batch, inputs))
    carry = cell.initial_carry(params, (batch,), like=tick_of(xs))

    def plain(params, xs):
        weights = cell.prepare(params, like=tick_of(xs))
        return jax.lax.scan(functools.partial(cell.tick, weights), carry, xs)[1]

    def memory(outputs):
        gradient = jax.grad(lambda *args: jnp.mean(jnp.square(outputs(*args))))
        return jax.jit(gradient).lower(params, xs).compile().memory_analysis().temp_size_in_bytes

    assert memory(lambda *args: unroll(cell, *args)[1]) <= 1.05 * memory(plain)


@exact
def test_kernels_leave_the_backward_loop():
    """What the gradient of a kernel costs: one product, outside every loop."""
    run, args = of_cell(CASES["LSTM"])
    jaxpr = jax.make_jaxpr(jax.grad(lambda *args: total(run(engine.scan, *args))))(*args).jaxpr
    kernel = args[0]["recurrent_kernel"].shape

    def made(jaxpr):
        return [
            v.aval.shape for eqn in jaxpr.eqns if eqn.primitive.name == "dot_general" for v in eqn.outvars
        ]

    loops = [eqn.params["jaxpr"].jaxpr for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]
    assert loops
    assert made(jaxpr).count(kernel) == 1
    assert not any(kernel in made(loop) for loop in loops)


def test_linear_call_under_every_transformation():
    """A sum of products with a transpose that leaves a mark: three times the true one."""

    def product(w, x):
        return linear_call(lambda w, xs: [w @ xs[0]], lambda w, ys: [3 * (w.T @ ys[0])], w, [x])[0]

    w, x = jax.random.normal(jax.random.key(0), (2, 3)), jnp.arange(3.0)
    slope = jax.grad(lambda x: jnp.sum(product(w, x)))
    np.testing.assert_allclose(product(w, x), w @ x, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(product)(w, x), w @ x, rtol=1e-6)
    np.testing.assert_allclose(slope(x), 3 * w.sum(0), rtol=1e-6)
    np.testing.assert_allclose(jax.jvp(lambda x: product(w, x), (x,), (x,))[1], w @ x, rtol=1e-6)
    np.testing.assert_allclose(
        jax.grad(lambda w: jnp.sum(product(w, x)))(w), np.ones((2, 1)) * np.asarray(x), rtol=1e-6
    )
    many = jnp.stack([w, 2 * w])
    per_w = jax.vmap(jax.grad(lambda x, w: jnp.sum(product(w, x))), (None, 0))(x, many)
    np.testing.assert_allclose(per_w, 3 * many.sum(1), rtol=1e-6)
    together = jax.grad(lambda x: jnp.sum(jax.vmap(product, (0, None))(many, x)))(x)
    np.testing.assert_allclose(together, 9 * w.sum(0), rtol=1e-6)
