"""What happens to a folder under pressure: two owners, other software, damage, options that contradict."""

import dataclasses
import errno
import json
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments import fit, sweep
from experiments.harness import (
    folder,
    interrupts,
    memory,
    owner,
    processes,
    progress,
    provenance,
    record,
    run,
)
from experiments.harness.data import split
from experiments.harness.given import arrays
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.options import Placement, Training
from experiments.harness.population import Population
from experiments.harness.supervised import Classification
from experiments.harness.train import make_train
from tests.echo import Config, ended, host_config, read, share_programs, small, trained

pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture
def config(tmp_path, monkeypatch):
    share_programs(monkeypatch)
    return host_config(tmp_path / "out")


def alone(module, then):
    """A process in which `module` of the harness is loaded by itself, which takes a moment."""
    words = f"""
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("module", {module.__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
{then}"""
    return subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True)


def held(path):
    """Another process that owns a folder, and is waiting."""
    then = f"own = module.Owner(pathlib.Path({str(path)!r})); print('held', flush=True)"
    process = alone(owner, f"import time\n{then}\ntime.sleep(600)")
    assert process.stdout.readline() == "held\n"
    return process


def files(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.name != owner.FILE)


def test_a_folder_has_one_owner(config, capsys):
    """A second process is told whose it is; when that one has died, however, the folder is free."""
    config.out.mkdir()
    (config.out / "metrics.jsonl").write_text("")
    other = held(config.out)
    try:
        for resume in (False, True):
            assert ended(config, resume=resume) == 1
            shown = capsys.readouterr().out
            assert f"in use by process {other.pid} on {socket.gethostname()}, since 20" in shown
        assert files(config.out.parent) == ["out", "out/metrics.jsonl"]
    finally:
        other.kill()
        other.communicate()
    assert (config.out / owner.FILE).exists()
    with folder.Folder(config, Console(quiet=True)) as own:
        own.begin()
        assert json.loads((config.out / owner.FILE).read_text())["host"] == socket.gethostname()
        with pytest.raises(owner.OwnedError, match="in use by process"):
            owner.Owner(config.out)
    assert files(config.out.parent) == [
        *("out", "out-1", "out-1/metrics.jsonl", "out/config.json", "out/model.json")
    ]
    assert not list(config.out.parent.rglob(owner.FILE))


def test_a_folder_that_cannot_be_locked_is_said(config, monkeypatch, capsys):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(owner.fcntl, "flock", refuse)
    with folder.Folder(config, Console(width=500)):
        assert f"{config.out} cannot be locked: let no other process" in capsys.readouterr().out


def test_a_folder_that_was_made_for_nothing_goes(tmp_path):
    owner.Owner(tmp_path / "new").release()
    (tmp_path / "old").mkdir()
    owner.Owner(tmp_path / "old").release()
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_with_what_a_run_was_made(config, monkeypatch, capsys):
    """Written; compared when it goes on: precision and data must be those of before, the rest is said."""
    made = provenance.provenance(config.task())
    assert made["jax"] == jax.__version__
    assert (made["platform"], made["x64"], made["data"]) == ("cpu", False, None)
    assert made["commit"] is None or re.fullmatch("[0-9a-f]{40}( with changes)?", made["commit"])
    assert provenance.digest([1.0]) != provenance.digest([2.0])

    def begun(resume=True, **changes):
        monkeypatch.setattr(folder, "provenance", lambda task: {**made, **changes})
        with folder.Folder(dataclasses.replace(config, resume=resume), Console(width=500)) as own:
            own.begin()
        return json.loads((config.out / "config.json").read_text())["provenance"], capsys.readouterr().out

    assert begun(resume=False) == ([made], "")
    assert begun() == ([made], "")
    history, shown = begun(jax="0.1.2", commit="abc")
    assert history == [made, {**made, "jax": "0.1.2", "commit": "abc"}]
    assert (
        f"than before: jax was {made['jax']} and is 0.1.2; commit was {made['commit']} and is abc." in shown
    )
    for name, value, words in [
        ("x64", True, r"x64 \(double precision\) was False and is True"),
        ("data", "1234", r"data \(the data of the task\) was None and is 1234"),
    ]:
        with pytest.raises(folder.ConfigError, match=words):
            begun(**{name: value})
    assert json.loads((config.out / "config.json").read_text())["provenance"] == history


@pytest.mark.parametrize(
    ("content", "words"),
    [('{"cells":', r"config.json is damaged \("), ("[]", "config.json is damaged"), (None, "found none")],
)
def test_a_damaged_config_is_a_sentence(content, words, config):
    config.out.mkdir()
    (config.out / "metrics.jsonl").write_text("")
    if content is not None:
        (config.out / "config.json").write_text(content)
    with pytest.raises(folder.ConfigError, match=f"resume: .*{words}"):
        folder.Folder(dataclasses.replace(config, resume=True), Console(quiet=True)).__enter__()
    assert not (config.out / owner.FILE).exists()


def test_a_second_signal_ends_a_block_that_takes_for_ever():
    """Python itself would hear neither before the block has ended."""
    block = 'import hashlib; hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)'
    process = alone(
        interrupts,
        f"""
with module.Interrupts(module.Console(), "Stopped at once. Go on with it."):
    print("ready", flush=True)
    {block}""",
    )
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "Stopping after this block of updates ... (once more: at once)\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, said) == (130, "Stopped at once. Go on with it.\n")


def test_a_wish_to_stop_is_heard_while_compiling(config, monkeypatch, capsys):
    ready = run.Session.ready

    def interrupted(self, *given):
        signal.raise_signal(signal.SIGTERM)
        ready(self, *given)

    monkeypatch.setattr(run.Session, "ready", interrupted)
    assert ended(config) == 130
    assert "Stopped while compiling; nothing is lost. Go on with:\n" in capsys.readouterr().out
    assert not config.out.exists()


def test_a_process_that_is_alone_and_has_finished_was_not_ended_by_a_signal(tmp_path, monkeypatch):
    (tmp_path / "log").write_text("")
    with (tmp_path / "said").open("w") as said:
        words = [sys.executable, "-I", "-S", "-c", processes.WITNESS, str(tmp_path / "log")]
        witness = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=said, text=True)
    monkeypatch.setattr(processes, "_witness", witness)
    processes._last_words("Process 0 of 1 was ended by a signal.")
    processes.finish()
    assert witness.wait(20) == 0
    assert (tmp_path / "said").read_text() == ""


def test_nothing_is_moved_aside_before_all_is_accepted(config, monkeypatch, capsys):
    """Not for what is known without compiling, nor for what only the compiler knows."""
    config.out.mkdir()
    (config.out / "metrics.jsonl").write_text("old")
    assert ended(config, placement=Placement(devices_per_run=3)) == 1
    assert "devices_per_run: expected a divisor of the 2 devices, got 3" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setattr(memory, "available", lambda devices: 1e-5)
    monkeypatch.setattr(Population, "_compiled", lambda self, programs: programs)
    monkeypatch.setattr(memory, "needed", lambda program: 7.0)
    monkeypatch.setattr(memory, "temporaries", lambda program: 7.0)
    assert ended(config) == 1
    assert "memory: expected programs that fit a device of 1e-05 gigabytes" in capsys.readouterr().out
    assert files(config.out.parent) == ["out", "out/metrics.jsonl"]
    assert (config.out / "metrics.jsonl").read_text() == "old"


def test_no_room_on_the_device_is_a_sentence():
    error = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 999 bytes.\nmore")
    assert memory.said(error).startswith("memory: Out of memory allocating 999 bytes; a smaller batch_size")
    assert memory.said(RuntimeError("other")) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chrono": 9.0, "fields": {"forget_bias": 1.0}}, "got forget_bias 1.0 beside chrono 9.0, which"),
        ({"chrono": 9.0, "fields": {"Chrono.t_max": 5.0}}, "got Chrono.t_max 5.0 beside chrono 9.0"),
        ({"zoneout": 0.1, "fields": {"zoneout": 0.2}}, "got zoneout 0.2 beside zoneout 0.1"),
        ({"dropout": 0.1, "fields": {"input_rate": 0.2}}, "got input_rate 0.2 beside dropout 0.1"),
        ({"fields": {"learning_rate": 0.1}}, "got learning_rate 0.1, which is optimizer.learning_rate"),
        ({"optimizer": Optimizer(warmup=11)}, "optimizer.warmup: expected at most the 10 updates, got 11"),
        ({"optimizer": Optimizer(clip_norm=0.0)}, "optimizer.clip_norm: expected more than 0"),
    ],
)
def test_options_that_contradict_each_other(options, words):
    training = Training(updates=10, report_every=5, checkpoint_every=5)
    with pytest.raises(ValueError, match=re.escape(words)):
        Config(training=training, **options)


def test_a_sweep_whose_numbers_contradict_each_other():
    with pytest.raises(ValueError, match=r"got forget_bias 0\.0 beside chrono 9\.0"):
        sweep.Config(small(cells=("LSTM",), chrono=9.0), vary=("forget_bias=0,1",))


def test_an_end_that_nothing_can_decide_is_refused():
    inputs, targets = np.zeros((8, 3, 1)), np.arange(8) % 2
    options = {"epochs": 1, "batch_size": 4, "features": 2, "verbose": False}
    with pytest.raises(ValueError, match="patience: expected validation data, which decide, got none"):
        fit(inputs, targets, validation=None, patience=1, **options)
    task = Classification.of(split(arrays(inputs, targets), 0.25, 0.0))
    with pytest.raises(ValueError, match="stop_when_solved: expected a task that says when it is solved"):
        make_train(small(task, pooling="last", stop_when_solved=True))


def test_a_line_every_few_seconds_where_there_is_no_terminal(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    bars = progress.progress(Console(width=200))
    bars.start()
    task = bars.add_task("GRU", total=100, completed=0, loss="", rate="")
    for update in range(1, 101):
        now = float(update)
        bars.update(task, completed=update, loss=f"{1 / update:.3g}", rate="1 updates/s")
    bars.update(task, completed=100)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "GRU: 1/100 updates, loss 1, 1 updates/s, about 99 s left"
    assert [int(re.search(r"(\d+)/", line)[1]) for line in lines] == [1, *range(6, 100, 5), 100]
    assert lines[-1] == "GRU: 100/100 updates, loss 0.01, 1 updates/s"
    assert isinstance(progress.progress(Console(force_terminal=True)), progress.Rich)


@pytest.mark.laws
def test_damaged_lines_are_said_with_their_numbers(config, capsys):
    expected = trained(config)
    path = config.out / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "{half\n", "[]\n", *lines[3:-1], lines[-1][:30]]))
    capsys.readouterr()
    found, damage = record.lines_of(path)
    assert found == [json.loads(line) for line in [*lines[:2], *lines[3:-1]]]
    assert [each.half for each in damage] == [False, False, True]
    before = path.read_bytes()
    again = trained(config, resume=True)
    shown = capsys.readouterr().out
    assert f"{path}, line 3: expected a line of a run, got '{{half'; left out.\n" in shown
    assert f"{path}, line 4: expected a line of a run, got '[]'; left out.\n" in shown
    assert f"{path}, line 11: expected a line of a run, got half a line, as a process leaves it" in shown
    assert path.with_name("metrics.jsonl.damaged").read_bytes() == before
    assert again[0] == [*expected[0][:2], *expected[0][3:]]  # the end was found again, the middle was not
    assert len(read(config.out)) == len(lines) - 1
