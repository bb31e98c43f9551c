"""Forecasts: windows divided in time, models by their published sizes, and figures that come back by hand."""

import csv
import dataclasses
import importlib
import io
import re

import jax
import numpy as np
import pytest
import safetensors.numpy

from experiments import forecast, load
from experiments.harness import saved
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.model import Net
from experiments.harness.options import Training
from experiments.parts import series
from rnncells.tasks import Batch
from tests.echo import read
from tests.scripts import said_by

pytestmark = pytest.mark.usefixtures("standard_promotion")

predict = importlib.import_module("experiments.predict")
MONTHS = np.arange("2000-01", "2013-05", dtype="datetime64[M]")
TIDE = 50 + 0.2 * np.arange(160) + 8 * np.sin(np.arange(160) * np.pi / 6)
OTHER = np.random.default_rng(0).normal(size=160)


@pytest.fixture(scope="module")
def tide(tmp_path_factory):
    """A year that repeats, on a slope; newest first, with a row that has no value."""
    file = tmp_path_factory.mktemp("data") / "tide.csv"
    rows = [f"{month},{height},{other}" for month, height, other in zip(MONTHS, TIDE, OTHER, strict=True)]
    lines = [
        "Date,height,other",
        *(row.replace(",", "-01,", 1) for row in reversed(rows)),
        "1999-12-01,,1",
        "",
    ]
    file.write_text("\n".join(lines))
    return file


@pytest.fixture(scope="module")
def config(tide, tmp_path_factory):
    return forecast.Config(
        cells=("Elman",),
        features=8,
        csv=tide,
        column=("height", "other"),
        target=("height",),
        window=13,
        horizon=3,
        optimizer=Optimizer(learning_rate=0.02),
        training=Training(updates=200, report_every=50, batch_size=32, checkpoint_every=200, seeds=1),
        out=tmp_path_factory.mktemp("runs") / "tide",
    )


@pytest.fixture(scope="module")
def said(config):
    return said_by(forecast, config)


def by_hand(config, values):
    """The next values after windows [N, window, C], from the saved weights and scaler."""
    weights = safetensors.numpy.load_file(config.out / "weights/Elman-0.safetensors")
    weights = {
        name.rsplit("/", 2)[-2] + "/" + name.rsplit("/", 1)[-1]: leaf for name, leaf in weights.items()
    }
    own = np.stack([TIDE, OTHER], 1)[:112]  # 160 rows without twice 24
    deviation = own.std(0)
    scale = np.diff(own / deviation, axis=0).std(0)
    found = []
    for window in values:
        h = np.zeros(8)
        for x in np.diff(window / deviation, axis=0) / scale:
            h = np.tanh(
                x @ weights["cell/kernel"] + h @ weights["cell/recurrent_kernel"] + weights["cell/bias"]
            )
        out = h @ weights["Dense_0/kernel"] + weights["Dense_0/bias"]
        found.append(window[-1, 0] + out * np.sqrt([1, 2, 3]) * scale[0] * deviation[0])
    return np.array(found)


def test_the_figures_are_those_of_the_weights(config, said):
    """Table, last line and `load` say one RMSE: that of a recurrence in NumPy."""
    whole = np.stack([TIDE, OTHER], 1)
    ends = np.arange(135, 157)  # the first value after them is in the last 24 rows
    windows = np.stack([whole[end - 12 : end + 1] for end in ends])
    truth = np.stack([TIDE[end + 1 : end + 4] for end in ends])
    errors = by_hand(config, windows) - truth
    rmse, mae = np.sqrt(np.square(errors).mean()), np.abs(errors).mean()
    (line,) = [line for line in read(config.out) if "test" in line]
    assert line["test"]["rmse"] == pytest.approx(rmse, rel=1e-3)
    assert line["test"]["mae"] == pytest.approx(mae, rel=1e-3)
    last = np.sqrt(np.square(TIDE[ends][:, None] - truth).mean())
    assert config.task().baseline == pytest.approx(last)
    average = np.sqrt(np.square(windows[:, -3:, 0].mean(1, keepdims=True) - truth).mean())
    table = [line.split("|")[1:-1] for line in (config.out / "forecast.md").read_text().splitlines()[2:]]
    rows = {method.strip(): float(score) for _, method, score, _ in table}
    assert rows == {
        "last value": pytest.approx(last, rel=1e-3),
        "mean of last 3": pytest.approx(average, rel=1e-3),
        "Elman": pytest.approx(rmse, rel=1e-3),
    }
    assert rmse < 0.5 * min(last, average)
    (ours, theirs) = re.search(
        r"height: the Elman beats the last value: RMSE (\S+) against (\S+) ", said
    ).groups()
    assert (float(ours), float(theirs)) == (pytest.approx(rmse, rel=1e-3), pytest.approx(last, rel=1e-3))
    assert load(config.out).test["rmse"] == line["test"]["rmse"]
    assert (config.out / "forecast.png").read_bytes().startswith(b"\x89PNG")


def test_the_next_values_in_the_unit_of_the_file(config, said, tide, tmp_path, capsys):
    predict.main(predict.Config(config.out, tide))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    window = np.stack([TIDE, OTHER], 1)[None, -13:]
    assert [float(row["height"]) for row in rows] == pytest.approx(by_hand(config, window)[0], rel=1e-4)
    short = tmp_path / "short.csv"
    short.write_text("height,other\n" + "1,2\n" * 12)
    with pytest.raises(SystemExit, match=r"short.csv: expected at least 13 rows, got 12"):
        predict.main(predict.Config(config.out, short))


def test_windows_are_divided_in_time():
    values = np.arange(20.0)[:, None]
    train, held, last = series.divided(values, window=4, horizon=2, validation=0.2, test=0.2)
    assert train.inputs[0, :, 0].tolist() == [0, 1, 2, 3]
    assert train.after[[0, -1], :, 0].tolist() == [[4, 5], [10, 11]]
    assert held.inputs[0, :, 0].tolist() == [8, 9, 10, 11]
    assert held.after[..., 0].tolist() == [[12, 13], [13, 14], [14, 15]]
    assert last.after[..., 0].tolist() == [[16, 17], [17, 18], [18, 19]]
    assert last.ends.tolist() == [15, 16, 17]
    assert series.last_value(last)[..., 0].tolist() == [[15, 15], [16, 16], [17, 17]]
    assert series.moving_average(last, 3)[..., 0].tolist() == [[14, 14], [15, 15], [16, 16]]


def test_the_training_part_knows_nothing_of_what_comes(config, tide, tmp_path):
    """Another future changes neither the scaler nor what is learned from."""
    file = tmp_path / "other.csv"
    rows = tide.read_text().splitlines()
    file.write_text("\n".join([rows[0], *(f"{row.split(',')[0]},1e6,1e6" for row in rows[1:49]), *rows[49:]]))
    ours, theirs = config.task(), dataclasses.replace(config, csv=file).task()
    assert ours.extras == theirs.extras
    for one, other in zip(ours.parts.train, theirs.parts.train, strict=True):
        np.testing.assert_array_equal(one, other)
    assert theirs.parts.test.targets.max() > 1000


@pytest.mark.parametrize(
    ("stack", "cell", "parameters"),
    [
        ("LSTM-50-50", "LSTM", 4 * 50 * (1 + 50 + 1) + 4 * 50 * (50 + 50 + 1) + 51),
        ("GRU-128-64", "GRU", 3 * 128 * (1 + 128 + 1) + 128 + 3 * 64 * (128 + 64 + 1) + 64 + 65),
    ],
)
@pytest.mark.parametrize("what", ["change", "level"])
def test_published_stacks(stack, cell, parameters, what):
    config = forecast.Config(stack=stack, predict=what)
    assert config.cells == (cell,)
    assert saved.restored(forecast.Config, saved.plain(config)) == config
    task = config.task()
    module = config.model(task)(config.numbers(cell).cell, task.output_size)
    batch = Batch(np.zeros((24, 1, 1), np.float32), np.zeros((1, 1)), np.ones(1, bool))
    shapes = jax.eval_shape(Net(module).init, jax.random.key(0), batch)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stack": "GRU-128-64", "features": 7}, "features: expected none beside stack=GRU-128-64, got 7"),
        ({"stack": "GRU-128-64", "cells": ("LSTM",)}, "cells: expected none beside stack=GRU-128-64"),
        ({"window": 1}, "window: expected at least 2, got 1"),
        ({"horizon": 0}, "horizon: expected at least 1, got 0"),
        ({"window": 4, "average": 5}, "average: expected at most the window, 4, got 5"),
        (
            {"test": 0.0},
            "validation, test: expected fractions that leave some for training, got 0.15 and 0.0",
        ),
        ({"test": 0.9}, "validation, test: expected fractions that leave some for training"),
        (
            {"target": ("MSFT",)},
            "target: expected names among column, .* got MSFT; predict=level takes any",
        ),
    ],
)
def test_what_a_forecast_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        forecast.Config(**options)


def test_several_targets_are_judged_in_deviations():
    """IBM and the index have other units; those of the last value's errors are one again."""
    config = forecast.Config(column=("IBM", "^GSPC"), target=("^GSPC", "AAPL"), predict="level", horizon=2)
    task = config.task()
    assert (task.score, task.input_size, task.output_size) == ("loss", 2, 4)
    values = config.series().values  # IBM, ^GSPC, AAPL
    deviation = values[: series.cuts(391, 0.15, 0.15)[0]].std(0)
    ends = np.arange(391 - 59 - 1, 391 - 2)
    after = np.stack([values[ends + 1], values[ends + 2]], 1)
    errors = ((after - values[ends][:, None]) / deviation)[..., 1:]
    assert task.baseline == pytest.approx(np.square(errors).mean())
    outputs = np.arange(4.0)[None]
    mean = values[:273].mean(0)
    expected = (outputs.reshape(2, 2) * deviation[1:]) + mean[1:]
    rows = config.said(outputs, task)
    np.testing.assert_allclose([[row["^GSPC"], row["AAPL"]] for row in rows], expected)


def test_a_small_gain_is_not_called_one():
    truth = np.random.default_rng(0).normal(size=(50, 1))
    said = {"last value": np.zeros((50, 1)), "GRU": np.full((50, 1), truth.mean()), "LSTM": 0.5 * truth}
    assert "the GRU does not beat the last value" in forecast.verdict("a", "GRU", said, truth)
    assert "a difference that may be chance" in forecast.verdict("a", "GRU", said, truth)
    assert "the LSTM beats the last value: RMSE" in forecast.verdict("a", "LSTM", said, truth)
