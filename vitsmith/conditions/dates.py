"""Dates as columns hold them and conditions write them: 2024-05-01T18:30:00, or its beginning, as 2024-05."""

from __future__ import annotations

import calendar
import re
from typing import NamedTuple

_SHAPE = re.compile(
    r"""(?P<year>\d{4})
    (?: -(?P<month>\d\d)
        (?: -(?P<day>\d\d)
            (?: [T\ ](?P<hour>\d\d)
                (?: :(?P<minute>\d\d) (?: :(?P<second>\d\d) (?:\.\d+)? )? )?
                (?P<zone> Z | [+-](?P<zone_hour>\d\d) (?: :?(?P<zone_minute>\d\d) )? )?
            )?
        )?
    )?""",
    re.ASCII | re.VERBOSE,
)
_LIMITS = {
    "month": ("months go", 1, 12),
    "hour": ("hours go", 0, 23),
    "minute": ("minutes go", 0, 59),
    "second": ("seconds go", 0, 59),
    "zone_hour": ("the hours of a zone go", 0, 14),
    "zone_minute": ("the minutes of a zone go", 0, 59),
}
"""The least and the largest that each number can be; for days that depends on the month."""
_DAY = 10  # characters of 2024-05-01
_USUAL = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d", re.ASCII)
"""The times of EXIF but for the last days of a month: read at once, as there may be millions."""


class Moment(NamedTuple):
    """A date, or a date and time."""

    text: str
    """As '2024-05-01T18:30:00', or its beginning; without a zone."""
    zone: str = ""
    """As '+02:00'; '' where none is written."""


def read_date(text: str) -> Moment | None:
    """A date or its beginning; None for any other text, and for days that no calendar has."""
    if _USUAL.fullmatch(text):
        return Moment(text)
    found = _SHAPE.fullmatch(text)
    if found is None or _beyond(found):
        return None
    written, zone = text, found["zone"] or ""
    if zone:
        written = text[: found.start("zone")]
        zone = "+00:00" if zone in ("Z", "-00:00", "-0000", "-00") else f"{zone[:3]}:{found['zone_minute'] or '00'}"
    return Moment(written.replace(" ", "T", 1), zone)


def read_day(text: str) -> Moment | None:
    """As `read_date`, and None for what does not say the day: so are the values of a column of dates."""
    return read_date(text) if len(text) >= _DAY else None


def looks_like_date(text: str) -> bool:
    """Whether it is written as a date, also as one that cannot be."""
    return _SHAPE.fullmatch(text) is not None


def why_no_date(text: str) -> str:
    """What is wrong with a text that `read_date` does not read, for a message that begins with the text."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        return (
            "is not written as a date: write '2024-05-01', a part of it, as '2024' or '2024-05', or a time of it, as "
            "'2024-05-01T18:30:00'"
        )
    return f"is no date: {_beyond(found)}"


def _beyond(found: re.Match[str]) -> str:
    """Which number of a date cannot be; '' where all can."""
    for name, (told, least, most) in _LIMITS.items():
        if found[name] is not None and not least <= int(found[name]) <= most:
            return f"{told} from {least:02} to {most:02}"
    if found["day"] is not None:
        days = calendar.monthrange(int(found["year"]), int(found["month"]))[1]
        if not 1 <= int(found["day"]) <= days:
            return f"the days of {found['year']}-{found['month']} go from 01 to {days}"
    return ""
