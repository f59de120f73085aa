"""Refuse engines in forked processes: the child has the engine's memory without its threads, and would wait forever.

Seen with onnxruntime 1.32, OpenVINO 2026.4 and torch 2.13 on Linux: in the child, OpenVINO's programs hang when they
run, onnxruntime's when they are released, torch in OpenMP. Engines that are opened in the child work, and so does torch
on one core.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
import weakref
from typing import Any

from vitsmith.errors import InputError

_threaded: weakref.WeakSet[Any] = weakref.WeakSet()
_torch_threads = False
"""Whether torch has computed with several threads in this process."""
_one_core = False
"""Whether torch had computed with several threads in the process that this one was forked from."""
_told = False


def keep_in_children(program: Any) -> None:
    """Never release `program` in a forked child: that would wait for threads that the child does not have."""
    _threaded.add(program)


def require_own_process(process: int, where: str) -> None:
    """Raise InputError in a process that was forked from `process`, which opened `where`."""
    if process != os.getpid():
        raise InputError(
            f"{where} was opened by process {process}, and this is process {os.getpid()}, forked from it without the "
            "engine's threads: open the model in each process after the fork, or start processes with "
            "multiprocessing.get_context('spawn')"
        )


def torch_threads(wanted: int) -> int:
    """The number of threads torch may use here: one after a fork from a process where it used several.

    Call it before torch computes. It warns once when fewer than `wanted` are allowed.
    """
    global _torch_threads, _told
    if _one_core and not _told:
        _told = True
        warnings.warn(
            "this process was forked from one that had computed with torch, whose threads do not survive a fork: it "
            "computes on one core; start processes with multiprocessing.get_context('spawn') for more",
            stacklevel=5,
        )
    _torch_threads = _torch_threads or wanted > 1
    return 1 if _one_core else wanted


def _after_fork() -> None:
    global _torch_threads, _one_core
    for program in list(_threaded):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(program))
    if _torch_threads:
        sys.modules["torch"].set_num_threads(1)
        _torch_threads, _one_core = False, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
