"""Gates of other signs, and cells without biases, in converters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import rnncells
from rnncells import (
    GRU,
    LRU,
    LSTM,
    MUT1,
    DenseCell,
    Elman,
    MinGRU,
    MultiplicativeLSTM,
    PeepholeLSTM,
    Zoneout,
    convert,
)
from rnncells.parts.gated import ProjectedCell
from tests.cases import random_like, random_params
from tests.test_convert import B, H, I, T, assert_equal, assert_same, normal, numpy_params


@pytest.fixture
def xs(rng):
    return normal(rng, T, B, I)


class Partial(DenseCell):
    """Gates of which not all have every block."""

    paper = "none"
    gates = ("a", "b", "c")
    input_gates = ("a", "b")
    recurrent_gates = ("b", "c")
    biased_gates = ("a", "c")

    def step(self, weights, carry, drive):
        return carry, carry


def test_negate_gate_takes_the_papers_sign(xs):
    """h' = (1 - z) h + z n, written out, for both places of the reset."""
    for cell in (GRU(H), GRU(H, reset_after=False)):
        params = numpy_params(cell)
        kernel, recurrent = (np.split(params[name], 3, -1) for name in ("kernel", "recurrent_kernel"))
        (w_r, w_z, w_n), (u_r, u_z, u_n), (b_r, b_z, b_n) = kernel, recurrent, np.split(params["bias"], 3)
        h, states = np.zeros((B, H), np.float32), []
        for x in xs:
            r, z = (1 / (1 + np.exp(-(x @ w + h @ u + b))) for w, u, b in ((w_r, u_r, b_r), (w_z, u_z, b_z)))
            reset = r * (h @ u_n + params["recurrent_bias"]) if cell.reset_after else (r * h) @ u_n
            h = (1 - z) * h + z * np.tanh(x @ w_n + b_n + reset)
            states.append(h)
        ours = convert.negate_gate(cell, params, "z")
        assert_same(rnncells.unroll(cell, ours, xs)[1], np.stack(states))
        assert_equal(convert.negate_gate(cell, ours, "z"), params)


def test_negate_gate_by_blocks():
    cell = Partial(H)
    params = numpy_params(cell)
    signs = {
        "a": ([-1, 1], [1, 1], [-1, 1]),
        "b": ([1, -1], [-1, 1], [1, 1]),
        "c": ([1, 1], [1, -1], [1, -1]),
    }
    for gate, (of_input, of_state, of_bias) in signs.items():
        expected = {
            "kernel": params["kernel"] * np.repeat(np.float32(of_input), H),
            "recurrent_kernel": params["recurrent_kernel"] * np.repeat(np.float32(of_state), H),
            "bias": params["bias"] * np.repeat(np.float32(of_bias), H),
        }
        assert_equal(convert.negate_gate(cell, params, gate), expected)
    params = numpy_params(GRU(H))
    negated = convert.negate_gate(GRU(H), params, "n")
    np.testing.assert_array_equal(negated["recurrent_bias"], -params["recurrent_bias"])
    without = GRU(H, use_bias=False)
    assert set(convert.negate_gate(without, numpy_params(without), "z")) == {"kernel", "recurrent_kernel"}
    wanted = jax.grad(lambda params: convert.negate_gate(MinGRU(H), params, "z")["bias"].sum())
    np.testing.assert_array_equal(wanted(random_params(MinGRU(H)))["bias"], np.repeat([-1.0, 1.0], H))


class Bare(Partial):
    """c has nothing without its bias."""

    recurrent_gates = ("b",)


REFUSED = {
    "no block": (
        Bare(H, use_bias=False),
        Bare(H, use_bias=False),
        "c",
        "gate: .* a kernel or a bias, got 'c'",
    ),
    "no gates": (LRU(H), LRU(H), "z", "cell: expected a cell whose gates share fused kernels, got LRU"),
    "wrapped": (Zoneout(GRU(H), rate=0.1), GRU(H), "z", "cell: expected a cell whose gates .* got Zoneout"),
    "unknown": (GRU(H), GRU(H), "f", r"gate: expected one of r, z, n, .* got 'f'"),
    "product": (MultiplicativeLSTM(H), MultiplicativeLSTM(H), "m", "gate: .* i, f, g, o, .* got 'm'"),
    "raw input": (MUT1(H), MUT1(H), "n", "gate: expected one of z, r, .* got 'n'"),
    "peepholes": (PeepholeLSTM(H), PeepholeLSTM(H), "f", "cell: .* has peephole as well"),
    "params": (GRU(H), LSTM(H), "z", "params: for xs with 3 features"),
}


@pytest.mark.parametrize(("cell", "other", "gate", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_negate_gate_refuses(cell, other, gate, words):
    with pytest.raises(ValueError, match=words):
        convert.negate_gate(cell, numpy_params(other), gate)


SIGNED = [
    (name, gate)
    for name, kind in rnncells.CELLS.items()
    if issubclass(kind, ProjectedCell)
    for gate in kind(H).gates
]


@pytest.mark.laws
@pytest.mark.parametrize(("name", "gate"), SIGNED)
def test_negate_gate_negates_or_refuses(name, gate):
    """A gate that is negated has the negated drive, and it shows: a product of two sides would not."""
    cell = rnncells.CELLS[name](H)
    params = random_params(cell, input_size=H)
    if gate in cell.unsigned_gates or set(params) - {"kernel", "recurrent_kernel", "bias", "recurrent_bias"}:
        with pytest.raises(ValueError, match=r"cell: expected gates that kernel|gate: expected one of"):
            convert.negate_gate(cell, params, gate)
        return
    negated = convert.negate_gate(cell, params, gate)
    weights = [cell.prepare(each) for each in (params, negated)]
    x = random_like(jnp.zeros((B, H)))
    carry = random_like(cell.initial_carry(params, (B,), like=x))
    before, after = (ravel_pytree(cell.tick(each, carry, x))[0] for each in weights)
    assert not np.allclose(before, after)
    read = random_like(jnp.zeros(params["kernel"].shape[0]))
    drives = [cell.split_drive(ProjectedCell.project(cell, each, read)) for each in weights]
    before, after = (drive.get(gate, jnp.zeros(0)) for drive in drives)
    np.testing.assert_allclose(after, -before)


NAMES = ("torch", "keras", "linen", "nnx", "haiku")


@pytest.mark.parametrize("library", NAMES)
@pytest.mark.parametrize("kind", [LSTM, GRU, Elman])
def test_without_biases(xs, kind, library):
    """A cell without biases is one whose biases are zero."""
    cell = kind(H, use_bias=False)
    if library == "haiku":
        cell = GRU(H, use_bias=False, reset_after=False) if kind is GRU else cell
        cell = Elman(H, use_bias=False, activation="relu") if kind is Elman else cell
    params = numpy_params(cell)
    theirs = getattr(convert, f"to_{library}")(cell, params)
    ours, biased = getattr(convert, f"from_{library}")(theirs)
    assert ours == dataclasses.replace(cell, use_bias=True)
    assert_same(rnncells.unroll(ours, biased, xs), rnncells.unroll(cell, params, xs))
