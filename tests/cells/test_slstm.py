"""SLSTM: what its weights mean, its heads, and where it starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import SLSTM, VariationalDropout, unroll
from rnncells.initializers import Normal
from tests import references
from tests.cases import FEATURES, INPUT
from tests.cells.common import B, assert_close, outputs, params_of, sequence
from tests.references.common import s

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)


@pytest.mark.parametrize("forget", ["sigmoid", "exponential"])
def test_slstm_equals_the_unstabilised_equations_from_the_start(forget):
    cell = SLSTM(4, heads=2, forget=forget)
    params = params_of(cell)
    carry = cell.initial_carry(params, (B,))
    last, ys = unroll(cell, params, sequence())
    expected, expected_ys, _ = references.run(cell, params, sequence(), carry)
    assert_close(ys, expected_ys)
    jax.tree.map(assert_close, jax.tree.leaves(last), expected)


def test_slstm_reads_weights_not_their_size():
    """The first output is o tanh(z) and more on every input gate changes nothing, in single precision too."""
    cell = SLSTM(FEATURES)
    params = cell.init(KEY, INPUT)
    xs = sequence().astype(jnp.float32)
    i, f, z, o = range(4)
    weights = jax.tree.map(np.asarray, params)
    fused = np.split(np.asarray(xs[0]) @ weights["kernel"] + weights["bias"], 4, -1)
    expected = outputs(cell, params, xs)
    np.testing.assert_allclose(expected[0], s(fused[o]) * np.tanh(fused[z]), rtol=1e-5)
    for more in (-200.0, 1e4):
        shifted = params | {"bias": params["bias"].at[i * FEATURES : f * FEATURES].add(more)}
        np.testing.assert_allclose(outputs(cell, shifted, xs), expected, rtol=1e-2, atol=1e-3)
        slopes = jax.grad(lambda params: unroll(cell, params, xs)[1].sum())(shifted)
        assert all(np.isfinite(slope).all() for slope in slopes.values())


def test_slstm_heads_are_apart():
    """What a head leaves reaches the other only if a kernel mixes them."""
    cell = SLSTM(4, heads=2)
    params = params_of(cell)
    assert params["recurrent_kernel"].shape == (2, 16)
    carry = cell.initial_carry(params, (B,))
    other = carry._replace(hidden=carry.hidden.at[:, 2:].set(1.0))
    (_, ys), (_, changed) = (unroll(cell, params, sequence(), start) for start in (carry, other))
    assert_close(ys[..., :2], changed[..., :2])
    assert not np.allclose(ys[..., 2:], changed[..., 2:])
    dropping = VariationalDropout(cell, rate=0.5)
    loud = unroll(dropping, params, sequence(), other, key=KEY)[1]
    assert not np.allclose(loud, changed)
    whole = np.zeros((4, 4, 4))
    for head in range(2):
        part = slice(2 * head, 2 * head + 2)
        whole[part, :, part] = params["recurrent_kernel"].reshape(2, 4, 2, 2)[:, :, head]
    dense = params | {"recurrent_kernel": jnp.asarray(whole.reshape(4, 16))}
    assert_close(ys, outputs(SLSTM(4), dense))


def test_slstm_starts_as_the_authors():
    params = SLSTM(8, heads=2).init(KEY, INPUT)
    i, f, z, o = np.split(params["bias"], 4, -1)
    law = [5, 5 - 12 * (1 / 3) ** 0.3, 5 - 12 * (2 / 3) ** 0.3, -7]
    np.testing.assert_allclose(f, [*law, *law], rtol=1e-6)
    assert not np.any([i, z, o])
    assert not np.any(params["recurrent_kernel"])
    biased = SLSTM(8, forget_bias=2.0, recurrent_init=Normal(0.3)).init(KEY, INPUT)
    assert (np.split(biased["bias"], 4, -1)[1] == 2).all()
    assert np.all(biased["recurrent_kernel"])
    with pytest.raises(ValueError, match=r"SLSTM.features: expected a multiple of heads=3, got 4"):
        SLSTM(4, heads=3)
