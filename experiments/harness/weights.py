"""The weights of a run as safetensors, with what they are of; and the description of an experiment."""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments.harness.options import Config
from experiments.harness.record import write_whole
from experiments.harness.saved import found, path_of, plain, restored
from experiments.harness.supervised import Finite
from rnncells.tasks import Task

SEPARATOR = "/"
MODEL = "model.json"
DIGEST = "sha256"


def save(folder: pathlib.Path, params: Any, about: dict[str, Any]) -> None:
    """weights/<cell>-<run>.safetensors: arrays by their path, such as params/RNN_0/cell/kernel.

    Args:
        folder: of the experiment.
        params: nested dicts of arrays.
        about: JSON, cell and run among it; kept in the header of the file, each entry as text.
    """
    flat = flatten_dict(params, sep=SEPARATOR)
    kept = {name: np.ascontiguousarray(leaf) for name, leaf in flat.items()}
    header = {name: json.dumps(value, allow_nan=False) for name, value in about.items()}
    header[DIGEST] = json.dumps(digest(kept))
    path = folder / "weights" / f"{about['cell']}-{about['run']}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, safetensors.numpy.save(kept, header))


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    """All weights of an experiment, cell by cell, in the order of its runs.

    Raises:
        ValueError: where there are none.
    """
    paths = sorted((folder / "weights").glob("*.safetensors"), key=_place)
    if not paths:
        raise ValueError(f"{folder}: expected a folder that a run has left, with weights in it, found none.")
    return paths


def _place(path: pathlib.Path) -> tuple[str, int]:
    cell, _, run = path.stem.rpartition("-")
    return cell, int(run) if re.fullmatch("[0-9]+", run) else -1


def about(path: pathlib.Path) -> dict[str, Any]:
    """What the header of a file says.

    Raises:
        ValueError: for a file that is damaged, or that no run has left.
    """
    try:
        with safetensors.safe_open(path, "numpy") as held:
            header = held.metadata() or {}
        what = {name: json.loads(value) for name, value in header.items() if name != DIGEST}
        if missing := [name for name in ("cell", "run", "numbers") if name not in what]:
            raise ValueError(f"its header has no {', '.join(missing)}")
        return what
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path}: expected weights that a run has left ({error}).") from error


def load(path: pathlib.Path) -> Any:
    """The parameters, nested as the model has them, on the device.

    Raises:
        ValueError: for a file that is damaged.
    """
    try:
        flat = safetensors.numpy.load(path.read_bytes())
        with safetensors.safe_open(path, "numpy") as held:
            told = (held.metadata() or {}).get(DIGEST)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path}: expected weights that a run has left ({error}).") from error
    if told is not None and json.loads(told) != digest(flat):
        raise ValueError(f"{path}: expected the weights that were saved, got others; the file is damaged.")
    return jax.tree.map(jax.numpy.asarray, unflatten_dict(flat, sep=SEPARATOR))


def digest(flat: dict[str, np.ndarray]) -> str:
    """Of arrays by name."""
    whole = hashlib.sha256()
    for name in sorted(flat):
        whole.update(f"{name} {flat[name].dtype} {flat[name].shape}".encode())
        whole.update(flat[name].tobytes())
    return whole.hexdigest()


def describe(folder: pathlib.Path, config: Config, task: Task) -> None:
    """model.json: of what class config and task are, and what the task is without its data."""
    experiment = {"class": path_of(type(config)), "config": plain(config)}
    own = {"class": path_of(type(task)), "finite": isinstance(task, Finite), "fields": plain(task)}
    own["words"] = str(task)
    what = {"experiment": experiment, "task": own}
    write_whole(folder / MODEL, json.dumps(what, indent=2) + "\n")


def held(folder: pathlib.Path, name: str = MODEL) -> dict[str, Any]:
    """A JSON file of a folder as it is.

    Raises:
        ValueError: where it is missing or damaged.
    """
    path = folder / name
    if not path.exists():
        raise ValueError(f"{folder}: expected a folder that a run has left, with {name} in it, found none.")
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected what a run has left ({error}).") from error


def title(folder: pathlib.Path, config: Config, task: Task) -> str:
    """What pictures of an experiment are called: its name, its task, and how long it was trained."""
    what = held(folder)
    name = what["experiment"]["class"].partition(":")[0].rpartition(".")[2]
    training = config.training
    said = what["task"].get("words", str(task))
    return f"{name}: {said}, {training.updates} updates of {training.batch_size}"


def described(folder: pathlib.Path, with_task: bool = True) -> tuple[Config, Task | None]:
    """What `describe` wrote; no task where the config makes it without data.

    Raises:
        ValueError: where it is missing, damaged, or of classes that cannot be imported.
    """
    path, what = folder / MODEL, held(folder)
    try:
        experiment, task = what["experiment"], what["task"]
        kind = found(task["class"]) if task["finite"] and with_task else None
        made = restored(found(experiment["class"]), experiment["config"])
        return made, None if kind is None else restored(kind, task["fields"])
    except (KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path}: expected what a run has left ({why}).") from error
