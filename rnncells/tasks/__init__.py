"""Long-dependency tasks: pure samplers, their losses, and what counts as solved.

    base.py     Batch, Task
    adding.py   Adding
    copy.py     Copy

A task is a frozen dataclass. `sample` is pure and jittable and draws on the device that runs it;
everything is time-major. `TASKS` is the only registry: every task with a default length.
"""

from rnncells.tasks.adding import Adding
from rnncells.tasks.base import Batch, Task
from rnncells.tasks.copy import Copy

TASKS: dict[str, type[Task]] = {"adding": Adding, "copy": Copy}

__all__ = ["TASKS", "Adding", "Batch", "Copy", "Task"]
