"""Options that decide shapes or control flow, by name: what a sweep varies beside numbers."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from itertools import chain
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from experiments.harness.hyperparameters import words
from experiments.harness.options import Config

PARTS = {
    "optimizer": {"kind", "schedule", "warmup"},
    "training": {"batch_size", "truncate_every", "scale_loss"},
}
"""What may vary of the parts of a config."""

FIXED = {"cells", "fields", "optimizer", "training", "placement", "out", "resume"}
NUMBERS = {"chrono", "zoneout", "dropout"}
"""Options of a config that are numbers of the cell, and vary without another program."""


def settings(config: Config) -> dict[str, Any]:
    """The type of every option that may vary, by name; `cell` is one of the cells. What is no option may be a
    field that every cell has."""
    own = _kinds(config)
    known = {name: own[name] for name in own if name not in FIXED | NUMBERS and _readable(own[name])}
    for part, names in PARTS.items():
        kinds = _kinds(getattr(config, part))
        known |= {name: kinds[name] for name in sorted(names)}
    of_cells = set.intersection(*map(words, config.cells)) - own.keys()
    return {**dict.fromkeys(sorted(of_cells), int | float | bool | str), "cell": str, **known}


def _kinds(owner: Any) -> dict[str, Any]:
    hints = get_type_hints(type(owner))
    return {field.name: hints[field.name] for field in dataclasses.fields(owner)}


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _readable(kind: Any) -> bool:
    return any(one in (int, float, str, bool) or get_origin(one) is Literal for one in _members(kind))


def parsed(name: str, text: str, kind: Any) -> Any:
    """A value of an option from its text; several widths are joined by hyphens, as 50-50.

    Raises:
        ValueError: where it is none.
    """
    members = _members(kind)
    if type(None) in members and text == "none":
        return None
    for one in members:
        if get_origin(one) is tuple and "-" in text:
            return tuple(int(part) for part in text.split("-"))
        if get_origin(one) is Literal and text in get_args(one):
            return text
        if one is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if one in (int, float):
            try:
                return one(text)
            except ValueError:
                continue
    if str in members:
        return text
    raise ValueError(f"{name}: expected a value of that option, got {text!r}.")


def placed(config: Config, point: Mapping[str, Any]) -> tuple[Config, dict[str, float]]:
    """The config with the settings of a point, apart from its cell, and the numbers that are left."""
    if not point:
        return config, {}
    known = settings(config)
    chosen = {
        name: parsed(name, value, known[name]) if isinstance(value, str) else value
        for name, value in point.items()
        if name in known
    }
    own = _kinds(config)
    changes: dict[str, Any] = {name: value for name, value in chosen.items() if name in own}
    for part, names in PARTS.items():
        inside = {name: chosen[name] for name in names if name in chosen}
        if inside:
            changes[part] = dataclasses.replace(getattr(config, part), **inside)
    fields = {name: chosen[name] for name in chosen if name not in {"cell", *own, *chain(*PARTS.values())}}
    changes["fields"] = {**config.fields, **fields}
    return dataclasses.replace(config, **changes), {n: v for n, v in point.items() if n not in chosen}
