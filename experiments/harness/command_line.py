"""A config from the command line, from the config.json of another run, and the command of a config."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

import tyro

from experiments.harness.options import Config
from experiments.harness.saved import restored

C = TypeVar("C")
ABOUT = "`--config FILE` begins with the options of a config.json; those of the command line stand above it."


def config_of(
    kind: type[C],
    words: Sequence[str] | None = None,
    subcommands: Mapping[str, type[Config]] | None = None,
    **options: Any,
) -> C:
    """What the command line says.

    Args:
        kind: of the config.
        words: those of the command line; by default of this process.
        subcommands: experiments by the word after which their options come; by default those of `kind`.
        options: of `tyro.cli`.
    """
    own = list(sys.argv[1:] if words is None else words)
    about = f"{(kind.__doc__ or '').strip()}\n\n{ABOUT}"
    try:
        own = expanded(own, kind, subcommands or {})
    except ValueError as error:
        sys.exit(str(error))
    return tyro.cli(kind, args=own, description=about, **options)


def expanded(words: list[str], kind: Any, subcommands: Mapping[str, type[Config]]) -> list[str]:
    """With the options of `--config FILE` in its place: before all others of the same experiment."""
    places = [i for i, word in enumerate(words) if word == "--config" or word.startswith("--config=")]
    if not places:
        return words
    at = places[0]
    joined = words[at] != "--config"
    if len(places) > 1 or (not joined and at + 1 == len(words)):
        raise ValueError("config: expected one file, a config.json that a run has left.")
    file = pathlib.Path(words[at].partition("=")[2] if joined else words[at + 1])
    rest = words[:at] + words[at + (1 if joined else 2) :]
    start = 0
    if subcommands:
        start = next((i + 1 for i, word in enumerate(rest) if word in subcommands), 0)
        if not start:
            raise ValueError(f"config: expected an experiment, one of {', '.join(subcommands)}, got none.")
        kind = subcommands[rest[start - 1]]
    return rest[:start] + arguments(from_file(kind, file), kind(), "--") + rest[start:]


def from_file(kind: type[Config], file: pathlib.Path) -> Config:
    """The config that a config.json holds.

    Raises:
        ValueError: for a file that is missing, damaged, or of another experiment.
    """
    try:
        held = json.loads(file.read_text())
        held.pop("provenance", None)
        held = held.get("experiment", held)  # of a sweep
        if unknown := sorted(_unknown(kind, held)):
            raise ValueError(f"options that {kind.__module__} does not have: {', '.join(unknown)}")
        return restored(kind, held | {"placement": {}})  # where that one ran is its own affair
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        words = f"config: expected a config.json of {kind.__module__}, got {file}"
        raise ValueError(f"{words}: {why.rstrip('.')}.") from error


def _unknown(kind: Any, held: dict[str, Any], place: str = "") -> set[str]:
    """Entries that are no fields."""
    hints = get_type_hints(kind)
    found = {place + name for name in held if name not in hints}
    for name, value in held.items():
        if isinstance(value, dict) and dataclasses.is_dataclass(hints.get(name)):
            found |= _unknown(hints[name], value, f"{name}.")
    return found


def command_line(name: str, experiment: Config) -> str:
    """What runs exactly this experiment."""
    default = type(experiment)()
    return shlex.join(["python", "-m", f"experiments.{name}", *arguments(experiment, default, "--")])


def arguments(value: Any, default: Any, flag: str) -> list[str]:
    """The command line that turns `default` into `value`, but for where it is written."""
    words = []
    for field in dataclasses.fields(value):
        new, old = getattr(value, field.name), getattr(default, field.name)
        option = flag + field.name.replace("_", "-")
        if new == old or field.name in ("out", "resume"):
            continue
        if isinstance(new, bool):
            *owner, last = option.removeprefix("--").split(".")
            words.append("--" + ".".join([*owner, last if new else f"no-{last}"]))
        elif dataclasses.is_dataclass(new):
            words += arguments(new, old, f"{option}.")
        elif isinstance(new, dict):
            words += [option, *(str(word) for pair in new.items() for word in pair)]
        elif isinstance(new, tuple):
            words += [option, *map(str, new)]
        else:
            words += [option, str(new)]
    return words
