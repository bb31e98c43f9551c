"""Series of numbers from a CSV file, such as prices: what comes next?"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any, Literal

import flax.linen as nn
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console

from experiments.harness import command_line, given, options, processes, run, tables, trained
from experiments.harness.data import Parts, check_fractions
from experiments.harness.encoding import Scaler
from experiments.harness.model import ModelFactory
from experiments.harness.supervised import Regression
from experiments.parts import series
from experiments.parts.series import Series, Windows
from rnncells.tasks import Task
from rnncells.tasks.base import extras

STOCKS = pathlib.Path(matplotlib.get_data_path(), "sample_data", "Stocks.csv")
STACKS: dict[str, tuple[str, tuple[int, ...]]] = {
    "LSTM-50-50": ("LSTM", (50, 50)),
    "GRU-128-64": ("GRU", (128, 64)),
}


@dataclasses.dataclass(frozen=True)
class Config(options.Config):
    """Trains cells to say the next values of series, and compares them with the last value and a moving
    average.

    The data are monthly prices among the samples of matplotlib, or a CSV file with a series in each column.
    The last rows are the test, the rows before them the validation. Results go to the folder `out`:
    forecast.png, forecast.md, and what every experiment leaves.
    """

    features: int | tuple[int, ...] = 32
    """Width of the state; several numbers are the widths of several layers."""
    stack: Literal["LSTM-50-50", "GRU-128-64"] | None = None
    """A published model in place of cells and features: LSTM(50)-LSTM(50)-Dense or GRU(128)-GRU(64)-Dense."""
    pooling: options.Pooling = "last"
    """What is read out: the last state, the mean of the states, or their mean weighted by attention."""
    csv: pathlib.Path | None = None
    """A file whose first line names its columns; by default the monthly prices."""
    column: tuple[str, ...] = ()
    """What the model reads: names of columns; of the monthly prices by default IBM."""
    target: tuple[str, ...] = ()
    """What it says; by default the same."""
    date: str | None = None
    """The column by which rows are sorted; by default the one named Date, if there is one."""
    date_format: str | None = None
    """Of dates that are not as 2024-12-31, such as %d.%m.%Y."""
    window: int = 24
    """How many values the model reads."""
    horizon: int = 1
    """How many values after these it says."""
    predict: Literal["change", "level"] = "change"
    """It reads changes, and says how far from the last value the next ones are; or it reads and says the
    values themselves, which goes wrong where they leave the range of the training part."""
    average: int = 3
    """Values of the moving average that it is compared with."""
    validation: float = 0.15
    """Which fraction of the rows decides about weights: those before the test."""
    test: float = 0.15
    """Which fraction of the rows is the test: the last ones."""
    training: options.Training = dataclasses.field(
        default_factory=lambda: options.Training(updates=500, batch_size=32, report_every=25, seeds=3)
    )
    out: pathlib.Path = pathlib.Path("runs/forecast")
    """Where everything is written."""

    def __post_init__(self) -> None:
        if self.stack is not None:
            self._place(*STACKS[self.stack])
        super().__post_init__()
        for name, least in (("window", 2 if self.predict == "change" else 1), ("horizon", 1), ("average", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}.")
        if self.average > self.window:
            raise ValueError(f"average: expected at most the window, {self.window}, got {self.average}.")
        check_fractions(self.validation, self.test)
        others = [name for name in self.targets if name not in self.inputs]
        if self.predict == "change" and others:
            raise ValueError(
                "target: expected names among column, because changes are from the last value that was read,"
                f" got {', '.join(others)}; predict=level takes any."
            )

    def _place(self, cell: str, widths: tuple[int, ...]) -> None:
        """Puts a published model in the place of cells and features, which must not say another."""
        for name, value in (("cells", (cell,)), ("features", widths)):
            said = getattr(self, name)
            if said not in (Config.__dataclass_fields__[name].default, value):
                raise ValueError(f"{name}: expected none beside stack={self.stack}, got {said}.")
            object.__setattr__(self, name, value)

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.column or (("IBM",) if self.csv is None else ())

    @property
    def targets(self) -> tuple[str, ...]:
        return self.target or self.inputs

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.inputs + self.targets))

    @property
    def places(self) -> list[int]:
        """Which of the names are targets."""
        return [self.names.index(name) for name in self.targets]

    def series(self) -> Series:
        return series.read(self.csv or STOCKS, self.names, self.date, self.date_format)

    def windows(self, values: np.ndarray) -> tuple[Windows, Windows, Windows]:
        return series.divided(values, self.window, self.horizon, self.validation, self.test)

    def wanted(self, after: np.ndarray) -> np.ndarray:
        """Of values [N, horizon, C] those that the model says."""
        return after[..., self.places]

    def task(self) -> Regression:
        values = self.series().values
        known = values[: series.cuts(len(values), self.validation, self.test)[0]]
        scaler = Scaler.fitted(known)
        deviation = np.array(scaler.deviation)
        parts = Parts(
            *(
                given.arrays(
                    part.inputs[..., : len(self.inputs)],
                    self.wanted(part.after).reshape(len(part.after), -1),
                )
                for part in self.windows(scaler.apply(values))
            )
        )
        *_, test = self.windows(values)
        errors = self.wanted(series.last_value(test) - test.after)
        several = len(self.targets) > 1
        if several:  # whose units may differ
            errors = errors / self.wanted(deviation)
        squares = float(np.square(errors).mean())
        return Regression.of(
            parts,
            score="loss" if several else "rmse",
            scale=tuple(np.tile(self.wanted(deviation), self.horizon).tolist()),
            baseline=squares if several else squares**0.5,
            naive="last value",
            extras={
                "scaler": scaler.plain(),
                "changes": np.diff(scaler.apply(known), axis=0).std(0).clip(1e-6).tolist(),
            },
        )

    def model(self, task: Task) -> ModelFactory:
        make = super().model(task)
        if self.predict == "level":
            return make
        scale, places = tuple(extras(task)["changes"]), tuple(self.places)

        def changes(cell: Any, output_size: int, remat_every: int | None = None) -> nn.Module:
            return series.Changes(make(cell, output_size, remat_every=remat_every), scale, places)

        return changes

    def read(self, file: pathlib.Path, task: Task) -> tuple[np.ndarray, None]:
        values = series.read(file, self.inputs, self.date, self.date_format).values
        if len(values) < self.window:
            raise ValueError(f"{file}: expected at least {self.window} rows, got {len(values)}.")
        scaler = Scaler.restored(extras(task)["scaler"]).columns(range(len(self.inputs)))
        return scaler.apply(values[-self.window :])[None], None

    def said(self, outputs: np.ndarray, task: Task) -> list[dict[str, Any]]:
        (steps,) = self.values(outputs, task)
        return [
            {"step": step} | dict(zip(self.targets, map(float, row), strict=True))
            for step, row in enumerate(steps, 1)
        ]

    def values(self, outputs: np.ndarray, task: Task) -> np.ndarray:
        """Outputs of the model in the unit of the file: [N, horizon, targets]."""
        scaler = Scaler.restored(extras(task)["scaler"]).columns(self.places)
        return scaler.invert(outputs.reshape(-1, self.horizon, len(self.targets)))


def main(config: Config) -> None:
    processes.use_every_core()
    if not run.main("forecast", config):
        return
    console, task, best = Console(), config.task(), trained.load(config.out)
    test = config.windows(config.series().values)[2]
    said = {
        "last value": config.wanted(series.last_value(test)),
        f"mean of last {config.average}": config.wanted(series.moving_average(test, config.average)),
    }
    for cell in config.cells:
        model = trained.load(config.out, cell)
        said[cell] = config.values(trained.predict(model, task.data.test), task)
    truth = config.wanted(test.after)
    rows = [
        {"target": name, "forecast": method, "RMSE": f"{rmse:.4g}", "MAE": f"{mae:.4g}"}
        for place, name in enumerate(config.targets)
        for method, forecast in said.items()
        for rmse, mae in [errors(forecast[..., place], truth[..., place])]
    ]
    tables.show(console, "Test part in units of the file; of each cell the best run by validation", rows)
    (config.out / "forecast.md").write_text(tables.markdown(rows))
    verdicts = [
        verdict(name, best.cell, {method: each[..., i] for method, each in said.items()}, truth[..., i])
        for i, name in enumerate(config.targets)
    ]
    console.print("\n".join(verdicts), soft_wrap=True, highlight=False)
    draw(config, best.cell, said, test, verdicts)
    words = (
        f"Drawn in {config.out}/forecast.png. More: python -m experiments.predict {config.out} --input FILE"
    )
    console.print(words, soft_wrap=True, highlight=False)


def errors(forecast: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """RMSE and MAE."""
    return float(np.sqrt(np.square(forecast - truth).mean())), float(np.abs(forecast - truth).mean())


def verdict(name: str, cell: str, said: dict[str, np.ndarray], truth: np.ndarray) -> str:
    """Whether a model is better than the last value, in a sentence with the figures. What lies within two
    standard errors of the difference of their squared errors may be chance."""
    (ours, mae), (last, last_mae) = errors(said[cell], truth), errors(said["last value"], truth)
    gains = np.square(said["last value"] - truth).mean(1) - np.square(said[cell] - truth).mean(1)
    apart = truth.shape[1]  # windows nearer than this share what follows them
    error = gains.std() / np.sqrt(max(len(gains) / apart, 1)) or np.inf
    sizes = gains.mean() / error
    words = "beats" if sizes > 2 else "does not beat"
    chance = ", a difference that may be chance" if abs(sizes) <= 2 else ""
    return (
        f"{name}: the {cell} {words} the last value: RMSE {ours:.4g} against {last:.4g}{chance}"
        f" (MAE {mae:.4g} against {last_mae:.4g})."
    )


def draw(config: Config, cell: str, said: dict[str, np.ndarray], test: Windows, verdicts: list[str]) -> None:
    """For each target: forecasts over the truth, and their errors, by step where there are several."""
    data, truth, horizon = config.series(), config.wanted(test.after), config.horizon
    number = len(config.targets)
    figure, panels = plt.subplots(
        number, 2, figsize=(12, 1 + 3.6 * number), width_ratios=(3, 1), layout="constrained", squeeze=False
    )
    colors = ["#AA3377", "0.6", *(f"C{i}" for i in range(len(config.cells)))]
    styles = {
        method: {"color": color, "ls": "-" if method in config.cells else "--"}
        for method, color in zip(said, colors, strict=True)
    }
    first = test.ends[0] + 1
    begin = max(first - len(test.ends) // 2, 0)
    for place, (name, (left, right)) in enumerate(zip(config.targets, panels, strict=True)):
        values = config.wanted(data.values)[:, place]
        left.plot(data.dates[begin:], values[begin:], color="0.3", lw=2, label="truth")
        left.axvspan(data.dates[first], data.dates[-1], color="0.94", lw=0, label="test part")
        for method in ("last value", cell):
            forecast, style = said[method][..., place], styles[method]
            if horizon == 1:
                left.plot(data.dates[test.ends + 1], forecast[:, 0], label=method, **style)
                continue
            for i in range(0, len(forecast), horizon):
                end = test.ends[i]
                rows = np.arange(end, end + horizon + 1)
                label = None if i else f"{method}, every {horizon} rows"
                left.plot(data.dates[rows], [values[end], *forecast[i]], label=label, **style)
        left.set_title(verdicts[place], fontsize=10, loc="left")
        left.set(ylabel=name)
        left.legend(frameon=False, fontsize=8, loc="upper left")
        by_step = {
            method: np.sqrt(np.square(each - truth)[..., place].mean(0)) for method, each in said.items()
        }
        if horizon == 1:
            heights = [float(steps[0]) for steps in by_step.values()]
            bars = right.barh(list(by_step), heights, color=[style["color"] for style in styles.values()])
            right.bar_label(bars, fmt="%.4g", padding=3, fontsize=8)
            right.set(xlabel=f"RMSE of the test part, {name}", xlim=(0, 1.2 * max(heights)))
            right.invert_yaxis()
        else:
            for method, steps in by_step.items():
                right.plot(range(1, horizon + 1), steps, label=method, **styles[method])
            right.set(xlabel="step", ylabel=f"RMSE of the test part, {name}", ylim=(0, None))
            right.legend(frameon=False, fontsize=8)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(config.out / "forecast.png", dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main(command_line.config_of(Config))
