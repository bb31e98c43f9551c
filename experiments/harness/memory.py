"""What a compiled program takes of a device, and what a device has."""

from __future__ import annotations

import pathlib
from typing import Any

import jax

MEMINFO = pathlib.Path("/proc/meminfo")
LIMIT = pathlib.Path("/sys/fs/cgroup/memory.max")


def temporaries(compiled: Any) -> float:
    """Gigabytes, on each device."""
    return float(compiled.memory_analysis().temp_size_in_bytes) / 1e9


def needed(compiled: Any) -> float:
    """Gigabytes on each device: what goes in, comes out and lies between."""
    sizes = compiled.memory_analysis()
    held = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return float(held + sizes.temp_size_in_bytes) / 1e9


def available(devices: int) -> float | None:
    """Gigabytes that each of so many devices of this process may take; None where nobody says.

    A device with memory of its own says how much it has; devices on the host share what is free there.
    """
    told = jax.local_devices()[0].memory_stats()
    if told and "bytes_limit" in told:
        return float(told["bytes_limit"]) / 1e9
    found = [size for size in (_free(), _limit()) if size is not None]
    return min(found) / devices / 1e9 if found else None


def _free() -> int | None:
    """Bytes that the host can give, as Linux says."""
    if not MEMINFO.exists():
        return None
    lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines() if ":" in line)
    words = lines.get("MemAvailable", "").split()
    return 1024 * int(words[0]) if words else None


def _limit() -> int | None:
    """Bytes that the group of this process may have in all."""
    words = LIMIT.read_text().strip() if LIMIT.exists() else ""
    return int(words) if words.isdecimal() else None


def said(error: BaseException) -> str | None:
    """What to say where a device has no room left; None for other errors."""
    if not isinstance(error, RuntimeError) or "RESOURCE_EXHAUSTED" not in str(error):
        return None
    why = str(error).splitlines()[0].removeprefix("RESOURCE_EXHAUSTED: ").rstrip(".")
    return f"memory: {why}; a smaller batch_size, evaluate_at_once, at_once or features takes less."
