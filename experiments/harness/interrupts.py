"""Ctrl-C and SIGTERM, heard while a compiled block keeps the main thread for long."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from rich.console import Console

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 0.5
"""Seconds that the main thread has to end by itself after a second signal."""


class Interrupts:
    """While this is entered: the first signal is a wish to stop soon, the second one ends at once.

    Python hears a signal between two steps of its own, so never within a compiled block; a thread beside it
    does.

    Args:
        console: where the first signal is answered.
        last_words: said when the second signal ends the process; None leaves that to a KeyboardInterrupt,
            because the process is not ours.
    """

    def __init__(self, console: Console, last_words: str | None = None) -> None:
        self.console, self.last_words, self.stop = console, last_words, False
        self._told, self._over = threading.Lock(), threading.Event()
        self._handled = False

    def __enter__(self) -> Interrupts:
        self._handlers = {}
        if threading.current_thread() is not threading.main_thread():  # only there may signals be handled
            return self
        self._heard, self._written = os.pipe()
        os.set_blocking(self._written, False)
        self._before = signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._handlers:
            return
        self._over.set()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._before)
        os.write(self._written, b"\0")
        self._thread.join()
        os.close(self._heard)
        os.close(self._written)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._handled:
            raise KeyboardInterrupt
        self._handled = True
        self._first()

    def _first(self) -> None:
        """Whoever hears it first, says so."""
        self.stop = True
        if self._told.acquire(blocking=False):
            self.console.print("Stopping after this block of updates ... (once more: at once)")

    def _listen(self) -> None:
        count = 0
        while (byte := os.read(self._heard, 1)) != b"\0":
            count += byte[0] in SIGNALS
            if count == 1:
                self._first()
            if count > 1 and self.last_words is not None and not self._over.wait(GRACE):
                self.console.show_cursor()
                self.console.print(self.last_words, soft_wrap=True, highlight=False)
                os._exit(130)
