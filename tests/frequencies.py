"""Batches of tasks; their frequencies and means against probabilities, within five standard errors."""

import collections
import functools

import jax
import numpy as np
import pytest

N = 2048


@functools.cache
def drawn(task, seed=0):
    """A batch of N sequences, as NumPy has it."""
    return jax.tree.map(np.asarray, _sampler(task)(jax.random.key(seed)))


@functools.cache
def _sampler(task):
    return jax.jit(lambda key: task.sample(key, N))


def classes(batch):
    """int [T, B]: the number of the one-hot entry, or -1 where there is none."""
    return np.where(batch.inputs.any(-1), np.argmax(batch.inputs, -1), -1)


def frequent(found, expected):
    """How often each value comes, against its probability."""
    found = np.asarray(found).ravel()
    assert set(found.tolist()) <= set(expected)
    assert sum(expected.values()) == pytest.approx(1)
    counts = collections.Counter(found.tolist())
    for value, p in expected.items():
        assert abs(counts[value] / found.size - p) <= 5 * np.sqrt(p * (1 - p) / found.size), value


def evenly(found, values):
    values = list(values)
    frequent(found, dict.fromkeys(values, 1 / len(values)))


def mean_is(found, expected):
    """Of independent numbers."""
    found = np.asarray(found, np.float64)
    assert abs(found.mean() - expected) <= 5 * found.std(ddof=1) / np.sqrt(found.size)
