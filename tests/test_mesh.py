"""Batches divided over devices, on meshes whose axes are explicit as well as on those that are automatic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rnncells import (
    LRU,
    LSTM,
    MLSTM,
    NRU,
    CausalConvolution,
    DeltaNet,
    ExpRNN,
    MinGRU,
    PeepholeLSTM,
    Stack,
    StateNoise,
    Zoneout,
    generate,
    unroll,
)
from tests.cases import INPUT, random_params

KEY = jax.random.key(2)
T, B = 6, 4
CELLS = (
    *(PeepholeLSTM(4), ExpRNN(4), MinGRU(4), CausalConvolution(4), MLSTM(4), Stack([LSTM(4), MinGRU(4)])),
    *(DeltaNet(4), NRU(4)),
)
NOISY = (Zoneout(LSTM(4), rate=0.3), Zoneout(LRU(4), rate=0.3), StateNoise(MinGRU(4), stddev=0.1))
FLAGS = np.random.default_rng(0).random((2, T, B)) < 0.6
EVERYTHING = {"mask": FLAGS[0], "resets": FLAGS[1], "reverse": True, "remat_every": 4, "truncate_every": 5}
OPTIONS = {
    "nothing": {},
    "given carry": {"carry": True},
    "lengths": {"lengths": np.array([6, 0, 3, 5])},
    "everything": EVERYTHING,
}
CASES = {f"LSTM, {name}": (LSTM(4), given, AxisType.Explicit) for name, given in OPTIONS.items()}
CASES |= {type(cell).__name__: (cell, EVERYTHING, AxisType.Explicit) for cell in CELLS}
CASES |= {
    f"{type(cell).__name__} of {type(cell.cell).__name__}": (cell, {"key": KEY}, AxisType.Explicit)
    for cell in NOISY
}
CASES["DeltaNet in chunks"] = DeltaNet(4), {}, AxisType.Explicit
CASES["LSTM, automatic"] = (LSTM(4), EVERYTHING, AxisType.Auto)


DAILY = ("LSTM, everything", "MinGRU")


@pytest.mark.parametrize(
    ("cell", "options", "kind"),
    [
        pytest.param(*case, id=name, marks=() if name in DAILY else pytest.mark.laws)
        for name, case in CASES.items()
    ],
)
def test_a_divided_batch_gives_the_same(cell, options, kind):
    given = dict(options)
    params, xs = random_params(cell), jax.random.normal(jax.random.key(1), (T, B, INPUT))
    carry = cell.initial_carry(params, (B,)) if given.pop("carry", False) else None

    def score(params, xs):
        carry_out, ys = unroll(cell, params, xs, carry, **given)
        return jnp.mean(jnp.square(ys)), (carry_out, ys)

    everything = jax.jit(jax.value_and_grad(score, (0, 1), has_aux=True))
    expected = everything(params, xs)
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(kind,))
    assert isinstance(mesh, Mesh)
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, NamedSharding(mesh, P()))
        divided = everything(placed, jax.device_put(xs, NamedSharding(mesh, P(None, "batch"))))
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(divided), strict=True):
        np.testing.assert_allclose(np.asarray(b), a, rtol=2e-5, atol=2e-6)
    ys = divided[0][1][1]
    assert ys.sharding.spec[1] == "batch"


def test_a_divided_batch_is_gone_on_with():
    cell, start = LSTM(INPUT), jax.random.normal(KEY, (B, INPUT))
    params = random_params(cell)
    expected = generate(cell, params, start, T, lambda y, key: (y, y))[1]
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, NamedSharding(mesh, P()))
        divided = generate(
            cell, placed, jax.device_put(start, NamedSharding(mesh, P("batch"))), T, lambda y, key: (y, y)
        )[1]
    np.testing.assert_allclose(np.asarray(divided), expected, rtol=2e-5, atol=2e-6)
    assert divided.sharding.spec[1] == "batch"
