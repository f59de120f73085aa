"""JSON: read strictly, with each mistake in one line; written without NaN, safe in HTML, Markdown and terminals.

Python's own reader accepts `NaN`, silently keeps the last of two equal keys, and raises RecursionError for deeply
nested text.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from vitsmith.errors import NOT_FINITE, InputError, NotFiniteError
from vitsmith.escapes import UNSEEN
from vitsmith.files.regular import read_regular

DEEPEST = 100
"""Most levels of nested lists and objects; files that people write have about ten."""
LARGEST = 256 << 20
"""The largest file, in bytes; the largest tokenizers have some 40 MB."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(
    path: str | os.PathLike[str], *, error: type[InputError] = InputError, finite: bool = True, largest: int = LARGEST
) -> Any:
    """The value in a JSON file (UTF-8, with or without a byte order mark).

    Raises FileNotFoundError when there is no file, and `error`, which begins with the path, for a file that cannot be
    read and for the mistakes that `parse_json` refuses.
    """
    try:
        data = read_regular(path, largest=largest)
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise error(f"cannot read {os.fsdecode(path)}: {problem.strerror}") from problem
    return parse_json(data, os.fsdecode(path), error=error, finite=finite)


def json_or_none(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file; None when the file is missing, unreadable or not valid."""
    try:
        return read_json(path)
    except (OSError, InputError):
        return None


def parse_json(
    text: str | bytes | bytearray, what: str, *, error: type[InputError] = InputError, finite: bool = True
) -> Any:
    """The value of JSON text; `what` is its name in messages.

    Raises `error` for text that is not JSON or not UTF-8, a key that an object has twice, more than `DEEPEST` levels,
    half a character (`\\ud800` without its other half; `\\udc80` to `\\udcff` are bytes of file names, see `to_json`),
    and numbers that are not finite (`NaN`, `Infinity`, 1e999), unless `finite` is False: JSON does not have them, but
    Python and JavaScript write them.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        value = json.loads(
            decoded.removeprefix("\ufeff"),
            object_pairs_hook=_distinct,
            parse_constant=_refuse if finite else None,
            parse_float=_finite if finite else None,
        )
    except UnicodeDecodeError as problem:
        raise error(f"{what} is not UTF-8 text ({problem.reason}): save it as UTF-8".lstrip()) from None
    except RecursionError:
        raise error(f"{what} is no usable JSON: it is nested deeper than {DEEPEST} levels".lstrip()) from None
    except ValueError as problem:
        raise error(f"{what} is {_told(problem)}".lstrip()) from None
    # Every level has its own bracket, so with few brackets the value need not be checked.
    if decoded.count("[") + decoded.count("{") > DEEPEST and _is_deep(value):
        raise error(f"{what} is no usable JSON: it is nested deeper than {DEEPEST} levels".lstrip())
    if _SURROGATE.search(decoded):
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as problem:
            half = problem.object[problem.start]
            raise error(f"{what} is no usable JSON: {half!r} in it is half a character".lstrip()) from None
    return value


def to_json(
    value: Any, *, indent: int | None = None, ascii_only: bool = False, sort_keys: bool = False, finite: bool = True
) -> str:
    """JSON text of plain data; invisible characters are written as `\\u` escapes.

    A byte of a file name that is not UTF-8 is written as its surrogate: `os.fsencode(json.loads(text))` is the name.
    Raises NotFiniteError, which names the place, for NaN and infinity, unless `finite` is False: JSON has neither, and
    such text only serves for comparing with old files.
    """
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=ascii_only, sort_keys=sort_keys, allow_nan=not finite)
    except ValueError as problem:
        if "Circular" in str(problem):
            raise
        place = _place_not_finite(value)
        raise NotFiniteError(f"{place} is {NOT_FINITE}, which JSON cannot hold: nothing was written") from None
    if text.isascii():
        return text
    return UNSEEN.sub(lambda found: found[0] if found[0] == "\n" else json.dumps(found[0])[1:-1], text)


def to_compact_json(value: Any) -> bytes:
    """JSON without blanks and escapes, in UTF-8: of texts and whole numbers the bytes that Rust's serde writes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def with_nulls(value: Any) -> Any:
    """A copy of plain data with None in place of every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: with_nulls(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [with_nulls(one) for one in value]
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"an object has the key {twice[:60]!r} twice")
    return fields


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it has the number {constant}, which is not finite")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse(text[:30])
    return number


def _told(problem: ValueError) -> str:
    """A mistake in one short line; Python's own message gives its place, or the number that is too long."""
    if isinstance(problem, json.JSONDecodeError):
        return f"no JSON: {problem.msg} (line {problem.lineno}, column {problem.colno})"
    return f"no usable JSON: {' '.join(str(problem).split())[:200]}"


def _is_deep(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        inside = (inner for one in level for inner in (one.values() if isinstance(one, dict) else one))
        level = [inner for inner in inside if isinstance(inner, dict | list)]
    return bool(level)


def _place_not_finite(value: Any, place: str = "the result") -> str | None:
    """The place in plain data of the first number that is not finite, as 'rows.0.ratio'; None when there is none."""
    inside = place.removeprefix("the result")
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    if isinstance(value, Mapping):
        parts: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, Sequence) and not isinstance(value, str):
        parts = enumerate(value)
    else:
        return None
    named = (_place_not_finite(one, f"{inside}.{key}".lstrip(".")) for key, one in parts)
    return next((found for found in named if found is not None), None)
