"""The folder of an experiment: a new one, or the one to go on in."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jax
from rich.console import Console

from experiments.harness import processes, weights
from experiments.harness.options import Config, ConfigError, plain
from experiments.harness.owner import OwnedError, Owner
from experiments.harness.provenance import changes, provenance
from experiments.harness.record import finished, lines_of, write_whole

PROVENANCE = "provenance"
"""The entry of config.json that says with what runs were made, one for every change of it."""
FREE = {"resume", "out", "placement", "checkpoint_every", "keep", "memory", "updates", PROVENANCE}
"""What a resumed experiment may change. The number of updates may only grow, at a constant learning rate."""


class Folder:
    """Belongs to this process while it is entered. What is there already stays as it is until `begin`.

    Args:
        config: of the experiment.
        console: where is said what happens to the folder.
        whole: what config.json shall hold, where the experiment is a part of it.

    Raises:
        ConfigError: another process owns it, other processes of the same job see something else, or it is to
            be gone on with and has another config.
    """

    def __init__(self, config: Config, console: Console, whole: Any = None) -> None:
        self.config, self.console, self.begun = config, console, False
        self.path = config.out / "config.json"
        self.now = json.loads(json.dumps(plain(config if whole is None else whole)))
        self.made_with = provenance(config.task())
        self.history: list[dict[str, Any]] = []
        self.owner: Owner | None = None

    def __enter__(self) -> Folder:
        before = [text_of(file) for file in (self.path, self.config.out / "metrics.jsonl")]
        same = json.dumps([common(self.now), before, self.made_with["data"]])
        if others := processes.different(same):
            raise ConfigError(
                f"Process {others[0]} was started with other options than process 0, or sees other data, or"
                f" other files in {self.config.out}; all processes need the same."
            )
        self._claim()
        try:
            if self.config.resume:
                self._compare(*before)
        except Exception:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.owner is not None:
            self.owner.release()

    def _claim(self) -> None:
        """The first process of a job owns the folder for all."""
        refused = ""
        if jax.process_index() == 0:
            try:
                self.owner = Owner(self.config.out)
                if not self.owner.locked:
                    words = f"{self.config.out} cannot be locked: let no other process write there."
                    self.console.print(words, soft_wrap=True)
            except OwnedError as error:
                refused = str(error)
        if processes.any_process(bool(refused)):
            raise ConfigError(refused or f"Process 0 may not use {self.config.out}.")

    def _compare(self, text: str | None, metrics: str | None) -> None:
        """With the config that the folder has been made with, if there is one."""
        if text is None:
            if metrics is not None:
                raise ConfigError(f"resume: expected {self.path} beside metrics.jsonl, found none.")
            return
        try:
            before = json.loads(text)
            self.history = before.pop(PROVENANCE, [])
            refused, said = changes(self.history[-1], self.made_with) if self.history else ([], [])
            refused = grown(before, self.now, self.config.out) + differences(before, self.now) + refused
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise ConfigError(f"resume: {self.path} is damaged ({error}).") from error
        if refused:
            raise ConfigError(f"resume: expected the config of {self.path}, but {'; '.join(refused)}.")
        if said:
            words = f"Going on with other software or devices than before: {'; '.join(said)}."
            self.console.print(words, soft_wrap=True, highlight=False)

    def begin(self) -> None:
        """Makes the folder, or goes on in it. What another experiment has left is moved aside."""
        if self.begun or jax.process_index() > 0:
            return
        self.begun = True
        out = self.config.out
        if not self.config.resume and (out / "metrics.jsonl").exists():
            self._move_aside()
        write_whole(self.path, json.dumps({**self.now, PROVENANCE: self._made_with()}, indent=2) + "\n")
        weights.describe(out, self.config, self.config.task())

    def _made_with(self) -> list[dict[str, Any]]:
        known = bool(self.history) and self.history[-1] == self.made_with
        return self.history if known else [*self.history, self.made_with]

    def _move_aside(self) -> None:
        out, count = self.config.out, 1
        while (aside := out.with_name(f"{out.name}-{count}")).exists():
            count += 1
        out.rename(aside)
        old = self.owner
        if old is not None:
            old.moved(aside)
            try:
                self.owner = Owner(out)
            except OwnedError as error:  # somebody was faster
                raise ConfigError(str(error)) from error
            finally:
                old.release()
        words = f"{out} was there; it is {aside} now. (--resume would have gone on in it.)"
        self.console.print(words, soft_wrap=True)


def text_of(file: pathlib.Path) -> str | None:
    return file.read_text(errors="replace") if file.exists() else None


def common(config: Any) -> Any:
    """What must be the same in every process."""
    if not isinstance(config, dict):
        return config
    return {name: common(value) for name, value in config.items() if name not in ("process", "devices")}


def grown(before: dict[str, Any], now: dict[str, Any], out: pathlib.Path) -> list[str]:
    """More cells, and more seeds of runs that have come to their end, may be added to an experiment: they
    are written into `before`. Returns why not, as words."""
    if "cells" not in before:  # of a sweep, whose runs are numbered otherwise
        return []
    old, new = before["training"]["seeds"], now["training"]["seeds"]
    lines, _ = lines_of(out / "metrics.jsonl")
    last = finished([line for line in lines if line["cell"] in before["cells"]])
    if new > old:
        if len(last) < old * len(before["cells"]):
            return [f"seeds was {old} and is {new}, and may grow only when all runs have come to their end"]
        if before["training"]["updates"] != now["training"]["updates"]:
            return [f"seeds was {old} and is {new}, and may not grow together with updates"]
        before["training"]["seeds"] = new
    if set(before["cells"]) <= set(now["cells"]):
        before["cells"] = now["cells"]
    return []


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
