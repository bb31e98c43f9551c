"""The experiments on a small scale: they learn, they write what they say, and they help."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments import adding, copy_memory
from experiments.train import Hyperparameters, Training, make_cell, make_train, summarise
from rnncells.initializers import Chrono
from rnncells.tasks import Adding


@pytest.fixture(autouse=True)
def standard_promotion():
    """optax's Adam raises a float to an integer power; set for all threads, so not by a context."""
    strict = {
        name: getattr(jax.config, name) for name in ("jax_numpy_dtype_promotion", "jax_numpy_rank_promotion")
    }
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    for name, value in strict.items():
        jax.config.update(name, value)


SMALL = Training(updates=20, batch_size=8, report_every=10, test_sequences=64, seeds=2)


@pytest.mark.parametrize(
    ("script", "config"),
    [
        (adding, adding.Config(cells=("LSTM", "MinGRU"), features=8, length=10, training=SMALL)),
        (copy_memory, copy_memory.Config(cells=("GRU", "ExpRNN"), features=8, length=5, training=SMALL)),
    ],
    ids=["adding", "copy"],
)
def test_a_run_leaves_its_folder(script, config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "use_every_core", lambda: None)
    monkeypatch.chdir(tmp_path)
    script.main(config)
    shown = capsys.readouterr().out
    for cell in config.cells:
        assert cell in shown
    folder = tmp_path / config.out
    assert json.loads((folder / "config.json").read_text())["training"]["updates"] == 20
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    runs = {(line["cell"], line["seed"]) for line in lines}
    assert runs == {(cell, seed) for cell in config.cells for seed in range(2)}
    blocks = [line for line in lines if "done" not in line]
    assert len(blocks) == 2 * len(runs)
    assert {line["sequences"] for line in blocks} == {80, 160}
    assert all(np.isfinite(line["loss"]) for line in blocks)
    assert len(lines) - len(blocks) == len(runs)
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    table = (folder / "table.md").read_text().splitlines()
    assert len(table) == 2 + len(config.cells) + 1
    assert "memoryless" in table[-1]


def test_training_learns_and_is_reproducible():
    task = Adding(6)
    config = Training(updates=300, batch_size=32, report_every=300, learning_rate=1e-2)
    train = make_train(task, make_cell("GRU", 16), config)
    hyper = Hyperparameters(config.learning_rate, config.clip_norm)

    def run():
        state, losses = jax.jit(train.advance)(train.init(jax.random.key(0), hyper), hyper)
        return losses, train.test(state.params, jax.random.key(1))

    losses, test = run()
    assert losses.shape == (300,)
    assert float(test["mse"]) < task.baseline / 10
    np.testing.assert_array_equal(losses, run()[0])


def test_hyperparameters_are_swept_under_vmap():
    config = Training(updates=5, batch_size=4, report_every=5)
    train = make_train(Adding(5), make_cell("Elman", 4), config)

    def run(rate):
        hyper = Hyperparameters(rate, 1.0)
        return train.advance(train.init(jax.random.key(0), hyper), hyper)[1]

    rates = np.array([0.0, 1e-2], np.float32)
    swept = jax.vmap(run)(rates)
    for rate, losses in zip(rates, swept, strict=True):
        np.testing.assert_allclose(losses, run(rate), rtol=1e-4)
    assert not np.allclose(swept[0], swept[1])


def test_optional_fields_go_to_the_cells_that_have_them():
    assert make_cell("LSTM", 4, forget_bias=Chrono(7.0)).forget_bias == Chrono(7.0)
    assert make_cell("ExpRNN", 4, forget_bias=Chrono(7.0)) == make_cell("ExpRNN", 4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"updates": 0}, "updates: expected at least 1"),
        ({"report_every": 7}, "report_every: expected a divisor"),
    ],
)
def test_bad_training(change, words):
    with pytest.raises(ValueError, match=words):
        Training(**change)


@pytest.mark.parametrize("script", ["adding", "copy_memory"])
def test_help_names_every_option(script):
    shown = subprocess.run(
        [sys.executable, "-m", f"experiments.{script}", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for option in (
        "--cells",
        "--features",
        "--length",
        "--out",
        "--training.learning-rate",
        "--training.seeds",
    ):
        assert option in shown
    assert "Elman" in shown
    assert summarise.__module__ not in shown
