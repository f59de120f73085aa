"""Imports OpenVINO, and keeps the one Core of this process."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from functools import cache
from typing import Any

from vitsmith.errors import InputError, MissingPackageError
from vitsmith.process.forks import keep_in_children
from vitsmith.process.telemetry import switch_off_openvino


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
    """The openvino.Core of this process, which is never released. Raises MissingPackageError.

    OpenVINO 2026.4 gives the thread that first uses a Core another stack for signals. When the last Core is released,
    it removes the stack of the thread that releases it. If that is another thread, the next Ctrl-C kills the process
    without a message.
    """
    with _lock:  # else two threads could make two, and release one
        return _core()


@cache
def _core() -> Any:
    core = import_openvino().Core()
    keep_in_children(core)
    return core


def computed_in(wanted: str) -> str:
    """The precision in which float programs are computed on this processor: `wanted`, or 'fp32' where that is not."""
    capabilities = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return wanted if wanted == "fp32" or wanted.upper() in capabilities else "fp32"


_open: dict[str, weakref.WeakSet[Any]] = {}
"""Open programs, by the settings they were compiled with."""
_most: dict[str, int] = {}
"""The largest number of them that were open at once."""
_threads_lost = False
"""Whether threads of closed programs were left behind in the process that this one was forked from."""


class ThreadsLostError(InputError):
    """OpenVINO cannot be used in this forked process; in others it can."""

    lasting = False
    """False: it is not remembered as a fault of the program; see `engines/choice.py`."""


def compile_program(model: Any, settings: Mapping[str, Any]) -> Any:
    """An openvino.CompiledModel for the processor. Raises OpenVINO's errors, and ThreadsLostError after some forks.

    OpenVINO 2026.4 keeps the threads of a closed program for the next program with the same settings. A forked child
    has the record of these threads, but not the threads, and would wait for them for ever.
    """
    if _threads_lost:
        raise ThreadsLostError(
            f"process {os.getpid()} was forked from one that had closed programs of OpenVINO, whose threads are not "
            "here: use another engine, keep every OpenVINO model of the parent open until it has forked, or start "
            "processes with multiprocessing.get_context('spawn')"
        )
    compiled = openvino_core().compile_model(model, "CPU", dict(settings))
    kind = str(sorted(settings.items()))
    programs = _open.setdefault(kind, weakref.WeakSet())
    programs.add(compiled)
    _most[kind] = max(_most.get(kind, 0), len(programs))
    return compiled


def others_compile() -> None:
    """Notes that another library is about to compile programs, and to close them."""
    _most["of others"] = 1


def _after_fork() -> None:
    global _threads_lost
    _threads_lost = _threads_lost or any(most > len(_open.get(kind, ())) for kind, most in _most.items())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
