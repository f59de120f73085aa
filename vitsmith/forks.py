"""What `fork` leaves of an engine: its memory without its threads, so that the child waits for ever for their work.

Seen with onnxruntime 1.32, OpenVINO 2026.4 and torch 2.13 on Linux: OpenVINO's programs hang in the child,
onnxruntime's when they are let go of, torch in OpenMP. What is opened in the child works, and so does torch on one
core.
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
"""Whether torch had done so in the process that this one was forked from."""
_told = False


def keep_in_children(program: Any) -> None:
    """A forked child never lets go of `program`: that would wait for threads that it does not have."""
    _threaded.add(program)


def require_own_process(process: int, where: str) -> None:
    """Raises InputError in a process that was forked from `process`, which opened `where`."""
    if process != os.getpid():
        raise InputError(
            f"{where} was opened by process {process}, and this is process {os.getpid()}, forked from it without the "
            "engine's threads: open the model in each process after the fork, or start processes with "
            "multiprocessing.get_context('spawn')"
        )


def torch_threads(wanted: int) -> int:
    """How many threads torch may compute with here: one after a fork from a process where it used several.

    Call it before torch computes. Warns once where fewer are allowed.
    """
    global _torch_threads, _told
    if _one_core and not _told:
        _told = True
        warnings.warn(
            "this process was forked from one that had computed with torch, whose threads do not survive that: it "
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
