"""How runs stand to each other: by validation, lower or higher as the task says, those that diverged last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from experiments.harness.record import Line, number
from rnncells.tasks import Task
from rnncells.tasks.base import higher_is_better, is_fraction


def deciding(lines: Sequence[Line]) -> str:
    """Which part's scores decide: validation; the test, where nothing was validated."""
    return "validation" if any(line.get("validation") for line in lines) else "test"


def score_of(task: Task, line: Line, part: str) -> float:
    """The score of the best weights of a run on a part; NaN where it diverged or was not judged."""
    if line.get("diverged") is not None:
        return math.nan
    return number(line.get(part, {}).get(task.score))


def standing(task: Task, value: float) -> float:
    """A score as a number of which a lower one is better; infinite for none."""
    if not math.isfinite(value):
        return math.inf
    return -value if higher_is_better(task) else value


def shown(task: Task, metric: str, value: Any) -> str:
    """A metric in words: a fraction in percent, others with four digits."""
    value = number(value)
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.1%}" if is_fraction(task, metric) else f"{value:.4g}"
