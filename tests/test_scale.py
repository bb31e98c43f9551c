"""Several processes, started as users start them: the same numbers, and a good end when one is lost."""

import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from experiments.harness import processes

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs/guides/scale.md").read_text()
PATIENCE = 240
"""Seconds after which a test gives up; processes that wait for each other must not wait for ever."""
HEARTBEAT = 6
SIZES = """--cells Elman --features 4 --length 8 --training.updates 40 --training.report-every 10
    --training.checkpoint-every 20 --training.batch-size 8 --training.test-sequences 32 --training.seeds 2"""
SMALL = shlex.split(SIZES)
LASTING = shlex.split(
    SIZES.replace("updates 40", "updates 12000")
    .replace("report-every 10", "report-every 250")
    .replace("checkpoint-every 20", "checkpoint-every 500")
)
ADDING = ["python", "-m", "experiments.adding", "--placement.devices", "1"]


def free_port():
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]


def by_hand(port, process):
    return shlex.split(
        f"--placement.processes hand --placement.coordinator localhost:{port} --placement.process-count 2"
        f" --placement.process {process} --placement.heartbeat {HEARTBEAT}"
    )


class Job:
    """Processes that run at the same time; they are killed at the end, whatever happens."""

    def __init__(self, *commands, environments=None):
        ours = ("SLURM_", "OMPI_", "PMIX_", "JAX_", "XLA_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        clean |= {"JAX_PLATFORMS": "cpu", "COLUMNS": "200"}
        self.processes = [
            subprocess.Popen(
                [sys.executable, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=ROOT,
                env=clean | (environments[i] if environments else {}),
            )
            for i, command in enumerate(commands)
        ]
        self.shown = [""] * len(commands)
        self.readers = [threading.Thread(target=self._read, args=(i,)) for i in range(len(commands))]
        for reader in self.readers:
            reader.start()

    def _read(self, i):
        self.shown[i] = self.processes[i].stdout.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
        for reader in self.readers:
            reader.join(10)
        for process in self.processes:
            process.stdout.close()

    def until(self, seen):
        """Waits for something to be seen while all processes run."""
        end = time.monotonic() + PATIENCE
        while not seen():
            assert time.monotonic() < end
            assert all(process.poll() is None for process in self.processes), self.ended()
            time.sleep(0.01)

    def without(self, lost):
        """Kills one process; how the others end, in time."""
        self.processes[lost].kill()
        start = time.monotonic()
        ended = self.ended()
        assert time.monotonic() - start < 5 * HEARTBEAT
        return ended

    def ended(self):
        """The exit status of each, and what each has shown."""
        status = [process.wait(PATIENCE) for process in self.processes]
        for reader in self.readers:
            reader.join(PATIENCE)
        return status, self.shown


def pair(*words):
    """The commands of two processes of the adding problem."""
    port = free_port()
    return [[*ADDING, *words, *by_hand(port, i)] for i in range(2)]


def done(*commands, environments=None):
    """Runs processes that must all end well, with only the first one saying anything."""
    with Job(*commands, environments=environments) as job:
        status, shown = job.ended()
    assert status == [0] * len(commands), shown
    assert "Everything is in" in shown[0]
    assert "Gloo" not in shown[0]
    assert shown[1:] == [""] * (len(commands) - 1)


def curve(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        (line["cell"], line["run"], line["update"], name): value
        for line in lines
        for name, value in ({"loss": line["loss"]} | line.get("test", {})).items()
    }


def checkpoints(folder):
    found = folder.glob("checkpoints/Elman-0/*")
    return sorted(int(path.name) for path in found if path.name.isdigit())


@pytest.mark.laws
def test_a_lost_process_ends_the_job_and_fewer_go_on(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "lost"
    done([*ADDING, *LASTING, "--out", str(whole)])
    with Job(*pair(*LASTING, "--out", str(folder))) as job:
        job.until(lambda: checkpoints(folder))
        status, shown = job.without(1)
    assert status[0] != 0
    assert re.search("Process 0 of 2 (has lost another one|was ended)", shown[0]), shown[0]
    assert "Process 1 of 2 was ended by a signal" in shown[1]
    assert "Traceback" not in shown[0] + shown[1]
    assert "Check failure" not in shown[0]
    reached = max(update for _, _, update, _ in curve(folder))
    assert reached < 12000
    before = curve(folder)
    again = next(line for line in shown[0].splitlines() if line.startswith("python -m"))
    assert "--resume" in again
    assert "coordinator" not in again
    done(shlex.split(again))
    assert curve(folder) == curve(whole)
    assert before.items() <= curve(whole).items()  # two processes give the numbers of one


@pytest.mark.laws
def test_without_process_0_the_others_end(tmp_path):
    with Job(*pair(*LASTING, "--out", str(tmp_path))) as job:
        job.until(lambda: checkpoints(tmp_path))
        status, shown = job.without(0)
    assert status[1] != 0
    assert re.search("Process 1 of 2 (has lost another one|was ended)", shown[1])
    assert "--resume" in shown[1]
    assert "Check failure" not in shown[1]


@pytest.mark.laws
def test_a_process_lost_during_a_long_block(tmp_path):
    long = [word.replace("12000", "40000000").replace("250", "40000000") for word in LASTING]
    long[long.index("--training.checkpoint-every") + 1] = "40000000"
    with Job(*pair(*long, "--out", str(tmp_path))) as job:
        job.until(lambda: (tmp_path / "metrics.jsonl").exists())
        time.sleep(10)
        status, shown = job.without(1)
    assert status[0] != 0
    assert "Process 0 of 2" in shown[0]
    assert "--resume" in shown[0]
    assert "Check failure" not in shown[0]
    if status[0] == -signal.SIGABRT:
        log = pathlib.Path(re.search(r"What the runtime said is in (\S+\.log)", shown[0])[1])
        assert "heartbeat" in log.read_text()
        log.unlink()


@pytest.mark.laws
def test_a_signal_to_one_stops_all(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "stopped"
    done([*ADDING, *LASTING, "--out", str(whole)])
    with Job(*pair(*LASTING, "--out", str(folder))) as job:
        job.until(lambda: checkpoints(folder))
        job.processes[1].send_signal(signal.SIGTERM)
        status, shown = job.ended()
    assert status == [130, 130], shown
    assert "all is saved" in shown[0]
    assert shown[1] == ""
    done(*pair(*LASTING, "--out", str(folder), "--resume"))
    assert curve(folder) == curve(whole)


def commands_of(block):
    """The processes that a block of the page starts, each with its environment."""
    port, started = free_port(), []
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        command = words[words.index("python") :]
        command = [word.replace("localhost:12345", f"localhost:{port}") for word in command]
        common = {"JAX_COORDINATOR_PORT": str(port)}
        if words[0] == "srun":
            common |= {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
            own = [{"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2)]
        elif words[0] == "mpirun":
            common |= {"OMPI_MCA_orte_hnp_uri": "4096.0;tcp://127.0.0.1:1", "OMPI_COMM_WORLD_SIZE": "2"}
            own = [{"OMPI_COMM_WORLD_RANK": str(i), "OMPI_COMM_WORLD_LOCAL_RANK": str(i)} for i in range(2)]
        else:
            own = [{}]
        started += [(command, common | each) for each in own]
    return started


BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
REFERENCES: dict = {}


@pytest.mark.laws
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_commands_of_the_page(block, tmp_path, tmp_path_factory):
    started = commands_of(block)
    small = [*SMALL, "--training.batch-size", "4"]
    done(
        *([*command, *small, "--out", str(tmp_path)] for command, _ in started),
        environments=[environment for _, environment in started],
    )
    sweep = "--vary" in started[0][0]
    if sweep not in REFERENCES:
        alone = processes.alone(started[0][0]) if sweep else ADDING
        REFERENCES[sweep] = tmp_path_factory.mktemp("one")
        done([*alone, "--placement.devices", "1", *small, "--out", str(REFERENCES[sweep])])
    if "devices-per-run" in block:
        assert curve(tmp_path) == pytest.approx(curve(REFERENCES[sweep]), rel=1e-5)
    else:
        assert curve(tmp_path) == curve(REFERENCES[sweep])


@pytest.mark.laws
def test_other_options_are_refused(tmp_path):
    port, command = free_port(), [*ADDING, *SMALL, "--out", str(tmp_path)]
    with Job(*([*command, *by_hand(port, i), "--features", str(4 + i)] for i in range(2))) as job:
        status, shown = job.ended()
    assert status == [1, 1], shown
    assert "Process 1 was started with other options than process 0" in shown[0]
    assert shown[1] == ""
    assert not any(tmp_path.iterdir())


@pytest.mark.laws
def test_waiting_in_vain(tmp_path):
    command = [*ADDING, *SMALL, "--out", str(tmp_path), *by_hand(free_port(), 0), "--placement.wait", "2"]
    with Job(command) as job:
        status, shown = job.ended()
    assert status[0] != 0
    assert "Process 0 of 2: not all of them came to localhost:" in shown[0]
    assert "Check failure" not in shown[0]
