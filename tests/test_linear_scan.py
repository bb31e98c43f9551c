"""The monoids by themselves: associative, with an identity, and doing what a loop of `apply` does."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells.cells.memory.mlstm import KeyValueElement, KeyValueMemory
from rnncells.linear_scan import (
    Diagonal,
    DiagonalElement,
    LogElement,
    LogSpace,
    Matrix,
    MatrixElement,
    RankOne,
    RankOneElement,
    RunningMaximum,
    Scaled,
    ScaledElement,
    Shift,
    ShiftElement,
)
from rnncells.parts.arithmetic import select
from tests.cases import at, close, floating, pushed, random_like, scored

pytestmark = pytest.mark.usefixtures("x64")
T, B, H, K, V = 5, 3, 4, 2, 3


def shaped(*shape, dtype=jnp.float64):
    return jax.ShapeDtypeStruct(shape, dtype)


def drawn(like, count=T):
    """So many elements, or one state."""
    return random_like(jax.tree.map(lambda leaf: shaped(count, *leaf.shape, dtype=leaf.dtype), like))


VECTOR, MATRIX, WIDE = shaped(B, H), shaped(B, K, V), shaped(B, H, dtype=jnp.complex128)
NUMBER, KEY, HEADS, TWO = shaped(B), shaped(B, K), shaped(B, 2, K, V), (VECTOR, VECTOR)
CASES = {
    "diagonal": (Diagonal(), DiagonalElement(VECTOR, VECTOR), VECTOR),
    "complex diagonal": (Diagonal(), DiagonalElement(WIDE, WIDE), WIDE),
    "constant decay": (Diagonal(), DiagonalElement(shaped(1, H), VECTOR), VECTOR),
    "broadcast decay": (
        Diagonal(),
        DiagonalElement(shaped(B, 2, 1, 1), shaped(B, 2, K, V)),
        shaped(B, 2, K, V),
    ),
    "log space": (LogSpace(), LogElement(VECTOR, VECTOR), VECTOR),
    "matrix": (Matrix(), MatrixElement(shaped(B, K, K), MATRIX), MATRIX),
    "rank one": (RankOne(), RankOneElement(shaped(B, 1, 1), KEY, KEY, shaped(B, V)), MATRIX),
    "rank one, decay of rows": (RankOne(), RankOneElement(shaped(B, K, 1), KEY, KEY, shaped(B, V)), MATRIX),
    "maximum": (
        RunningMaximum(),
        ScaledElement(VECTOR, VECTOR, (VECTOR, VECTOR)),
        Scaled((VECTOR, VECTOR), VECTOR),
    ),
    "maximum of matrices": (RunningMaximum(), ScaledElement(NUMBER, NUMBER, MATRIX), Scaled(MATRIX, NUMBER)),
    "maximum alone": (RunningMaximum(), ScaledElement(VECTOR, VECTOR, ()), Scaled((), VECTOR)),
    "keys and values": (
        KeyValueMemory(),
        KeyValueElement(NUMBER, NUMBER, KEY, shaped(B, V)),
        Scaled((MATRIX, KEY), NUMBER),
    ),
    "shift": (Shift(3), ShiftElement(shaped(B, dtype=jnp.int32), VECTOR), shaped(B, 3, H)),
    "shift by one": (Shift(1), ShiftElement(shaped(B, dtype=jnp.int32), VECTOR), shaped(B, 1, H)),
}
over_monoids = pytest.mark.parametrize(("monoid", "element", "state"), CASES.values(), ids=CASES)


def elements_and_state(monoid, element, state):
    elements, state = drawn(element), at(drawn(state, 1), 0)
    if isinstance(monoid, Shift):
        elements = elements._replace(ticks=jnp.minimum(elements.ticks, 1))
        assert 0 < np.mean(elements.ticks) < 1
    return elements, jax.tree.map(jnp.abs, state) if isinstance(monoid, LogSpace) else state


@over_monoids
def test_laws_of_a_monoid(monoid, element, state):
    elements, state = elements_and_state(monoid, element, state)
    a, b, c = (monoid.lift(at(elements, i)) for i in range(3))
    combine, apply, identity = monoid.combine, monoid.apply, monoid.identity(a)
    close(combine(combine(a, b), c), combine(a, combine(b, c)))
    for same in (combine(identity, a), combine(a, identity)):
        chex.assert_trees_all_equal(same, a)
    chex.assert_trees_all_equal(combine(identity, identity), identity)
    close(apply(combine(a, b), state), apply(b, apply(a, state)))
    close(apply(a, state), apply(at(elements, 0), state))
    for nothing in (identity, monoid.identity(at(elements, 0))):
        chex.assert_trees_all_equal(apply(nothing, state), state)
    chex.assert_trees_all_equal_shapes_and_dtypes(identity, a)
    chex.assert_trees_all_equal_shapes_and_dtypes(monoid.identity(at(elements, 0)), at(elements, 0))


@pytest.mark.laws
@over_monoids
def test_an_associative_scan_is_a_loop(monoid, element, state):
    """With identities in between; slopes by elements and state, in both modes."""
    args = elements_and_state(monoid, element, state)
    exists = jnp.array([True, True, False, False, True])

    def some(elements):
        return select(exists, elements, jax.vmap(monoid.identity)(elements))

    def at_once(elements, state):
        prefix = jax.lax.associative_scan(monoid.combine, jax.vmap(monoid.lift)(some(elements)))
        return jax.vmap(monoid.apply, (0, None))(prefix, state)

    def one_by_one(elements, state):
        return jax.lax.scan(lambda state, a: (monoid.apply(a, state),) * 2, state, some(elements))[1]

    directions = random_like(floating(args), 3)
    close(
        *(
            jax.jit(lambda f=f: (scored(f, args), pushed(f, args, directions)))()
            for f in (at_once, one_by_one)
        )
    )


def test_what_an_element_does():
    """Each monoid against its equation."""
    cases = {name: elements_and_state(*case) for name, case in CASES.items()}
    (elements, state), a = cases["rank one"], at(cases["rank one"][0], 0)
    for b in range(B):
        left, right, value = (np.asarray(leaf[b])[:, None] for leaf in a[1:])
        s = np.asarray(state[b])
        expected = np.asarray(a.decay[b]) * (s - left @ (right.T @ s)) + left @ value.T
        np.testing.assert_allclose(RankOne().apply(a, state)[b], expected, atol=1e-12)
    elements, state = cases["matrix"]
    expected = np.einsum("bij,bjv->biv", elements.transition[0], state) + elements.update[0]
    np.testing.assert_allclose(Matrix().apply(at(elements, 0), state), expected, atol=1e-12)
    elements, state = cases["log space"]
    expected = np.exp(elements.log_decay[0]) * state + np.exp(elements.log_update[0])
    np.testing.assert_allclose(LogSpace().apply(at(elements, 0), state), expected, atol=1e-12)
    elements, state = cases["maximum of matrices"]
    a, after = at(elements, 0), RunningMaximum().apply(at(elements, 0), state)
    true = np.exp(a.log_decay + state.log_scale)[:, None, None] * state.values
    true = true + np.exp(a.log_update)[:, None, None] * a.values
    np.testing.assert_allclose(np.exp(after.log_scale)[:, None, None] * after.values, true, atol=1e-12)
    np.testing.assert_array_equal(after.log_scale, np.maximum(a.log_decay + state.log_scale, a.log_update))
    elements, state = cases["shift"]
    for t in range(T):
        a, before = at(elements, t), state
        state = Shift(3).apply(a, state)
        for b in range(B):
            rows = [*before[b], a.x[b]] if a.ticks[b] else before[b]
            np.testing.assert_array_equal(state[b], np.stack(rows)[-3:])


@pytest.mark.parametrize(
    "name", ["diagonal", "constant decay", "broadcast decay", "complex diagonal", "log space"]
)
def test_blending_and_shifting(name):
    """What zoneout and noise do to elements is what they do to states."""
    monoid, element, state = CASES[name]
    elements, state = elements_and_state(monoid, element, state)
    full = monoid.full(at(elements, 0))
    assert {leaf.shape for leaf in full} == {state.shape}
    after = monoid.apply(full, state)
    close(after, monoid.apply(at(elements, 0), state))
    rate = jnp.full_like(state, 0.3)
    close(monoid.apply(monoid.blend(full, rate), state), 0.3 * state + 0.7 * after)
    if isinstance(monoid, Diagonal):
        by = random_like(state, 4)
        close(monoid.apply(monoid.shift(full, by), state), after + by)


def test_running_maxima_of_extreme_exponents():
    """Nothing overflows, and nothing is lost that matters."""
    monoid = RunningMaximum()
    elements = ScaledElement(
        jnp.zeros((3, 1)), jnp.array([[-1e4], [1e4], [0.0]]), jnp.array([[2.0], [3.0], [5.0]])
    )
    state = Scaled(jnp.ones(1), jnp.full(1, -1e30))
    for i in range(3):
        state = monoid.apply(at(elements, i), state)
    np.testing.assert_array_equal(state.values, [3.0])
    np.testing.assert_array_equal(state.log_scale, [1e4])
