"""Sweeps: many settings of one experiment, trained side by side by one compiled program."""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
import pkgutil
from typing import TYPE_CHECKING, Annotated, Union

import tyro

from experiments.harness import command_line, options, processes, ranking, run
from experiments.harness.search import Sweep, at_once, points
from experiments.harness.study import adaptively


def experiments() -> dict[str, type[options.Config]]:
    """The scripts beside this one that train, by name: each has a `Config`."""
    scripts = {script.name for script in pkgutil.iter_modules([str(pathlib.Path(__file__).parent)])}
    modules = {name: importlib.import_module(f"experiments.{name}") for name in sorted(scripts - {"sweep"})}
    configs: dict[str, type] = {name: getattr(module, "Config", object) for name, module in modules.items()}
    return {name: config for name, config in configs.items() if issubclass(config, options.Config)}


if TYPE_CHECKING:
    Experiment = options.Config
else:
    Experiment = Union[  # noqa: UP007
        tuple(Annotated[config, tyro.conf.subcommand(name)] for name, config in experiments().items())
    ]


@dataclasses.dataclass(frozen=True)
class Config(Sweep):
    """Trains an experiment with many settings, each with several seeds, and says which is best.

    What varies is given as `name=values`, with any number of the optimiser, the cell, its wrappers and
    initialisers, and the short names chrono, zoneout, dropout and init_scale; or with any option, or field of
    the cell, that is an int or a word, each of whose values is a program of its own:

        learning_rate=1e-3,3e-3,1e-2        these values
        learning_rate=1e-4:1e-1:log:7       seven values of a range, log or linear (grid)
        forget_bias=0:5                     anywhere in a range, log or linear (random, tpe)
        cell=LSTM,GRU features=32,64-64     these cells, these widths of one layer or of two
        order=16,32 activation=tanh,relu    these fields of the cell (LMU)

    Every cell of the experiment must have what varies.
    """

    experiment: Experiment
    """The experiment and its other settings."""


def main(sweep: Config) -> None:
    processes.use_every_core()
    name = type(sweep.experiment).__module__.removeprefix("experiments.")
    with run.session(f"sweep of {name}", sweep.base(), sweep, points(sweep)) as here:
        if sweep.search == "tpe":
            ranking.report(name, sweep, here, adaptively(sweep, here))
        else:
            at_once(sweep, here)
            if here.active:
                ranking.report(name, sweep, here)


if __name__ == "__main__":
    options_of = (tyro.conf.OmitSubcommandPrefixes,)
    main(command_line.config_of(Config, subcommands=experiments(), config=options_of))
