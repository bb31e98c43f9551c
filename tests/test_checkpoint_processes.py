"""Checkpoints of real processes: a full disk, a closed folder, kills, and several at once."""

import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import pytest

from experiments.harness.checkpoint import Checkpoints
from tests.echo import assert_identical

ROOT = pathlib.Path(__file__).parents[1]


def run(code, *arguments, **options):
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def finish(process):
    """What it printed; nothing on stderr."""
    shown, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    return shown.splitlines()


FULL = """
import pathlib, resource, signal, sys, threading
import jax, numpy as np
from experiments.harness.checkpoint import CheckpointError, Checkpoints
folder = pathlib.Path(sys.argv[1])
checkpoints = Checkpoints(folder)
state = lambda update: {"w": np.full(200_000, update, np.float32), "key": jax.random.key(update)}
checkpoints.save(1, state(1), {}, 1.0)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (1, 300, 100_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        checkpoints.save(2, state(2), {}, 1.0)
    except CheckpointError as error:
        print(error)
    assert [path.name for path in folder.iterdir()] == ["1"]
    update, restored, _, refused = checkpoints.restore(state(0))
    assert (update, refused) == (1, [])
    assert (restored["w"] == 1).all()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
checkpoints.save(2, state(2), {}, 1.0)
assert checkpoints.restore(state(0))[0] == 2
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(10)
        assert not thread.is_alive()
"""


def test_a_full_disk_is_one_sentence(tmp_path):
    sentence = f"Update 2 was not saved in {tmp_path}: File too large; the last good checkpoint is 1."
    assert finish(run(FULL, tmp_path)) == [sentence] * 3


FORBIDDEN = """
import os, pathlib, sys
import numpy as np
from experiments.harness.checkpoint import CheckpointError, Checkpoints
folder = pathlib.Path(sys.argv[1])
Checkpoints(folder / "run").save(1, np.ones(3), {}, 1.0)
(folder / "run").chmod(0o555)
folder.chmod(0o555)
if os.geteuid() == 0:
    os.seteuid(65534)
for name, update in (("run", 2), ("other", 1)):
    try:
        Checkpoints(folder / name).save(update, np.ones(3), {}, 1.0)
    except CheckpointError as error:
        print(error)
assert Checkpoints(folder / "run").restore(np.ones(3))[0] == 1
"""


def test_a_missing_permission_is_one_sentence():
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = pathlib.Path(name)
        process = run(FORBIDDEN, folder)
        try:
            shown = finish(process)
        finally:
            for path in (folder, folder / "run"):
                path.chmod(0o755)
    assert shown == [
        f"Update 2 was not saved in {folder}/run: Permission denied; the last good checkpoint is 1.",
        f"Update 1 was not saved in {folder}/other: Permission denied; the last good checkpoint is none.",
    ]


FOREVER = """
import itertools, pathlib, sys
import jax, numpy as np
from experiments.harness.checkpoint import Checkpoints
checkpoints = Checkpoints(pathlib.Path(sys.argv[1]), keep=2)
for update in itertools.count(int(sys.argv[2]) + 1):
    state = {"w": np.full(50_000, update, np.float32), "key": jax.random.key(update)}
    checkpoints.save(update, state, {"update": update}, abs(update % 7 - 3))
    print(update, flush=True)
"""


@pytest.mark.laws
def test_killed_at_any_moment_it_restores(tmp_path):
    like = {"w": np.zeros(50_000, np.float32), "key": jax.random.key(0)}
    last = 0
    for pause in (0.0, 0.003, 0.006, 0.009, 0.012, 0.02):
        process = run(FOREVER, tmp_path, last)
        shown = process.stdout.readline()
        time.sleep(pause)
        process.kill()
        shown += process.stdout.read()
        process.communicate()
        saved = max(map(int, shown.split()))
        last, state, about, refused = Checkpoints(tmp_path).restore(like)
        assert saved <= last <= saved + 1
        assert refused == []
        assert about == {"update": last}
        assert_identical(state, {"w": np.full(50_000, last, np.float32), "key": jax.random.key(last)})
        best = Checkpoints(tmp_path).restore(like, "best")
        assert best[0] % 7 == 3 or last < 3
        assert best[3] == []
    Checkpoints(tmp_path).save(last + 1, state, {}, 0.0)
    assert all(path.name.isdecimal() for path in tmp_path.iterdir())


TOGETHER = """
import pathlib, sys
import jax
number = int(sys.argv[2])
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{sys.argv[3]}", num_processes=2, process_id=number)
import numpy as np
from jax.experimental.multihost_utils import sync_global_devices
from experiments.harness.checkpoint import Checkpoints
checkpoints = Checkpoints(pathlib.Path(sys.argv[1]))
state = {"w": np.arange(5.0), "key": jax.random.key(1)}
if number == 0:
    for update in (1, 2):
        checkpoints.save(update, state, {"update": update}, update)
sync_global_devices("saved")
assert checkpoints.restore(state)[0] == 2
if number == 1:
    assert checkpoints.restore(state, "best")[0] == 1
sync_global_devices("restored")
"""


def test_one_of_several_processes_saves_and_all_restore(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [run(TOGETHER, tmp_path, number, port) for number in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert Checkpoints(tmp_path).updates() == [1, 2]
