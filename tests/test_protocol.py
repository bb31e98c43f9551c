"""What the protocol promises to authors and users of cells, beside the laws."""

import functools
from typing import Any

import chex
import flax.core
import flax.serialization
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rnncells import (
    CELLS,
    GRU,
    LSTM,
    MLSTM,
    Cell,
    Elman,
    LayerNorm,
    LeakyReLU,
    LowRank,
    MinGRU,
    RecurrentDropout,
    VariationalDropout,
    generate,
    number,
    static,
    unroll,
)
from rnncells.parts.gated import GatedCell
from rnncells.unroll import params_shape
from tests.cases import REGISTERED, over, random_params, sparing

T, B, H = 5, 3, 4
INPUT = 2
KEY = jax.random.key(0)


def xs_of(dtype=jnp.float32):
    return jax.random.normal(jax.random.key(1), (T, B, INPUT), dtype)


class Mixed(Cell):
    """h' = tanh(x W + |p| h / 2 + t / 8): its weights are complex, integer, and a wider constant."""

    features: int = static()
    rate: float = number(default=0.5)

    def init(self, key, input_size, dtype=jnp.float32):
        return {"kernel": jax.random.normal(key, (input_size, self.features), dtype)}

    def prepare(self, params, key=None, batch_shape=()):
        return {
            "kernel": params["kernel"],
            "phase": jax.lax.complex(jnp.ones(self.features), jnp.arange(float(self.features))),
            "order": jnp.arange(self.features)[::-1],
            "table": jnp.linspace(0, 1, 7, dtype=jnp.float32),
        }

    def project(self, weights, x, key=None):
        return x @ weights["kernel"]

    def step(self, weights, carry, drive):
        kept = jnp.abs(weights["phase"])[None].astype(carry.dtype) * carry[..., weights["order"]] / 2
        hidden = jnp.tanh(drive + kept + weights["table"][1].astype(carry.dtype))
        return hidden, hidden


@pytest.mark.parametrize("x_dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_promotion_happens_once(dtype, x_dtype):
    """unroll, __call__ and tick agree bit for bit whatever dtypes `prepare` makes."""
    cell, xs = Mixed(H), xs_of(x_dtype)
    params = cell.init(KEY, INPUT, dtype)
    last, ys = unroll(cell, params, xs)
    expected = jnp.bfloat16 if dtype == x_dtype == jnp.bfloat16 else jnp.float32
    assert ys.dtype == expected
    carry = cell.initial_carry(jax.tree.map(lambda leaf: leaf.astype(expected), params), (B,))
    scanned = jax.lax.scan(functools.partial(cell, params), carry, xs)
    chex.assert_trees_all_equal((last, ys), scanned)
    wide = jax.tree.map(lambda leaf: leaf.astype(expected), params)
    ticked = jax.lax.scan(functools.partial(cell.tick, cell.prepare(wide)), carry, xs.astype(expected))
    chex.assert_trees_all_equal((last, ys), ticked)


@pytest.mark.laws
def test_the_carry_before_init():
    for name, kind in CELLS.items():
        cell = kind(H)
        if name in ("CausalConvolution", "QRNN"):  # their window is as wide as the input
            with pytest.raises(ValueError, match="params: expected those of the cell"):
                cell.initial_carry(batch_shape=(B,))
            like = jax.ShapeDtypeStruct((B, INPUT), jnp.float32)
            carry = cell.initial_carry(batch_shape=(B,), like=like)
        else:
            carry = cell.initial_carry(batch_shape=(B,))
        chex.assert_trees_all_equal(carry, cell.initial_carry(cell.init(KEY, INPUT), (B,)))


@over(REGISTERED)
def test_the_initial_carry_can_be_donated(cell):
    """No array of it is there twice."""
    params = cell.init(KEY, INPUT)
    step = jax.jit(cell, donate_argnums=1)
    _, y = step(params, cell.initial_carry(params, (B,)), xs_of()[0])
    assert np.isfinite(y).all()
    leaves = jax.tree.leaves(cell.initial_carry(params, (B,)))
    assert len({id(leaf) for leaf in leaves}) == len(leaves)


@pytest.mark.parametrize(
    "cell", [LayerNorm(GRU(H)), LSTM(H), LowRank(LSTM(H), rank=2)], ids=lambda c: type(c).__name__
)
def test_params_of_any_mapping(cell):
    params, xs = random_params(cell, input_size=INPUT), xs_of()
    expected = unroll(cell, params, xs)
    frozen = flax.core.freeze(params)
    state = nnx.State(jax.tree.map(nnx.Param, params))
    for given in (frozen, state):
        chex.assert_trees_all_equal(unroll(cell, given, xs), expected)
        carry = cell.initial_carry(given, (B,))
        chex.assert_trees_all_equal(carry, cell.initial_carry(params, (B,)))
        chex.assert_trees_all_equal(cell(given, carry, xs[0]), cell(params, carry, xs[0]))
    assert not np.allclose(expected[1], unroll(GRU(H), GRU(H).init(KEY, INPUT), xs)[1])


class Operator(GatedCell):
    """An Elman network that multiplies with @."""

    gates = ("h",)
    keep = "h"

    def step(self, weights, carry, drive):
        hidden = jnp.tanh(drive + carry @ weights["recurrent_kernel"])
        return hidden, hidden


@pytest.mark.parametrize("wrapper", [VariationalDropout, RecurrentDropout, LowRank, LayerNorm])
def test_the_operator_works_under_every_wrapper(wrapper):
    options: dict[str, Any] = {"rank": 2} if wrapper is LowRank else {}
    options |= {"rate": 0.5} if "Dropout" in wrapper.__name__ else {}
    ours, theirs = wrapper(Operator(H), **options), wrapper(Elman(H), **options)
    params = theirs.init(KEY, INPUT)
    assert ours.init(KEY, INPUT).keys() == params.keys()
    chex.assert_trees_all_close(
        unroll(ours, params, xs_of(), key=KEY), unroll(theirs, params, xs_of(), key=KEY), rtol=1e-6
    )


def test_structures_know_their_class():
    """Or a program compiled for one cell could serve another one with the same fields."""
    kinds = [kind(H) for kind in (*CELLS.values(), Operator)]
    kinds += [wrapper(GRU(H), rate=0.5) for wrapper in (VariationalDropout, RecurrentDropout)]
    structures = [jax.tree.structure(cell) for cell in kinds]
    for i, one in enumerate(structures):
        assert [i] == [j for j, other in enumerate(structures) if one == other]


def test_flax_saves_the_numbers_of_a_cell():
    cell = VariationalDropout(GRU(H), rate=0.5)
    state = flax.serialization.to_state_dict(cell.replace(rate=0.25))
    assert state["rate"] == 0.25
    assert flax.serialization.from_state_dict(cell, state) == VariationalDropout(GRU(H), rate=0.25)
    with pytest.raises(ValueError, match="rate"):
        flax.serialization.from_state_dict(cell, {"cell": state["cell"]})


class NotTraceable(Elman):
    """An Elman network whose init computes with NumPy."""

    def init(self, key, input_size, dtype=jnp.float32):
        seed = int(np.asarray(jax.random.key_data(key)).sum())
        drawn = np.random.default_rng(seed).normal(size=(input_size + self.features, self.features))
        return {
            "kernel": jnp.asarray(drawn[:input_size], dtype),
            "recurrent_kernel": jnp.asarray(drawn[input_size:], dtype),
            "bias": jnp.zeros(self.features, dtype),
        }


def test_an_init_that_cannot_be_traced():
    cell = NotTraceable(H)
    params = cell.init(KEY, INPUT)
    run = functools.partial(unroll, cell)
    chex.assert_trees_all_close(jax.jit(run)(params, xs_of()), run(params, xs_of()))
    chex.assert_trees_all_close(run(params, xs_of()), unroll(Elman(H), params, xs_of()))
    with pytest.raises(ValueError, match="params: for xs with 3 features"):
        run(params, jnp.ones((T, B, 3)))


def test_shapes_are_traced_once(monkeypatch):
    traced = []
    init = GRU.init

    def counted(self, *given):
        traced.append(given)
        return init(self, *given)

    monkeypatch.setattr(GRU, "init", counted)
    params = init(GRU(7), KEY, INPUT)
    for bias in (0.0, 0.25, 0.5):
        unroll(GRU(7, forget_bias=bias), params, xs_of())
        generate(GRU(7, forget_bias=bias), params, xs_of()[0], 2, lambda y, key: (y[..., :INPUT], y))
    assert len(traced) == 1
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        lambda leaf: leaf.shape, params_shape(GRU(7), INPUT)
    )


@pytest.mark.parametrize("options", sparing([{"lengths": True, "reverse": True}, {}, {"remat_every": 4}]))
@pytest.mark.parametrize("cell", [LSTM(H), MinGRU(H), MLSTM(H)], ids=lambda cell: type(cell).__name__)
def test_export_with_symbols_for_batch_and_time(cell, options):
    params = cell.init(KEY, INPUT)
    given = dict(options)
    with_lengths = given.pop("lengths", False)

    def run(params, xs, lengths):
        return unroll(cell, params, xs, lengths=lengths if with_lengths else None, **given)

    t, b = jax.export.symbolic_shape("t, b", constraints=["t >= 1", "b >= 1"])
    xs = jax.ShapeDtypeStruct((t, b, INPUT), jnp.float32)
    lengths = jax.ShapeDtypeStruct((b,), jnp.int32)
    exported = jax.export.export(jax.jit(run), platforms=("cpu", "cuda", "tpu"))(params, xs, lengths)
    for shape in ((7, 3, INPUT), (8, 1, INPUT), (3, 2, INPUT)):
        xs = jax.random.normal(KEY, shape)
        lengths = jnp.arange(shape[1], dtype=jnp.int32) + 1
        chex.assert_trees_all_close(
            exported.call(params, xs, lengths), run(params, xs, lengths), rtol=1e-5, atol=1e-6
        )


def test_activations_with_numbers():
    def slope(number):
        cell = Elman(H, activation=LeakyReLU(number))
        return unroll(cell, params, xs_of())[1].sum()

    params = Elman(H).init(KEY, INPUT)
    swept = jax.vmap(slope)(jnp.array([0.0, 0.1]))
    relu = unroll(Elman(H, activation="relu"), params, xs_of())[1].sum()
    np.testing.assert_allclose(swept[0], relu, rtol=1e-6)
    assert jax.grad(slope)(0.1) != 0
    assert Elman(H, activation=LeakyReLU(0.1)) == Elman(H, activation=LeakyReLU(0.1)) != Elman(H)
    assert Elman(H, activation=jax.nn.relu) == Elman(H, activation="relu")
    assert "relu" in repr(Elman(H, activation="relu"))
