"""What a training leaves behind while it runs: metrics.jsonl and TensorBoard's event files."""

from __future__ import annotations

import json
import math
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

Line = dict[str, Any]
"""One line of metrics.jsonl: a run after a block of updates, or, with the entry `test`, at its end."""


class Record:
    """One line of JSON per run and block in metrics.jsonl, and the same scalars in tensorboard/<cell>-<run>.

    Args:
        folder: where they are; made if it is missing.
        keep: go on after the lines that are there, instead of beginning anew.
        active: False for a process that only watches.
    """

    def __init__(self, folder: pathlib.Path, *, keep: bool, active: bool = True) -> None:
        self.path, self.active = folder / "metrics.jsonl", active
        self.board = folder / "tensorboard"
        self._writers: dict[str, Any] = {}
        self.lines, self.damage = lines_of(self.path) if keep else ([], [])
        if active:
            folder.mkdir(parents=True, exist_ok=True)
            if any(not each.half for each in self.damage):
                shutil.copy(self.path, self.path.with_name(f"{self.path.name}.damaged"))
            self._rewrite()

    def _rewrite(self) -> None:
        """The files as `lines` says, whatever was in them."""
        self.close()
        shutil.rmtree(self.board, ignore_errors=True)
        write_whole(self.path, "".join(text(line) for line in self.lines))
        self._file = self.path.open("a")
        for line in self.lines:
            self._show(line)

    def rewind(self, wanted: Callable[[Line], bool]) -> None:
        """Forgets all other lines: those past the checkpoint from which a run goes on."""
        kept = [line for line in self.lines if wanted(line)]
        if len(kept) != len(self.lines):
            self.lines = kept
            if self.active:
                self._rewrite()

    def of(self, cell: str, runs: range) -> list[Line]:
        """The lines of some runs of a cell."""
        return [line for line in self.lines if line["cell"] == cell and line["run"] in runs]

    def write(self, lines: Iterable[Line]) -> None:
        """Adds lines; they are in the file when this returns."""
        for line in lines:
            self.lines.append(line)
            if self.active:
                self._file.write(text(line))
                self._show(line)
        if self.active:
            self._file.flush()

    def _show(self, line: Line) -> None:
        name = f"{line['cell']}-{line['run']}"
        if name not in self._writers:
            (self.board / name).mkdir(parents=True, exist_ok=True)
            self._writers[name] = EventsWriter(str(self.board / name / "events"))
        scalars = {"loss": line["loss"], "length": line["length"]}
        if "test" in line:
            scalars = {}
        for part in ("test",) if "test" in line else ("validation", "training"):
            scalars |= {f"{part}/{name}": value for name, value in line.get(part, {}).items()}
        values = [
            Summary.Value(tag=tag, simple_value=math.nan if value is None else value)
            for tag, value in scalars.items()
        ]
        event = Event(wall_time=time.time(), step=line["update"], summary=Summary(value=values))
        self._writers[name].write_event(event)

    def flush(self) -> None:
        """What was written survives the end of this process, however it comes."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        if hasattr(self, "_file"):
            self._file.close()


def finished(lines: Sequence[Line]) -> list[Line]:
    """The last line of every run that came to its end."""
    return [line for line in lines if "test" in line]


def cells_of(lines: Sequence[Line]) -> list[str]:
    """Their cells, in the order in which they came."""
    return list(dict.fromkeys(line["cell"] for line in lines))


def number(value: Any) -> float:
    """A number of a line; what was not finite is null there."""
    return float("nan") if value is None else value


def text(line: Line) -> str:
    return json.dumps(finite(line), allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """JSON has no NaN: null."""
    if isinstance(value, dict):
        return {key: finite(child) for key, child in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parsed(text: str) -> Line | None:
    """A line, or None for what is none, such as the half of one that a killed process left."""
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return None
    return line if isinstance(line, dict) and {"cell", "run", "update"} <= line.keys() else None


class Damage(NamedTuple):
    """A line that is none."""

    words: str
    half: bool
    """The last one, as a process leaves it that is killed."""


def lines_of(path: pathlib.Path) -> tuple[list[Line], list[Damage]]:
    """The lines of metrics.jsonl, and what is damaged; none of a file that is missing."""
    lines, damage = [], []
    whole = path.read_text(errors="replace").splitlines(keepends=True) if path.exists() else []
    for number, text in enumerate(whole, 1):
        line = parsed(text)
        if line is not None:
            lines.append(line)
        else:
            half = not text.endswith("\n")
            why = "half a line, as a process leaves it that is killed" if half else repr(text[:40].strip())
            words = f"{path}, line {number}: expected a line of a run, got {why}; left out."
            damage.append(Damage(words, half))
    return lines, damage


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
    """The whole file or, killed on the way, the one before."""
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(beside, path)
