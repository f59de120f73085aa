"""What is done to files, texts and command lines by benchmarks/robustness.py: every change follows from a seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Random = np.random.Generator

NUMBERS: tuple[Any, ...] = (
    0,
    -1,
    1,
    2,
    10**20,
    -(10**20),
    1e308,
    1e-320,
    float("nan"),
    float("inf"),
    2**31,
    2**63,
    0.5,
)
TEXTS = (
    "", " ", "\n", "\0", "nan", "x" * 5000, "../../etc/passwd", "C:\\x", "[/red]", "$x_1$", "<b>", "猫", "caf\u0301e",
    "\u2028", "\ud800", "{", "%s", "-1", "1e400", "a,b", "true", "\x1b[31m", "CON", "name ", "'", '"',
)  # fmt: skip
VALUES: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"a": {}}, *NUMBERS, *TEXTS)


def change_bytes(data: bytes, random: Random) -> tuple[bytes, str, range]:
    """(changed bytes, what was done, offsets that it touched). The result always differs from `data`."""
    while True:
        name, change = BYTE_CHANGES[int(random.integers(len(BYTE_CHANGES)))]
        changed, touched = change(data, random)
        if changed != data:
            return changed, f"{name} at {touched.start}", touched


def _flip_bit(data: bytes, random: Random) -> tuple[bytes, range]:
    at = int(random.integers(len(data))) if data else 0
    return data[:at] + bytes([(data[at] if data else 0) ^ 1 << int(random.integers(8))]) + data[at + 1 :], range(
        at, at + 1
    )


def _set_byte(data: bytes, random: Random) -> tuple[bytes, range]:
    at = int(random.integers(len(data))) if data else 0
    return data[:at] + bytes([int(random.choice((0, 255, 10, 34, 128)))]) + data[at + 1 :], range(at, at + 1)


def _zero(data: bytes, random: Random) -> tuple[bytes, range]:
    start, end = _stretch(data, random)
    return data[:start] + bytes(end - start) + data[end:], range(start, end)


def _zero_tail(data: bytes, random: Random) -> tuple[bytes, range]:
    start = int(random.integers(len(data) + 1))
    return data[:start] + bytes(len(data) - start), range(start, len(data))


def _cut(data: bytes, random: Random) -> tuple[bytes, range]:
    start = int(random.integers(len(data) + 1))
    return data[:start], range(start, len(data))


def _remove(data: bytes, random: Random) -> tuple[bytes, range]:
    start, end = _stretch(data, random)
    return data[:start] + data[end:], range(start, len(data))


def _insert(data: bytes, random: Random) -> tuple[bytes, range]:
    at = int(random.integers(len(data) + 1))
    return data[:at] + random.bytes(int(random.integers(1, 64))) + data[at:], range(at, len(data))


def _scramble(data: bytes, random: Random) -> tuple[bytes, range]:
    start, end = _stretch(data, random)
    return data[:start] + random.bytes(end - start) + data[end:], range(start, end)


def _append(data: bytes, random: Random) -> tuple[bytes, range]:
    return data + random.bytes(int(random.integers(1, 64))), range(len(data), len(data))


def _replace(data: bytes, random: Random) -> tuple[bytes, range]:
    strangers = (b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", b"<!DOCTYPE html><html>")
    return strangers[int(random.integers(len(strangers)))], range(len(data))


def _stretch(data: bytes, random: Random) -> tuple[int, int]:
    start = int(random.integers(len(data) + 1))
    return start, min(start + int(2 ** random.uniform(0, 12)), len(data))


BYTE_CHANGES: tuple[tuple[str, Callable[[bytes, Random], tuple[bytes, range]]], ...] = (
    ("bit flipped", _flip_bit),
    ("bit flipped", _flip_bit),
    ("byte set", _set_byte),
    ("stretch zeroed", _zero),
    ("tail zeroed", _zero_tail),
    ("cut", _cut),
    ("stretch removed", _remove),
    ("bytes inserted", _insert),
    ("stretch scrambled", _scramble),
    ("bytes appended", _append),
    ("replaced", _replace),
)


def change_file(path: Path, random: Random) -> tuple[str, range]:
    """Changes one file; what was done, and where."""
    changed, what, touched = change_bytes(path.read_bytes(), random)
    path.write_bytes(changed)
    return f"{path.name}: {what}", touched


def change_folder(folder: Path, random: Random, *, spare: Sequence[str] = ()) -> tuple[str, str]:
    """Changes, removes or exchanges files of a folder; (what was done, name of the file). `spare` are left alone."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in spare)
    chosen = files[int(random.integers(len(files)))]
    dice = random.uniform()
    if dice < 0.05:
        chosen.unlink()
        return f"{chosen.name} removed", chosen.name
    if dice < 0.1 and len(files) > 1:
        other = files[int(random.integers(len(files)))]
        first, second = chosen.read_bytes(), other.read_bytes()
        chosen.write_bytes(second)
        other.write_bytes(first)
        return f"{chosen.name} and {other.name} exchanged", chosen.name
    if dice < 0.5 and chosen.suffix == ".json":
        return f"{chosen.name}: {change_json_file(chosen, random)}", chosen.name
    return change_file(chosen, random)[0], chosen.name


def change_json_file(path: Path, random: Random) -> str:
    """Changes a value somewhere in a JSON document; the checksum in it, if any, stays as it was."""
    if random.uniform() < 0.05:
        path.write_text("[" * 100_000 + "]" * 100_000)
        return "nested 100,000 deep"
    document, what = change_value(json.loads(path.read_text(encoding="utf-8")), random)
    path.write_text(json.dumps(document), encoding="utf-8")
    return what


def change_value(document: Any, random: Random) -> tuple[Any, str]:
    """A copy with one value replaced, removed or added, and what was done."""
    document = json.loads(json.dumps(document))
    spots = list(_spots(document))
    if not spots:
        return VALUES[int(random.integers(len(VALUES)))], "replaced whole"
    holder, key, path = spots[int(random.integers(len(spots)))]
    dice = random.uniform()
    if dice < 0.12:
        del holder[key]
        return document, f"{path} removed"
    if dice < 0.2 and isinstance(holder, dict):
        holder["strange"] = holder[key]
        return document, f"{path} also called 'strange'"
    value = _alike(holder[key], random) if dice < 0.6 else VALUES[int(random.integers(len(VALUES)))]
    holder[key] = value
    return document, f"{path} = {str(value)[:40]!r}"


def _alike(value: Any, random: Random) -> Any:
    """A value of the same kind, which a reader may well take for true."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + random.choice((-1, 1)).item()
    if isinstance(value, str):
        return f"{value}s"
    if isinstance(value, list):
        return value[::-1]
    return VALUES[int(random.integers(len(VALUES)))]


def _spots(document: Any, path: str = "") -> Any:
    if isinstance(document, dict):
        pairs: Any = document.items()
    elif isinstance(document, list):
        pairs = enumerate(document)
    else:
        return
    for key, value in pairs:
        yield document, key, f"{path}/{key}"
        yield from _spots(value, f"{path}/{key}")


def change_text(text: str, random: Random) -> tuple[str, str]:
    """A copy of a text file with a line or a word changed."""
    lines = text.split("\n")
    at = int(random.integers(len(lines)))
    word = str(VALUES[int(random.integers(len(VALUES)))])
    dice = random.uniform()
    if dice < 0.2:
        lines[at] = word
    elif dice < 0.4:
        lines.insert(at, random.choice(("", "# remark", '"a, b', "\f", lines[at])))
    elif dice < 0.5:
        del lines[at]
    else:
        cells = lines[at].split(",")
        cells[int(random.integers(len(cells)))] = word
        lines[at] = ",".join(cells)
    return "\n".join(lines), f"line {at + 1} changed"
