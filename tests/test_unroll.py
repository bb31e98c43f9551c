"""What `unroll`'s options mean: everything equals plain loops over each sequence by itself."""

import functools

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import GRU, LSTM, Cell, Elman, MinGRU, Zoneout, linear_scan, unroll
from rnncells.cell import Pytree, static
from tests.cases import CASES, INPUT, over, random_like, random_params
from tests.reference import loops

T, B = 7, 3
over_cells = over(CASES)
close = functools.partial(chex.assert_trees_all_close, atol=1e-10, rtol=1e-10)


def draw_options(seed):
    """A random combination of all options; what must not be read is drawn too."""
    rng = np.random.default_rng(seed)
    options = {"reverse": bool(rng.integers(2))}
    if rng.integers(2):
        options["lengths"] = rng.permutation([0, T, int(rng.integers(1, T))])
    if rng.integers(2):
        options["mask"] = rng.random((T, B)) < 0.7
    if rng.integers(2):
        options["resets"] = rng.random((T, B)) < 0.4
    if rng.integers(2):
        options["truncate_every"] = int(rng.integers(1, T + 2))
    extra = {}
    if rng.integers(2):
        extra["remat_every"] = int(rng.integers(1, T + 2))
    return options, extra


def check_options(cell, seed):
    options, extra = draw_options(seed)
    params = random_params(cell, dtype=jnp.float64)
    xs = np.array(jax.random.normal(jax.random.key(seed), (T, B, INPUT), jnp.float64))
    carry = jax.tree.map(jnp.abs, random_like(cell.initial_carry(params, (B,)))) if seed % 3 else None
    dead = np.zeros((T, B), bool)
    if "lengths" in options:
        dead |= np.arange(T)[:, None] >= options["lengths"][None]
    if "mask" in options:
        dead |= ~options["mask"]
    xs[dead] = np.nan
    xs = jnp.asarray(xs)
    weights = random_like(unroll(cell, params, xs, carry, return_carries=True, **options, **extra), seed + 1)

    def everything(run):
        def score(params, xs, carry):
            out = run(cell, params, xs, carry)
            total = jax.tree.map(lambda leaf, weight: jnp.sum(jnp.sin(leaf) * weight), out, weights)
            return sum(jax.tree.leaves(total)), out

        return jax.value_and_grad(score, (0, 1, 2), has_aux=True)(params, xs, carry)

    expected = everything(functools.partial(loops, **options))
    chex.assert_tree_all_finite(expected)
    for parallel in (True, False) if cell.linear else (None,):
        close(
            everything(functools.partial(unroll, parallel=parallel, return_carries=True, **options, **extra)),
            expected,
        )


@pytest.mark.usefixtures("x64")
@over_cells
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.laws)])
def test_combined_options_equal_loops(cell, seed):
    check_options(cell, seed + 10 * list(CASES.values()).index(cell))


@pytest.mark.usefixtures("x64")
@pytest.mark.laws
@over_cells
@pytest.mark.parametrize("seed", range(3))
def test_many_combined_options_equal_loops(cell, seed):
    check_options(cell, 1000 + seed)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("reverse", [False, pytest.param(True, marks=pytest.mark.laws)])
@over_cells
def test_packed_segments_equal_each_alone(cell, reverse):
    """Two sequences packed into one, against each by itself; the carry given is not read."""
    params = random_params(cell, dtype=jnp.float64)
    xs = jax.random.normal(jax.random.key(0), (T, B, INPUT), jnp.float64)
    cut = 3
    resets = np.zeros((T, B), bool)
    resets[[0, cut]] = True
    carry = None
    if not reverse:
        carry = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), cell.initial_carry(params, (B,)))

    def packed(params, xs):
        return unroll(cell, params, xs, carry, resets=resets, reverse=reverse)[1]

    def alone(params, xs):
        parts = (xs[:cut], xs[cut:])
        return jnp.concatenate([unroll(cell, params, part, reverse=reverse)[1] for part in parts])

    close(packed(params, xs), alone(params, xs))
    score = [
        jax.grad(lambda p, x, f=f: jnp.sum(jnp.sin(f(p, x))), (0, 1))(params, xs) for f in (packed, alone)
    ]
    close(*score)
    crossing = jax.jacobian(lambda x: packed(params, x)[cut if not reverse else 0])(xs)
    others = crossing[..., :cut, :, :] if not reverse else crossing[..., cut:, :, :]
    assert not np.any(others)


@over_cells
def test_traced_lengths_are_clipped(cell):
    params = random_params(cell)
    xs = jax.random.normal(jax.random.key(0), (T, B, INPUT))
    run = jax.jit(lambda lengths: unroll(cell, params, xs, lengths=lengths))
    chex.assert_trees_all_close(
        run(jnp.array([-2, 3, T + 5])), unroll(cell, params, xs, lengths=[0, 3, T]), atol=1e-6
    )


@over_cells
def test_no_ticks(cell):
    params = random_params(cell)
    carry = random_like(cell.initial_carry(params, (B,)))
    for options in ({}, {"reverse": True, "resets": np.zeros((0, B), bool), "truncate_every": 2}):
        last, ys = unroll(cell, params, jnp.zeros((0, B, INPUT)), carry, **options)
        chex.assert_trees_all_equal(last, carry)
        assert ys.shape == (0, B, cell.output_size)


def test_lengths_of_unread_sequences_leave_the_carry():
    cell = LSTM(4)
    params = random_params(cell)
    carry = random_like(cell.initial_carry(params, (2,)))
    last, ys = unroll(cell, params, jnp.full((5, 2, INPUT), jnp.nan), carry, lengths=[0, 0])
    chex.assert_trees_all_equal(last, carry)
    assert not np.any(ys)


class Noisy(Elman):
    """An Elman cell with noise on the drive, and noise on the kernel that is locked over time."""

    def prepare(self, params, key=None, batch_shape=()):
        if key is None:
            return params
        noise = jax.random.normal(jax.random.fold_in(key, 2**31), params["recurrent_kernel"].shape)
        return params | {"recurrent_kernel": params["recurrent_kernel"] + noise}

    def project(self, weights, x, key=None):
        drive = super().project(weights, x)
        return drive if key is None else drive + jax.random.normal(key, drive.shape)


class NoisyMinGRU(MinGRU):
    """Noise on the input of a linear cell."""

    def project(self, weights, x, key=None):
        return super().project(weights, x if key is None else x + jax.random.normal(key, x.shape))


@pytest.mark.parametrize("cell", [Noisy(4), NoisyMinGRU(4)], ids=["Noisy", "NoisyMinGRU"])
@pytest.mark.parametrize("key", [jax.random.key(5), jax.random.PRNGKey(5)], ids=["typed", "raw"])
def test_noise_is_the_same_inside_outside_and_by_hand(cell, key):
    params = random_params(cell)
    xs = jax.random.normal(jax.random.key(0), (T, B, INPUT))
    weights, carry, by_hand = cell.prepare(params, key, (B,)), cell.initial_carry(params, (B,)), []
    for t, x in enumerate(xs):
        carry, y = cell.tick(weights, carry, x, jax.random.fold_in(key, t))
        by_hand.append(y)
    expected = carry, jnp.stack(by_hand)
    for options in (
        {},
        {"remat_every": 2},
        {"truncate_every": 3},
        *([{"parallel": True}] if cell.linear else []),
    ):
        chex.assert_trees_all_close(unroll(cell, params, xs, key=key, **options), expected, atol=1e-5)
    assert not np.allclose(unroll(cell, params, xs)[1], expected[1])
    first = cell(params, cell.initial_carry(params, (B,)), xs[0], key)
    chex.assert_trees_all_close(first[1], expected[1][0], atol=1e-6)


class Learned(GRU):
    """A GRU whose initial state is learned."""

    def init(self, key, input_size, dtype=jnp.float32):
        return super().init(key, input_size, dtype) | {"carry": jnp.full((self.features,), 0.5, dtype)}

    def initial_carry(self, params, batch_shape=()):
        return jnp.broadcast_to(params["carry"], (*batch_shape, self.features))


def test_learned_carry_gets_its_gradient_at_every_reset():
    cell = Learned(4)
    params = random_params(cell)
    xs = jax.random.normal(jax.random.key(0), (T, B, INPUT))
    resets = np.zeros((T, B), bool)
    resets[4] = True

    def score(params, run):
        return jnp.sum(run(cell, params, xs, resets=resets)[1])

    expected = jax.grad(lambda p: jnp.sum(loops(cell, p, xs, resets=resets)[1][0]))(params)
    chex.assert_trees_all_close(jax.grad(score)(params, unroll), expected, atol=1e-4)
    assert np.abs(expected["carry"]).min() > 0


class Pairs(Cell):
    """A cell that takes a pytree: adds what it is shown, if the gate beside it is open."""

    paper = "none"
    features: int = static()

    def init(self, key, input_size, dtype=jnp.float32):
        return {"scale": jnp.ones((self.features,), dtype)}

    def project(self, weights, x, key=None):
        return jnp.where(x["open"] > 0, x["value"] * weights["scale"].reshape(1, -1), 0)

    def step(self, weights, carry, drive):
        return carry + drive, carry + drive


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


@pytest.mark.parametrize("cell", [LSTM(16), MinGRU(16)], ids=["LSTM", "MinGRU"])
def test_remat_saves_memory(cell):
    """The backward pass of 4096 ticks needs less than a quarter of the temporary memory."""
    params = cell.init(jax.random.key(0), INPUT)
    xs = jnp.zeros((4096, 8, INPUT))

    def memory(**options):
        gradient = jax.grad(
            lambda p: jnp.sum(unroll(cell, p, xs, parallel=False if cell.linear else None, **options)[0][0])
        )
        return jax.jit(gradient).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert memory(remat_every=64) < memory() / 4


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
    params = cell.init(jax.random.key(0), 3)
    xs = jax.random.normal(jax.random.key(0), (T, B, 3))
    slope = jax.grad(lambda leak: jnp.sum(unroll(Leaky(2, leak), params, xs, lengths=[T, 2, 0])[1]))(0.3)
    assert np.isfinite(slope)
    assert slope != 0
    expected, _ = loops(cell, params, xs, lengths=[T, 2, 0])
    chex.assert_trees_all_close(unroll(cell, params, xs, lengths=[T, 2, 0])[0], expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"Leaky.leak: expected finite"):
        unroll(Leaky(2, float("nan")), params, xs)
    with pytest.raises(ValueError, match="params: for xs with 4 features Leaky"):
        unroll(cell, params, jnp.zeros((T, B, 4)))


def test_flags_choose_without_numbers():
    """A cell is a pytree whose numbers can be replaced by arrays without losing its type."""
    cell = LSTM(4, forget_bias=jnp.ones(4))
    assert isinstance(cell, Pytree)
    assert jax.tree.map(lambda leaf: leaf * 2, cell).forget_bias.tolist() == [2.0] * 4
    params = cell.init(jax.random.key(0), INPUT)
    np.testing.assert_array_equal(params["bias"][4:8], np.ones(4))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "options",
    [pytest.param({}, marks=pytest.mark.laws), {"resets": True, "lengths": True, "reverse": True}],
    ids=["plain", "options"],
)
@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.laws), 3], ids=["narrow", "wide"])
@pytest.mark.parametrize(
    ("cell", "length"),
    [
        (MinGRU(4), 47),
        pytest.param(MinGRU(4), 32, marks=pytest.mark.laws),
        pytest.param(Zoneout(MinGRU(4), rate=0.3), 47, marks=pytest.mark.laws),
    ],
    ids=["MinGRU-uneven", "MinGRU-even", "Zoneout-uneven"],
)
def test_chunks_of_linear_cells_change_nothing(cell, length, size, options, monkeypatch):
    """Where a sequence does not fit into the cache it is taken in chunks: outputs, derivatives of both modes,
    noise and a sweep, against one loop."""
    monkeypatch.setattr(linear_scan, "CACHE", 16 * 2 * B * 4)
    monkeypatch.setattr(linear_scan, "SHORTEST", 16)
    element = jax.ShapeDtypeStruct((2, B, 4), jnp.float64)
    assert linear_scan.chunk_length(length, element) == 16
    jax.clear_caches()  # the length of a chunk is not part of what a compiled program is known by
    params = random_params(cell, input_size=size, dtype=jnp.float64)
    xs = jax.random.normal(jax.random.key(0), (length, B, size), jnp.float64)
    rng = np.random.default_rng(0)
    given = {"key": jax.random.key(5), "reverse": "reverse" in options}
    if options:
        given |= {"resets": rng.random((length, B)) < 0.1, "lengths": np.array([length, 0, 20])}

    def outputs(params, xs, **settings):
        return unroll(cell, params, xs, return_carries=True, **given, **settings)

    def everything(**settings):
        run = functools.partial(outputs, **settings)
        out, slope = jax.jvp(run, (params, xs), (params, xs))
        _, pull = jax.vjp(run, params, xs)
        return jax.jit(run)(params, xs), out, slope, pull(jax.tree.map(jnp.cos, out))

    close(everything(parallel=False), everything(parallel=True))
    if isinstance(cell, Zoneout):
        rates = jnp.array([0.2, 0.7])

        def slopes(rate):
            run = Zoneout(cell.cell, rate=rate)
            return jax.grad(lambda p: jnp.sum(jnp.sin(unroll(run, p, xs, parallel=False)[1])))(params)

        alone = [slopes(float(rate)) for rate in rates]
        close(jax.vmap(slopes)(rates), jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone))
