"""With what a run was made: versions, commit, device, precision, data."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnncells
from rnncells.tasks import Task

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")
MUST_STAY = {"x64": "double precision", "data": "the data of the task"}
"""What a resumed run needs as it was, and what that is."""


def provenance(task: Task) -> dict[str, Any]:
    """As JSON: a version of each library, and what else decides a number."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    device = jax.devices()[0]
    return {
        "rnncells": rnncells.__version__,
        **versions,
        "python": platform.python_version(),
        "commit": commit(),
        "platform": device.platform,
        "device": device.device_kind,
        "x64": jnp.result_type(float) == jnp.float64,
        "data": digest(getattr(task, "parts", None)),
    }


@functools.cache
def commit() -> str | None:
    """Of the repository that this file is in, marked where files differ from it; None outside of one."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(pathlib.Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def digest(parts: Any) -> str | None:
    """Of the arrays of finite data; None where there are none."""
    if parts is None:
        return None
    whole = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(parts):
        array = np.ascontiguousarray(leaf)
        whole.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()[:16]


def changes(before: dict[str, Any], now: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What has changed and must not, and what has and may, as words."""
    refused, said = [], []
    for name in {**before, **now}:
        then, new = before.get(name), now.get(name)
        if then == new:
            continue
        if name in MUST_STAY:
            refused.append(f"{name} ({MUST_STAY[name]}) was {then} and is {new}")
        else:
            said.append(f"{name} was {then} and is {new}")
    return refused, said
