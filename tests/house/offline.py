"""A process that ends the moment it, or a child of it, opens a socket to a network (Linux, x86-64 and 64-bit ARM)."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

# (AUDIT_ARCH_*, number of the call `socket`): linux/audit.h and the tables of system calls
_MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
SUPPORTED = os.uname().sysname == "Linux" and platform.machine() in _MACHINES
"""Whether `forbid_sockets` works here."""

_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
_KILL_PROCESS, _ALLOW = 0x80000000, 0x7FFF0000
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h: BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ, BPF_RET


def forbid_sockets() -> None:
    """From now on, a socket of IPv4 or IPv6 ends the process with SIGSYS. Those on this machine alone are allowed."""
    architecture, socket = _MACHINES[platform.machine()]
    # (code, steps to skip if true, if false, value). In a struct seccomp_data the call is at 0, machine 4, family 16.
    steps = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 0, 6, architecture),
        (_LOAD, 0, 0, 0),
        (_EQUAL, 0, 4, socket),
        (_LOAD, 0, 0, 16),
        (_EQUAL, 1, 0, 2),  # AF_INET
        (_EQUAL, 0, 1, 10),  # AF_INET6
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_RETURN, 0, 0, _ALLOW),
    ]
    program = b"".join(struct.pack("=HBBI", *step) for step in steps)
    kept = ctypes.create_string_buffer(program, len(program))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(kept)))
    system = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SECCOMP, _FILTER, ctypes.addressof(described), 0, 0)):
        if system.prctl(*(ctypes.c_ulong(one) for one in arguments)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
