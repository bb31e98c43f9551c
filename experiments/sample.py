"""More text from a language model."""

from __future__ import annotations

import dataclasses
import pathlib
import sys

import tyro

from experiments.harness import trained
from experiments.language_model import Config as LanguageModel
from experiments.parts import text


@dataclasses.dataclass(frozen=True)
class Config:
    """Draws what follows a prompt, symbol by symbol, from the best weights of a run of
    `experiments.language_model`."""

    run: tyro.conf.Positional[pathlib.Path]
    """The folder that a run has left."""
    prompt: str = "The "
    """How the text begins."""
    temperature: float = 0.7
    """1 draws as the model believes, less more boldly, 0 takes the most probable symbol each time."""
    length: int = 100
    """How many symbols follow."""
    seed: int = 0
    """Another one gives another text."""
    cell: str | None = None
    """Which of its cells; by default the one of the best run."""
    number: int | None = None
    """Which run of it; by default the best one by validation."""


def main(config: Config) -> None:
    try:
        model = trained.load(config.run, config.cell, config.number)
        if not isinstance(model.config, LanguageModel):
            kind = type(model.config).__module__
            raise ValueError(
                f"{config.run}: expected a run of experiments.language_model, got one of {kind}."
            )
        level, draw = model.config.level, (config.length, config.temperature, config.seed)
        print(text.told(model, config.prompt, level, *draw))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(tyro.cli(Config))
