"""Images read by pixels, and series: where they come from, and targets computed again from the inputs."""

import sys

import jax
import numpy as np
import pytest

from rnncells.tasks import DampedOscillators, MackeyGlass, SequentialDigits
from rnncells.tasks.digits import images
from rnncells.tasks.mackey_glass import integrate
from rnncells.tasks.oscillators import DAMPING, FAST, SLOW
from tests.frequencies import drawn, mean_is


def test_digits():
    pixels, digits = images()
    plain, permuted = SequentialDigits(), SequentialDigits(variant="permuted")
    assert [len(part.mask) for part in plain.parts] == [1197, 300, 300]
    np.testing.assert_array_equal(np.concatenate([part.inputs for part in plain.parts])[..., 0], pixels)
    np.testing.assert_array_equal(np.concatenate([part.targets[:, -1] for part in plain.parts]), digits)
    assert pixels.min() == 0
    assert pixels.max() == 1
    assert set(np.concatenate([np.bincount(part.targets[:, -1]) > 20 for part in plain.parts])) == {True}
    mixed = permuted.parts.test.inputs[..., 0]
    order = np.random.default_rng(0).permutation(64)
    assert order[:8].tolist() == [16, 36, 27, 8, 44, 23, 53, 4]  # another order would be another task
    np.testing.assert_array_equal(mixed, pixels[1497:, order])
    short = SequentialDigits(10, "permuted").parts.validation
    np.testing.assert_array_equal(short.inputs[..., 0], pixels[1197:1497, order[:10]])
    batch = drawn(plain)
    train = {image.tobytes(): i for i, image in enumerate(pixels[:1197])}
    found = np.array([train[column.tobytes()] for column in np.ascontiguousarray(batch.inputs[..., 0].T)])
    np.testing.assert_array_equal(batch.targets[-1], digits[found])
    mean_is(found, 598)
    assert len(set(found)) > 900  # of 1197, by 2048 draws with repetition: 980 on average


def test_digits_without_scikit_learn(monkeypatch):
    images.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(
        ModuleNotFoundError, match="scikit-learn is not installed: `pip install scikit-learn`"
    ):
        SequentialDigits().sample(jax.random.key(0), 2)


def test_mackey_glass_is_the_delay_equation():
    """Against Euler steps one by one, in double precision, with x(t - tau) looked up."""
    tau, ticks = 7, 40
    history = np.random.default_rng(0).uniform(1.1, 1.3, (10 * tau + 1, 3))
    x = [*history.astype(np.float32).astype(np.float64)]
    for _ in range(10 * ticks):
        late = x[len(x) - 1 - 10 * tau]
        x.append(x[-1] + 0.1 * (0.2 * late / (1 + late**10) - 0.1 * x[-1]))
    expected = np.stack(x[10 * tau + 1 :])[9::10]
    found = jax.jit(integrate, static_argnums=1)(history.astype(np.float32), ticks)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_mackey_glass():
    task = MackeyGlass()
    batch = drawn(task)
    np.testing.assert_array_equal(batch.inputs[15:], batch.targets[:-15])
    assert not batch.mask[:17].any()
    assert batch.mask[17:].all()
    values = batch.inputs[..., 0]
    mean_is(values[0] - values[-1], 0)  # stationary
    mean_is(values[0] ** 2 - values[-1] ** 2, 0)
    errors = (batch.targets[17, :, 0] - batch.targets[17:].mean()) ** 2
    mean_is(errors, task.variance)
    assert 0.2 < values.max() < 0.45  # x between about 0.4 and 1.4 at tau = 17
    assert -0.6 < values.min() < -0.4
    # Sequences are at different places of their swings: the first tick is as varied as all of them.
    assert values[0].std() == pytest.approx(values.std(), rel=0.05)
    nrmse = task.metrics(np.full_like(batch.targets, batch.targets.mean()), batch)["nrmse"].value
    assert float(nrmse) == pytest.approx(1, rel=0.05)


def test_damped_oscillators():
    """Frequency and damping are read off the inputs, and the targets follow from them by the recurrence."""
    task = DampedOscillators()
    batch = drawn(task)
    inputs, targets = batch.inputs[..., 0].astype(np.float64), batch.targets[..., 0]
    now = np.stack([inputs[1:-1], inputs[:-2]], -1).swapaxes(0, 1)
    slopes = np.stack([np.linalg.lstsq(a, b, rcond=None)[0] for a, b in zip(now, inputs[2:].T, strict=True)])
    damping = -np.log(-slopes[:, 1]) / 2
    frequency = np.arccos(slopes[:, 0] / 2 * np.exp(damping))
    mean_is(damping, DAMPING / 2)
    mean_is(frequency, (SLOW + FAST) / 2)
    mean_is(frequency**2, (SLOW**2 + SLOW * FAST + FAST**2) / 3)
    assert np.min([damping, frequency]) > -1e-4
    assert damping.max() < DAMPING + 1e-4
    assert FAST + 1e-4 > frequency.max() > frequency.min() > SLOW - 1e-4
    before, value = inputs[:-1], inputs[1:]
    for _ in range(task.horizon):
        before, value = value, slopes[:, 0] * value + slopes[:, 1] * before
    np.testing.assert_allclose(value, targets[1:], atol=1e-4)
    mean_is(inputs[0], 0)
    mean_is(inputs[0] ** 2, 13 / 24)
    assert np.abs(inputs).max() <= 1.5
    assert not batch.mask[:3].any()
    assert batch.mask[3:].all()
    mean_is((targets[3:] ** 2).mean(0), task.variance)
