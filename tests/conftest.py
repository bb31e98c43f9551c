"""For the whole suite: no silent promotion of dtypes or ranks; warnings are errors; two devices."""

import itertools

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)


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


@pytest.fixture
def standard_promotion():
    """What experiments run under: optax's Adam raises a float to an integer power. Set for all threads, so
    not by a context."""
    strict = {
        name: getattr(jax.config, name) for name in ("jax_numpy_dtype_promotion", "jax_numpy_rank_promotion")
    }
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    for name, value in strict.items():
        jax.config.update(name, value)
