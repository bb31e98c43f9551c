"""The cores of this process, and other processes, through JAX's own runtime.

Every process computes the same program; what they exchange, they wait for. So when one is lost the others
cannot go on. They learn of it in one of two ways: their next exchange raises, or, when they compute for
longer than `heartbeat` seconds or when process 0 is the one that is lost, the runtime aborts them, a page of
its own words on stderr. No Python runs after an abort, so the last words of each process are left with a
witness, a child that does nothing but wait for its end.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn, cast

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.harness.options import Placement

OUTSIDE = {
    "slurm": ("Slurm (srun)", "SLURM_", "PROCID NTASKS LOCALID"),
    "ompi": ("Open MPI (mpirun)", "OMPI_COMM_WORLD_", "RANK SIZE LOCAL_RANK"),
}
"""Who else may start processes, and the variables in which it tells each what `_outside` returns."""

WITNESS = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
words, log = sys.stdin.read().split("\\0")[-1], sys.argv[1]
said = words and os.path.getsize(log)
if words:
    print(words + f"\\nWhat the runtime said is in {log}." * bool(said), flush=True)
if not said:
    os.unlink(log)
"""

_witness: subprocess.Popen[str] | None = None


def use_every_core() -> None:
    """One CPU device per core that this process may use, unless somebody has said how many; call before
    anything computes."""
    if jax.config.jax_num_cpu_devices < 0:  # type: ignore[attr-defined]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        jax.config.update("jax_num_cpu_devices", cores or 1)


def start(placement: Placement, again: str) -> None:
    """Joins the other processes, if there are any. Call before anything computes.

    Args:
        placement: how to find them.
        again: the command that goes on after a loss.
    """
    if placement.devices is not None:
        jax.config.update("jax_num_cpu_devices", placement.devices)
    if placement.processes == "one":
        try:
            jax.devices()
        except RuntimeError as error:
            sys.exit(f"JAX finds no device: {_why(error)}.")
        return
    me, count, how = _found(placement)
    where = placement.coordinator or f"the address that {OUTSIDE[placement.processes][0]} tells"
    _quiet(me)
    if placement.coordinator is not None and me > 0:
        _reach(placement.coordinator, placement.wait)
    _last_words(
        f"Process {me} of {count}: not all of them came to {where} within {placement.wait} s, or two came"
        f" with the same number."
    )
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    try:
        jax.distributed.initialize(
            **how,
            heartbeat_timeout_seconds=placement.heartbeat,
            initialization_timeout=placement.wait,
        )
        jax.devices()
    except Exception as error:
        _dismiss()
        hint = "" if placement.coordinator else "; coordinator would name an address"
        sys.exit(f"Process {me} of {count} did not find the others at {where}: {_why(error)}{hint}.")
    _last_words(
        f"Process {me} of {count} was ended by a signal, or by the runtime because another one was lost."
        f" Go on with:\n{again}"
    )
    sys.excepthook = _uncaught


def _found(placement: Placement) -> tuple[int, int, dict[str, Any]]:
    """Which process this is, how many there are, and what JAX must be told."""
    local: list[int] | None = None
    if placement.processes == "hand":
        me, count = cast(int, placement.process), cast(int, placement.process_count)
    else:
        me, count, here = _outside(placement.processes)
        local = [here]
    if placement.coordinator is None:
        return me, count, {"cluster_detection_method": placement.processes}
    told = {
        "coordinator_address": placement.coordinator,
        "num_processes": count,
        "process_id": me,
        "local_device_ids": local,
        "cluster_detection_method": "deactivate",
    }
    return me, count, told


def _outside(processes: str) -> tuple[int, int, int]:
    """What is told from outside: which process this is, how many there are, and which of its machine."""
    name, prefix, endings = OUTSIDE[processes]
    variables = [prefix + ending for ending in endings.split()]
    missing = [variable for variable in variables if variable not in os.environ]
    if missing:
        sys.exit(
            f"processes: expected to be started by {name} with processes={processes},"
            f" but it set no {', '.join(missing)}."
        )
    me, count, local = (int(os.environ[variable]) for variable in variables)
    return me, count, local


def _quiet(me: int) -> None:
    """What is not Python writes to a log of its own from now on, with the witness to look after it."""
    global _witness
    log = tempfile.NamedTemporaryFile(prefix=f"process-{me}-", suffix=".log", delete=False)  # noqa: SIM115
    own = [os.dup(number) for number in (1, 2)]
    _witness = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", WITNESS, log.name],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1) for number in own)  # noqa: SIM115
    if me > 0:
        warnings.simplefilter("ignore")


def _uncaught(*error: Any) -> None:
    """The others must not wait for this process."""
    sys.__excepthook__(*error)
    leave(1)


def _last_words(words: str) -> None:
    """What the witness shall say when this process ends."""
    if _witness is not None and _witness.stdin is not None:
        _witness.stdin.write(f"\0{words}")
        _witness.stdin.flush()


def _dismiss() -> None:
    """This process says itself why it ends: there is no need for a witness any more."""
    global _witness
    if _witness is not None:
        _last_words("")
        _witness.communicate()
        _witness = None


def _reach(address: str, seconds: float) -> None:
    """Waits until process 0 listens; the runtime would abort when it does not."""
    host, _, port = address.rpartition(":")
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                why = error.strerror or error
                sys.exit(f"coordinator: expected process 0 at {address}; no answer in {seconds} s ({why}).")
        time.sleep(0.1)


def any_process(wish: bool) -> bool:
    """Whether any process wishes it; all of them learn the same."""
    if jax.process_count() == 1:
        return wish
    return bool(multihost_utils.process_allgather(np.array(wish)).any())


def different(value: str) -> list[int]:
    """The processes whose value is not that of process 0; all of them learn the same."""
    if jax.process_count() == 1:
        return []
    digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
    every = multihost_utils.process_allgather(digest)
    return [i for i, other in enumerate(every) if (other != every[0]).any()]


def said_of_loss(error: BaseException) -> str | None:
    """What to say where the runtime reports that another process has gone; None for other errors."""
    if jax.process_count() == 1 or not isinstance(error, (RuntimeError, ValueError)):
        return None
    words = str(error).lower()
    if not any(word in words for word in ("gloo", "nccl", "coordination", "heartbeat", "unavailable")):
        return None
    return f"Process {jax.process_index()} of {jax.process_count()} has lost another one ({_why(error)})."


def _why(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")


def alone(words: Sequence[str]) -> list[str]:
    """A command line without the options that are of one process among several."""
    options = [f"--placement.{name}" for name in ("processes", "coordinator", "process-count", "process")]
    kept, skip = [], False
    for word in words:
        if not skip and word not in options and not word.startswith(tuple(f"{name}=" for name in options)):
            kept.append(word)
        skip = word in options
    return kept


def finish() -> None:
    """Waits for the other processes, so that none is taken for lost."""
    if jax.process_count() > 1:
        jax.distributed.shutdown()
    _dismiss()


def leave(status: int, *, at_once: bool = False) -> NoReturn:
    """Ends the program; with other processes without waiting for them, and they are lost unless `finish`.

    Args:
        status: of this process.
        at_once: without waiting for what a device computes, as the interpreter does at its end.
    """
    _dismiss()
    sys.stdout.flush()
    sys.stderr.flush()
    if at_once or jax.process_count() > 1:
        os._exit(status)
    raise SystemExit(status)
