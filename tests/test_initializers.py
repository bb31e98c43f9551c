"""The named schemes, and that fused kernels are drawn per gate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from rnncells import (
    CELLS,
    GRU,
    LSTM,
    MGU,
    UGRNN,
    Elman,
    LayerNormLSTM,
    MinGRU,
    MinLSTM,
    OutputGatedGRU,
    PeepholeLSTM,
)
from rnncells.initializers import (
    Chrono,
    Glorot,
    He,
    Identity,
    LeCun,
    Normal,
    Orthogonal,
    Uniform,
    UniformGate,
    Zeros,
)
from tests.cases import CORE, INPUT, REGISTERED, assert_own_draws, over, to_numpy

KEY = jax.random.key(0)
H = 64


def over_names(field):
    """Over the cells that have a field."""
    names = [name for name, kind in CELLS.items() if hasattr(kind(4), field)]
    own = [pytest.param(name, marks=() if name in CORE else pytest.mark.laws) for name in names]
    return pytest.mark.parametrize("name", own)


def blocks(array, count):
    return np.split(np.asarray(array), count, -1)


@over_names("recurrent_init")
def test_recurrent_kernels_are_drawn_gate_by_gate(name):
    """Orthogonal ones are orthogonal in each block."""
    cell = CELLS[name](16, recurrent_init=Orthogonal())
    kernel = cell.init(KEY, 3)["recurrent_kernel"]
    drawn = blocks(kernel, kernel.shape[-1] // cell.block("recurrent_kernel"))
    for block in drawn:
        narrow = block if len(block) >= 16 else block.T
        np.testing.assert_allclose(narrow.T @ narrow, np.eye(narrow.shape[1]), atol=1e-5)
    for other in drawn[1:]:
        assert not np.allclose(drawn[0], other)


@over_names("kernel_init")
def test_input_kernels_are_drawn_gate_by_gate(name):
    """A scheme sees one block at a time: no block repeats another, and all have the size asked for."""
    cell = CELLS[name](16, kernel_init=Normal(0.2))
    params = cell.init(KEY, 30)
    drawn = blocks(params["kernel"], params["kernel"].shape[-1] // cell.block("kernel"))
    for block in drawn:
        assert block.std() == pytest.approx(0.2, rel=0.15)
    for other in drawn[1:]:
        assert not np.allclose(drawn[0], other)


@pytest.mark.parametrize("kind", [Elman, LSTM, PeepholeLSTM, LayerNormLSTM, GRU, OutputGatedGRU, MGU, UGRNN])
def test_recurrent_kernels_start_orthogonal(kind):
    assert kind(4).recurrent_init == Orthogonal()


def test_glorot_and_he_per_gate():
    limit = np.sqrt(6 / (30 + H))
    for block in blocks(LSTM(H).init(KEY, 30)["kernel"], 4):
        assert 0.9 * limit < np.abs(block).max() <= limit
        assert block.std() == pytest.approx(np.sqrt(2 / (30 + H)), rel=0.1)
    for block in blocks(LSTM(H, kernel_init=He()).init(KEY, 30)["kernel"], 4):
        assert block.std() == pytest.approx(np.sqrt(2 / 30), rel=0.1)
        assert np.abs(block).max() > np.sqrt(6 / 30)
    uniform = He(distribution="uniform")(KEY, (30, H))
    assert np.abs(uniform).max() <= np.sqrt(6 / 30)
    normal = Glorot(distribution="normal", scale=2.0)(KEY, (30, H))
    assert normal.std() == pytest.approx(2 * np.sqrt(2 / (30 + H)), rel=0.1)


def test_lecun_draws_with_the_variance_of_its_rows():
    for distribution in ("normal", "uniform"):
        drawn = LeCun(2.0, distribution)(KEY, (16, 4096))
        assert drawn.std() == pytest.approx(2 / 4, rel=0.02)
    assert np.abs(drawn).max() <= 2 * np.sqrt(3 / 16)


def test_small_schemes():
    assert not np.any(Zeros()(KEY, (3, 4)))
    np.testing.assert_array_equal(Identity(0.5)(KEY, (3, 3)), np.eye(3) / 2)
    assert Normal(0.2)(KEY, (100, 100)).std() == pytest.approx(0.2, rel=0.05)
    assert 0.9 / 8 < np.abs(Uniform()(KEY, (30, 64))).max() <= 1 / 8
    wide = Orthogonal(3.0)(KEY, (4, 9))
    np.testing.assert_allclose(wide @ wide.T, 9 * np.eye(4), atol=1e-5)


@pytest.mark.parametrize(
    "scheme", [Zeros(), Normal(), Uniform(), Glorot(), He(), LeCun(), Orthogonal(), Identity()]
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes(scheme, dtype):
    assert scheme(KEY, (4, 4), dtype).dtype == dtype


def test_forget_bias_goes_to_the_gate_that_keeps():
    i, f, g, o = blocks(LSTM(H).init(KEY, 3)["bias"], 4)
    assert (f == 1).all()
    assert not any(map(np.any, (i, g, o)))
    r, z, n = blocks(GRU(H, forget_bias=2.0).init(KEY, 3)["bias"], 3)
    assert (z == 2).all()
    assert not any(map(np.any, (r, n)))
    f, n = blocks(MGU(H, forget_bias=2.0).init(KEY, 3)["bias"], 2)
    assert (f == -2).all()
    z, n = blocks(MinGRU(H, forget_bias=2.0).init(KEY, 3)["bias"], 2)
    assert (z == -2).all()


@pytest.mark.parametrize("kind", [LSTM, MinLSTM, GRU, MGU])
def test_chrono_spreads_memories_up_to_t_max(kind):
    """A forget gate of s(b) keeps e^-1 of a memory for about e^b ticks: e^b is uniform on (1, t_max - 1)."""
    quick = {} if kind is MinLSTM else {"recurrent_init": Zeros()}
    cell = kind(4096, forget_bias=Chrono(500.0), **quick)
    biases = dict(zip(cell.gates, blocks(cell.init(KEY, 1)["bias"], len(cell.gates)), strict=True))
    keep = {LSTM: "f", MinLSTM: "f", GRU: "z"}.get(kind)
    bias = biases[keep] if keep else -biases["f"]
    spans = np.exp(bias)
    assert spans.min() >= 1
    assert spans.max() <= 499.01
    assert np.quantile(spans, [0.25, 0.5, 0.75]) == pytest.approx([125.5, 250, 374.5], rel=0.06)
    if "i" in biases:
        np.testing.assert_array_equal(biases["i"], -bias)


def test_uniform_gate():
    cell = LSTM(4096, forget_bias=UniformGate(), recurrent_init=Zeros())
    i, f, _, _ = blocks(cell.init(KEY, 1)["bias"], 4)
    gates = 1 / (1 + np.exp(-f))
    assert gates.min() >= 1 / 4096 - 1e-6
    assert np.quantile(gates, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.03)
    assert not np.any(i)
    assert np.isfinite(LSTM(1, forget_bias=UniformGate()).init(KEY, 1)["bias"]).all()


def test_schemes_sweep_and_differentiate():
    bias = jax.vmap(lambda t: LSTM(8, forget_bias=Chrono(t)).init(KEY, 3)["bias"])(jnp.array([10.0, 1000.0]))
    assert np.all(bias[1, 8:16] > bias[0, 8:16])
    scale = jax.grad(
        lambda s: jnp.sum(jnp.square(LSTM(8, recurrent_init=Orthogonal(s)).init(KEY, 3)["recurrent_kernel"]))
    )
    assert float(scale(1.5)) == pytest.approx(2 * 1.5 * 4 * 8, rel=1e-4)
    assert jax.jit(lambda cell: cell.init(KEY, 3))(LSTM(8, kernel_init=Glorot(2.0)))["kernel"].shape == (
        3,
        32,
    )


def schemes(cell):
    """Its fields that are schemes; without those that are words."""
    fields = [field.name for field in dataclasses.fields(cell) if field.name.endswith("_init")]
    return [name for name in fields if callable(getattr(cell, name))]


NO_AXES = {("ClockworkRNN", "blocks_init"), ("ELSTM", "scale_init")}
"""Of what these draw only some entries, or none in their places, become parameters."""


@over(REGISTERED)
def test_every_scheme_may_be_of_flax_and_name_its_axes(cell):
    named = nn.with_partitioning(nn.initializers.normal(), (None, "h"))
    for name in schemes(cell):
        if (type(cell).__name__, name) in NO_AXES or (
            name == "bias_init" and not getattr(cell, "use_bias", True)
        ):
            continue
        params = dataclasses.replace(cell, **{name: named}).init(KEY, INPUT)
        boxed = [leaf for leaf in jax.tree.leaves(params, is_leaf=is_box) if is_box(leaf)]
        assert {box.names for box in boxed} == {(None, "h")}, name


def is_box(leaf):
    return isinstance(leaf, nn.Partitioned)


FOLLOWING = ("LRU", "PhasedLSTM")
"""Norms that begin as the radii ask, shifts that begin within the periods."""


@over({name: kind(H) for name, kind in CELLS.items() if name not in FOLLOWING})
def test_every_parameter_is_drawn_from_a_key_of_its_own(cell):
    """Seen in what differs between two draws: some begin in order."""
    normal = dataclasses.replace(cell, **dict.fromkeys(schemes(cell), Normal()))
    one, other = (to_numpy(normal.init(key, H)) for key in jax.random.split(KEY))
    differences = [a - b for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)]
    assert_own_draws([leaf for leaf in differences if leaf.size >= 32])
