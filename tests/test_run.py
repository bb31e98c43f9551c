"""The host's side of a run: what it writes and what it says."""

import json
import math

import pytest

from experiments.harness import run, tables
from experiments.harness.options import plain
from tests.echo import Echo, ended, host_config, read, scalars, share_programs, small, trained

pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture
def config(tmp_path, monkeypatch):
    share_programs(monkeypatch)
    return host_config(tmp_path / "out")


def test_what_a_run_leaves(config, capsys):
    lines, update, _ = trained(config)
    shown = capsys.readouterr().out
    assert update == 20
    assert [line["update"] for line in lines] == [5, 5, 10, 10, 15, 15, 20, 20, 20, 20]
    assert [line["length"] for line in lines] == [4, 4, 7, 7, 7, 7, 7, 7, 7, 7]
    assert [(line["run"], line["seed"]) for line in lines] == [(0, 0), (1, 1)] * 5
    assert {line["sequences"] for line in lines} == {20, 40, 60, 80}
    assert len({line["loss"] for line in lines}) == 8
    for line in lines[-2:]:
        assert set(line["test"]) == set(line["validation"]) == {"mse"}
        assert line["solved"]
        assert line["solved_at"] == 10  # the first at the length of the task
        assert line["parameters"] == 4 + 16 + 4 + 4 + 1
    for line in read(config.out)[-2:]:
        assert 0 < line["seconds_to_solution"] < line["seconds"]
    held = json.loads((config.out / "config.json").read_text())
    assert len(held.pop("provenance")) == 1
    assert held == json.loads(json.dumps(plain(config)))
    assert (config.out / "curves.png").read_bytes().startswith(b"\x89PNG")
    table = (config.out / "table.md").read_text().splitlines()
    assert [row.split(" | ")[0] for row in table] == ["| cell", "| ---", "| Elman", "| (memoryless)"]
    assert "2 of 2" in table[2]
    for words in ("echo: Echo(length=7", "memoryless baseline 1", "20/20", "updates/s", "Everything is in"):
        assert words in shown


def test_tensorboard_shows_the_lines(config):
    lines, *_ = trained(config)
    for i in range(2):
        (file,) = (config.out / f"tensorboard/Elman-{i}").iterdir()
        own = [line for line in lines if line["run"] == i]
        shown = scalars(file)
        assert [step for step, _ in shown] == [line["update"] for line in own]
        for (_, values), line in zip(shown, own, strict=True):
            expected = {"loss": line["loss"], "length": line["length"]}
            expected["validation/mse"] = line["validation"]["mse"]
            if "test" in line:
                expected = {"test/mse": line["test"]["mse"]}
            assert values == {name: pytest.approx(value) for name, value in expected.items()}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fields": {"nothing": 1.0}}, "nothing: expected one of activation, "),
        ({"zoneout": 2.0}, "Zoneout.rate: expected at most 1, got 2.0."),
        ({"features": 0}, "features: expected a positive int, got 0."),
    ],
)
def test_what_cannot_be_is_one_sentence(options, words, config, capsys):
    assert ended(config, **options) == 1
    assert words in capsys.readouterr().out


def test_what_cannot_be_leaves_the_folder_as_it_is(config, capsys):
    config.out.mkdir(parents=True)
    (config.out / "metrics.jsonl").write_text("")
    for options in ({"zoneout": 2.0}, {"cells": ("Elman", "MinGRU"), "dropout": 0.1}):
        assert ended(config, **options) == 1
    assert [path.name for path in config.out.parent.iterdir()] == [config.out.name]
    assert [path.name for path in config.out.iterdir()] == ["metrics.jsonl"]


def test_runs_that_diverge_are_reported(config, capsys):
    wild = small(kind="sgd", learning_rate=1e8, clip_norm=None, out=config.out)
    run.main("echo", wild)
    shown, lines = " ".join(capsys.readouterr().out.split()), read(wild.out)
    for line in lines[-2:]:
        assert 1 < line["diverged"] <= 10
        words = (
            f"Elman, seed {line['seed']}: not finite at update {line['diverged']}, frozen as it was before."
        )
        assert words in shown
        assert line["loss"] is None
        assert not line["solved"]
        assert math.isfinite(line["test"]["mse"])
    assert [line["diverged"] for line in lines[-4:-2]] == [line["diverged"] for line in lines[-2:]]
    (file,) = (wild.out / "tensorboard/Elman-1").iterdir()
    assert math.isnan(scalars(file)[-2][1]["loss"])
    assert (wild.out / "curves.png").exists()


def test_a_table_of_runs_that_are_not_finite():
    line = {"cell": "GRU", "parameters": 9, "solved": False, "seconds": 1.0, "test": {"mse": None}}
    rows = tables.summarise(Echo(), [line, line])
    assert rows[0]["test mse"] == "not finite"
    assert rows[0]["solved"] == "0 of 2"
