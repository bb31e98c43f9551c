"""Configs and tasks as JSON, and back."""

from __future__ import annotations

import dataclasses
import importlib
import math
import pathlib
import sys
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np


def plain(value: Any) -> Any:
    """A config as JSON holds it. Fields with `metadata={"saved": False}` are left out."""
    if isinstance(value, Mapping):
        return {key: plain(child) for key, child in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = [field for field in dataclasses.fields(value) if field.metadata.get("saved", True)]
        return {field.name: plain(getattr(value, field.name)) for field in kept}
    if isinstance(value, (tuple, list)):
        return [plain(child) for child in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    known = isinstance(value, (str, int, float)) or value is None
    return value if known else str(value)


def restored(kind: Any, value: Any) -> Any:
    """What `plain` made `value` of, by its type; a number that was not finite is NaN."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else restored(_fitting(inside, value), value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind) if field.name in value]
        return kind(**{name: restored(hints[name], value[name]) for name in names})
    if origin is tuple:
        return tuple(restored(inside[0], child) for child in value)
    if kind is float:
        return math.nan if value is None else float(value)
    return kind(value) if isinstance(kind, type) and issubclass(kind, pathlib.PurePath) else value


def _fitting(kinds: tuple[Any, ...], value: Any) -> Any:
    """The member of a union that `plain` makes such a value of."""
    made = {list: (tuple, list), dict: (dict,), str: (str, Literal, pathlib.Path), int: (int, float)}
    wanted = made.get(type(value), (type(value),))
    for kind in kinds:
        base = get_origin(kind) or kind
        if base in wanted or (isinstance(value, dict) and dataclasses.is_dataclass(kind)):
            return kind
    return kinds[0]


def path_of(kind: type) -> str:
    """module:Class, by which `found` finds a class again; that of a script by its own name."""
    module = kind.__module__
    if module == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        module = spec.name if spec is not None else module
    return f"{module}:{kind.__qualname__}"


def found(path: str) -> type:
    """The class of a path.

    Raises:
        ValueError: where there is none, as for a class of a script that was not started with `python -m`.
    """
    module, _, name = path.partition(":")
    try:
        value: Any = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{path}: expected a class that can be imported ({error}).") from error
    return value
