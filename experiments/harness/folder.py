"""The folder of an experiment: a new one, or the one to go on in."""

from __future__ import annotations

import json
from typing import Any

import jax
from rich.console import Console

from experiments.harness import processes, weights
from experiments.harness.options import Config, ConfigError, plain
from experiments.harness.record import write_whole

FREE = {"resume", "out", "placement", "checkpoint_every", "keep", "memory", "updates"}
"""What a resumed experiment may change. The number of updates may only grow, at a constant learning rate."""


def prepare(config: Config, console: Console, whole: Any) -> None:
    """The folder: a new one, or the one to go on in. What another experiment left is moved aside."""
    path = config.out / "config.json"
    now = json.loads(json.dumps(plain(whole)))
    before = [file.read_text() if file.exists() else None for file in (path, config.out / "metrics.jsonl")]
    if others := processes.different(json.dumps([common(now), before])):
        raise ConfigError(
            f"Process {others[0]} was started with other options than process 0, or sees other files in"
            f" {config.out}; all processes need the same."
        )
    if config.resume and before[0] is not None:
        changed = differences(json.loads(before[0]), now)
        if changed:
            raise ConfigError(f"resume: expected the config of {path}, but {'; '.join(changed)}.")
    if jax.process_index() > 0:
        return
    if not config.resume and (config.out / "metrics.jsonl").exists():
        count = 1
        while (aside := config.out.with_name(f"{config.out.name}-{count}")).exists():
            count += 1
        config.out.rename(aside)
        console.print(f"{config.out} was there; it is {aside} now. (--resume would have gone on in it.)")
    config.out.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(now, indent=2) + "\n")
    weights.describe(config.out, config, config.task())


def common(config: Any) -> Any:
    """What must be the same in every process."""
    if not isinstance(config, dict):
        return config
    return {name: common(value) for name, value in config.items() if name not in ("process", "devices")}


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two configs and must not, as words."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in {**before, **now} if key not in FREE]
        found = [differences(before.get(key), now.get(key), f"{name}.{key}".strip(".")) for key in keys]
        if (then := before.get("updates")) is not None and then != now["updates"]:
            fixed = then > now["updates"]
            found.append([f"updates was {then} and is {now['updates']}, and may only grow"] if fixed else [])
        if "training" in now and before["optimizer"]["schedule"] != "constant":
            then, new = before["training"]["updates"], now["training"]["updates"]
            words = f"updates was {then} and is {new}, and the learning rate depends on it"
            found.append([words] if then < new else [])
        return [words for each in found for words in each]
    return [] if before == now else [f"{name} was {before} and is {now}"]
