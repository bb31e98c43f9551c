"""What each wrapper computes, against NumPy or against what its docstring says."""

import functools
import pickle

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rnncells
from rnncells import (
    CELLS,
    GRU,
    LSTM,
    Bidirectional,
    ConvGRU,
    DropConnect,
    Elman,
    ExpRNN,
    Highway,
    LayerNorm,
    LayerNormLSTM,
    LearnedCarry,
    LowRank,
    LSTMCarry,
    MinGRU,
    Projection,
    RecurrentDropout,
    Residual,
    RMSNorm,
    Stack,
    StateNoise,
    VariationalDropout,
    WeightNorm,
    Zoneout,
    generate,
    unroll,
)
from rnncells.initializers import Identity, Zeros
from tests import reference
from tests.cases import over, random_params

T, B, H = 6, 3, 5
KEY = jax.random.key(1)


def close(a, b, atol=1e-11):
    """Equal up to rounding, and finite: NaN equals NaN elsewhere."""
    chex.assert_tree_all_finite((a, b))
    chex.assert_trees_all_close(a, b, atol=atol, rtol=atol)


exact = pytest.mark.usefixtures("x64")


def setup(cell, size=H, batch=B, length=T):
    params = random_params(cell, input_size=size, dtype=jnp.float64)
    return params, jax.random.normal(jax.random.key(2), (length, batch, size), jnp.float64)


def numpy(tree):
    return jax.tree.map(np.asarray, tree)


def ticks(cell, params, xs, change):
    """The bare cell's reference, with `change(old, new) -> state` after every tick; states, outputs."""
    step = reference.REFERENCES[type(cell).__name__]
    state = numpy(cell.initial_carry(params, xs.shape[1:2]))
    states = []
    for t, x in enumerate(np.asarray(xs)):
        new, _ = step(cell, numpy(params), state, x)
        state = jax.tree.map(functools.partial(change, t), tuple(state), tuple(new))
        states.append(state)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


@exact
def test_zoneout_without_a_key_is_the_expectation():
    cell = Zoneout(LSTM(H), rate=LSTMCarry(cell=0.5, hidden=0.05))
    params, xs = setup(cell)
    _, (ys, carries) = unroll(cell, params, xs, return_carries=True)
    rates = iter([0.5, 0.05] * T)
    expected = ticks(LSTM(H), params, xs, lambda t, old, new: (p := next(rates)) * old + (1 - p) * new)
    close(tuple(carries), expected)
    close(ys, expected[1])


@exact
@pytest.mark.parametrize("inner", [LSTM(H), GRU(H), MinGRU(H), LayerNormLSTM(H), MinGRU(H, log_space=True)])
def test_zoneout_keeps_units_at_its_rate(inner):
    """With a key every unit is its old value or what the cell makes of the old state, and often enough."""
    cell = Zoneout(inner, rate=0.3)
    params, xs = setup(cell, batch=40)
    _, (ys, carries) = unroll(cell, params, xs, key=KEY, return_carries=True)
    before = jax.tree.map(
        lambda leaf, start: jnp.concatenate([start[None], leaf[:-1]]),
        carries,
        cell.initial_carry(params, (40,)),
    )
    new = jax.vmap(lambda carry, x: inner(params, carry, x)[0])(before, xs)
    for old, made, now in zip(*map(jax.tree.leaves, (before, new, carries)), strict=True):
        kept, taken = np.abs(now - old) < 1e-12, np.abs(now - made) < 1e-12
        assert (kept | taken).all()
        assert np.mean(kept) == pytest.approx(0.3, abs=0.03)
    np.testing.assert_array_equal(ys, jax.tree.leaves(carries)[-1])


@exact
@pytest.mark.parametrize("key", [None, KEY], ids=["", "key"])
@over({name: kind(H) for name, kind in CELLS.items()})
def test_zoneout_at_its_ends(cell, key):
    """At rate 0 it is the cell; at rate 1 nothing moves, outputs included, inside jit and outside."""
    inner = cell
    params, xs = setup(inner)
    close(unroll(Zoneout(inner, rate=0.0), params, xs, key=key), unroll(inner, params, xs))
    cell = Zoneout(inner, rate=1.0)
    frozen, ys = unroll(cell, params, xs, key=key)
    y, pull = jax.vjp(lambda params: cell(params, frozen, xs[0], key)[1], params)
    for leaf in jax.tree.leaves((frozen, ys, y, pull(jnp.ones_like(y)))):
        assert not np.any(leaf)


@exact
def test_zoneout_of_a_linear_cell_is_its_own_mean():
    """s is linear in each mask, and masks are independent: the mean over keys is the run without."""
    cell = Zoneout(MinGRU(H), rate=0.4)
    params, xs = setup(cell)
    ys = jax.vmap(lambda key: unroll(cell, params, xs, key=key)[1])(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(ys.mean(0), unroll(cell, params, xs)[1], atol=0.06)


@exact
@pytest.mark.parametrize("inner", [GRU(H), MinGRU(H)])
def test_state_noise(inner):
    """What a tick adds to the state of the bare cell is normal, and accumulates in it."""
    cell = StateNoise(inner, stddev=0.5)
    params, xs = setup(cell, batch=400)
    _, (ys, carries) = unroll(cell, params, xs, key=KEY, return_carries=True)
    before = jnp.concatenate([cell.initial_carry(params, (400,))[None], carries[:-1]])
    noise = carries - jax.vmap(lambda carry, x: inner(params, carry, x)[0])(before, xs)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1
    np.testing.assert_array_equal(ys, carries)
    close(unroll(cell, params, xs), unroll(inner, params, xs))
    slope = jax.grad(lambda s: jnp.sum(unroll(StateNoise(inner, stddev=s), params, xs, key=KEY)[1]))(0.5)
    assert np.isfinite(slope)
    assert slope != 0


def masks_of(weights, name="recurrent_kernel"):
    return np.asarray(weights[name].mask)


@exact
def test_variational_dropout_has_one_mask_per_sequence():
    cell = VariationalDropout(LSTM(H), rate=0.25, input_rate=0.5)
    params, xs = setup(cell)
    weights = cell.prepare(params, KEY, (B,))
    on_x, on_h = masks_of(weights, "kernel"), masks_of(weights)
    assert on_x.shape == on_h.shape == (B, H)
    state = (np.zeros((B, H)), np.zeros((B, H)))
    outputs = []
    for x in np.asarray(xs):
        (c, h), _ = reference.lstm(LSTM(H), numpy(params), (state[0], state[1] * on_h), x * on_x)
        state = (c, h)
        outputs.append(h)
    close(unroll(cell, params, xs, key=KEY)[1], np.stack(outputs))
    close(unroll(cell, params, xs), unroll(LSTM(H), params, xs))


@exact
def test_variational_dropout_leaves_the_memory_of_a_gru():
    """Only products see the mask: with z = 1 the state stays, however much is dropped."""
    cell = VariationalDropout(GRU(H), rate=1.0)
    params, xs = setup(cell)
    params = {**params, "bias": params["bias"].at[H : 2 * H].set(1e3)}
    carry = jnp.ones((B, H))
    close(unroll(cell, params, xs, carry, key=KEY)[0], carry)


def test_dropout_rates():
    """The share of what is dropped, and that the rest is scaled so that the mean stays."""
    params = Elman(200).init(KEY, 300)
    weights = VariationalDropout(Elman(200), rate=0.25, input_rate=0.6).prepare(params, KEY, (50,))
    for mask, rate in ((masks_of(weights), 0.25), (masks_of(weights, "kernel"), 0.6)):
        np.testing.assert_allclose(np.unique(mask), [0, 1 / (1 - rate)], rtol=1e-6)
        assert np.mean(mask == 0) == pytest.approx(rate, abs=0.02)
    kernel = DropConnect(Elman(200), rate=0.25).prepare(params, KEY, (50,))["recurrent_kernel"]
    dropped = np.asarray(kernel == 0)
    assert dropped.mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(kernel, np.where(dropped, 0, params["recurrent_kernel"] / 0.75), rtol=1e-6)


@pytest.mark.parametrize("rate", [0.003, 0.05])
def test_small_rates_in_16_bits(rate):
    """bfloat16 has no 0.997: rates are compared in 32 bits."""
    xs = jnp.ones((1, 4000, 50), jnp.bfloat16)
    inner = GRU(50)
    params = inner.init(KEY, 50, jnp.bfloat16)
    kept = unroll(Zoneout(inner, rate=rate), params, xs, key=KEY)[1] == 0
    assert float(jnp.mean(kept)) == pytest.approx(rate, rel=0.15)
    dropped = VariationalDropout(inner, rate=rate).prepare(params, KEY, (4000,))["recurrent_kernel"].mask == 0
    assert float(jnp.mean(dropped)) == pytest.approx(rate, rel=0.15)


def agreement(a, b):
    return np.mean(np.asarray(a) == np.asarray(b))


def test_noise_of_prepare_of_ticks_and_of_feeding_is_independent():
    """With partitionable keys `split(key)[i]` is `fold_in(key, i)`: no stream may be the other's."""
    inner = VariationalDropout(GRU(64), rate=0.5)
    params = inner.init(KEY, 64)
    locked_mask = masks_of(inner.prepare(params, KEY, (64,))) == 0
    for t in range(3):
        for key in (jax.random.fold_in(KEY, t), *jax.random.split(jax.random.fold_in(KEY, t))):
            own = masks_of(inner.prepare(params, key, (64,))) == 0
            assert agreement(locked_mask, own) == pytest.approx(0.5, abs=0.05)
            assert agreement(locked_mask, jax.random.bernoulli(key, 0.5, (64, 64))) < 0.6
    cell = DropConnect(Elman(64), rate=0.5)
    params = cell.init(KEY, 64)

    def feed(y, key):
        return y, jnp.stack([jax.random.bernoulli(k, 0.5, (64, 64)) for k in (key, *jax.random.split(key))])

    fed = generate(cell, params, jnp.ones(64), 2, feed, key=KEY)[1]
    kept = np.asarray(cell.prepare(params, KEY)["recurrent_kernel"] != 0)
    for mask in fed.reshape(-1, 64, 64):
        assert agreement(mask, kept) == pytest.approx(0.5, abs=0.05)


def test_a_wrapper_with_a_tick_of_its_own_is_not_passed_by():
    cell = Clipped(Stack([GRU(H), GRU(H)]))
    params = random_params(cell, input_size=H)
    carry, _ = unroll(cell, params, jnp.ones((T, B, H)))
    assert all(np.abs(leaf).max() <= 0.01 for leaf in jax.tree.leaves(carry))


class Clipped(rnncells.Wrapper):
    """A user's wrapper: the state is kept small."""

    def step(self, weights, carry, drive):
        carry, out = super().step(weights, carry, drive)
        return jax.tree.map(lambda leaf: jnp.clip(leaf, -0.01, 0.01), carry), out


def test_weight_norm_of_zeros():
    cell = WeightNorm(Elman(2, recurrent_init=Zeros()))
    params = cell.init(KEY, 3)
    slope = jax.grad(lambda p: unroll(cell, p, jnp.ones((T, 3)))[1].sum())(params)
    chex.assert_tree_all_finite(slope)


@exact
def test_recurrent_dropout_draws_at_every_tick():
    cell = RecurrentDropout(Elman(H), rate=0.5)
    params, xs = setup(cell)
    keys = [jax.random.fold_in(KEY, t) for t in range(T)]
    masks = [np.asarray(cell.project(params, xs[t], keys[t]).own[0]) for t in range(T)]
    assert any(not np.array_equal(masks[0], mask) for mask in masks[1:])
    h, outputs = np.zeros((B, H)), []
    for x, mask in zip(np.asarray(xs), masks, strict=True):
        h, _ = reference.elman(Elman(H), numpy(params), h * mask, x)
        outputs.append(h)
    close(unroll(cell, params, xs, key=KEY)[1], np.stack(outputs))
    close(unroll(cell, params, xs), unroll(Elman(H), params, xs))


@exact
def test_drop_connect_is_one_draw_of_weights():
    cell = DropConnect(GRU(H), rate=0.4)
    params, xs = setup(cell)
    weights = cell.prepare(params, KEY, (B,))
    close(unroll(cell, params, xs, key=KEY), unroll(GRU(H), weights, xs))
    close(unroll(cell, params, xs), unroll(GRU(H), params, xs))
    rotated = DropConnect(ExpRNN(H), rate=0.4)  # its kernel is made in prepare, and dropped there
    params, xs = setup(rotated)
    assert np.mean(rotated.prepare(params, KEY)["recurrent_kernel"] == 0) > 0.1


@exact
@pytest.mark.parametrize("reset_after", [True, False])
def test_low_rank_is_the_product(reset_after):
    cell = LowRank(GRU(H, reset_after=reset_after), rank=2)
    params, xs = setup(cell)
    factors = params["recurrent_kernel"]
    assert factors["left"].shape == (H, 2)
    assert factors["right"].shape == (2, 3 * H)
    whole = {**params, "recurrent_kernel": factors["left"] @ factors["right"]}
    close(unroll(cell, params, xs), unroll(cell.cell, whole, xs))
    dropped = DropConnect(cell, rate=0.5).prepare(params, KEY)["recurrent_kernel"]
    assert np.mean(np.asarray(dropped) == 0) > 0.2


def test_low_rank_starts_with_the_variance_of_a_full_kernel():
    factors = LowRank(Elman(400), rank=20).init(KEY, 2)["recurrent_kernel"]
    assert float((factors["left"] @ factors["right"]).var()) == pytest.approx(1 / 400, rel=0.2)


@exact
def test_weight_norm():
    """Starts as the cell itself; then lengths are g, whatever the directions."""
    cell, bare = WeightNorm(LSTM(H)), LSTM(H)
    start = cell.init(KEY, H, jnp.float64)
    close(cell.prepare(start), bare.init(KEY, H, jnp.float64))
    params, xs = setup(cell)
    direction, length = (np.asarray(params["recurrent_kernel"][k]) for k in ("direction", "length"))
    kernel = length * direction / np.linalg.norm(direction, axis=0)
    close(unroll(cell, params, xs), unroll(bare, {**params, "recurrent_kernel": kernel}, xs))


@exact
@pytest.mark.parametrize(("wrapper", "centre"), [(LayerNorm, True), (RMSNorm, False)])
@pytest.mark.parametrize("reset_after", [True, False])
def test_normalised_products(wrapper, centre, reset_after):
    """Gate by gate, as a GRU written out."""
    inner = GRU(H, reset_after=reset_after)
    cell = wrapper(inner, epsilon=1e-3)
    params, xs = setup(cell)
    p, scale = numpy(params["cell"]), numpy(params["scale"])

    def n(v, i, name):
        v = v - v.mean(-1, keepdims=True) if centre else v
        return scale[name][i * H : (i + 1) * H] * v / np.sqrt((v**2).mean(-1, keepdims=True) + 1e-3)

    h, outputs = np.zeros((B, H)), []
    for x in np.asarray(xs):
        w, u, b = (np.split(p[name], 3, -1) for name in ("kernel", "recurrent_kernel", "bias"))
        a = [n(x @ w[i], i, "kernel") + b[i] for i in range(3)]
        r = reference.s(a[0] + n(h @ u[0], 0, "recurrent_kernel"))
        z = reference.s(a[1] + n(h @ u[1], 1, "recurrent_kernel"))
        if reset_after:
            candidate = np.tanh(a[2] + r * (n(h @ u[2], 2, "recurrent_kernel") + p["recurrent_bias"]))
        else:
            candidate = np.tanh(a[2] + n((r * h) @ u[2], 2, "recurrent_kernel"))
        h = (1 - z) * candidate + z * h
        outputs.append(h)
    close(unroll(cell, params, xs)[1], np.stack(outputs))


@exact
def test_layer_norm_does_not_see_the_scale_of_its_inputs():
    cell = LayerNorm(LSTM(H), epsilon=1e-12)
    params, xs = setup(cell)
    close(unroll(cell, params, 100 * xs), unroll(cell, params, xs), atol=1e-8)
    cell = LayerNormLSTM(H, epsilon=1e-12)
    params, xs = setup(cell)
    close(unroll(cell, params, 100 * xs), unroll(cell, params, xs), atol=1e-8)


@exact
@pytest.mark.parametrize("inner", [GRU(H), MinGRU(H), Stack([LSTM(4), GRU(H)])])
def test_residual_and_highway(inner):
    params, xs = setup(Residual(inner))
    carry, ys = unroll(inner, params, xs)
    close(unroll(Residual(inner), params, xs), (carry, xs + ys))
    params, xs = setup(Highway(inner))
    carry, ys = unroll(inner, params["cell"], xs)
    kernel, bias = (np.asarray(params[f"transform_{name}"]) for name in ("kernel", "bias"))
    gate = reference.s(np.asarray(xs) @ kernel + bias)
    close(unroll(Highway(inner), params, xs), (carry, gate * ys + (1 - gate) * xs))
    lengths = np.array([2, T, 0])
    dead = np.arange(T)[:, None] >= lengths
    ys = unroll(Highway(inner), params, jnp.where(dead[..., None], jnp.nan, xs), lengths=lengths)[1]
    assert not np.any(ys[dead])
    assert np.isfinite(ys).all()


@exact
def test_projection_is_lstmp():
    """Sak et al.: gates read r, the memory is as wide as ever."""
    cell = Projection(LSTM(H), 2)
    params, xs = setup(cell)
    assert params["cell"]["recurrent_kernel"].shape == (2, 4 * H)
    p, c, r, outputs = numpy(params), np.zeros((B, H)), np.zeros((B, 2)), []
    for x in np.asarray(xs):
        z = x @ p["cell"]["kernel"] + r @ p["cell"]["recurrent_kernel"] + p["cell"]["bias"]
        i, f, g, o = np.split(z, 4, -1)
        c = reference.s(f) * c + reference.s(i) * np.tanh(g)
        r = (reference.s(o) * np.tanh(c)) @ p["projection"]
        outputs.append(r)
    last, ys = unroll(cell, params, xs)
    close(ys, np.stack(outputs))
    close(last, LSTMCarry(c, r))


@exact
def test_projection_of_the_output_alone():
    cell = Projection(GRU(H), 2, recurrent=False)
    params, xs = setup(cell)
    carry, ys = unroll(GRU(H), params["cell"], xs)
    close(unroll(cell, params, xs), (carry, ys @ params["projection"]))


@exact
def test_learned_carry():
    cell = LearnedCarry(LSTM(H))
    params, xs = setup(cell)
    learned = params["carry"]
    start = LSTMCarry(*(jnp.broadcast_to(learned[name], (B, H)) for name in LSTMCarry._fields))
    close(unroll(cell, params, xs), unroll(LSTM(H), params["cell"], xs, start))
    resets = np.zeros((T, B), bool)
    resets[3] = True
    close(unroll(cell, params, xs, resets=resets)[1][3:], unroll(cell, params, xs[3:])[1])
    slope = jax.grad(lambda params: jnp.sum(unroll(cell, params, xs)[1]))(params)["carry"]
    assert all(np.any(leaf) for leaf in slope.values())
    fresh = cell.init(KEY, H, jnp.float64)
    assert not any(map(np.any, fresh["carry"].values()))


def test_wrappers_without_parameters_leave_the_tree():
    for wrapper in (
        functools.partial(Zoneout, rate=0.1),
        functools.partial(StateNoise, stddev=0.1),
        functools.partial(VariationalDropout, rate=0.1),
        functools.partial(RecurrentDropout, rate=0.1),
        DropConnect,
        Residual,
    ):
        chex.assert_trees_all_equal(wrapper(GRU(H)).init(KEY, H), GRU(H).init(KEY, H))


def test_two_wrapped_layers_everywhere():
    """Swept over a rate, tick by tick, in linen and nnx, serialised and restored."""
    cell = Stack([Zoneout(LayerNormLSTM(8), rate=0.1), Residual(GRU(8))])
    params = cell.init(KEY, 3)
    xs = jnp.ones((T, B, 3))
    rates = jnp.array([0.0, 0.5])
    swept = jax.vmap(
        lambda rate: unroll(
            Stack([Zoneout(LayerNormLSTM(8), rate=rate), Residual(GRU(8))]), params, xs, key=KEY
        )[1]
    )(rates)
    assert swept.shape == (2, T, B, 8)
    assert not np.allclose(swept[0], swept[1])
    _, y = cell(params, cell.initial_carry(params, (B,)), xs[0])
    ys = unroll(cell, params, xs)[1]
    np.testing.assert_allclose(y, ys[0], atol=1e-6)
    linen = rnncells.linen.RNN(cell, time_major=True)
    np.testing.assert_allclose(linen.apply({"params": {"cell": params}}, xs), ys, atol=1e-6)
    module = rnncells.nnx.RNN(cell, 3, time_major=True, rngs=nnx.Rngs(0))
    nnx.update(module, nnx.State({"params": params}))
    np.testing.assert_allclose(module(xs), ys, atol=1e-6)
    loaded = flax.serialization.from_bytes(params, flax.serialization.to_bytes(params))
    restored = pickle.loads(pickle.dumps(cell))
    np.testing.assert_array_equal(unroll(restored, loaded, xs)[1], ys)


def test_identity_kernels_pass_through_masks():
    """A mask of rate 1 blinds the kernel: an accumulator forgets everything."""
    inner = Elman(H, activation="identity", recurrent_init=Identity(), kernel_init=Zeros())
    params = inner.init(KEY, H)
    xs, carry = jnp.ones((T, B, H)), jnp.ones((B, H))
    np.testing.assert_array_equal(unroll(inner, params, xs, carry)[0], carry)
    blind = VariationalDropout(inner, rate=1.0)
    np.testing.assert_array_equal(unroll(blind, params, xs, carry, key=KEY)[0], 0 * carry)


@exact
def test_a_twin_may_hold_axes():
    """The idiom of vmap: an object of the same class says which leaf is swept."""
    cell = Zoneout(GRU(H), rate=jnp.array([0.0, 0.5]))
    params, xs = setup(GRU(H))
    swept = jax.vmap(lambda cell: unroll(cell, params, xs, key=KEY)[1], in_axes=(Zoneout(None, rate=0),))(
        cell
    )
    np.testing.assert_allclose(swept[1], unroll(Zoneout(GRU(H), rate=0.5), params, xs, key=KEY)[1])


BAD = [
    (lambda: LowRank(WeightNorm(LSTM(8)), rank=2).init(KEY, 4), "LowRank: .*recurrent kernel is one array"),
    (lambda: WeightNorm(LowRank(LSTM(8), rank=2)).init(KEY, 4), "WeightNorm: .*kernel is one array"),
    (lambda: Bidirectional(GRU(4), LSTM), "Bidirectional.backward: expected a rnncells cell"),
    (
        lambda: Bidirectional(GRU(4), 5).init(KEY, 4),
        "Bidirectional.backward: expected .* got 5",
    ),
    (lambda: Stack([ConvGRU(4, shape=(5,)), GRU(4)]), r"Stack.cells: .* equally many axes, got ConvGRU"),
    (lambda: Bidirectional(ConvGRU(4, shape=(5,)), GRU(4)), "Bidirectional.backward: .* equally many axes"),
    (lambda: Zoneout(GRU(8), rate=jnp.ones(5) * 0.1).init(KEY, 4), r"Zoneout.rate: .*last axes of \[8\]"),
    (lambda: Zoneout(GRU(8), rate=(0.1, 0.2)).init(KEY, 4), "one for each part of the state"),
    (
        lambda: Highway(GRU(4), transform_bias=jnp.ones(3)).init(KEY, 4),
        "Highway.transform_bias: expected",
    ),
    (lambda: VariationalDropout(ConvGRU(4, shape=(5,)), rate=0.2).init(KEY, 4), r"expected kernels \[K, N\]"),
    (lambda: LayerNorm(GRU(4), epsilon=0.0).init(KEY, 4), "LayerNorm.epsilon: expected at least 1e-12"),
    (lambda: Stack(GRU(3), LSTM(3)), "Stack.cells: expected a list of at least one cell, got GRU"),
    (
        lambda: Residual(GRU(5)).init(KEY, 4),
        "Residual: .*as wide as its input, 4, .*give the cell features=4",
    ),
    (lambda: Highway(GRU(5)).init(KEY, 4), r"Highway: .*Projection\(cell, 4, recurrent=False\)"),
    (lambda: Zoneout(LSTM(4), rate=1.5).init(KEY, 4), r"Zoneout.rate: expected at most 1, got 1.5"),
    (lambda: StateNoise(LSTM(4), stddev=-1.0).init(KEY, 4), "StateNoise.stddev: expected at least 0"),
    (
        lambda: VariationalDropout(LSTM(4)).init(KEY, 4),
        "expected a rate or an input_rate",
    ),
    (
        lambda: VariationalDropout(MinGRU(4), rate=0.5).init(KEY, 4),
        "expected a cell with a `recurrent_kernel`",
    ),
    (lambda: DropConnect(MinGRU(4)).init(KEY, 4), "DropConnect: expected a cell with a `recurrent_kernel`"),
    (lambda: LowRank(ExpRNN(4), rank=2).init(KEY, 4), "LowRank: .*got ExpRNN"),
    (lambda: LowRank(GRU(4), rank=0), "LowRank.rank: expected a positive int, got 0"),
    (lambda: LayerNorm(Stack([GRU(4)])).init(KEY, 4), "normalise the layers of a stack one by one"),
    (lambda: Projection(GRU(4), 2).init(KEY, 4), "Projection: .*pass recurrent=False"),
    (lambda: Projection(Zoneout(LSTM(4), rate=0.1), 2).init(KEY, 4), "put other wrappers around"),
    (lambda: Zoneout(Stack([GRU(4)]), rate=0.1), r"Zoneout.cell: .*wrap its layers instead, as in Stack"),
    (lambda: RecurrentDropout(Bidirectional(GRU(4)), rate=0.1), "RecurrentDropout.cell: expected one cell"),
    (lambda: Stack([]), r"Stack.cells: expected a list of at least one cell, got \(\)"),
    (lambda: Stack(GRU(4)), "Stack.cells: expected a list of at least one cell, got GRU"),
    (lambda: Stack([GRU(4), LSTM]), r"Stack.cells\[1\]: expected a rnncells cell.*LSTM\(features=64\)"),
    (lambda: Zoneout(LSTM, rate=0.1), "Zoneout.cell: expected a rnncells cell"),
    (lambda: Zoneout(None, rate=0.1).init(KEY, 4), "Zoneout.cell: expected a rnncells cell, got None"),
    (lambda: Stack([GRU(4), "LSTM"]).init(KEY, 4), r"Stack.cells\[1\]: expected a rnncells cell, got 'LSTM'"),
    (lambda: Bidirectional(GRU(4), merge="max"), "Bidirectional.merge: expected one of concat"),
    (lambda: Bidirectional(GRU(4), GRU(5), merge="sum"), "expected equal output sizes"),
    (
        lambda: (lambda c: unroll(c, c.init(KEY, 4), jnp.ones((2, 4)), parallel=True))(
            Stack([MinGRU(4), GRU(4)])
        ),
        "parallel: expected a linear cell, got GRU",
    ),
    (
        lambda: (lambda c: unroll(c, c.init(KEY, 4), jnp.ones((2, 4))))(Zoneout(GRU(4), rate=(0.1, 0.2))),
        "Zoneout.rate: expected one number, or one for each part of the state",
    ),
    (
        lambda: (lambda c, p: c(p, c.initial_carry(p), jnp.ones(4)))(
            *(lambda c: (c, c.init(KEY, 4)))(Bidirectional(GRU(4)))
        ),
        "Bidirectional: a layer that reads both ways has no single tick",
    ),
]


@pytest.mark.parametrize(("bad", "message"), BAD, ids=range(len(BAD)))
def test_refused(bad, message):
    with pytest.raises((TypeError, ValueError), match=message):
        bad()
