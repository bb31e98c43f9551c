"""How far runs are: bars on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import os
import time
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Rich

SECONDS = 5.0
"""Between two lines."""
WIDTH = 130
"""Of what is written to a file."""


def screen(quiet: bool = False) -> Console:
    """The console; where it is no terminal, wide enough for a table."""
    console = Console(quiet=quiet)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH
    return console


class Progress(Protocol):
    """What shows it."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def add_task(self, description: str, *, total: int, completed: int, loss: str, rate: str) -> TaskID: ...
    def update(self, task_id: TaskID, *, completed: int, **fields: Any) -> None:
        """`loss` and `rate`, in words, where they are known."""


def progress(console: Console) -> Progress:
    """For this console."""
    if not console.is_terminal:
        return Lines(console)
    columns = [
        TextColumn("{task.description}"),
        BarColumn(None),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:<8} {task.fields[rate]}"),
        TimeRemainingColumn(),
    ]
    return Rich(*columns, console=console, disable=console.quiet)


class Lines:
    """A line for the first block, one at most every few seconds, and one for the last."""

    def __init__(self, console: Console, seconds: float = SECONDS) -> None:
        self.console, self.seconds = console, seconds
        self.tasks: list[dict[str, Any]] = []
        self.said = -float("inf")

    def start(self) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""

    def add_task(self, description: str, *, total: int, completed: int, **fields: Any) -> TaskID:
        start = {"at": completed, "since": time.monotonic(), "shown": completed}
        self.tasks.append({"label": description, "total": total, **start, **fields})
        return TaskID(len(self.tasks) - 1)

    def update(self, task_id: TaskID, *, completed: int, **fields: Any) -> None:
        task, now = self.tasks[task_id], time.monotonic()
        task |= fields
        last = completed == task["total"]
        if completed == task["shown"] or not (last or now - self.said >= self.seconds):
            return
        self.said, task["shown"] = now, completed
        left = (now - task["since"]) / (completed - task["at"]) * (task["total"] - completed)
        words = [
            f"{task['label']}: {completed}/{task['total']} updates",
            f"loss {task['loss']}",
            task["rate"],
        ]
        if not last:
            words.append(f"about {left:.0f} s left" if left < 120 else f"about {left / 60:.0f} min left")
        self.console.print(", ".join(word for word in words if word), soft_wrap=True, highlight=False)
