"""What varies in a sweep: axes, and points on them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
import optuna

from experiments.harness.hyperparameters import numeric
from experiments.harness.options import Config
from experiments.harness.settings import parsed, placed

Point = dict[str, Any]
"""What is set in a run by name: numbers, and settings that decide shapes."""


class Axis(NamedTuple):
    """One number or setting that varies: over values, or in a range."""

    name: str
    values: tuple[Any, ...] = ()
    low: float = math.nan
    high: float = math.nan
    log: bool = False

    @staticmethod
    def parse(text: str, search: str, known: dict[str, Any] | None = None) -> Axis:
        """Reads `name=1,2,3`, `name=low:high[:log|linear][:count]`; of settings, which are `known` with their
        types, `name=value,value`."""
        name, _, rest = text.partition("=")
        if known and name in known:
            return Axis.of_setting(text, known[name])
        parts = rest.split(":")
        try:
            if len(parts) == 1:
                axis = Axis(name, tuple(float(value) for value in rest.split(",")))
            else:
                log = "log" in parts[2:]
                count = [int(part) for part in parts[2:] if part not in ("log", "linear")]
                axis = Axis(name, (), float(parts[0]), float(parts[1]), log)
                if not axis.low < axis.high or (log and axis.low <= 0) or len(count) != (search == "grid"):
                    raise ValueError
                if count:
                    spaced = np.geomspace if log else np.linspace
                    axis = Axis(name, tuple(float(value) for value in spaced(axis.low, axis.high, count[0])))
            if not name or not all(map(math.isfinite, axis.values)):
                raise ValueError
        except ValueError:
            form = "low:high:log:count" if search == "grid" else "low:high:log"
            raise ValueError(
                f"vary: expected name=value,value,... or name={form} (or linear) with low < high for"
                f" search={search}, got {text!r}."
            ) from None
        if len(set(axis.values)) < len(axis.values):
            raise ValueError(f"vary: expected different values, got {text!r}.")
        return axis

    @staticmethod
    def of_setting(text: str, kind: Any) -> Axis:
        """Numbers stay numbers; where one value is none, all are words."""
        name, _, rest = text.partition("=")
        words = rest.split(",")
        try:
            values = [parsed(name, word, kind) for word in words]
        except ValueError as error:
            raise ValueError(f"vary: {error}") from None
        if len(set(words)) < len(words):
            raise ValueError(f"vary: expected different values, got {text!r}.")
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        return Axis(name, tuple(values if numbers else words))

    def draw(self, rng: np.random.Generator) -> Any:
        if self.values:
            return self.values[rng.integers(len(self.values))]
        if self.log:
            return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        return float(rng.uniform(self.low, self.high))

    def suggest(self, trial: optuna.Trial) -> Any:
        if self.values:
            return trial.suggest_categorical(self.name, self.values)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)


def settled(experiment: Config, point: Point, cell: str | None = None) -> Config:
    """The experiment with the settings and numbers of a point written into it, so that it runs by itself."""
    experiment, numbers = placed(experiment, point)
    own: Any = {name: value for name, value in numbers.items() if name in ("chrono", "zoneout", "dropout")}
    optimizer: Any = {name: value for name, value in numbers.items() if name in numeric(experiment.optimizer)}
    rest = {name: value for name, value in numbers.items() if name not in {**own, **optimizer}}
    return dataclasses.replace(
        experiment,
        **own,
        optimizer=dataclasses.replace(experiment.optimizer, **optimizer),  # type: ignore[type-var]
        fields={**experiment.fields, **rest},
        cells=experiment.cells if cell is None else (cell,),
    )
