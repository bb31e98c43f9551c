"""Orthogonal cells: lengths that are kept, which maps are reached, and when they are made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from rnncells import EUNN, GORU, ExpRNN, FullUnitaryRNN, HouseholderRNN, ScoRNN, UnitaryRNN, unroll
from rnncells.cells.orthogonal.unitary import haar_unitary, unitary_logarithm
from rnncells.parts.orthogonal import rotate, skew_hermitian
from tests.cases import INPUT, random_like, sparing
from tests.cells.common import CLOSED, OPEN, B, T, assert_close, params_of, sequence

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("size", sparing((5, 2, 8)))
def test_exprnn_is_a_rotation(size):
    cell = ExpRNN(size)
    params = params_of(cell)
    weights = cell.prepare(params)
    kernel = weights["recurrent_kernel"]
    assert_close(kernel.T @ kernel, np.eye(size))
    assert np.linalg.det(kernel) == pytest.approx(1.0)
    still = {name: jnp.zeros_like(array) for name, array in params.items()} | {"skew": params["skew"]}
    carry = random_like(cell.initial_carry(params, (B,)))
    last, _ = unroll(cell, still, jnp.zeros((500, B, INPUT), jnp.float64), carry)
    np.testing.assert_allclose(np.linalg.norm(last, axis=-1), np.linalg.norm(carry, axis=-1), rtol=1e-9)


def test_exprnn_of_two_units_turns_by_its_angle():
    cell = ExpRNN(2)
    params = cell.init(jax.random.key(0), INPUT, jnp.float64)
    angle = params["skew"][0]
    turn = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    assert_close(cell.prepare(params)["recurrent_kernel"], turn)


@pytest.mark.parametrize(("scheme", "low", "high"), [("henaff", -np.pi, np.pi), ("cayley", -1.0, 0.0)])
def test_exprnn_starts_block_diagonal(scheme, low, high):
    cell = ExpRNN(9, skew_init=scheme)
    params = cell.init(jax.random.key(0), INPUT)
    upper = np.zeros((9, 9))
    upper[np.triu_indices(9, 1)] = params["skew"]
    angles = np.diag(upper, 1)
    assert np.all((angles[::2] > low) & (angles[::2] < high))
    assert np.count_nonzero(upper) == 4
    assert not np.any(angles[1::2])


def test_exprnn_takes_the_exponential_once_per_sequence(monkeypatch):
    calls, expm = [], jax.scipy.linalg.expm
    monkeypatch.setattr(jax.scipy.linalg, "expm", lambda a: calls.append(1) or expm(a))
    cell = ExpRNN(6)
    params = cell.init(jax.random.key(0), INPUT)
    text = (
        jax.jit(lambda p, xs: unroll(cell, p, xs)[1])
        .lower(params, jnp.ones((9, INPUT), jnp.float32))
        .as_text()
    )
    assert calls == [1]
    assert "while" in text


KEEPING = {
    "ScoRNN": ScoRNN(5),
    "HouseholderRNN": HouseholderRNN(5, activation="identity"),
    "UnitaryRNN": UnitaryRNN(5),
    "FullUnitaryRNN": FullUnitaryRNN(5),
    "EUNN": EUNN(5),
}
TURNING = {
    "UnitaryRNN": UnitaryRNN(6),
    "FullUnitaryRNN": FullUnitaryRNN(6),
    "EUNN": EUNN(6, capacity=3),
    "EUNN by strides": EUNN(6, style="fft"),
    "EUNN of one unit": EUNN(1, style="fft"),
}


def turned(cell, params):
    """U, from what it does to the columns of the identity."""
    dtype = cell.initial_carry(params).dtype
    turn = jax.jit(lambda params: cell.turn(cell.prepare(params), jnp.eye(cell.features, dtype=dtype)))
    return np.asarray(turn(params)).T


@pytest.mark.parametrize("cell", TURNING.values(), ids=TURNING)
def test_unitary_whatever_is_trained(cell):
    u = turned(cell, params_of(cell))
    assert_close(u.conj().T @ u, np.eye(cell.features))


@pytest.mark.parametrize("cell", sparing(KEEPING.values()), ids=KEEPING)
def test_without_input_and_bias_lengths_are_kept(cell):
    params = params_of(cell)
    still = params | {name: jnp.zeros_like(params[name]) for name in ("kernel", "bias")}
    carry = random_like(cell.initial_carry(params, (B,)))
    last, _ = unroll(cell, still, jnp.zeros((500, B, INPUT), jnp.float64), carry)
    np.testing.assert_allclose(np.linalg.norm(last, axis=-1), np.linalg.norm(carry, axis=-1), rtol=1e-9)


def test_the_output_of_a_complex_state_is_its_parts():
    cell = EUNN(5)
    last, ys = unroll(cell, params_of(cell), sequence())
    assert last.dtype == jnp.complex128
    np.testing.assert_array_equal(ys[-1], np.concatenate([last.real, last.imag], -1))


@pytest.mark.parametrize("negatives", [0, 1, None])
def test_scornn_reaches_both_signs(negatives):
    cell = ScoRNN(7, negatives=negatives)
    params = params_of(cell)
    u = cell.prepare(params)["recurrent_kernel"].T
    assert_close(u.T @ u, np.eye(7))
    count = 3 if negatives is None else negatives
    assert np.linalg.det(u) == pytest.approx((-1.0) ** count)
    straight = cell.prepare(params | {"skew": jnp.zeros_like(params["skew"])})["recurrent_kernel"]
    assert_close(straight, np.diag([1.0] * (7 - count) + [-1.0] * count))
    with pytest.raises(ValueError, match=r"ScoRNN\.negatives: expected at most 2"):
        ScoRNN(2, negatives=3)


def test_scornn_starts_by_turning_pairs():
    cell = ScoRNN(9, negatives=0)
    params = cell.init(jax.random.key(0), INPUT, jnp.float64)
    angles = np.sort(np.abs(np.angle(np.linalg.eigvals(cell.prepare(params)["recurrent_kernel"]))))
    assert angles[0] < 1e-9  # of the last unit
    assert 0.5 < angles[-1] < np.pi / 2
    np.testing.assert_allclose(angles[1::2], angles[2::2])


def test_householder_scales_of_vectors_have_no_effect():
    cell = HouseholderRNN(6, reflections=3)
    params = params_of(cell)
    assert params["vectors"].size == 6 + 5 + 4
    scaled = params | {"vectors": params["vectors"].at[:6].mul(7.0).at[6:11].mul(-0.2)}
    assert_close(cell.prepare(scaled)["recurrent_kernel"], cell.prepare(params)["recurrent_kernel"])
    with pytest.raises(ValueError, match=r"HouseholderRNN\.reflections: expected at most 6"):
        HouseholderRNN(6, reflections=7)


@pytest.mark.parametrize("count", [1, 5])
def test_householder_has_a_sign_for_each_reflection(count):
    cell = HouseholderRNN(5, reflections=count)
    params = cell.init(jax.random.key(0), INPUT, jnp.float64)
    assert params["vectors"].size == count * (11 - count) // 2 - (count == 5)
    u = cell.prepare(params)["recurrent_kernel"].T
    assert_close(u.T @ u, np.eye(5))
    assert np.linalg.det(u) == pytest.approx((-1.0) ** count)
    assert np.linalg.matrix_rank(u - np.eye(5), tol=1e-9) == count
    norms = [np.linalg.norm(params["vectors"][start : start + size]) for start, size in ((0, 5), (5, 4))]
    assert_close(norms[: min(count, 2)], np.ones(min(count, 2)))


def test_urnn_has_few_parameters_and_a_fixed_permutation():
    cell = UnitaryRNN(8)
    params = params_of(cell)
    assert params["theta"].size + params["reflection"].size == 7 * 8
    assert not np.allclose(turned(cell, params), turned(UnitaryRNN(8, seed=1), params))
    # Without phases and with equal mirrors, the permutation is left between two transforms.
    plain = params | {"theta": jnp.zeros((3, 8), jnp.float64)}
    plain["reflection"] = jnp.zeros((2, 16), jnp.float64).at[:, 0].set(1.0)
    fourier = np.fft.fft(np.eye(8), norm="ortho")
    mirror = np.diag([-1.0] + [1.0] * 7)
    middle = fourier @ mirror @ turned(cell, plain) @ fourier.conj().T @ mirror
    assert_close(middle, np.eye(8)[np.random.default_rng(0).permutation(8)])


@pytest.mark.laws
def test_full_urnn_reaches_every_unitary_map():
    unitary = haar_unitary(jax.random.key(3), 6, jnp.complex128)
    assert_close(jax.scipy.linalg.expm(unitary_logarithm(unitary)), unitary)
    cell = FullUnitaryRNN(6)
    params = cell.init(jax.random.key(0), INPUT)
    assert params["generator"].shape == (6, 6)


def test_full_urnn_starts_haar_distributed():
    """Of which the trace has a mean square of 1; phases drawn one by one would give 4 for 4 units."""
    cell = FullUnitaryRNN(4)
    keys = jax.random.split(jax.random.key(0), 300)
    generators = jax.vmap(lambda key: cell.init(key, 1)["generator"])(keys)
    us = scipy.linalg.expm(np.stack([skew_hermitian(numbers) for numbers in generators]))
    assert np.mean(np.abs(np.trace(us, axis1=1, axis2=2)) ** 2) == pytest.approx(1.0, abs=0.25)


@pytest.mark.laws
def test_plain_descent_keeps_it_unitary():
    cell = FullUnitaryRNN(5)
    params = params_of(cell)

    @jax.jit
    def descend(params):
        slope = jax.grad(lambda params: jnp.square(unroll(cell, params, sequence())[1] - 0.3).mean())(params)
        return jax.tree.map(lambda leaf, d: leaf - 0.5 * d, params, slope)

    start = turned(cell, params)
    for _ in range(20):
        params = descend(params)
    u = turned(cell, params)
    assert_close(u.conj().T @ u, np.eye(5))
    assert np.abs(u - start).max() > 0.01


@pytest.mark.parametrize(("style", "layers"), [("tunable", 6), ("fft", 3)])
def test_eunn_without_angles_is_the_identity(style, layers):
    cell = EUNN(6, capacity=6, style=style)
    params = params_of(cell)
    assert len(cell.layers) == layers
    assert_close(turned(cell, {name: jnp.zeros_like(leaf) for name, leaf in params.items()}), np.eye(6))
    if style == "tunable":  # as many numbers as a unitary map has
        assert sum(params[name].size for name in ("theta", "phi", "omega")) == 36


@pytest.mark.laws
def test_goru_keeps_or_turns():
    cell = GORU(5, capacity=4)
    params = params_of(cell)
    carry = random_like(cell.initial_carry(params, (B,)))
    q = rotate(cell.layers, cell.prepare(params)["rotations"], jnp.eye(5, dtype=jnp.float64))
    assert_close(q.T @ q, np.eye(5))
    assert np.linalg.det(q) == pytest.approx(1.0)
    assert_close(unroll(cell, fixed(cell, params, g=OPEN), sequence(), carry)[0], carry)
    turning = fixed(cell, params, g=CLOSED, r=OPEN) | {"modrelu_bias": jnp.zeros(5, jnp.float64)}
    last, _ = unroll(cell, turning, jnp.zeros((T, B, INPUT), jnp.float64), carry)
    assert_close(last, carry @ np.linalg.matrix_power(q, T))
    start = cell.init(jax.random.key(0), INPUT)
    np.testing.assert_array_equal(start["bias"], [2.0] * 5 + [0.0] * 5)
    assert np.abs(start["kernel"]).max() <= 0.01


def fixed(cell, params, **gates):
    """The parameters with these gates fixed, whose blocks come first in the kernels."""
    for gate, value in gates.items():
        block = slice(cell.gates.index(gate) * 5, (cell.gates.index(gate) + 1) * 5)
        params = params | {
            name: params[name].at[:, block].set(0.0) for name in ("kernel", "recurrent_kernel")
        }
        params |= {"bias": params["bias"].at[block].set(value)}
    return params
