"""OpenVINO, and the one Core that a process has of it."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from vitsmith.errors import MissingPackageError
from vitsmith.forks import keep_in_children
from vitsmith.telemetry import switch_off_openvino


def import_openvino() -> Any:
    """The package. Raises MissingPackageError."""
    switch_off_openvino()
    try:
        import openvino
    except ImportError:
        raise MissingPackageError("openvino", "openvino") from None
    return openvino


_lock = threading.Lock()


def openvino_core() -> Any:
    """The openvino.Core of this process, which is never let go. Raises MissingPackageError.

    OpenVINO 2026.4 gives the thread that first uses a Core another stack for signals. It takes that away with the last
    Core, but from the thread which lets go of it: were it another one, the next Ctrl-C would kill the process without
    a word.
    """
    with _lock:  # two threads at once would make two, and let go of one
        return _core()


@cache
def _core() -> Any:
    core = import_openvino().Core()
    keep_in_children(core)
    return core
