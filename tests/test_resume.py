"""Runs that are stopped or damaged go on as if nothing had happened, or say why they do not."""

import dataclasses
import re
import resource
import signal
import sys
import types

import pytest
from rich.console import Console

from experiments.harness import folder, processes, run, session
from experiments.harness.options import ConfigError, plain
from experiments.harness.population import Population, Run
from tests.echo import Echo, ended, host_config, outcome, read, scalars, share_programs, small, trained

pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture
def config(tmp_path, monkeypatch):
    share_programs(monkeypatch)
    return host_config(tmp_path / "out")


def cut(out, lines, more=""):
    """Takes the last lines from the metrics, as if they had not been written yet."""
    path = out / "metrics.jsonl"
    kept = path.read_text().splitlines(keepends=True)
    path.write_text("".join(kept[: len(kept) - lines]) + more)


def test_a_run_resumed_is_the_run_uninterrupted(config, tmp_path, monkeypatch, capsys):
    expected = trained(config)
    halves = dataclasses.replace(config, out=tmp_path / "halves")
    assert trained(halves, updates=10)[1] == 10
    assert trained(halves, resume=True) == expected
    # Once more: nothing is left to do, but to show.
    monkeypatch.setattr(session, "Population", None)
    (halves.out / "table.md").unlink()
    run.main("echo", dataclasses.replace(halves, resume=True))
    assert "2 of 2" in (halves.out / "table.md").read_text()
    assert "Everything is in" in capsys.readouterr().out


def test_lines_past_the_checkpoint_and_halves_of_lines_are_dropped(config):
    expected = trained(config)
    (config.out / "checkpoints/Elman-0/20").rename(config.out / "20")
    cut(config.out, 2, '{"cell": "Elman", "run": 0, "upd')
    assert trained(config, resume=True) == expected
    for i in range(2):
        (file,) = (config.out / f"tensorboard/Elman-{i}").iterdir()
        assert [step for step, _ in scalars(file)] == [5, 10, 15, 20, 20]


def test_a_damaged_checkpoint_is_refused_and_the_one_before_used(config, capsys):
    expected = trained(config)
    folder = config.out / "checkpoints/Elman-0"
    damage(folder / "20")
    cut(config.out, 2)
    capsys.readouterr()
    assert trained(config, resume=True) == expected
    assert re.search(rf"Refused {folder}/20: its .* Going on from update 10\.\n", capsys.readouterr().out)
    for update in (10, 20):
        damage(folder / str(update))
    cut(config.out, 2)
    assert ended(config, resume=True) == 1
    shown = capsys.readouterr().out
    assert re.search(rf"No checkpoint can be read: {folder}/20: its .*; {folder}/10: its .*\.\n", shown)


def damage(checkpoint):
    """The last byte of its largest file goes."""
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    file = max(files, key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_block_and_saves(number, config, tmp_path, monkeypatch, capsys):
    handler = signal.getsignal(number)
    expected = trained(config)
    stopped = dataclasses.replace(config, out=tmp_path / "stopped")
    signals(monkeypatch, [number])
    assert ended(stopped) == 130
    shown = capsys.readouterr().out
    assert "Stopping after this block of updates ..." in shown
    assert "Stopped at update 5 of 20 of Elman; all is saved. Go on with:\n" in shown
    assert "--resume\n" in shown
    assert outcome(stopped)[1] == 5
    assert trained(stopped, resume=True) == expected
    assert signal.getsignal(number) == handler


def test_a_second_signal_stops_at_once(config, monkeypatch, capsys):
    """Not even for what is being computed does the interpreter wait."""
    monkeypatch.setattr(processes.os, "_exit", sys.exit)
    signals(monkeypatch, [signal.SIGINT, signal.SIGINT])
    assert ended(config) == 130
    assert capsys.readouterr().out.count("Stopped at once. Go on from the last checkpoint with:\n") == 1
    assert read(config.out) == []


def signals(monkeypatch, numbers):
    """Sends signals to this process while the first block is computed."""
    advance = Population.advance

    def interrupted(self, state):
        while numbers:
            signal.raise_signal(numbers.pop())
        return advance(self, state)

    monkeypatch.setattr(Population, "advance", interrupted)


def test_the_command_that_goes_on(monkeypatch):
    spec = types.SimpleNamespace(name="experiments.adding")
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(__spec__=spec))
    monkeypatch.setattr(sys, "argv", ["somewhere", "--cells", "GRU", "--resume", "--out", "two words"])
    assert run.command() == "python -m experiments.adding --cells GRU --out 'two words' --resume"
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(__spec__=None))
    monkeypatch.setattr(sys, "argv", ["here.py", "--no-resume"])
    assert run.command() == "python here.py --resume"


def begun(config, console):
    with folder.Folder(config, console) as own:
        own.begin()


def test_what_is_there_is_moved_aside(config, capsys):
    out, here = config.out, Console(width=300)
    for count in range(3):
        begun(config, here)
        (out / "metrics.jsonl").write_text(str(count))
    begun(config, here)
    assert [(out.with_name(f"out-{i}") / "metrics.jsonl").read_text() for i in (1, 2, 3)] == ["0", "1", "2"]
    assert {path.name for path in out.iterdir()} == {"config.json", "model.json"}
    assert f"{out} was there; it is {out}-3 now. (--resume would" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": 5}, "features was 4 and is 5"),
        ({"cells": ("GRU",)}, "cells was ['Elman'] and is ['GRU']"),
        ({"seeds": 1}, "training.seeds was 2 and is 1"),
        ({"seeds": 3}, "seeds was 2 and is 3, and may grow only when all runs have come to their end; *"),
        ({"zoneout": 0.1}, "zoneout was None and is 0.1"),
        ({"fields": {"init_scale": 2.0}}, "fields.init_scale was None and is 2.0"),
        ({"learning_rate": 0.5}, "optimizer.learning_rate was 0.003 and is 0.5"),
        ({"batch_size": 5}, "training.batch_size was 4 and is 5"),
        ({"given": Echo(8, 9.0)}, "given.length was 7 and is 8"),
        ({"updates": 10}, "updates was 20 and is 10, and may only grow"),
        ({"features": 5, "batch_size": 5}, "features was 4 and is 5; training.batch_size was 4 and is 5"),
        ({"updates": 30}, None),
        ({"checkpoint_every": 5, "keep": 9, "memory": 5.0}, None),
    ],
)
def test_a_resumed_run_has_the_config_that_it_had(change, words, config, capsys):
    begun(config, Console())
    before = (config.out / "config.json").read_text()
    changed = dataclasses.replace(config, resume=True)
    for part in ("optimizer", "training"):
        own = {name: change[name] for name in change if hasattr(getattr(config, part), name)}
        changed = dataclasses.replace(changed, **{part: dataclasses.replace(getattr(config, part), **own)})
        change = {name: change[name] for name in change if name not in own}
    changed = dataclasses.replace(changed, **change)
    if words is None:
        begun(changed, Console())
        assert (config.out / "config.json").read_text() != before
    else:
        assert ended(changed) == 1
        shown = capsys.readouterr().out
        assert f"resume: expected the config of {config.out}/config.json, but {words.strip('*')}" in shown
        assert words.endswith("*") or f"{words}.\n" in shown
        assert (config.out / "config.json").read_text() == before


def test_more_updates_would_be_another_schedule():
    now = [plain(small(schedule="linear", updates=updates)) for updates in (20, 40)]
    words = "updates was 20 and is 40, and the learning rate depends on it"
    assert folder.differences(*now) == [words]


def test_other_runs_do_not_go_on_here(config):
    trained(config)
    with session.Session("echo", dataclasses.replace(config, resume=True), Console(quiet=True)) as here:
        here.record.rewind(lambda line: "test" not in line)
        with pytest.raises(ConfigError, match=r"expected the runs of .*checkpoints/Elman-0, got others"):
            here.train("Elman", [Run({}, 0), Run({}, 2)])


@pytest.mark.laws
def test_a_full_disk_leaves_the_last_good_checkpoint(config, tmp_path, capsys):
    large = small(features=48, updates=20, out=config.out)
    expected = trained(dataclasses.replace(large, out=tmp_path / "whole"))
    assert trained(large, updates=10)[1] == 10
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        assert ended(large, resume=True, training=large.training) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    shown = capsys.readouterr().out
    assert re.search(
        "Update 15 was not saved in .*: File too large; the last good checkpoint is 10\\.", shown
    )
    assert trained(large, resume=True) == expected
