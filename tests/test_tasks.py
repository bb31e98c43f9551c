"""Tasks draw what their papers describe, and their closed-form baselines hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells.tasks import Adding, Copy

KEY = jax.random.key(0)
N = 20_000


@pytest.mark.parametrize("variant", ["halves", "anywhere"])
@pytest.mark.parametrize("length", [2, 11, 50])
def test_adding(variant, length):
    task = Adding(length, variant)
    inputs, targets, mask = jax.jit(task.sample, static_argnums=1)(KEY, 4000)
    assert inputs.shape == (length, 4000, 2)
    assert inputs.dtype == jnp.float32
    values, markers = np.moveaxis(np.asarray(inputs), -1, 0)
    assert set(np.unique(markers)) == {0.0, 1.0} or length == 2
    assert (markers.sum(0) == 2).all()
    np.testing.assert_allclose((values * markers).sum(0), targets[-1, :, 0], rtol=1e-6)
    assert not np.any(targets[:-1])
    assert mask[-1].all()
    assert not mask[:-1].any()
    where = markers.mean(1)
    if variant == "halves":
        assert (markers[: length // 2].sum(0) == 1).all()
    else:
        np.testing.assert_allclose(where, 2 / length, atol=0.04)
    assert where.min() > 0
    assert 0 <= values.min() < values.max() <= 1


def test_adding_as_in_1997():
    task = Adding(100, "original")
    inputs, targets, mask = task.sample(KEY, N)
    values, markers = np.moveaxis(np.asarray(inputs), -1, 0)
    assert values.shape[0] == 110
    last = np.argmax(np.asarray(mask), 0)
    assert set(last) == set(range(99, 110))
    assert (np.asarray(mask).sum(0) == 1).all()
    after = np.arange(110)[:, None] > last[None]
    assert not values[after].any()
    assert not markers[after].any()
    marked = markers == 1
    assert (marked.sum(0) == 2).all()
    first = np.argmax(marked, 0)
    second = 109 - np.argmax(marked[::-1], 0)
    assert first.max() <= 9
    assert second.max() <= 49
    assert (first < second).all()
    assert (markers[last, np.arange(N)] == -1).all()
    assert np.isin(markers[0], (1, -1)).all()
    assert (values[0][markers[0] == 1] == 0).all()
    assert (markers == -1).sum() == N + (markers[0] == -1).sum()
    expected = 0.5 + (values * marked).sum(0) / 4
    np.testing.assert_allclose(np.asarray(targets)[last, np.arange(N), 0], expected, rtol=1e-5)


@pytest.mark.parametrize("variant", ["halves", "anywhere", "original"])
def test_adding_baseline_is_the_best_constant(variant):
    task = Adding(30, variant)
    batch = task.sample(KEY, N)
    wanted = np.asarray(batch.targets)[np.asarray(batch.mask)]
    best = jnp.full(batch.targets.shape, wanted.mean(), jnp.float32)
    assert float(task.loss(best, batch)) == pytest.approx(task.baseline, rel=0.04)
    perfect = task.metrics(batch.targets, batch)
    assert perfect["mse"] == 0
    assert perfect["correct"] == 1
    assert task.solved(perfect)
    assert not task.solved(task.metrics(best, batch))


def test_adding_reads_nothing_but_the_last_tick():
    task = Adding(10)
    batch = task.sample(KEY, 4)
    outputs = batch.targets.at[:-1].set(jnp.nan)
    assert task.loss(outputs, batch) == 0
    slope = jax.grad(task.loss)(batch.targets + 1, batch)
    assert not np.any(slope[:-1])
    np.testing.assert_allclose(slope[-1], 2 / 4, rtol=1e-6)


@pytest.mark.parametrize("length", [1, 30])
def test_copy(length):
    task = Copy(length)
    inputs, targets, mask = jax.jit(task.sample, static_argnums=1)(KEY, 500)
    assert inputs.shape == (length + 20, 500, 10)
    assert targets.shape == mask.shape == (length + 20, 500)
    assert mask.all()
    classes = np.argmax(inputs, -1)
    np.testing.assert_array_equal(np.asarray(inputs).sum(-1), 1)
    symbols = classes[:10]
    assert set(np.unique(symbols)) == set(range(1, 9))
    np.testing.assert_array_equal(targets[-10:], symbols)
    assert not np.any(targets[:-10])
    assert (classes[length + 9] == 9).all()
    blanks = np.delete(classes, [*range(10), length + 9], axis=0)
    assert not blanks.any()


def test_copy_baseline_and_recall():
    task = Copy(50)
    batch = task.sample(KEY, 2000)
    sure = jax.nn.log_softmax(1e4 * jax.nn.one_hot(batch.targets, 9))
    assert float(task.loss(sure, batch)) == pytest.approx(0, abs=1e-6)
    perfect = task.metrics(sure, batch)
    assert perfect["recall"] == 1
    assert task.solved(perfect)
    blank = jnp.full((60, 2000, 9), -1e4).at[..., 0].set(0.0)
    guess = jnp.zeros((10, 2000, 9)).at[..., 0].set(-1e4)
    memoryless = jnp.concatenate([blank, guess])
    assert float(task.loss(memoryless, batch)) == pytest.approx(task.baseline, rel=1e-4)
    assert task.metrics(memoryless, batch)["recall"] == pytest.approx(1 / 8, abs=0.01)
    assert not task.solved(task.metrics(memoryless, batch))
    assert Copy(1000).baseline == pytest.approx(0.0204, abs=1e-4)
