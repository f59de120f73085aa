"""What this machine's processor is and can do, read in one place."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

_INT8_PRODUCTS = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp"}
_BF16_PRODUCTS = {"avx512_bf16", "amx_bf16", "bf16"}


def available_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine() -> str:
    """Processor and cores, as results name them: 'AMD EPYC 9654, 2 cores'.

    Rented machines often hide the number, and may differ by a factor of two: then family and model stand for it,
    'AMD EPYC (family 25, model 17), 2 cores'.
    """
    return f"{_cpuinfo()[0] or platform.processor() or platform.machine()}, {available_cores()} cores"


def int8_dot_products() -> bool | None:
    """Whether the processor multiplies int8 in one instruction; without, int8 is slower than float. None: unknown."""
    return _has(_INT8_PRODUCTS)


def bf16_dot_products() -> bool | None:
    """Whether the processor multiplies bfloat16 in one instruction. None: unknown."""
    return _has(_BF16_PRODUCTS)


def processor_flags() -> frozenset[str]:
    """What the processor calls its instruction sets (/proc/cpuinfo); empty where nothing says so."""
    return _cpuinfo()[1]


def _has(instructions: set[str]) -> bool | None:
    flags = processor_flags()
    return bool(flags & instructions) if flags else None


@functools.cache
def _cpuinfo() -> tuple[str, frozenset[str]]:
    """(model name, flags) of the first processor: 'flags' on x86, 'Features' on ARM."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", frozenset()
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    flags = fields.get("flags", fields.get("features", ""))
    name = fields.get("model name", "")
    if name and "cpu family" in fields and not any(letter.isdigit() for letter in name):
        name += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return name, frozenset(flags.split())
