"""Strictness for the whole suite: no silent promotion of dtypes or ranks; warnings are errors."""

import itertools

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


_tests_done = itertools.count(1)


@pytest.fixture(autouse=True)
def few_programs():
    """Every compiled program holds memory maps, of which a process may have only so many: with thousands of
    programs alive, compiling the next one ends the process."""
    yield
    if next(_tests_done) % 40 == 0:
        jax.clear_caches()


@pytest.fixture
def x64():
    """Double precision, for laws that hold exactly."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)
