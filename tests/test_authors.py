"""What authors of cells may write, and `unroll` then carries: noise, learned states, inputs of any form."""

import functools
from typing import ClassVar

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import LRU, LSTM, QRNN, RHN, Cell, MinGRU, Zoneout, unroll
from rnncells.fields import Pytree
from tests.cases import INPUT, B, close, inputs, random_params, run, sparing
from tests.references.loops import loops
from tests.traits import Learned, Noisy, NoisyMinGRU, Pairs

T = 7


@pytest.mark.parametrize("cell", [Noisy(4), NoisyMinGRU(4)], ids=["Noisy", "NoisyMinGRU"])
@pytest.mark.parametrize("key", sparing([jax.random.key(5), jax.random.PRNGKey(5)]), ids=["typed", "raw"])
def test_noise_is_the_same_inside_outside_and_by_hand(cell, key):
    params, xs = random_params(cell), inputs(cell, T, dtype=jnp.float32)
    weights, carry, by_hand = cell.prepare(params, key, (B,)), cell.initial_carry(params, (B,)), []
    tick = jax.jit(cell.tick)
    for t, x in enumerate(xs):
        carry, y = tick(weights, carry, x, jax.random.fold_in(key, t))
        by_hand.append(y)
    expected = carry, jnp.stack(by_hand)
    ways = ({}, {"remat_every": 2}, {"truncate_every": 3}, *([{"parallel": True}] if cell.linear else []))
    for options in ways:
        close(run(cell, params, xs, key=key, **options), expected, atol=1e-5)
    assert not np.allclose(run(cell, params, xs)[1], expected[1])
    first = cell(params, cell.initial_carry(params, (B,)), xs[0], key)
    close(first[1], expected[1][0], atol=1e-6)


def test_a_learned_state_gets_its_gradient_at_every_reset():
    cell = Learned(4)
    params, xs = random_params(cell), inputs(cell, T, dtype=jnp.float32)
    resets = np.zeros((T, B), bool)
    resets[4] = True

    def slope(f):
        return jax.grad(lambda params: jnp.sum(f(cell, params, xs, resets=resets)))(params)

    found = slope(lambda *args, **options: run(*args, **options)[1])
    expected = slope(lambda *args, **options: loops(*args, **options)[1][0])
    chex.assert_trees_all_close(found, expected, atol=1e-4)
    assert np.abs(expected["carry"]).min() > 0


def test_pytree_inputs():
    cell = Pairs(2)
    params = cell.init(jax.random.key(0), 2)
    value = jax.random.normal(jax.random.key(0), (T, B, 2))
    gate = jax.random.normal(jax.random.key(1), (T, B, 1))
    _, ys = unroll(cell, params, {"value": value, "open": gate}, lengths=[T, 2, 0], remat_every=3)
    expected = np.cumsum(np.where(gate > 0, value, 0), 0)
    np.testing.assert_allclose(ys[:, 0], expected[:, 0], rtol=1e-5)
    np.testing.assert_allclose(ys[:2, 1], expected[:2, 1], rtol=1e-5)
    assert not np.any(ys[2:, 1])


@flax.struct.dataclass
class Leaky(Cell):
    """A cell as somebody outside writes it: Flax's own decorator, fields and plain annotations."""

    features: int = flax.struct.field(pytree_node=False)
    leak: float = 0.1

    def init(self, key, input_size, dtype=jnp.float32):
        return {"w": jnp.ones((input_size, self.features), dtype)}

    def initial_carry(self, params, batch_shape=()):
        return jnp.zeros((*batch_shape, self.features), params["w"].dtype)

    def project(self, weights, x, key=None):
        return x @ weights["w"]

    def step(self, weights, carry, drive):
        leak = jnp.asarray(self.leak, drive.dtype)
        carry = (1 - leak) * carry + leak * jnp.tanh(drive)
        return carry, carry


def test_a_cell_from_outside():
    cell = Leaky(2)
    assert hash(cell) == hash(Leaky(2, leak=0.1))
    params, xs = cell.init(jax.random.key(0), INPUT), inputs(cell, T, dtype=jnp.float32)
    slope = jax.grad(lambda leak: jnp.sum(unroll(Leaky(2, leak), params, xs, lengths=[T, 2, 0])[1]))(0.3)
    assert np.isfinite(slope)
    assert slope != 0
    expected, _ = loops(cell, params, xs, lengths=[T, 2, 0])
    close(unroll(cell, params, xs, lengths=[T, 2, 0])[0], expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"Leaky.leak: expected finite"):
        unroll(Leaky(2, float("nan")), params, xs)
    with pytest.raises(ValueError, match="params: for xs with 4 features Leaky"):
        unroll(cell, params, jnp.zeros((T, B, 4)))


def test_numbers_become_arrays_without_losing_the_type():
    cell = LSTM(4, forget_bias=jnp.ones(4))
    assert isinstance(cell, Pytree)
    assert jax.tree.map(lambda leaf: leaf * 2, cell).forget_bias.tolist() == [2.0] * 4
    params = cell.init(jax.random.key(0), INPUT)
    np.testing.assert_array_equal(params["bias"][4:8], np.ones(4))


class Unchunked(MinGRU):
    """Takes many ticks at once, and leaves to `LinearCell` how."""

    chunk_size: ClassVar[int | None] = 4


def test_a_chunk_is_its_ticks_unless_a_cell_knows_better():
    xs, cell = jax.random.normal(jax.random.key(1), (10, 2, 3)), Unchunked(4)
    params = cell.init(jax.random.key(0), 3)
    ticked = jax.lax.scan(functools.partial(cell, params), cell.initial_carry(params, (2,)), xs)
    close(unroll(cell, params, xs, parallel=True), ticked, atol=1e-6)


def test_what_a_class_derives_from_the_defaults_of_its_fields():
    assert (QRNN.gates, QRNN(3, pooling="f").gates) == (("z", "f", "o"), ("z", "f"))
    assert (RHN.gates[:3], RHN(3, depth=1).gates) == (("h_1", "t_1", "h_2"), ("h_1", "t_1"))
    assert Zoneout(LRU(3), rate=0.5).linear


def test_a_cell_with_an_array_for_a_number_is_shown():
    assert repr(Zoneout(LSTM(3), rate=jnp.array(0.2))) == "Zoneout(cell=LSTM(features=3), rate=float32[])"
