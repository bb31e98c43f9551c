"""One owner of a folder at a time."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import socket
import time
from typing import TextIO

FILE = "owner.json"


class OwnedError(Exception):
    """Who else has a folder, in one sentence."""


class Owner:
    """This process as the owner of a folder, which is made if it is missing, until `release`.

    The system takes the lock back when a process ends, however it ends: a file that a dead process has left
    keeps nobody out.

    Raises:
        OwnedError: another process has it.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.made, self.locked = folder, not folder.exists(), True
        self._file = self._locked()
        self._file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        json.dump({"process": os.getpid(), "host": socket.gethostname(), "since": since}, self._file)
        self._file.flush()

    def _locked(self) -> TextIO:
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / FILE
            file = path.open("a+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                who = _named(file.read())
                file.close()
                raise OwnedError(
                    f"out: expected a folder of this process alone, but {self.folder} is in use by {who};"
                    " wait for its end, or choose another folder."
                ) from error
            except OSError:  # a file system without locks
                self.locked = False
            if _same(path, file):
                return file
            file.close()  # moved aside or given back in the meantime: once more

    def moved(self, folder: pathlib.Path) -> None:
        """The folder has another name now."""
        self.folder, self.made = folder, False

    def release(self) -> None:
        """Gives the folder back; one that was made for nothing goes."""
        (self.folder / FILE).unlink(missing_ok=True)
        self._file.close()
        if self.made and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _same(path: pathlib.Path, file: TextIO) -> bool:
    """Whether the file that is locked is the one that lies there."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _named(text: str) -> str:
    try:
        owner = json.loads(text)
        return f"process {owner['process']} on {owner['host']}, since {owner['since']}"
    except (ValueError, KeyError, TypeError):  # it is just writing its name
        return "another process"
