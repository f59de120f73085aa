"""OpenVINO, and the one Core that a process has of it."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from functools import cache
from typing import Any

from vitsmith.errors import InputError, MissingPackageError
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


_open: dict[str, weakref.WeakSet[Any]] = {}
"""Programs that are open, by what they were compiled with."""
_most: dict[str, int] = {}
"""How many of them were open at once, at most."""
_threads_lost = False
"""Whether threads of closed programs were left behind in the process that this one was forked from."""


class ThreadsLostError(InputError):
    """OpenVINO cannot be used in this process, and may well be in others."""

    lasting = False
    """Not to be remembered of the program; see `engines/choice.py`."""


def compile_program(model: Any, settings: Mapping[str, Any]) -> Any:
    """An openvino.CompiledModel for the processor. Raises what OpenVINO raises, and ThreadsLostError after some forks.

    OpenVINO 2026.4 keeps the threads of a program that is closed for the next one that is compiled alike. A forked
    child has the record of such threads without the threads, and would wait for them for ever.
    """
    if _threads_lost:
        raise ThreadsLostError(
            f"this is process {os.getpid()}, forked from one that had closed programs of OpenVINO, whose threads are "
            "not here: use another engine, keep every OpenVINO model of the parent open until it has forked, or start "
            "processes with multiprocessing.get_context('spawn')"
        )
    compiled = openvino_core().compile_model(model, "CPU", dict(settings))
    kind = str(sorted(settings.items()))
    programs = _open.setdefault(kind, weakref.WeakSet())
    programs.add(compiled)
    _most[kind] = max(_most.get(kind, 0), len(programs))
    return compiled


def others_compile() -> None:
    """A library is about to compile programs of its own, and to close them."""
    _most["of others"] = 1


def _after_fork() -> None:
    global _threads_lost
    _threads_lost = _threads_lost or any(most > len(_open.get(kind, ())) for kind, most in _most.items())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
