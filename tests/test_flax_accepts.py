"""What programs written for Flax's layers pass, in the forms in which they pass it."""

import functools

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core.meta import Partitioned, unbox

import rnncells
from rnncells import GRU, LSTM, Bidirectional, LearnedCarry, Stack, Timed, convert, unroll
from rnncells.linen import RNN, RNNCell
from tests import cases
from tests.cases import INPUT, B, T, random_like, random_params
from tests.layers import bare, inputs, ours, own, swapped
from tests.traits import Fading

KEY = jax.random.key(3)
XS = jax.random.normal(jax.random.key(0), (B, T, INPUT))
LENGTHS = np.array([T, 2, 0])
CELL = LSTM(4)
PARAMS = random_params(CELL)
CARRY = random_like(CELL.initial_carry(PARAMS, (B,)))
close = functools.partial(cases.close, atol=1e-5)


def modules(cell=CELL, params=PARAMS, **settings):
    return ours(cell, params, **settings)


def test_carries_as_plain_tuples_and_lists():
    expected = modules()[1](XS, initial_carry=CARRY)
    for layer in (*modules(), *own(CELL, PARAMS)):
        close(layer(XS, initial_carry=tuple(CARRY)), expected)
    for layer in modules():
        close(layer(XS, initial_carry=list(CARRY)), expected)
    by_time = swapped(XS)
    carry, ys = unroll(CELL, PARAMS, by_time, tuple(CARRY))
    close((carry, ys), unroll(CELL, PARAMS, by_time, CARRY))
    (c, h), scanned = jax.lax.scan(functools.partial(CELL, PARAMS), tuple(CARRY), by_time)
    close((c, h, scanned), (*carry, ys))
    deep = Stack([CELL, Bidirectional(GRU(4))])
    params = random_params(deep)
    start = random_like(deep.initial_carry(params, (B,)))
    plain = (tuple(start[0]), list(start[1]))
    close(unroll(deep, params, by_time, plain), unroll(deep, params, by_time, start))
    with pytest.raises(ValueError, match=r"carry: expected LSTMCarry\(cell=.*got tuple\("):
        modules()[0](XS, initial_carry=(CARRY.cell,))


def test_flags_as_zeros_and_ones(rng):
    resets, mask = rng.random((B, T)) < 0.4, rng.random((B, T)) < 0.7
    for layer in modules():
        expected = layer(XS, resets=resets, mask=mask)
        for dtype in (np.int32, np.float32, np.uint8):
            close(layer(XS, resets=resets.astype(dtype), mask=jnp.asarray(mask, dtype)), expected)
        traced = jax.jit(lambda resets, mask, layer=layer: layer(XS, resets=resets, mask=mask))
        close(traced(resets.astype(np.float32), mask.astype(np.int32)), expected)
        close(layer(XS, resets=resets.tolist(), mask=mask.astype(int).tolist()), expected)
        with pytest.raises(ValueError, match="resets: expected booleans, or zeros and ones, got 2"):
            layer(XS, resets=2.0 * resets)
        with pytest.raises(TypeError, match="mask: expected booleans"):
            layer(XS, mask=mask.astype(str))


def test_integer_and_list_inputs(rng):
    whole = rng.integers(-2, 3, (B, T, INPUT))
    for layer in modules():
        expected = layer(whole.astype(np.float32))
        for given in (whole.astype(np.int32), jnp.asarray(whole, jnp.int8), whole.tolist(), list(whole)):
            close(layer(given), expected)
        assert layer(XS > 0).dtype == jnp.float32
    half = rnncells.nnx.RNN(CELL, INPUT, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert half(whole.astype(np.int32)).dtype == jnp.bfloat16
    for layer in own(CELL, PARAMS):
        close(layer(jnp.asarray(whole, jnp.int32)), layer(jnp.asarray(whole, jnp.float32)))


@pytest.mark.parametrize(
    ("reverse", "keep_order"),
    [(False, False), (True, False), pytest.param(True, True, marks=pytest.mark.laws)],
)
def test_the_last_output_of_each_sequence(reverse, keep_order, rng):
    mask = rng.random((B, T)) < 0.6
    for given in ({}, {"seq_lengths": LENGTHS}, {"mask": mask}, {"seq_lengths": LENGTHS, "mask": mask}):
        options = given | {"reverse": reverse, "keep_order": keep_order}
        for layer, last in zip(modules(), modules(return_sequences=False), strict=True):
            carry, _ = layer(XS, **options, return_carry=True)
            got_carry, got = last(XS, **options, return_carry=True)
            close(got_carry, carry)
            alive = np.ones((B, T), bool) if "mask" not in given else mask
            if "seq_lengths" in given:
                alive = alive & (np.arange(T) < LENGTHS[:, None])
            seen = alive.any(1)
            close(got[seen], carry.hidden[seen])  # the output of an LSTM is a part of its state
            assert not np.any(got[~seen])
            time_major = {name: flags.T if name == "mask" else flags for name, flags in options.items()}
            by_time = layer(swapped(XS), **time_major, time_major=True, return_sequences=False)
            close(by_time, got)
            last_only, states = last(XS, **options, return_carries=True)
            close(last_only, got)
            close(states, layer(XS, **options, return_carries=True)[1])


def test_both_directions_with_the_last_outputs():
    both = flax.linen.Bidirectional(*(RNN(CELL, return_sequences=False) for _ in range(2)))
    variables = both.init(KEY, XS)
    got = both.apply(variables, XS, seq_lengths=jnp.asarray(LENGTHS))
    params = variables["params"]
    by_time = swapped(XS)
    ends = [
        unroll(CELL, params[name]["cell"], by_time, lengths=LENGTHS, reverse=reverse)[0].hidden
        for name, reverse in (("forward_rnn", False), ("backward_rnn", True))
    ]
    close(got, jnp.concatenate(ends, -1))


def test_lengths_of_8_bits_and_beyond_the_end_where_they_are_traced():
    xs = jax.random.normal(KEY, (2, 260, INPUT))
    for layer, whole in zip(modules(), (False, True), strict=True):
        run = functools.partial(layer, xs, reverse=True, return_sequences=whole)
        traced = jax.jit(lambda lengths, run=run: run(seq_lengths=lengths))
        close(traced(jnp.array([250, 3], jnp.uint8)), run(seq_lengths=np.array([250, 3])))
        close(traced(jnp.array([999, -4])), run(seq_lengths=np.array([260, 0])))


def boxed(init, *names):
    return flax.linen.with_partitioning(init, names)


@pytest.mark.laws
def test_flax_initialisers_with_and_without_partitioning():
    lecun = flax.linen.initializers.lecun_normal()
    ones = flax.linen.initializers.ones_init()
    cell = LSTM(4, kernel_init=lecun, bias_init=ones)
    params = RNN(cell).init(KEY, XS)["params"]["cell"]
    close(params["bias"], jnp.ones(16).at[4:8].add(1))  # and the forget bias
    spread = np.std(RNN(LSTM(200, kernel_init=lecun)).init(KEY, XS)["params"]["cell"]["kernel"])
    assert abs(spread - INPUT**-0.5) < 0.02
    assert "bias" not in RNN(LSTM(4, use_bias=False)).init(KEY, XS)["params"]["cell"]

    parts = boxed(lecun, None, "model"), boxed(ones, "model")
    cell = LSTM(4, kernel_init=parts[0], recurrent_init=parts[0], bias_init=parts[1])
    for layer, inside in ((RNN(cell), ("cell",)), (flax.linen.RNN(RNNCell(cell)), ("cell", "cell"))):
        variables = layer.init(KEY, XS)
        tree = functools.reduce(lambda tree, name: tree[name], inside, variables["params"])
        assert {name: box.names for name, box in tree.items()} == {
            "kernel": (None, "model"),
            "recurrent_kernel": (None, "model"),
            "bias": ("model",),
        }
        assert all(isinstance(box, Partitioned) for box in tree.values())
        assert tree["kernel"].value.shape == (INPUT, 16)
        close(layer.apply(variables, XS), layer.apply(unbox(variables), XS))
        slope = jax.grad(lambda variables, layer=layer: jnp.sum(layer.apply(variables, XS)))(variables)
        assert jax.tree.structure(slope) == jax.tree.structure(variables)
    by_time = swapped(XS)
    params = cell.init(KEY, INPUT)
    close(unroll(cell, params, by_time), unroll(cell, unbox(params), by_time))


def test_partitioning_in_nnx():
    cell = LSTM(4, kernel_init=boxed(flax.linen.initializers.lecun_normal(), None, "model"))
    mesh = jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        layer = rnncells.nnx.RNN(cell, INPUT, rngs=nnx.Rngs(0))
        spec = nnx.get_partition_spec(nnx.state(layer, nnx.Param))["cell_params"]["kernel"].get_value()
        assert spec == jax.sharding.PartitionSpec(None, "model")
        assert layer.cell_params["kernel"].get_value().sharding.spec == spec
        assert layer(XS).shape == (B, T, 4)


def test_initial_carries_from_an_initialiser():
    ones = flax.linen.initializers.ones_init()
    start = jax.tree.map(jnp.ones_like, CARRY)
    for layer, drawn in zip(modules(), modules(carry_init=ones), strict=True):
        close(drawn(XS), layer(XS, initial_carry=start))
        close(drawn(XS, initial_carry=CARRY), layer(XS, initial_carry=CARRY))
    close(RNNCell(CELL, carry_init=ones).initialize_carry(KEY, (B, INPUT)), start)
    inside = rnncells.nnx.RNNCell(CELL, INPUT, rngs=nnx.Rngs(0))
    close(inside.initialize_carry((B, INPUT), nnx.Rngs(0), carry_init=ones), start)

    normal = flax.linen.initializers.normal(1.0)
    linen, layer = modules(carry_init=normal)
    assert not np.allclose(linen(XS, init_key=KEY), linen(XS))
    assert not np.allclose(layer(XS, rngs=nnx.Rngs(carry=1)), layer(XS))
    c, h = RNNCell(CELL, carry_init=normal).initialize_carry(KEY, (B, INPUT))
    assert not np.allclose(c, h)
    around = flax.linen.RNN(RNNCell(CELL, carry_init=normal))
    close(
        around.apply({"params": {"cell": {"cell": PARAMS}}}, XS, init_key=KEY),
        modules()[1](XS, initial_carry=(c, h)),
    )


def test_an_initial_carry_draws_no_parameters(monkeypatch):
    """And has the dtypes of the computation, learned states included once there are parameters."""
    cell = Stack([LSTM(4), rnncells.LRU(4)])
    expected = cell.carry_shape(cell.init(KEY, INPUT, jnp.bfloat16), (B,))
    RNNCell(cell).initialize_carry(KEY, (B, INPUT))  # shapes are known from here on
    monkeypatch.setattr(Stack, "init", None)
    for dtypes in ({"dtype": jnp.bfloat16}, {"param_dtype": jnp.bfloat16}):
        carry = RNNCell(cell, **dtypes).initialize_carry(KEY, (B, INPUT))
        assert jax.tree.map(lambda a: (a.shape, a.dtype), carry) == jax.tree.map(
            lambda a: (a.shape, a.dtype), expected
        )
    monkeypatch.undo()
    learned = RNNCell(LearnedCarry(LSTM(4)))
    params = random_params(learned.cell)
    close(learned.initialize_carry(KEY, (B, INPUT)), LSTM(4).initial_carry(None, (B,)))
    bound = learned.bind({"params": {"cell": params}}).initialize_carry(KEY, (B, INPUT))
    close(bound, learned.cell.initial_carry(params, (B,)))


def test_arguments_of_flax_rnn_that_change_nothing():
    options = {
        "unroll": 4,
        "variable_axes": {"cache": 0},
        "variable_broadcast": "params",
        "variable_carry": False,
        "split_rngs": {"params": False},
    }
    variables = {"params": {"cell": PARAMS}}
    close(RNN(CELL, **options).apply(variables, XS), RNN(CELL).apply(variables, XS))
    layers = modules()[1], modules(unroll=4)[1]
    close(layers[0](XS), layers[1](XS))
    with pytest.raises(ValueError, match="unroll: expected a positive int, got 0"):
        RNN(CELL, unroll=0).apply(variables, XS)


def test_sizes_under_flax_names():
    for kind in (rnncells.nnx.RNN, rnncells.nnx.RNNCell):
        layer = kind(CELL, in_features=INPUT, hidden_features=4, rngs=nnx.Rngs(0))
        assert (layer.in_features, layer.hidden_features) == (INPUT, 4)
        with pytest.raises(
            ValueError, match=r"hidden_features: expected 4, those of LSTM\(features=4\), got 5"
        ):
            kind(CELL, in_features=INPUT, hidden_features=5, rngs=nnx.Rngs(0))


def test_weights_of_flax_cells():
    theirs = flax.linen.RNN(flax.linen.OptimizedLSTMCell(4))
    variables = theirs.init(KEY, XS)
    cell, params = convert.from_linen(variables)
    for layer in modules(cell, params):
        close(layer(XS), theirs.apply(variables, XS))


def test_inputs_with_elapsed_times():
    """Pytrees through both ways of Flax, through Flax's own RNN, and through a stack."""
    cell = Stack([Fading(4), LSTM(4), Fading(4)])
    params, xs = random_params(cell), inputs(cell)
    expected = bare(cell, params, xs)[1]
    assert not np.allclose(expected, bare(cell, params, xs.x)[1])
    layers, around = ours(cell, params), own(cell, params)
    for layer in (*layers, *around):
        close(layer(xs), expected)
        close(layer(swapped(xs), time_major=True), swapped(expected))
    lengths = jnp.array([T, 2, 1])
    options = {"seq_lengths": lengths, "reverse": True, "return_carry": True}
    carry, ys = around[0](xs, **options)
    valid = np.arange(T) < np.asarray(lengths)[:, None]
    for layer in (*layers, around[1]):
        got_carry, got = layer(xs, **options)
        close(got_carry, carry)
        close(got[valid], ys[valid])
    shapes = jax.tree.map(jnp.shape, params)
    assert jax.tree.map(jnp.shape, RNN(cell).init(KEY, xs)["params"]["cell"]) == shapes
    whole = Timed(jnp.ones((B, T, INPUT), int), jnp.ones((B, T, 1), int))
    close(layers[1](whole), layers[1](jax.tree.map(lambda x: x.astype(jnp.float32), whole)))
