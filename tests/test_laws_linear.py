"""The laws of linear cells, over every one of the registry: their monoid, and long sequences. That they run
in parallel with the same result is law 5 in test_laws.py."""

import chex
import jax
import jax.numpy as jnp
import pytest

from tests.cases import REGISTERED, close, inputs, over, random_params, tick_of
from tests.laws import drawn, everything

pytestmark = pytest.mark.usefixtures("x64")
over_linear_cells = over({name: cell for name, cell in REGISTERED.items() if cell.linear})


@over_linear_cells
def test_7_monoid(cell):
    """Associative, with an identity; and a combined element does what its two do."""

    @jax.jit
    def sides(cell, params, carry, xs):
        weights, monoid = cell.prepare(params, like=tick_of(xs)), cell.monoid
        one = cell.project(weights, xs[0]).element
        a, b, c = (monoid.lift(cell.project(weights, x).element) for x in xs[:3])
        identity, combine, apply = monoid.identity(a), monoid.combine, monoid.apply
        exact = [(combine(identity, a), a), (combine(a, identity), a), (apply(identity, carry), carry)]
        exact.append((apply(monoid.identity(one), carry), carry))
        near = [(combine(combine(a, b), c), combine(a, combine(b, c)))]
        near += [
            (apply(combine(a, b), carry), apply(b, apply(a, carry))),
            (apply(a, carry), apply(one, carry)),
        ]
        return exact, near

    exact, near = sides(cell, *drawn(cell))
    for left, right in exact:
        chex.assert_trees_all_equal(left, right)
    for left, right in near:
        close(left, right)


@over_linear_cells
def test_7_long_and_finite(cell):
    """In single precision, tick by tick; in parallel, for every monoid, in test_unroll.py."""
    params, xs = random_params(cell), inputs(cell, 20_000, (), dtype=jnp.float32)
    if "recurrent_kernel" in params:  # nothing else keeps a dense one from growing
        kernel = params["recurrent_kernel"]
        params["recurrent_kernel"] = kernel / jnp.linalg.norm(kernel, 2)
    carry = cell.initial_carry(params, like=tick_of(xs))
    chex.assert_tree_all_finite(everything(cell, params, carry, xs, {}, parallel=False))
