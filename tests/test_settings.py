"""Sweeps over what decides shapes: one program for each, and the rest as it is."""

import dataclasses
import json
import shlex

import numpy as np
import polars
import pytest
import tyro

from experiments import adding, load, predict, sweep
from experiments.harness import axes, command_line, ranking, run, session
from experiments.harness.options import Training
from experiments.harness.settings import parsed, placed, settings
from tests.echo import small

pytestmark = pytest.mark.usefixtures("standard_promotion")

TRAINING = Training(
    updates=4,
    batch_size=4,
    report_every=2,
    checkpoint_every=2,
    test_sequences=16,
    validation_sequences=16,
    seeds=2,
)
SMALL = adding.Config(cells=("Elman",), features=4, length=6, training=TRAINING)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("activation", "relu", "relu"),
        ("use_bias", "false", False),
        ("use_bias", "True", True),
        ("features", "32", 32),
        ("features", "50-40", (50, 40)),
        ("layers", "2", 2),
        ("length", "50", 50),
        ("batch_size", "16", 16),
        ("truncate_every", "none", None),
        ("truncate_every", "8", 8),
        ("pooling", "mean", "mean"),
        ("variant", "anywhere", "anywhere"),
        ("schedule", "cosine", "cosine"),
        ("bidirectional", "true", True),
        ("cell", "GRU", "GRU"),
    ],
)
def test_values_of_settings(name, text, value):
    assert parsed(name, text, settings(SMALL)[name]) == value


@pytest.mark.parametrize(
    "name", ["out", "resume", "cells", "updates", "seeds", "chrono", "learning_rate", "processes"]
)
def test_what_is_no_setting(name):
    assert name not in settings(SMALL)


def test_a_point_is_placed_where_it_belongs():
    point = {"features": "8-4", "batch_size": 16, "schedule": "cosine", "length": 9, "learning_rate": 0.1}
    config, numbers = placed(SMALL, point)
    assert numbers == {"learning_rate": 0.1}
    assert (config.features, config.length, config.training.batch_size) == ((8, 4), 9, 16)
    assert config.optimizer.schedule == "cosine"
    lmu = dataclasses.replace(SMALL, cells=("LMU",), fields={"order": 3})
    config, numbers = placed(lmu, {"theta": "20", "activation": "relu", "learning_rate": 0.1})
    assert (config.fields, numbers) == (
        {"order": 3, "theta": 20, "activation": "relu"},
        {"learning_rate": 0.1},
    )
    alone = axes.settled(SMALL, point, "GRU")
    assert (alone.optimizer.learning_rate, alone.cells) == (0.1, ("GRU",))
    words = shlex.split(command_line.command_line("adding", alone))
    assert tyro.cli(adding.Config, args=words[3:]) == alone


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("features=8,x", "vary: features: expected a value of that option, got 'x'"),
        ("pooling=last,first", "vary: pooling: expected a value of that option, got 'first'"),
        ("features=8,8", "vary: expected different values, got 'features=8,8'"),
        ("layers=1:4", "vary: layers: expected a value of that option, got '1:4'"),
    ],
)
def test_bad_settings(text, words):
    with pytest.raises(ValueError, match=words):
        sweep.Config(SMALL, vary=(text,))


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        (("cell=Elman,Elfman",), "cells: expected names of rnncells.CELLS, got .'Elfman'"),
        (("features=4,0",), "features: expected a positive int, got 0"),
        (("length=6,1",), "Adding.length: expected at least 2, got 1"),
        (("pooling=every,last",), "pooling: expected every, because the task wants an output at every tick"),
        (("batch_size=4,0",), "batch_size: expected at least 1, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_runs(vary, words, here, capsys):
    def attempt():
        sweep.main(sweep.Config(SMALL, vary=vary))

    with pytest.raises((SystemExit, ValueError)) as end:
        attempt()
    said = " ".join(capsys.readouterr().out.split()) + str(end.value)
    assert words.replace(".'", "['") in said
    assert list(here.iterdir()) == []


@pytest.mark.laws
def test_one_program_for_each_shape(here):
    """Widths with learning rates; every run is the one that it is alone."""
    vary = ("cell=Elman", "learning_rate=1e-3,1e-2", "features=3,3-2")
    built, original = [], session.Population

    def population(config, cell, runs):
        built.append((cell, config.features, len(runs)))
        return original(config, cell, runs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "Population", population)
        sweep.main(sweep.Config(SMALL, vary=vary))
    shapes = [(cell, width, 4) for cell in ("Elman",) for width in (3, (3, 2))]
    assert sorted(built, key=str) == sorted(shapes, key=str)
    out = here / "runs/sweep-adding"
    table = polars.read_csv(out / "sweep.csv")
    assert len(table) == 8
    for cell in ("Elman",):
        own = table.filter(polars.col("cell") == cell)
        assert own["run"].to_list() == list(range(8))
        assert own.select("learning_rate", "features", "seed").n_unique() == 8
    assert set(table["features"].to_list()) == {"3", "3-2"}
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    model = load(out)
    keys = ["features", "learning_rate"]
    (row,) = table.filter(polars.col("run") == model.about["run"]).iter_rows(named=True)
    assert {key: str(row[key]) for key in keys} == {key: str(model.about["numbers"][key]) for key in keys}
    assert row["validation_mse"] == table["validation_mse"].min()
    assert predict(model, np.ones((2, 6, 2), np.float32)).shape == (2, 6, 1)
    words = shlex.split((out / "best.sh").read_text())
    alone = tyro.cli(adding.Config, args=words[3:])
    training = dataclasses.replace(alone.training, first_seed=0)  # the seeds of the sweep
    run.main("adding", dataclasses.replace(alone, out=here / "alone", training=training))
    lines = [json.loads(line) for line in (here / "alone/metrics.jsonl").read_text().splitlines()]
    keys = ["cell", "learning_rate", "features"]
    best = ranking.ranked(table, keys, "mse").row(0, named=True)
    own = table.filter(*(polars.col(key) == best[key] for key in keys))
    assert [line["test"]["mse"] for line in lines if "test" in line] == own["test_mse"].to_list()


def test_other_options_of_an_experiment_vary_too():
    assert {"length", "features", "pooling", "variant"} <= set(settings(SMALL))
    assert "features" in settings(small())
