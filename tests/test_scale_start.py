"""How processes find each other, and what is said when they do not."""

import socket
import threading
import time

import jax
import pytest

from experiments.harness import processes
from experiments.harness.options import Placement


def free_port():
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]


def test_nobody_at_the_address():
    port = free_port()
    began = time.monotonic()
    with pytest.raises(SystemExit, match=rf"expected process 0 at localhost:{port}; no answer in 1 s \("):
        processes._reach(f"localhost:{port}", 1)
    assert time.monotonic() - began < 30


def test_a_process_that_listens_late():
    port = free_port()
    with socket.socket() as late:
        late.bind(("localhost", port))
        opening = threading.Timer(0.5, late.listen)
        opening.start()
        processes._reach(f"localhost:{port}", 30)
        opening.join()


@pytest.mark.parametrize("starter", ["slurm", "ompi"])
def test_what_others_tell(starter, monkeypatch):
    _, prefix, endings = processes.OUTSIDE[starter]
    for ending in endings.split():
        monkeypatch.delenv(prefix + ending, raising=False)
    with pytest.raises(SystemExit, match=f"expected to be started by .* with processes={starter}, but it"):
        processes._found(Placement(processes=starter))
    for ending, value in zip(endings.split(), "352", strict=True):
        monkeypatch.setenv(prefix + ending, value)
    me, count, how = processes._found(Placement(processes=starter))
    assert (me, count, how) == (3, 5, {"cluster_detection_method": starter})
    _, _, how = processes._found(Placement(processes=starter, coordinator="first:99"))
    assert how["coordinator_address"] == "first:99"
    assert (how["process_id"], how["num_processes"], how["local_device_ids"]) == (3, 5, [2])


@pytest.mark.parametrize(
    ("placement", "words"),
    [
        ({"processes": "hand"}, "coordinator: expected a value exactly where processes is hand, got None"),
        ({"process": 0}, "process: expected a value exactly where processes is hand, got 0"),
        ({"coordinator": "a:1"}, "coordinator: expected a value exactly"),
        ({"processes": "slurm", "coordinator": "a"}, "coordinator: expected host:port, got a"),
        (
            {"processes": "hand", "coordinator": "a:1", "process": 2, "process_count": 2},
            "process: expected 0 to 1, got 2",
        ),
        ({"devices": 0}, "devices: expected at least 1, got 0"),
        ({"wait": 0}, "wait: expected at least 1, got 0"),
    ],
)
def test_bad_placements(placement, words):
    with pytest.raises(ValueError, match=words):
        Placement(**placement)


def test_a_command_without_the_others():
    words = [
        "--features",
        "4",
        "--placement.processes",
        "hand",
        "--placement.process=1",
        "--placement.wait",
        "9",
    ]
    assert processes.alone(words) == ["--features", "4", "--placement.wait", "9"]


def test_what_counts_as_a_loss(monkeypatch):
    gone = ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer")
    assert processes.said_of_loss(gone) is None
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    said = "Process 0 of 2 has lost another one (UNKNOWN: Gloo AllGather failed: Connection closed by peer)."
    assert processes.said_of_loss(gone) == said
    assert processes.said_of_loss(ValueError("features: expected at least 1")) is None
    assert processes.said_of_loss(RuntimeError("RESOURCE_EXHAUSTED: Out of memory")) is None


def test_one_process_asks_nobody():
    assert processes.any_process(True)
    assert not processes.any_process(False)
    assert processes.different("anything") == []
