"""Bodies that users write: any product gets the fast gradient; whatever else is there is left alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells.engine.body import read, stored_by_plain_scan
from rnncells.engine.scan import scan
from tests.cases import sparing

T, B, H = 5, 3, 4
exact = pytest.mark.usefixtures("x64")


def normal(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def heads(w, c, x):
    z = jnp.tanh(jnp.einsum("bhk,hkn->bhn", c, w) + x)
    return z, z


def kernel_first(w, c, x):
    z = jnp.tanh(jnp.einsum("nk,bk->bn", w, c) + x)
    return z, z


def matrix_times_vector(w, c, x):
    z = jnp.tanh(w @ c + x)
    return z, z


def middle_axis(w, c, x):
    z = jnp.tanh(jnp.einsum("ij,ajb->aib", w, c) + x)
    return z, z


def several_axes(w, c, x):
    z = jnp.tanh(jnp.einsum("ajb,jbic->aic", c, w) + x)
    return z, z


def heads_of_both(w, c, x):
    z = jnp.tanh(jnp.einsum("hkn,bkh->bnh", w, c) + x)
    return z, z


def unread(w, c, x):
    c @ (w + 1)
    z = jnp.tanh(c @ w + x)
    return z, z


def counts(w, c, x):
    h, t = c
    z = jnp.tanh(h @ w + x * t.astype(x.dtype))
    return (z, t + 1), z


def draws(w, c, x):
    h, key = c
    key, noise = jax.random.split(key)
    z = jnp.tanh(h @ w + x + jax.random.normal(noise, h.shape, h.dtype))
    return (z, key), z


BODIES = {
    "heads": (heads, (2, H, H), lambda: normal(B, 2, H), (B, 2, H)),
    "kernel first": (kernel_first, (H, H), lambda: normal(B, H), (B, H)),
    "matrix times vector": (matrix_times_vector, (H, H), lambda: normal(H), (H,)),
    "middle axis": (middle_axis, (H, H), lambda: normal(2, H, 3), (2, H, 3)),
    "several axes": (several_axes, (H, 3, H, 3), lambda: normal(2, H, 3), (2, H, 3)),
    "heads of both": (heads_of_both, (2, H, H), lambda: normal(B, H, 2), (B, H, 2)),
    "unread": (unread, (H, H), lambda: normal(B, H), (B, H)),
    "counts": (counts, (H, H), lambda: (normal(B, H), jnp.int32(0)), (B, H)),
    "draws": (draws, (H, H), lambda: (normal(B, H), jax.random.key(5)), (B, H)),
}


@exact
@pytest.mark.parametrize("name", sparing(BODIES))
def test_derivatives_equal_those_of_the_plain_scan(name):
    body, kernel, carry, x = BODIES[name]
    w, start, xs = 0.5 * normal(*kernel, seed=1), carry(), normal(T, *x, seed=2)

    def everything(run):
        def total(w, xs):
            last, ys = run(w, xs)
            return jnp.sum(jnp.sin(ys)) + jnp.sum(jnp.cos(jax.tree.leaves(last)[0]))

        slope = jax.grad(total, (0, 1))
        return total(w, xs), slope(w, xs), jax.jvp(slope, (w, xs), (w, xs))[1]

    fast = everything(lambda w, xs: scan(body, w, start, xs))
    plain = everything(lambda w, xs: jax.lax.scan(functools.partial(body, w), start, xs))
    for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def loops_of(jaxpr):
    return [eqn.params["jaxpr"].jaxpr for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]


def shapes_made(jaxpr):
    return [v.aval.shape for eqn in jaxpr.eqns if eqn.primitive.name == "dot_general" for v in eqn.outvars]


@pytest.mark.parametrize("name", ["heads", "kernel first", "matrix times vector"])
def test_the_gradient_of_a_kernel_is_one_product_outside_every_loop(name):
    body, kernel, carry, x = BODIES[name]
    w, start, xs = normal(*kernel), carry(), normal(T, *x)
    gradient = jax.grad(lambda w: jnp.sum(scan(body, w, start, xs)[1]))
    jaxpr = jax.make_jaxpr(gradient)(w).jaxpr
    assert shapes_made(jaxpr).count(kernel) == 1
    assert loops_of(jaxpr)
    assert not any(kernel in shapes_made(loop) for loop in loops_of(jaxpr))


def test_the_precision_of_a_product_is_that_of_its_derivatives():
    def body(w, c, x):
        z = jnp.tanh(jnp.matmul(c, w, precision="highest") + x)
        return z, z

    gradient = jax.grad(lambda w: jnp.sum(scan(body, w, normal(B, H), normal(T, B, H))[1]))
    text = str(jax.make_jaxpr(gradient)(normal(H, H)))
    assert text.count("dot_general") == 4  # forward in two branches, dz U^T, h^T dz
    assert text.count("HIGHEST") == 2 * 4


@pytest.mark.laws
def test_a_sum_of_many_products():
    """Deeper than Python's stack."""
    ws = [normal(2, 2, seed=i) / 50 for i in range(1500)]

    def body(ws, c, x):
        for w in ws:
            x = x + c @ w
        return jnp.tanh(x), x

    closed = jax.make_jaxpr(lambda ws, c, x: jax.tree.leaves(body(ws, c, x)))(ws, normal(1, 2), normal(1, 2))
    (node,) = read(closed.jaxpr, len(ws), 1).nodes
    assert len(node.products) == len(ws)


def test_nothing_is_stored_that_the_plain_scan_would_not_store():
    """Where less would do, the plain scan runs: relu leaves one bit of a number."""

    def program(function):
        def body(w, c, x):
            z = function(c @ w + x)
            return [z, z]

        closed = jax.make_jaxpr(body)(normal(H, H), normal(B, H), normal(B, H))
        return read(closed.jaxpr, 1, 1).stored, stored_by_plain_scan(closed, 1, 1)

    number = 4 * B * H
    assert program(jnp.tanh)[0] == 2 * number  # z and h
    assert program(jax.nn.relu) == (2 * number, number + B * H)  # h and the bit
    assert program(jnp.tanh)[0] <= program(jnp.tanh)[1]
