"""The experiments from the command line, what they refuse, and the page about them."""

import importlib
import json
import pathlib
import re
import shlex

import pytest
import tyro

import experiments
from experiments import adding, copy
from experiments.harness import command_line
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.options import Config, Placement, Training, make_cell
from rnncells import LMU, LSTM, Elman
from rnncells.initializers import Chrono
from tests.echo import read, small

pytestmark = pytest.mark.usefixtures("standard_promotion")

PAGE = pathlib.Path(__file__).parent.parent / "docs/guides/train.md"
FOLDER = pathlib.Path(experiments.__file__).parent
SCRIPTS = {"adding": adding, "copy": copy}
LATER = {name: importlib.import_module(f"experiments.{name}") for name in ("evaluate", "plot")}
"""What is asked of the folders of runs."""
SMALL = (
    "--training.updates 4 --training.report-every 2 --training.checkpoint-every 2 --training.batch-size 4"
    " --training.test-sequences 16"
)
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Runs a command `python -m experiments.<script> ...` in this process."""
    monkeypatch.chdir(tmp_path)

    def start(command):
        python, module, script, *options = shlex.split(command)
        assert (python, module) == ("python", "-m")
        script = {**SCRIPTS, **LATER}[script.removeprefix("experiments.")]
        config = command_line.config_of(script.Config, options)
        script.main(config)
        return config

    return start


@pytest.mark.parametrize(
    ("command", "parameters", "score"),
    [
        pytest.param(
            "adding --cells Elman MinGRU --length 6",
            {"Elman": 33, "MinGRU": 29},
            "mse",
            marks=pytest.mark.laws,
        ),
        ("copy --cells GRU --length 3", {"GRU": 229}, "loss"),
    ],
)
def test_a_script_leaves_its_folder(command, parameters, score, start):
    config = start(f"python -m experiments.{command} --features 4 --training.seeds 2 {SMALL}")
    lines = read(config.out)
    runs = [(line["cell"], line["seed"]) for line in lines if "test" in line]
    assert runs == [(cell, seed) for cell in config.cells for seed in range(2)]
    assert len(lines) == 3 * len(runs)
    for line in lines:
        assert score in line.get("test", {score})
        assert line["loss"] > 0
    assert {line["cell"]: line["parameters"] for line in lines if "test" in line} == parameters
    assert json.loads((config.out / "config.json").read_text())["training"]["updates"] == 4
    assert (config.out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len((config.out / "table.md").read_text().splitlines()) == 2 + len(config.cells) + 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_every_option(script, capsys):
    with pytest.raises(SystemExit) as end:
        tyro.cli(SCRIPTS[script].Config, args=["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    groups = {"": Config, "optimizer.": Optimizer, "training.": Training, "placement.": Placement}
    for prefix, kind in groups.items():
        for name in set(kind.__dataclass_fields__) - {"optimizer", "training", "placement"}:
            assert f"--{prefix}{name.replace('_', '-')}" in shown
    assert "--length" in shown
    assert "Elman" in shown


def test_optional_fields_go_to_the_cells_that_have_them():
    assert make_cell("LSTM", 4, forget_bias=Chrono(7.0)).forget_bias == Chrono(7.0)
    assert make_cell("ExpRNN", 4, forget_bias=Chrono(7.0)) == make_cell("ExpRNN", 4)
    both = small(cells=("Elman", "LSTM"), fields={"forget_bias": 2.0})
    assert both.numbers("LSTM").cell.forget_bias == 2.0
    assert both.numbers("Elman") == small(cells=("Elman",)).numbers("Elman")
    with pytest.raises(ValueError, match=r"forget_bia: expected one of .*, forget_bias, .*, got a name"):
        small(cells=("LSTM", "Elman"), fields={"forget_bia": 2.0}).numbers("LSTM")


def test_what_a_cell_is_made_with_goes_to_the_cells_that_have_it():
    words = {"order": 3, "theta": 40, "activation": "relu", "use_bias": True, "forget_bias": 2}
    three = small(cells=("LMU", "Elman", "LSTM"), fields=words)
    assert three.numbers("LMU").cell == LMU(4, order=3, theta=40, activation="relu", use_bias=True)
    assert three.numbers("Elman").cell == Elman(4, activation="relu")
    assert three.numbers("LSTM").cell == LSTM(4, forget_bias=2.0)
    for fields, complaint in (
        ({"features": 5}, "fields: .* got features 5, which is features"),
        ({"order": 2.5}, "LMU.order: expected a positive int"),
        ({"activation": "rulu"}, "LMU.activation: "),
        ({"thet": 5}, "thet: expected one of .*, order, .*, theta, .*, got a name"),
        ({"window": 5}, "window: expected one of "),
    ):
        with pytest.raises((TypeError, ValueError), match=complaint):
            small(cells=("LMU",), fields=fields).numbers("LMU")


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        *((Training, {name: 0}, f"{name}: expected at least 1, got 0") for name in ("updates", "batch_size")),
        (Training, {"test_sequences": 0}, "test_sequences: expected at least 1, got 0"),
        (Training, {"seeds": 0}, "seeds: expected at least 1, got 0"),
        (Training, {"keep": 0}, "keep: expected at least 1, got 0"),
        (Training, {"report_every": 0}, "report_every: expected at least 1, got 0"),
        (Training, {"checkpoint_every": 0}, "checkpoint_every: expected at least 1, got 0"),
        (Training, {"truncate_every": 0}, "truncate_every: expected at least 1, got 0"),
        (Training, {"report_every": 7}, r"report_every: expected a divisor of updates \(2000\), got 7"),
        (Training, {"report_every": 400}, r"a divisor of checkpoint_every \(500\), got 400"),
        (Training, {"lengths": (5, 3)}, r"lengths: expected growing lengths, got \(5, 3\)"),
        (Training, {"lengths": (5, 5)}, r"lengths: expected growing lengths, got \(5, 5\)"),
        (Training, {"memory": 0.0}, "memory: expected more than 0 gigabytes, got 0.0"),
        (Training, {"scale_loss": "sum"}, "scale_loss: expected one of mean, length, got 'sum'"),
        (Optimizer, {"kind": "adamw"}, "kind: expected one of adam, rmsprop, sgd, got 'adamw'"),
        (Optimizer, {"schedule": "step"}, "schedule: expected one of constant, linear, cosine, got 'step'"),
        (Optimizer, {"warmup": -1}, "warmup: expected at least 0, got -1"),
        (Placement, {"method": "pmap"}, "method: expected one of auto, map, vmap, got 'pmap'"),
        (Placement, {"processes": "mpi"}, "processes: expected one of one, hand, slurm, ompi, got 'mpi'"),
        (Placement, {"devices_per_run": 0}, "devices_per_run: expected at least 1, got 0"),
        (adding.Config, {"cells": ("LTSM",)}, r"cells: expected names of rnncells.CELLS, got \['LTSM'\]"),
        (adding.Config, {"cells": ()}, "cells: expected names of rnncells.CELLS, got none"),
        (adding.Config, {"layers": 0}, "layers: expected at least 1, got 0"),
        (adding.Config, {"cells": ("GRU", "GRU")}, "cells: expected different names, got GRU, GRU"),
        (Training, {"memory": float("nan")}, "memory: expected more than 0 gigabytes, got nan"),
    ],
)
def test_what_an_experiment_cannot_be(kind, change, words):
    with pytest.raises(ValueError, match=words):
        kind(**change)


@pytest.mark.parametrize("folder", ["harness", "benchmark"])
def test_the_map_of_a_folder_is_true(folder):
    """It lists every file, and a file imports only from those above it."""
    package = importlib.import_module(f"experiments.{folder}")
    above = []
    for name in re.findall(r"^    (\w+)\.py  ", package.__doc__, re.MULTILINE):
        text = (FOLDER / folder / f"{name}.py").read_text()
        modules = re.findall(rf"^from experiments\.{folder}\.(\w+) import", text, re.MULTILINE)
        for words in re.findall(rf"^from experiments\.{folder} import (.*)", text, re.MULTILINE):
            modules += [word.split(" as ")[0] for word in words.split(", ")]
        assert set(modules) <= set(above), name
        others = set(re.findall(r"^from experiments(?:\.(\w+))?", text, re.MULTILINE)) - {folder}
        assert others <= ({"harness", "adding"} if folder == "benchmark" else set()), name
        above.append(name)
    assert {*above, "__init__"} == {path.stem for path in (FOLDER / folder).glob("*.py")}


def test_the_map_of_the_scripts_is_true():
    listed = set(re.findall(r"^    (\w+)(?:\.py|/)  ", experiments.__doc__, re.MULTILINE))
    found = {path.stem for path in FOLDER.iterdir() if not path.name.startswith("__")}
    assert listed == found


def test_an_experiment_has_a_task():
    with pytest.raises(TypeError, match=r"abstract.*task"):
        Config()


def test_the_command_line_says_what_is_wrong(capsys):
    with pytest.raises(SystemExit) as end:
        tyro.cli(adding.Config, args=["--training.report-every", "7"])
    assert end.value.code == 2
    assert "expected a divisor of updates" in " ".join(capsys.readouterr().err.split())


@pytest.mark.scripts
@pytest.mark.parametrize(
    "command", [block for _, block in BLOCKS if "--out" in block and "--config" not in block]
)
def test_the_commands_of_the_page(command, start):
    config = start(
        f"{command.strip()} {SMALL} --features 4 --length 12 --training.seeds 1 --optimizer.warmup 2"
    )
    lines = read(config.out)
    assert {line["cell"] for line in lines if "test" in line} == set(config.cells)
    (length, *_) = (*config.training.lengths, 12)
    assert {line["length"] for line in lines} == {length}


@pytest.mark.scripts
def test_the_page_runs(start, tmp_path):
    """Its other commands, with few updates, and its Python, in their order."""
    names: dict = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, PAGE.name, "exec"), names)
        elif any(name in block for name in LATER):
            start(block.strip())
        elif "--out" not in block or "--config" in block:
            config = start(f"{block.strip()} {SMALL}")
            assert {line["cell"] for line in read(config.out) if "test" in line} == set(config.cells)
    assert names["losses"].shape == (3, 100)
    assert names["scores"].shape == (3,)
    assert names["update"] in (2, 4)
    assert not names["refused"]
    assert names["ys"].shape == (50, 8, 16)
    for files in re.findall(r"^\| (`.*?`) \|", PAGE.read_text(), re.MULTILINE):
        for name in re.findall("`(.*?)`", files):
            assert (tmp_path / "runs/adding" / name).exists()
    assert not (tmp_path / "runs/adding-1").exists()
