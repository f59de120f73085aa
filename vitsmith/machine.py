"""The machine this process runs on: processor, cores, memory and load, and what its control group allows of them.

Most facts come from psutil. It does not know the processor's name and instruction sets, control groups (containers),
and the peak memory of a process on Linux and macOS.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")

_INT8_PRODUCTS = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "feat_dotprod"}
_BF16_PRODUCTS = {"avx512_bf16", "amx_bf16", "bf16", "feat_bf16"}
_REGISTERED = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"


def describe_machine() -> str:
    """The processor and its cores, for results: 'AMD EPYC 9654, 2 cores'.

    Rented machines often hide the model number, and may differ in speed by a factor of two: then family and model
    replace it, 'AMD EPYC (family 25, model 17), 2 cores'.
    """
    return f"{_processor()[0] or platform.processor() or platform.machine()}, {available_cores()} cores"


def int8_dot_products() -> bool | None:
    """Whether the processor multiplies int8 in one instruction; otherwise int8 is slower than float. None: unknown."""
    return _has(_INT8_PRODUCTS)


def bf16_dot_products() -> bool | None:
    """Whether the processor multiplies bfloat16 in one instruction. None: unknown."""
    return _has(_BF16_PRODUCTS)


def processor_flags() -> frozenset[str]:
    """The names of the processor's instruction sets; empty where the system does not tell, as on Windows."""
    return _processor()[1]


def available_cores() -> int:
    """Processor cores that this process may use: no more than the quotas of its control groups, rounded up."""
    quotas = [-(-quota // period) for quota, period in map(_quota, _groups("cpu")) if quota > 0 and period > 0]
    return max(min([_affinity(), *quotas]), 1)


def visible_gpus() -> str:
    """The names of NVIDIA's GPUs as its driver tells them on Linux, and which of them are hidden; '' without any.

    It needs no library: it tells whether what was measured on a GPU is of this machine, not whether torch can use it.
    """
    files = sorted((PROC / "driver" / "nvidia" / "gpus").glob("*/information"))
    models = [line.partition(":")[2].strip() for file in files for line in _text(file).splitlines() if "Model:" in line]
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return ", ".join(models) + ("" if shown is None else f" (CUDA_VISIBLE_DEVICES={shown})") if models else ""


def load_average() -> float:
    """The mean number of processes of the whole machine that wanted a core, over the last minute."""
    import psutil

    return float(psutil.getloadavg()[0])


def total_memory() -> int:
    """Bytes of memory that this process could have if nothing else ran: the machine's, or its control group's."""
    import psutil

    limits = (limit for limit, _ in map(_memory, _groups("memory")) if limit is not None)
    return min([int(psutil.virtual_memory().total), *limits])


def free_memory() -> int:
    """Bytes that this process may still take without swapping: the minimum over the machine and its control groups."""
    import psutil

    free = (limit - used for limit, used in map(_memory, _groups("memory")) if limit is not None)
    return max(min([int(psutil.virtual_memory().available), *free]), 0)


def resident_memory() -> int:
    """Bytes of memory that this process occupies now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak_memory() -> int:
    """The most bytes of memory that this process has ever occupied."""
    for line in _text(PROC / "self" / "status").splitlines():
        if line.startswith("VmHWM:"):  # ru_maxrss includes the memory of the parent process at the start
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


# --- the processor ----------------------------------------------------------------------------------------------------


def _has(instructions: set[str]) -> bool | None:
    flags = processor_flags()
    return bool(flags & instructions) if flags else None


def _affinity() -> int:
    """The number of processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    if sys.platform == "win32":
        import psutil

        return len(psutil.Process().cpu_affinity())
    return os.cpu_count() or 1


@functools.cache
def _processor() -> tuple[str, frozenset[str]]:
    """(name, instruction sets); '' and an empty set where the system does not tell."""
    if sys.platform == "darwin":
        features = (line.split(": ") for line in _sysctl("hw.optional").splitlines())
        there = frozenset(name.rpartition(".")[2].lower() for name, *value in features if value == ["1"])
        return _sysctl("-n", "machdep.cpu.brand_string"), there
    return (_registered_name(), frozenset()) if sys.platform == "win32" else _cpuinfo()


def _cpuinfo() -> tuple[str, frozenset[str]]:
    """Name and instruction sets of the first processor: they are 'flags' on x86, 'Features' on ARM."""
    fields: dict[str, str] = {}
    for line in _text(PROC / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    flags = fields.get("flags", fields.get("features", ""))
    name = fields.get("model name", "")
    if name and "cpu family" in fields and not any(letter.isdigit() for letter in name):
        name += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return name, frozenset(flags.split())


def _sysctl(*asked: str) -> str:
    """The answer of macOS; '' where there is none."""
    try:
        return subprocess.run(["sysctl", *asked], capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _registered_name() -> str:
    """The processor's name in the registry of Windows; '' where there is none."""
    if sys.platform == "win32":
        import winreg

        with suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _REGISTERED) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    return ""


# --- control groups ---------------------------------------------------------------------------------------------------


def _groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that may limit `controller` for this process, from its own to the outermost.

    A container often sees its own group as the outermost one, while /proc names it as on the host: folders that do not
    exist then have no limit.
    """
    for line in _text(PROC / "self" / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:  # v2: one tree for all
            places = {CGROUPS}
        elif controller in controllers.split(","):  # v1: a tree for each controller, or for several together
            places = {CGROUPS / controller, CGROUPS / controllers}
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        if ".." in inside.parts:  # outside of what this process can see
            inside = PurePosixPath()
        for place in places:
            yield from (place / group for group in (inside, *inside.parents))


def _quota(group: Path) -> tuple[int, int]:
    """(microseconds of processor time, microseconds of the period); (0, 0) without a limit."""
    v2 = _text(group / "cpu.max").split()
    told = v2 or [_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")]
    quota, period = map(_number, (*told, "", "")[:2])
    return quota or 0, period or 0


def _memory(group: Path) -> tuple[int | None, int]:
    """(limit, bytes in use without cached files); the limit is None where there is none."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = _number(_text(group / limit)), _number(_text(group / used))
        if most is not None and now is not None:
            counts = dict(line.split(maxsplit=1) for line in _text(group / "memory.stat").splitlines() if " " in line)
            return most, now - (_number(counts.get(cached, "")) or 0)
    return None, 0


def _text(path: Path) -> str:
    """The text of a file; '' where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    """The number; None for '' and for 'max'."""
    try:
        return int(text)
    except ValueError:
        return None
