"""Tasks for recurrent cells: pure samplers, their losses, and what counts as solved.

    base.py             Batch, Task
    scores.py           kinds of tasks: Classification, Recall, Prediction
    draws.py            what several tasks draw
    adding.py           Adding
    copy.py             Copy
    denoise.py          Denoise, or selective copying
    delayed_recall.py   DelayedRecall
    mqar.py             MQAR: multi-query associative recall
    regular.py          Parity, EvenPairs, ModularArithmetic
    digits.py           SequentialDigits
    mackey_glass.py     MackeyGlass
    oscillators.py      DampedOscillators

A task is a frozen dataclass. `sample` is pure and jittable and draws on the device that runs it;
everything is time-major. `TASKS` is the only registry: every task with a default length.
"""

from rnncells.tasks.adding import Adding
from rnncells.tasks.base import Batch, Task
from rnncells.tasks.copy import Copy
from rnncells.tasks.delayed_recall import DelayedRecall
from rnncells.tasks.denoise import Denoise
from rnncells.tasks.digits import SequentialDigits
from rnncells.tasks.mackey_glass import MackeyGlass
from rnncells.tasks.mqar import MQAR
from rnncells.tasks.oscillators import DampedOscillators
from rnncells.tasks.regular import EvenPairs, ModularArithmetic, Parity

TASKS: dict[str, type[Task]] = {
    "adding": Adding,
    "copy": Copy,
    "denoise": Denoise,
    "delayed-recall": DelayedRecall,
    "mqar": MQAR,
    "parity": Parity,
    "even-pairs": EvenPairs,
    "modular-arithmetic": ModularArithmetic,
    "digits": SequentialDigits,
    "mackey-glass": MackeyGlass,
    "oscillators": DampedOscillators,
}

__all__ = [
    "MQAR",
    "TASKS",
    "Adding",
    "Batch",
    "Copy",
    "DampedOscillators",
    "DelayedRecall",
    "Denoise",
    "EvenPairs",
    "MackeyGlass",
    "ModularArithmetic",
    "Parity",
    "SequentialDigits",
    "Task",
]
