"""Where runs go: devices and processes."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from experiments.harness.hyperparameters import check_words


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where runs go."""

    method: Literal["auto", "map", "vmap"] = "auto"
    """How the runs of one device share it: one after the other in every block (map), or side by side (vmap).
    auto: map on CPU, vmap elsewhere."""
    devices_per_run: int = 1
    """Devices over which each batch is divided; runs are divided over the rest."""
    processes: Literal["one", "hand", "slurm", "ompi"] = "one"
    """How this process finds the others: there are none; by the three options below; or by what Slurm or
    Open MPI tell it."""
    coordinator: str | None = None
    """host:port of process 0, for processes=hand; for slurm and ompi where they do not tell it."""
    process_count: int | None = None
    """Processes in all, for processes=hand."""
    process: int | None = None
    """Which of them this one is, from 0, for processes=hand."""
    devices: int | None = None
    """CPU devices of this process; by default one per core that it may use."""
    wait: int = 120
    """Seconds to wait for the other processes at the start."""
    heartbeat: int = 10
    """Seconds of silence after which a process counts as lost."""

    def __post_init__(self) -> None:
        check_words(self)
        for name in ("devices_per_run", "devices", "wait", "heartbeat"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}.")
        for name in ("coordinator", "process_count", "process"):
            value = getattr(self, name)
            either = name == "coordinator" and self.processes in ("slurm", "ompi")
            if (value is not None) != (self.processes == "hand") and not either:
                raise ValueError(
                    f"{name}: expected a value exactly where processes is hand, got {value}"
                    f" with processes={self.processes}."
                )
        if self.coordinator is not None and not re.fullmatch(r".+:\d+", self.coordinator):
            raise ValueError(f"coordinator: expected host:port, got {self.coordinator}.")
        if self.process is not None and self.process not in range(count := self.process_count or 0):
            raise ValueError(f"process: expected 0 to {count - 1}, got {self.process}.")
