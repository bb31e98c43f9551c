"""Runs that are killed, stopped, or lose their disk: real processes, from the command line."""

import json
import random
import re
import shlex
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from experiments import adding
from experiments.harness.checkpoint import Checkpoints
from experiments.harness.options import Training
from experiments.harness.population import Population, Run

TRAINING = Training(
    updates=400, batch_size=4, report_every=10, checkpoint_every=10, test_sequences=32, seeds=2
)
CONFIG = adding.Config(cells=("Elman",), features=4, length=6, training=TRAINING)
COMMAND = (
    "-m experiments.adding --cells Elman --features 4 --length 6 --training.updates 400 --training.seeds 2"
    " --training.batch-size 4 --training.report-every 10 --training.checkpoint-every 10"
    " --training.test-sequences 32"
)
TIMED = ("seconds", "seconds_to_solution", "updates_per_second")


def start(folder, *options, before=()):
    """The run in a process of its own; it writes to `folder`/runs/adding."""
    words, out = [*before, sys.executable, *COMMAND.split(), *options], subprocess.PIPE
    return subprocess.Popen(words, cwd=folder, stdout=out, stderr=subprocess.STDOUT, text=True)


def finish(process):
    """What it said, once it has ended."""
    said, _ = process.communicate(timeout=240)
    return process.returncode, said


def outcome(folder):
    """All that a run has come to: its lines but for their times, and its last state."""
    out = folder / "runs/adding"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    lines = [{name: value for name, value in line.items() if name not in TIMED} for line in lines]
    population = Population(CONFIG, "Elman", [Run({}, 0), Run({}, 1)])
    update, state, _, refused = Checkpoints(out / "checkpoints/Elman-0").restore(population.like())
    assert not refused
    leaves = [
        jax.random.key_data(leaf) if leaf.dtype.name.startswith("key") else leaf
        for leaf in jax.tree.leaves(state)
    ]
    return lines, update, [np.asarray(leaf) for leaf in leaves]


def same(one, other):
    assert one[:2] == other[:2]
    for a, b in zip(one[2], other[2], strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody touched: what it came to, the seconds that it took, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    begin = time.monotonic()
    status, said = finish(start(folder))
    seconds = time.monotonic() - begin
    assert status == 0, said
    lines, update, leaves = outcome(folder)
    assert update == 400
    assert len(lines) == 2 * 40 + 2
    return (lines, update, leaves), seconds, folder


@pytest.mark.laws
def test_killed_at_any_of_20_moments_it_ends_with_the_same_numbers(whole, tmp_path):
    expected, seconds, _ = whole
    kills, rng, killed, runs = 20, random.Random(0), 0, 0
    while killed < kills or not runs:
        folder = tmp_path / str(runs)
        folder.mkdir(exist_ok=True)
        process = start(folder, "--resume")
        if killed < kills:
            time.sleep(rng.uniform(0.3, 1.0) * seconds)
            process.kill()
        status, said = finish(process)
        assert status in (0, -signal.SIGKILL), said
        if status == 0:
            same(outcome(folder), expected)
            runs += 1
        else:
            killed += 1
    # The last one may have been killed: let it end.
    folder = tmp_path / str(runs)
    if folder.exists():
        status, said = finish(start(folder, "--resume"))
        assert status == 0, said
        same(outcome(folder), expected)


@pytest.mark.laws
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(number, whole, tmp_path):
    expected, *_ = whole
    process, metrics = start(tmp_path), tmp_path / "runs/adding/metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("\n") < 20:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    status, said = finish(process)
    assert status == 130, said
    assert "Traceback" not in said
    assert re.search(r"Stopped at update \d+ of 400 of Elman; all is saved\. Go on with:", said)
    words = shlex.split(said.strip().splitlines()[-1])
    assert words == ["python", *COMMAND.split(), "--resume"]
    again = subprocess.run(
        [sys.executable, *words[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert again.returncode == 0, again.stderr
    same(outcome(tmp_path), expected)


@pytest.mark.laws
def test_a_full_disk_is_a_sentence_and_the_last_checkpoint_survives(whole, tmp_path):
    expected, *_ = whole
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash"]  # no file of more than 8 KB
    status, said = finish(start(tmp_path, before=limited))
    assert status == 1, said
    assert "Traceback" not in said
    assert "File too large" in said
    assert "--resume" in said
    saved = Checkpoints(tmp_path / "runs/adding/checkpoints/Elman-0").updates()
    assert 10 <= max(saved) < 400
    status, said = finish(start(tmp_path, "--resume"))
    assert status == 0, said
    assert "Refused" not in said
    same(outcome(tmp_path), expected)
