"""Ctrl-C and its like on the command line: answered at once, whatever the main thread is busy with.

The first SIGINT, SIGTERM, SIGHUP or Ctrl-Break raises KeyboardInterrupt in the main thread, or asks a training loop to
stop, and says in one line what is finished first. The second leaves at once. A Python handler runs only between two
steps of the main thread, which may be in a compiler for a minute; so the lines and the leaving are the work of a thread
of its own, which is woken by the signal itself.
"""

from __future__ import annotations

import _thread
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from vitsmith.process.child import end_children
from vitsmith.training.stop import heeded_signals, is_same, under_way

EXIT_CODE = 2
GRACE = 2.0
"""Seconds that threads have to end after all output is written."""
_AT_ONCE = 0.5
"""Seconds before the line is printed: work that ends sooner needs none."""
_END, _SETTLED, _AGAIN = 0, 254, 255  # no signals have these numbers


class Interrupts:
    """The interruptions of this process. Call `watch` first, in the main thread."""

    def __init__(self) -> None:
        self.asked = 0
        """Number of the first signal; 0 before."""
        self.raised = self._leaving = False
        """Whether the signal broke off the work, rather than asking it to end."""
        self._first = 0.0
        self._echoes = 0
        self._settled = threading.Event()
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)

    def watch(self) -> None:
        """Takes over the signals that end a process, other than those it was told to ignore."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._before = {number: signal.signal(number, self._handle) for number in heeded_signals()}
        self._wakeup_before = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._unraisable, sys.unraisablehook = sys.unraisablehook, self._on_unraisable
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.let_go)
        threading.Thread(target=self._watch, name="vitsmith-interrupts", daemon=True).start()

    def let_go(self) -> None:
        """Restores everything as it was before."""
        if not self._before:
            return
        with suppress(ValueError):  # in a thread that forked: the child has no other
            signal.set_wakeup_fd(self._wakeup_before)
            for number, handler in self._before.items():
                signal.signal(number, handler)
        self._before = {}
        sys.unraisablehook = self._unraisable

    def heard(self) -> bool:
        """Whether a signal has come by now: the thread may not have had its turn since."""
        if self._before:
            self._settled.clear()
            with suppress(OSError):
                self._waker.send(bytes([_SETTLED]))
                self._settled.wait(GRACE)
        return bool(self.asked)

    def leave(self) -> None:
        """Call it when all output is written: from then on a signal ends the process at once, without waiting."""
        self._leaving = True
        if self.asked and self._before:
            with suppress(OSError):
                self._waker.send(bytes([_END]))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not (self.raised or self._leaving):
            self.asked = self.asked or number
            self.raised = True
            raise KeyboardInterrupt

    def _on_unraisable(self, what: Any) -> None:
        """An interruption that was raised where nothing can be, in a destructor or callback, is raised again."""
        if not isinstance(what.exc_value, KeyboardInterrupt):
            self._unraisable(what)
        elif self._before:
            with suppress(OSError):  # by the thread: here it would be raised in the hook
                self._waker.send(bytes([_AGAIN]))

    def _watch(self) -> None:
        """The work of the thread: waits for signals, and between two of them for what is due by then."""
        due: Callable[[], None] | None = None
        while True:
            try:
                number = self._woken.recv(1)[0]
            except TimeoutError:
                assert due is not None
                due()
                due = None
                self._woken.settimeout(None)
                continue
            if number == _AGAIN:
                self._raise_again()
            elif number == _SETTLED:
                self._settled.set()
            elif number == _END:
                due = self._leave_quietly
                self._woken.settimeout(GRACE)
            elif self._echoes:
                self._echoes -= 1
            elif not self._first:
                if self._leaving and not self.asked:  # when it came, all had been said
                    self._leave_now()
                self.asked, self._first = self.asked or number, time.monotonic()
                if not self._leaving:
                    due = self._tell_what_is_finished
                    self._woken.settimeout(_AT_ONCE)
            elif not is_same(self._first):
                self._leave_now()

    def _raise_again(self) -> None:
        time.sleep(0.05)  # what swallowed it has ended by then
        self.raised, self._echoes = False, self._echoes + 1
        if hasattr(signal, "pthread_kill"):  # which also ends a call that waits
            signal.pthread_kill(threading.main_thread().ident or 0, self.asked)
        else:
            _thread.interrupt_main(signal.Signals(self.asked))

    def _tell_what_is_finished(self) -> None:
        _tell(f"stopping after {under_way()}; once more leaves at once")

    def _leave_quietly(self) -> None:
        """Ends the process: all output is written, and threads had their time."""
        os._exit(EXIT_CODE)

    def _leave_now(self) -> None:
        end_children()
        _tell("left at once")
        os._exit(EXIT_CODE)


def _tell(message: str) -> None:
    """One line on standard error, whoever holds its locks; a progress bar's line is cleared, its cursor shown again."""
    if os.environ.get("RANK", "0") != "0":  # only the first of many processes prints
        return
    with suppress(OSError):
        clear = "\r\x1b[2K\x1b[?25h" if os.isatty(2) and os.environ.get("TERM") != "dumb" else ""
        os.write(2, f"{clear}vitsmith: {message}\n".encode())
