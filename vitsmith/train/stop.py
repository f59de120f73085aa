"""Ctrl-C and SIGTERM in a run: the update that is under way is finished and saved, then the run ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StopRequest:
    """Whether somebody asked the run to end."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self) -> None:
        """End after this update."""
        self.asked = True


@contextmanager
def stopping_gently() -> Iterator[StopRequest]:
    """While this lasts, the first SIGINT or SIGTERM is remembered; the second raises KeyboardInterrupt at once.

    Signals can be handled in the main thread only; elsewhere nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request.asked:
            raise KeyboardInterrupt
        request.ask()

    before: dict[int, Any] = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
