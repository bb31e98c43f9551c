"""The file for JAX alone says, tick by tick, what the model says."""

import functools
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import rnncells
from experiments import adding, export, predict
from experiments.harness import given
from experiments.harness.data import Parts
from experiments.harness.fitting import Own
from experiments.harness.model import Model
from experiments.harness.supervised import Classification
from experiments.harness.trained import Trained
from experiments.parts import compression
from rnncells import LSTM, Bidirectional, Stack, Zoneout
from tests.untrained import left

pytestmark = pytest.mark.usefixtures("standard_promotion")

ALONE = """
import runpy, sys
for name in ("rnncells", "flax", "optax", "chex", "experiments"):
    sys.modules[name] = None  # importing it fails
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def untrained(cell, **options):
    """A model as `load` gives it."""
    config = adding.Config(length=7)
    module = Model(cell, 2, **options)
    like = jnp.zeros((7, 1), jnp.int32) if module.tokens else jnp.zeros((7, 1, 2))
    params = module.init(jax.random.key(0), like)
    task = fake(module.tokens)
    return Trained(config, "LSTM", task, module, params, {"run": 0}, {})


def fake(tokens):
    """What is asked of a task here: sizes."""

    class Sizes:
        input_size = tokens or 2
        output_size = 2

    Sizes.tokens = tokens
    return Sizes()


def test_it_runs_without_the_library(tmp_path):
    """A model of tokens that reads out the last state: its saved run, exported from the command line,
    asked in an interpreter that can import neither this library nor Flax."""
    inputs = np.random.default_rng(0).integers(0, 5, (40, 9))
    folder, task = tmp_path / "run", Classification.of(Parts(given.arrays(inputs, inputs[:, 0])))
    options = {"cells": ("LSTM",), "features": (6, 4), "embedding": 3, "pooling": "last"}
    model = left(Own(**options, given=task, out=folder))
    export.main(export.Config(folder))
    np.save(tmp_path / "inputs.npy", inputs[:7].astype(np.int32))
    script = folder / "exported/act.py"
    command = [sys.executable, "-I", "-c", ALONE, str(script), "inputs.npy", "outputs.npy"]
    subprocess.run(command, cwd=tmp_path, check=True)
    outputs = np.load(tmp_path / "outputs.npy")
    assert outputs.shape == (7, 9, 5)
    for ticks in (1, 4, 9):
        np.testing.assert_allclose(outputs[:, ticks - 1], predict(model, inputs[:7, :ticks]), atol=1e-5)
    exported = jax.export.deserialize((folder / "exported/tick.jax").read_bytes())
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert not any(word in script.read_text() for word in ("WANTED", "GIVEN", "rnncells"))


@pytest.mark.laws
@pytest.mark.parametrize(
    ("cell", "options"),
    [
        (Stack([LSTM(5), Zoneout(rnncells.GRU(4), rate=0.2)]), {}),
        (rnncells.MinGRU(5), {"tokens": 4}),
        (rnncells.ExpRNN(5), {}),
        (rnncells.LearnedCarry(LSTM(5)), {}),
        (rnncells.LRU(5), {"tokens": 4, "embedding": 3}),
        (rnncells.MLSTM(4), {}),
    ],
    ids=str,
)
def test_cells_of_every_kind(cell, options, tmp_path):
    model = untrained(cell, **options)
    assert export.export(model, tmp_path) < 1e-5


@pytest.mark.laws
def test_smaller_forms(tmp_path):
    """Integers stay integers inside."""
    model = untrained(LSTM(64))
    forms = {"int8": compression.int8, "low-rank-8": functools.partial(compression.low_rank, rank=8)}
    assert export.export(model, tmp_path / "whole") < 1e-5
    whole = (tmp_path / "whole/tick.jax").stat().st_size
    for name, make in forms.items():
        module, params = compression.module_of(model.module, name), make(model.module, model.params)
        form = Trained(model.config, "LSTM", model.task, module, params, {"run": 0}, {})
        assert export.export(form, tmp_path / name) < 1e-5
        assert (tmp_path / name / "tick.jax").stat().st_size < 0.5 * whole


@pytest.mark.parametrize(
    ("cell", "options", "words"),
    [
        (Bidirectional(LSTM(3)), {}, "bidirectional: expected a model that reads forward"),
        (Stack([Bidirectional(LSTM(3)), LSTM(3)]), {}, "bidirectional: expected a model that reads forward"),
        (LSTM(3), {"pooling": "mean"}, "pooling: expected every or last, got mean, which needs all ticks"),
    ],
)
def test_what_has_no_tick(cell, options, words):
    with pytest.raises(ValueError, match=words):
        export.acting(untrained(cell, **options))


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(SystemExit, match="expected a folder that a run has left"):
        export.main(export.Config(tmp_path))
