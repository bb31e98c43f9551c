"""The checkpoints of one training in one folder: whole or not there, and verified when they are read.

A checkpoint is the folder `<update>`, which orbax writes under another name and renames when it is complete:

    state                   one array of bytes: those of all leaves of the state, one after another
    _CHECKPOINT_METADATA    JSON; its `custom_metadata` is the record: update, loss, about; path, dtype and
                            shape of each leaf, kinds of keys; sha256 of the bytes and of the record itself

One array, because orbax writes the arrays of a tree concurrently and lets the others go on when one fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import math
import os
import pathlib
import re
import shutil
import threading
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

DELETED, UNFINISHED = "deleted", ".orbax-checkpoint-tmp"
Metadata = dict[str, Any]


class CheckpointError(Exception):
    """What is wrong with the checkpoints, in one sentence."""


class Refused(NamedTuple):
    """A checkpoint that is damaged."""

    update: int
    path: pathlib.Path
    why: str


class Checkpoints:
    """Saves and restores the state of one training in `folder`.

    The last `keep` checkpoints and the best one stay, the others are deleted. The best has the lowest loss,
    the later one of equals; NaN is never the best. Only one process may save; what a killed one has left
    behind is ignored, and removed by the next save. Any process may restore; none waits for another.
    """

    def __init__(self, folder: pathlib.Path, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep: expected at least 1, got {keep}.")
        self.folder = folder.absolute()
        self.keep = keep

    def updates(self) -> list[int]:
        """The updates that have a checkpoint, damaged or not, in ascending order."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(f"The folder {self.folder} cannot be read: {_why(error)}.") from error
        return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))

    def about(self) -> dict[str, Any] | None:
        """That of the last checkpoint whose record is whole; the state is not read."""
        for update in reversed(self.updates()):
            with contextlib.suppress(Exception):  # a damaged record is named when it is restored
                return self._record(update)["about"]
        return None

    def save(self, update: int, state: Any, about: dict[str, Any], loss: float) -> None:
        """Saves a pytree of arrays and typed keys, and JSON about it; all is written when it returns.

        A whole checkpoint is never replaced: saving its update again does nothing where the state is the same
        (the first `about` and `loss` stay), and is an error where it is not, because the folder is that of
        another training. A damaged checkpoint is replaced.

        Raises:
            CheckpointError: the disk is full, for example. The checkpoints that were there remain.
            TypeError: a leaf is not an array, or `about` is not JSON.
        """
        what: Metadata = {"update": update, "loss": float(loss), "about": about, "leaves": _headers(state)}
        leaves = jax.tree.leaves(state)
        what["keys"] = [str(jax.random.key_impl(leaf)) if _is_key(leaf) else None for leaf in leaves]
        arrays = [np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for leaf in leaves]
        content = np.frombuffer(b"".join(array.tobytes() for array in arrays), np.uint8)
        what["state"] = _sha256(content.data)
        record = json.loads(json.dumps(what))
        if update in self.updates() and not isinstance(there := self._read(update), Refused):
            if all(there[0][name] == record[name] for name in ("leaves", "state")):
                return
            raise CheckpointError(f"Update {update} was not saved: {self.folder} holds another state of it.")
        try:
            self._write(update, record | {"sha256": _digest(record)}, content)
        except Exception as error:
            shutil.rmtree(self.folder / f"{update}{UNFINISHED}", ignore_errors=True)
            whole = (u for u in self.updates()[::-1] if not isinstance(self._read(u), Refused))
            raise CheckpointError(
                f"Update {update} was not saved in {self.folder}: {_why(error)}; "
                f"the last good checkpoint is {next(whole, 'none')}."
            ) from error

    def restore(
        self, like: Any, which: Literal["last", "best"] = "last"
    ) -> tuple[int, Any, dict[str, Any], list[Refused]] | None:
        """The last or the best checkpoint: its update, state and `about`, and the damaged ones passed over.

        Args:
            like: the tree of the state, of arrays or `jax.ShapeDtypeStruct`s.
            which: the best falls back as the last does, to the next best.

        Returns:
            The state as NumPy arrays and typed keys, bit for bit; None if there has never been a checkpoint.

        Raises:
            CheckpointError: all checkpoints are damaged, or the state has other leaves than `like`.
        """
        updates, refused = self.updates()[::-1], []
        if which == "best":
            updates.sort(key=lambda u: _rank(self._loss(u)))
        for update in updates:
            if isinstance(found := self._read(update), Refused):
                refused.append(found)
                continue
            record, content = found
            for want, have in itertools.zip_longest(_headers(like), record["leaves"]):
                if want != have:
                    misfit = f"expected {_say(want)}, found {_say(have)}"
                    raise CheckpointError(f"Update {update} in {self.folder} does not fit: {misfit}.")
            return update, _unpack(like, record["keys"], content), record["about"], refused
        if refused:
            damaged = "; ".join(f"{path}: {why}" for _, path, why in refused)
            raise CheckpointError(f"No checkpoint can be read: {damaged}.")
        return None

    def _write(self, update: int, record: Metadata, content: np.ndarray) -> None:
        """One checkpoint more, then those too many away; one with a damaged record is always too many."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder / DELETED, ignore_errors=True)
        item = ocp.args.Composite(state=ocp.args.PyTreeSave({"bytes": content}))
        with _manager(self.folder, cleanup_tmp_directories=True) as manager:
            if update in manager.all_steps():
                manager.delete(update)
            manager.save(update, args=item, custom_metadata=record, force=True)
            losses = {u: loss for u in self.updates() if (loss := self._loss(u)) is not None}
            best = min(reversed(losses), key=lambda u: _rank(losses[u]))
            for old in {*manager.all_steps()} - {update, best, *list(losses)[-self.keep :]}:
                manager.delete(old)
        shutil.rmtree(self.folder / DELETED, ignore_errors=True)

    def _read(self, update: int) -> tuple[Metadata, np.ndarray] | Refused:
        """The record and the bytes of the state, both verified."""
        part = "record"
        try:
            record, part = self._record(update), "state"
            item = ocp.args.PyTreeRestore(restore_args={"bytes": ocp.RestoreArgs(restore_type=np.ndarray)})
            with _manager(self.folder) as manager:
                content = manager.restore(update, args=ocp.args.Composite(state=item)).state["bytes"]
            if _sha256(content.data) != record["state"]:
                raise ValueError("not what was saved")
        except Exception as error:
            return Refused(update, self.folder / str(update), f"its {part} is damaged ({_why(error)})")
        return record, content

    def _record(self, update: int) -> Metadata:
        file = self.folder / str(update) / "_CHECKPOINT_METADATA"
        record = json.loads(file.read_text())["custom_metadata"]
        if record.pop("sha256") != _digest(record) or record["update"] != update:
            raise ValueError("not what was saved")
        return record

    def _loss(self, update: int) -> float | None:
        """None if the record is damaged."""
        try:
            return self._record(update)["loss"]
        except Exception:
            return None


class _Manager(ocp.CheckpointManager):  # type: ignore[misc]
    def reached_preemption(self, step: int) -> bool:
        """After a SIGTERM, orbax's would compare times that a lightweight manager has not read, and raise."""
        return False


@contextlib.contextmanager
def _manager(folder: pathlib.Path, **options: Any) -> Iterator[_Manager]:
    """Synchronous, for this process alone; silent, because orbax logs what it raises, with a traceback."""
    process, logger = jax.process_index(), logging.getLogger("absl")
    alone = ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process})
    state = ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_compression=False, multiprocessing_options=alone)
    options |= {"create": False, "enable_async_checkpointing": False, "lightweight_initialize": True}
    options["todelete_subdir"] = DELETED  # a killed deletion must not leave half a checkpoint
    choice = ocp.CheckpointManagerOptions(multiprocessing_options=alone, **options)
    before, logger.disabled = logger.disabled, True
    try:
        with _Manager(folder, item_handlers={"state": state}, options=choice) as manager:
            yield manager
    finally:
        for thread in threading.enumerate():
            if type(thread).__module__.startswith("orbax."):
                threading.Thread.join(thread, 10)  # after an error it may still log; its own `join` raises
        logger.disabled = before


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _headers(tree: Any) -> list[list[Any]]:
    """Path, dtype and shape of each leaf, as JSON has them."""
    headers = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if not hasattr(leaf, "dtype") or leaf.dtype == object:
            raise TypeError(f"state{name}: expected an array or a typed key, got {type(leaf).__name__}.")
        headers.append([name, str(leaf.dtype), list(leaf.shape)])
    return headers


def _say(header: list[Any] | None) -> str:
    return "nothing more" if header is None else "state{} of {}{}".format(*header)


def _unpack(like: Any, kinds: list[str | None], content: np.ndarray) -> Any:
    leaves, structure = jax.tree.flatten(like)
    state: list[Any] = []
    offset = 0
    for leaf, kind in zip(leaves, kinds, strict=True):
        form = jax.eval_shape(jax.random.key_data, leaf) if kind else leaf
        array = np.ndarray(form.shape, form.dtype, content.data, offset).copy()
        state.append(jax.random.wrap_key_data(jnp.asarray(array), impl=kind) if kind else array)
        offset += array.nbytes
    return jax.tree.unflatten(structure, state)


def _sha256(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(record: Metadata) -> str:
    return _sha256(json.dumps(record).encode())


def _rank(loss: float | None) -> tuple[int, float]:
    """The best first; the unknown ones, being damaged, before all others, for `restore` to name them."""
    return (-1, 0.0) if loss is None else (1, 0.0) if math.isnan(loss) else (0, loss)


def _why(error: Exception) -> str:
    """Short; the operating system's words, if it was one of its errors."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return re.split(r" \[|\n", str(error))[0][:120] or type(error).__name__
