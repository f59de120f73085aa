"""Ctrl-C and SIGTERM in a run: the update that is under way is finished and saved, then the run ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
"""Signals that ask a process to end: Ctrl-C, `kill`, a terminal that is closed, Ctrl-Break on Windows."""

_SAME = 0.3
"""Seconds in which signals count as one: a terminal signals all of its processes, and a launcher passes it on."""
_SAME_OF_TORCHRUN = 5.0  # it gets the signal itself, and then ends its workers one by one

EVALUATION = "the evaluation under way, and saving the updates before it"

_under_way: list[str] = []


class Stopped(Exception):  # noqa: N818
    """The run was asked to end before its last update. Its updates are saved."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after {step} updates")
        self.step = step


class StopRequest:
    """Whether somebody asked the run to end."""

    def __init__(self) -> None:
        self.asked = False
        self.first = 0.0
        """The time of the first request, by `time.monotonic`."""

    def ask(self) -> None:
        """Asks the run to end after this update."""
        if not self.asked:
            self.asked, self.first = True, time.monotonic()


def heeded_signals() -> list[int]:
    """The signals of `ENDING` that this process obeys.

    It does not obey those that were set to be ignored when it was started: `nohup` does that with SIGHUP, and a script
    with SIGINT for what it starts by `command &`.
    """
    return [number for number in ENDING if signal.getsignal(number) not in (signal.SIG_IGN, None)]


def is_same(first: float) -> bool:
    """Whether a signal that comes now is still the one that came at `first`, passed on by a launcher."""
    return time.monotonic() - first < (_SAME_OF_TORCHRUN if "TORCHELASTIC_RUN_ID" in os.environ else _SAME)


@contextmanager
def stopping_gently() -> Iterator[StopRequest]:
    """Within the context, the first of the ending signals is remembered; the second raises KeyboardInterrupt at once.

    Signals can be handled in the main thread only; elsewhere nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request.asked and not is_same(request.first):
            raise KeyboardInterrupt
        request.ask()

    before: dict[int, Any] = {number: signal.signal(number, handle) for number in heeded_signals()}
    try:
        with finishing("the update under way, and saving it"):
            yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def finishing(what: str) -> Iterator[None]:
    """Within the context, an interruption waits for the end of `what`, and the user is told so."""
    _under_way.append(what)
    try:
        yield
    finally:
        _under_way.remove(what)


def under_way() -> str:
    """What an interruption would finish now, for messages."""
    return _under_way[-1] if _under_way else "the step under way"
