"""For the whole suite: no silent promotion of dtypes or ranks; warnings are errors; two devices."""

import importlib.metadata
import os
import pathlib

import jax
import numpy as np
import pytest

QUICK = os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS", "0") not in ("", "0")
if QUICK and importlib.metadata.version("jax").startswith("0.10."):
    # The new emitters take three times as long to compile as the old ones, which later versions lack; one
    # object for each program instead of many takes less of everything, memory maps too.
    flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)


MAPS = pathlib.Path("/proc/self/maps")
_since = {"cell": None, "tests": 0}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """What is particular to single cells is for `make laws`. The laws of one cell come together, whatever
    file they are in: they share its programs."""
    for item in items:
        if item.path.parent.name == "cells":
            item.add_marker(pytest.mark.laws)
    names = list(dict.fromkeys(_cell(item) for item in items))
    items.sort(key=lambda item: names.index(_cell(item)) if _cell(item) else -1)


def _cell(item):
    """The name of the cell, if the test is a law over cells."""
    is_law = item.path.name.startswith("test_laws") and hasattr(item, "callspec")
    return type(item.callspec.params["cell"]).__name__ if is_law else None


@pytest.fixture(autouse=True)
def few_programs(request):
    """Every compiled program holds memory maps, of which a process may have only so many (Linux: 65530):
    with thousands of programs alive, compiling the next one ends the process. Laws of a cell keep theirs."""
    cell = _cell(request.node)
    _since["tests"] += 1
    if _since["tests"] > 10 and (cell is None or cell != _since["cell"]):
        if not MAPS.exists() or MAPS.read_bytes().count(b"\n") > 30_000:
            jax.clear_caches()
        _since["tests"] = 1
    _since["cell"] = cell


@pytest.fixture
def x64():
    """Double precision, for laws that hold exactly."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
