"""Amounts with their unit, as people read and write them: '1.2 MB', '12 min', '20ms'; one without unit is refused."""

from __future__ import annotations

import re

from vitsmith.errors import InputError, shown

TIMES = {"ms": 1.0, "s": 1000.0}
"""Milliseconds in each unit."""
SIZES = {
    "KB": 1e3 / 2**20, "MB": 1e6 / 2**20, "GB": 1e9 / 2**20, "KiB": 2**-10, "MiB": 1.0, "GiB": 2.0**10,
}  # fmt: skip
"""MiB in each unit: 1 MB is 1,000,000 bytes, 1 MiB is 1,048,576."""


def bytes_text(size: int) -> str:
    """'512 B', '1.2 MB'; 1 MB is 1,000,000 bytes."""
    amount, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"


def duration_text(seconds: float) -> str:
    """'41 s', '12 min', '3 h 20 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def milliseconds(option: str, text: str) -> float | None:
    """'20ms' -> 20.0, '0.02s' -> 20.0, '' -> None. Raises InputError that names the `option`."""
    return _amount(option, text, TIMES, ("ms", "s"))


def mebibytes(option: str, text: str) -> float | None:
    """'300MiB' -> 300.0, '300MB' -> 286.1, '' -> None. Raises InputError that names the `option`."""
    return _amount(option, text, SIZES, ("MB", "MiB"))


def _amount(option: str, text: str, units: dict[str, float], usual: tuple[str, str]) -> float | None:
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip(), re.ASCII)
    number = float(found[1]) if found else 0.0
    if not found or not 0 < number < float("inf"):
        raise InputError(f"{option} {shown(text)}: give a number above 0 with its unit ({', '.join(units)})")
    if not found[2]:
        first, second = (f"{found[1]}{unit}" for unit in usual)
        raise InputError(f"{option} {found[1]} has no unit: write {first} or {second}")
    known = {unit.lower(): unit for unit in units}
    unit = known.get(found[2].lower())
    if unit is None:
        raise InputError(f"{option} {shown(text)}: unknown unit, known are {', '.join(units)}")
    return number * units[unit]
