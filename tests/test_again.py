"""What a run has left is begun with, added to, judged and drawn again, from the command line."""

import csv
import dataclasses
import importlib
import json
import shutil

import jax
import numpy as np
import pytest

import experiments
from experiments import adding, copy, load, plot, sweep
from experiments.harness import command_line, data, given, plots, processes, run, weights
from experiments.harness.options import Training
from experiments.harness.supervised import Classification
from tests.echo import TIMES, Config, Echo, ended, read, share_programs, small

pytestmark = pytest.mark.usefixtures("standard_promotion")

evaluate = importlib.import_module("experiments.evaluate")
TRAINING = Training(
    updates=4,
    batch_size=4,
    report_every=2,
    checkpoint_every=2,
    test_sequences=64,
    validation_sequences=16,
    seeds=2,
)
ADDING = adding.Config(cells=("Elman",), features=4, length=6, chrono=None, training=TRAINING)


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """The folder of a run, and its last lines."""
    out = tmp_path_factory.mktemp("left") / "adding"
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        lines = run.main("adding", dataclasses.replace(ADDING, out=out))
    return out, lines


def of_runs(config):
    """The lines of a folder by cell and run, but for times."""
    found = {}
    for line in read(config.out):
        kept = {name: value for name, value in line.items() if name not in TIMES}
        found.setdefault((line["cell"], line["run"]), []).append(kept)
    return found


@pytest.mark.laws
def test_seeds_and_cells_are_added_to_what_has_come_to_its_end(tmp_path, monkeypatch, capsys):
    """They are what they would have been from the beginning; what was there stays."""
    share_programs(monkeypatch)
    task = Echo(7, enough=9.0)
    whole = small(task, out=tmp_path / "whole", cells=("Elman", "MinGRU"), seeds=2)
    run.main("echo", whole)
    first = small(task, out=tmp_path / "out", cells=("Elman",), seeds=1)
    run.main("echo", first)
    before = of_runs(first)
    more = dataclasses.replace(first, resume=True, training=dataclasses.replace(first.training, seeds=2))
    with monkeypatch.context() as patch:
        patch.setattr(processes, "any_process", lambda wish: len(read(first.out)) > 3)
        assert ended(more) == 130  # stopped in the middle of what was added
    run.main("echo", more)
    assert of_runs(more)["Elman", 0] == before["Elman", 0]
    assert sorted(path.name for path in (first.out / "checkpoints").iterdir()) == ["Elman-0", "Elman-1"]
    run.main("echo", dataclasses.replace(more, cells=("Elman", "MinGRU")))
    assert of_runs(more) == of_runs(whole)
    assert len((more.out / "table.md").read_text().splitlines()) == 2 + 2 + 1
    capsys.readouterr()
    assert ended(dataclasses.replace(more, cells=("MinGRU",))) == 1
    assert "cells was ['Elman', 'MinGRU'] and is ['MinGRU']" in capsys.readouterr().out


def test_a_config_of_another_run_is_a_beginning(left, tmp_path):
    out, _ = left
    file = str(out / "config.json")

    def config_of(words, kind=adding.Config, **options):
        return command_line.config_of(kind, words.split(), **options)

    default = adding.Config().out
    assert config_of(f"--config {file}") == dataclasses.replace(ADDING, out=default)
    again = config_of(f"--length 9 --config={file} --training.seeds 3 --out x")
    assert (again.length, again.features, again.training.seeds, str(again.out)) == (9, 4, 3, "x")
    assert config_of("--length 9") == adding.Config(length=9)
    options = {"subcommands": sweep.experiments(), "config": (sweep.tyro.conf.OmitSubcommandPrefixes,)}
    swept = config_of(f"--vary l1=1,2 adding --length 7 --config {file}", sweep.Config, **options)
    assert swept.experiment == dataclasses.replace(ADDING, length=7, out=default)
    (tmp_path / "half.json").write_text("{")
    (tmp_path / "wrong.json").write_text('{"training": {"seeds": 0}}')
    for words, said in [
        (f"--config {tmp_path / 'none.json'}", "none.json: No such file or directory"),
        (f"--config {tmp_path / 'half.json'}", "half.json: Expecting property name"),
        (f"--config {tmp_path / 'wrong.json'}", "wrong.json: seeds: expected at least 1, got 0"),
        ("--config", "config: expected one file"),
        (f"--config {file} --config {file}", "config: expected one file"),
    ]:
        with pytest.raises(SystemExit, match=said):
            config_of(words)
    with pytest.raises(SystemExit, match=r"options that experiments\.copy does not have: variant"):
        config_of(f"--config {file}", copy.Config)
    with pytest.raises(SystemExit, match="config: expected an experiment, one of adding, "):
        config_of(f"--config {file}", sweep.Config, **options)


def test_every_run_is_judged_at_any_length(left, tmp_path, capsys):
    """At the length of training exactly as its test; at another one as by hand."""
    out, lines = left
    evaluate.main(evaluate.Config(out, length=(6, 9), output=tmp_path / "scores.csv"))
    shown = " ".join(capsys.readouterr().out.split())
    assert "judged on 64 fresh sequences" in shown
    assert "6 (trained)" in shown
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["length"]) for row in rows] == [("0", "6"), ("0", "9"), ("1", "6"), ("1", "9")]
    assert [float(row["mse"]) for row in rows[::2]] == pytest.approx([line["test"]["mse"] for line in lines])
    batch = adding.Adding(9).sample(jax.random.key(2**31), 64)
    for i, row in enumerate(rows[1::2]):
        outputs = experiments.predict(load(out, run=i), np.asarray(batch.inputs).swapaxes(0, 1))
        mse = np.mean((outputs[:, -1] - np.asarray(batch.targets)[-1]) ** 2)
        assert float(row["mse"]) == pytest.approx(mse, rel=1e-5)
    assert (out / "lengths.png").read_bytes().startswith(b"\x89PNG")
    assert experiments.evaluate is evaluate
    for options, words in [
        ({"length": (1,)}, "Adding.length: expected at least 2, got 1"),
        ({"sequences": 0}, "sequences: expected at least 1, got 0"),
        ({"cell": "GRU"}, "expected one of Elman-0, Elman-1, got cell GRU, run None"),
    ]:
        with pytest.raises(SystemExit, match=words):
            evaluate.main(evaluate.Config(out, **options))


@dataclasses.dataclass(frozen=True)
class Known(Config):
    """An experiment on data that it makes itself."""

    cells: tuple[str, ...] = ("Elman",)

    def task(self):
        rng = np.random.default_rng(0)
        inputs = rng.normal(size=(40, 5, 2)).astype(np.float32)
        parts = data.split(given.arrays(inputs, (inputs[:, 0, 0] > 0).astype(int)), 0.2, 0.3)
        return Classification.of(parts)


def test_finite_data_are_judged_on_any_part(tmp_path, capsys):
    config = Known(features=3, pooling="last", training=TRAINING, out=tmp_path / "out")
    lines = run.main("known", config)
    for part in ("test", "validation"):
        evaluate.main(evaluate.Config(config.out, part=part, number=1, output=tmp_path / "scores.csv"))
        with (tmp_path / "scores.csv").open() as file:
            (row,) = csv.DictReader(file)
        assert float(row["accuracy"]) == pytest.approx(lines[1][part]["accuracy"])
        assert f"judged on the {part} part" in " ".join(capsys.readouterr().out.split())
    for options, words in [
        ({"length": (3,)}, r"length: expected none for data that have their own, got \(3,\)"),
        ({"sequences": 9}, "sequences: expected none for finite data, got 9"),
    ]:
        with pytest.raises(SystemExit, match=words):
            evaluate.main(evaluate.Config(config.out, **options))
    whole = json.loads((config.out / "config.json").read_text())
    whole["provenance"][-1]["data"] = "others"
    (config.out / "config.json").write_text(json.dumps(whole))
    evaluate.task_of(evaluate.Config(config.out))
    assert "The data are not those of the training any more." in capsys.readouterr().err


def test_pictures_and_tables_are_made_anew(left, tmp_path, capsys):
    """The very same, from the folder alone."""
    out, _ = left
    again = tmp_path / "again"
    plot.main(plot.Config((out,), again))
    for name in ("curves.png", "table.md"):
        assert (again / name).read_bytes() == (out / name).read_bytes()
    assert f"Written: {again}/curves.png, {again}/table.md." in capsys.readouterr().out.replace("\n", "")


def test_runs_are_compared(left, tmp_path, monkeypatch, capsys):
    out, _ = left
    other = tmp_path / "longer"
    shutil.copytree(out, other)
    config, task = weights.described(other)
    drawn = []
    monkeypatch.setattr(plots, "curves", lambda *given, **options: drawn.append((given, options)))
    both = tmp_path / "both"
    plot.main(plot.Config((out, other), both))
    table = (both / "table.md").read_text().splitlines()
    assert [row.split(" | ")[0] for row in table[2:]] == [
        *("| adding: Elman", "| longer: Elman", "| (memoryless)")
    ]
    (title, _, seen, path), options = drawn[0]
    assert title.splitlines()[1].startswith("longer: adding: Adding(length=6")
    assert {line["cell"] for line in seen} == {"adding: Elman", "longer: Elman"}
    assert (path, options) == (both / "curves.png", {"baseline": True})
    weights.describe(other, dataclasses.replace(config, variant="original", length=20), task)
    plot.main(plot.Config((out, other), both))
    assert drawn[1][1] == {"baseline": False}
    assert "| longer: (memoryless)" in (both / "table.md").read_text()
    weights.describe(other, copy.Config(length=9), copy.Copy(9))
    capsys.readouterr()
    with pytest.raises(SystemExit, match=r"runs: expected .* with the same score, got mse of .* and"):
        plot.main(plot.Config((out, other), both))
    (other / "metrics.jsonl").write_text('{"cell": "Elm')
    with pytest.raises(SystemExit, match=r"longer: expected lines in metrics\.jsonl, found none"):
        plot.main(plot.Config((other,)))
    assert "metrics.jsonl, line 1: expected a line of a run, got half a line" in capsys.readouterr().err


def test_weights_that_are_damaged(left, tmp_path):
    out, _ = left
    folder = tmp_path / "out"
    shutil.copytree(out, folder)
    path = folder / "weights/Elman-0.safetensors"
    whole = path.read_bytes()
    for content, words in [
        (whole[:-3] + b"123", "Elman-0.safetensors: expected the weights that were saved, got others"),
        (whole[:-3], "Elman-0.safetensors: expected weights that a run has left"),
        (b"", "Elman-0.safetensors: expected weights that a run has left"),
        (b"\x02\0\0\0\0\0\0\0{}", "Elman-0.safetensors: .*its header has no cell, run, numbers"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            load(folder, run=0)
    path.unlink()
    with pytest.raises(ValueError, match="expected one of Elman-1, got cell None, run 0"):
        load(folder, run=0)
    model = folder / "model.json"
    what = json.loads(model.read_text())
    for content, words in [
        ("[1]", "model.json: expected what a run has left"),
        (json.dumps({**what, "experiment": 3}), "model.json: expected what a run has left"),
        (json.dumps({"task": what["task"]}), "model.json: expected what a run has left .no 'experiment'"),
    ]:
        model.write_text(content)
        with pytest.raises(ValueError, match=words):
            load(folder)
