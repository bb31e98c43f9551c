"""The experiments from the command line, and the page that teaches them."""

import json
import pathlib
import re
import shlex
import struct
import subprocess
import sys

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from experiments import adding, copy_memory, run
from experiments.config import Training, make_cell
from rnncells.initializers import Chrono

pytestmark = pytest.mark.usefixtures("standard_promotion")

SMALL = Training(updates=20, batch_size=8, report_every=10, checkpoint_every=10, test_sequences=64, seeds=2)
PAGE = (pathlib.Path(__file__).parent.parent / "docs/train.md").read_text()


def scalars(path):
    """What a file of TensorBoard holds: (step, tag, value) for each."""
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        content = content[16 + length :]
    return found


@pytest.mark.parametrize(
    ("script", "config"),
    [
        (adding, adding.Config(cells=("LSTM", "MinGRU"), features=8, length=10, training=SMALL)),
        (copy_memory, copy_memory.Config(cells=("GRU", "ExpRNN"), features=8, length=5, training=SMALL)),
    ],
    ids=["adding", "copy"],
)
def test_a_run_leaves_its_folder(script, config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "use_every_core", lambda: None)
    monkeypatch.chdir(tmp_path)
    script.main(config)
    shown = capsys.readouterr().out
    for cell in config.cells:
        assert cell in shown
    folder = tmp_path / config.out
    assert json.loads((folder / "config.json").read_text())["training"]["updates"] == 20
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {(line["cell"], line["seed"]) for line in lines} == {
        (cell, seed) for cell in config.cells for seed in range(2)
    }
    blocks, last = ([line for line in lines if ("test" in line) == done] for done in (False, True))
    assert len(blocks) == 8
    assert len(last) == 4
    assert {(line["update"], line["sequences"]) for line in blocks} == {(10, 80), (20, 160)}
    assert all(np.isfinite(line["loss"]) for line in blocks)
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    table = (folder / "table.md").read_text().splitlines()
    assert len(table) == 2 + len(config.cells) + 1
    assert "memoryless" in table[-1]
    for line in last:
        (events,) = (folder / f"tensorboard/{line['cell']}-{line['run']}").iterdir()
        own = [each for each in blocks if (each["cell"], each["run"]) == (line["cell"], line["run"])]
        seen = scalars(events)
        losses = [value for _, tag, value in seen if tag == "loss"]
        assert losses == pytest.approx([each["loss"] for each in own])
        tests = {tag: value for step, tag, value in seen if step == 20 and tag.startswith("test/")}
        assert tests == pytest.approx({f"test/{name}": value for name, value in line["test"].items()})


def test_optional_fields_go_to_the_cells_that_have_them():
    assert make_cell("LSTM", 4, forget_bias=Chrono(7.0)).forget_bias == Chrono(7.0)
    assert make_cell("ExpRNN", 4, forget_bias=Chrono(7.0)) == make_cell("ExpRNN", 4)


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
        "--optimizer.learning-rate",
        "--training.seeds",
    ):
        assert option in shown
    assert "Elman" in shown


COMMANDS = re.findall(r"```sh\n(.*?)\n```", PAGE, re.DOTALL)


@pytest.mark.parametrize(
    "command",
    [COMMANDS[1], *(pytest.param(each, marks=pytest.mark.laws) for each in COMMANDS if each != COMMANDS[1])],
)
def test_the_commands_of_the_page(command, tmp_path):
    small = "--features 4 --training.updates 4 --training.report-every 2 --training.checkpoint-every 2"
    small += " --training.batch-size 4 --training.test-sequences 32 --training.seeds 1"
    if "--training.lengths" in command:
        small += " --length 20 --training.lengths 5 10"
    words = [*shlex.split(command), *small.split()]
    assert words[0] == "python"
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "table.md" in done.stdout


def test_the_code_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "docs/train.md", "exec"), names)
    assert names["losses"].shape == (2,)
    assert names["losses"][0] != names["losses"][1]
    assert set(names["scores"]) == {"mse", "correct"}
