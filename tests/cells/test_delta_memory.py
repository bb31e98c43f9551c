"""Memories that unlearn what they recall, and one that a network writes with its own states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import DeltaNet, FastWeightProgrammer, FastWeights, GatedDeltaNet
from tests.cases import FEATURES, INPUT
from tests.cells.common import (
    B,
    T,
    assert_close,
    in_numpy,
    outputs,
    params_of,
    random_state,
    sequence,
    ticks,
)

pytestmark = pytest.mark.usefixtures("x64")


def written_once(cell, weights, xs, write, state=None):
    """The state after values under keys, with the writing strength given, and the elements."""
    state = cell.initial_carry(weights, xs.shape[1:-1]) if state is None else state
    elements = []
    for x in xs:
        element = cell.project(weights, x).element
        elements.append(element._replace(left=write * element.right))
        state = cell.monoid.apply(elements[-1], state)
    return state, elements


def recalled(state, key):
    return np.einsum("...k,...kv->...v", key, state)


def test_delta_nets_replace_what_was_under_a_key():
    """Written fully, b = 1: the value comes back, and the one before it under the same key is gone."""
    cell = DeltaNet(4, heads=2)
    params, xs = params_of(cell), np.array(sequence())
    state, elements = written_once(cell, params, xs, 1.0)
    length = jnp.sum(elements[-1].right ** 2, -1, keepdims=True)
    np.testing.assert_allclose(recalled(state, elements[-1].right), length * elements[-1].value, atol=1e-4)
    assert np.abs(length - 1).max() < 1e-3
    again = elements[-1]._replace(value=-elements[0].value)
    np.testing.assert_allclose(recalled(cell.monoid.apply(again, state), again.right), again.value, atol=1e-3)
    before = random_state(cell, params)
    assert_close(written_once(cell, params, xs, 0.0, before)[0], before)


def test_delta_nets_never_lengthen_a_memory():
    cell = DeltaNet(4, heads=2)
    params = params_of(cell) | {"kernel": jnp.zeros((INPUT, 4))}
    states, _ = ticks(cell, params, carry=random_state(cell, params))
    size = np.stack([np.linalg.norm(state, 2, (-2, -1)) for state in states])
    assert np.all(np.diff(size, axis=0) <= 1e-12)
    assert np.all(np.diff(np.linalg.norm(np.stack(states), axis=(-2, -1)), axis=0) < 0)


def test_gated_delta_nets_that_write_nothing_decay():
    cell = GatedDeltaNet(4, heads=2)
    params = params_of(cell)
    carry = random_state(cell, params)
    state, elements = written_once(cell, params, sequence(), 0.0, carry)
    decay = np.exp(sum(element.log_decay for element in elements))
    assert_close(state, decay[..., None] * carry)
    assert np.all((decay > 0) & (decay < 1))


def test_keys_of_fast_weight_programmers_part_the_plane():
    """One number for each quadrant, so that four keys never meet; positive and of sum one in any case."""
    cell = FastWeightProgrammer(2, epsilon=1e-12)
    quadrants = np.array([[1.0, 2.0], [-1.0, 2.0], [-2.0, -0.5], [1.0, -3.0]])
    params = {
        "key_kernel": jnp.eye(2, 4, 2),
        "kernel": jnp.array([[1.0, 2.0], [3.0, -1.0]]),
        "write_kernel": jnp.zeros((2, 1)),
        "output_kernel": jnp.eye(2),
    }
    state, elements = written_once(cell, params, jnp.asarray(quadrants), 1.0)
    keys = np.stack([element.right[0] for element in elements])
    assert_close(keys @ keys.T, np.eye(4))
    for key, x in zip(keys, quadrants, strict=True):
        assert_close(recalled(state[0], key), x @ params["kernel"])
    wide = FastWeightProgrammer(4, heads=2, nu=3, epsilon=1e-12)
    drawn = wide.project(params_of(wide), sequence()).element.right
    assert drawn.shape == (T, B, 2, 12)
    assert drawn.min() == 0
    assert_close(drawn.sum(-1), np.ones((T, B, 2)))


@pytest.mark.parametrize("inner_steps", [1, 3])
def test_fast_weights_attend_to_the_states_that_there_were(inner_steps):
    """The paper's own view: no matrix, but all states so far, each by its product with the one that asks."""
    cell = FastWeights(FEATURES, inner_steps=inner_steps, activation="tanh")
    params = params_of(cell)
    p, xs = in_numpy(params)
    past = []
    h = np.zeros((B, FEATURES))
    for x, y in zip(xs, outputs(cell, params), strict=True):
        past.append(h)
        z = x @ p["kernel"] + h @ p["recurrent_kernel"] + p["bias"]
        h = np.tanh(z)
        for _ in range(inner_steps):
            ages = range(len(past))[::-1]
            seen = sum(
                0.5 * 0.95**age * then * (then * h).sum(-1, keepdims=True)
                for age, then in zip(ages, past, strict=True)
            )
            v = z + seen
            v = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5)
            h = np.tanh(p["scale"] * v + p["shift"])
        assert_close(y, h)


def test_fast_weights_are_symmetric_and_fade():
    cell = FastWeights(FEATURES)
    params = params_of(cell)
    states, _ = ticks(cell, params)
    memory = np.asarray(states[-1].memory)
    assert np.abs(memory).max() > 0.1
    assert_close(memory, memory.swapaxes(-1, -2))
    assert np.linalg.eigvalsh(memory).min() > -1e-12
    silent = ticks(FastWeights(FEATURES, rate=0.0), params, carry=states[-1])[0]
    assert_close(silent[-1].memory, 0.95 ** len(sequence()) * memory)


def test_fast_weights_start_slow():
    """And with nothing written they are a recurrent network whose second pass is normalised."""
    params = FastWeights(FEATURES).init(jax.random.key(0), INPUT)
    np.testing.assert_allclose(params["recurrent_kernel"], 0.05 * np.eye(FEATURES), rtol=1e-6)
    cell = FastWeights(FEATURES, rate=0.0, activation="tanh")
    params = params_of(cell)
    p, xs = in_numpy(params)
    h = np.zeros((B, FEATURES))
    for x, y in zip(xs, outputs(cell, params), strict=True):
        v = x @ p["kernel"] + h @ p["recurrent_kernel"] + p["bias"]
        v = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5)
        h = np.tanh(p["scale"] * v + p["shift"])
        assert_close(y, h)
