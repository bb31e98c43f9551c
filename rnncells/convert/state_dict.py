"""Where the arrays of a PyTorch module come from: a state dict, or a safetensors file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rnncells import checks
from rnncells.convert.arrays import listed


def read(source: Any, prefix: str = "") -> dict[str, Any]:
    """A module's entries by their names within it. Of a file, nothing else is read."""
    if isinstance(source, (str, os.PathLike)):
        if not os.fspath(source).endswith(".safetensors"):
            raise ValueError(
                f"state_dict: expected a .safetensors file, got {source}; a PyTorch checkpoint is a"
                " pickle: load it with torch.load and give the state dict."
            )
        try:
            from safetensors import safe_open
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "safetensors is not installed: `pip install safetensors` to read such files."
            ) from error
        with safe_open(source, framework="np") as file:
            known = list(file.keys())
            entries = {name: file.get_tensor(name) for name in known if name.startswith(prefix)}
    elif isinstance(source, Mapping):
        known = list(source)
        entries = {name: leaf for name, leaf in source.items() if name.startswith(prefix)}
    else:
        raise TypeError(
            "state_dict: expected a mapping of names to arrays, such as module.state_dict(), or the path"
            f" of a safetensors file, got {checks.describe(source)}."
        )
    if not entries:
        raise ValueError(
            f"prefix: expected the start of a name, got {prefix!r}; the names are {listed(known)}."
        )
    return {name.removeprefix(prefix): leaf for name, leaf in entries.items()}
