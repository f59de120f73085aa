"""Columns of an index as arrays, and comparisons of them. N rows.

A comparison has three answers: yes, no, and neither where a value is not known, as in SQL.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal, NamedTuple

import numpy as np

from vitsmith.arrays import Array
from vitsmith.data.images.photo import FACTS
from vitsmith.errors import shown

ColumnKind = Literal["text", "date", "number", "flag", "empty"]

_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_PART_OF_DATE = re.compile(
    r"\d{4}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01])(?:[T ]\d\d(?::\d\d(?::\d\d.*)?)?)?)?)?", re.ASCII
)
_ZONE = re.compile(r"(?:Z|[+-]\d\d:?\d\d)$")
_EXACT = 2**53  # whole numbers up to here are exact in float64
NAMES: dict[ColumnKind, str] = {
    "text": "texts", "date": "dates", "number": "numbers", "flag": "true or false", "empty": "nothing",
}  # fmt: skip

_KINDS: dict[str, ColumnKind] = {name: "date" if name == "taken" else "number" for name in FACTS}
"""What the columns of images hold, also where all values are missing."""

Comparison = Callable[[Any, Any], Any]
TEXT_TESTS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda text, part: part in text,
    "startswith": str.startswith,
    "endswith": str.endswith,
}


class Truth(NamedTuple):
    """Rows (N,) for which a condition holds, and rows for which it does not; the others are not known."""

    yes: Array
    no: Array

    def __invert__(self) -> Truth:
        return Truth(self.no, self.yes)

    def __and__(self, other: Truth) -> Truth:
        return Truth(self.yes & other.yes, self.no | other.no)

    def __or__(self, other: Truth) -> Truth:
        return Truth(self.yes | other.yes, self.no & other.no)


class WrongKind(Exception):  # noqa: N818
    """Two things that cannot be compared; the message says what to write."""


class ValueColumn(NamedTuple):
    """The values of one column (N,); where `known` is False, a value has no meaning."""

    name: str
    kind: ColumnKind
    values: Array
    known: Array
    zones: frozenset[str] = frozenset()
    """Of dates with a time their zones, as '+02:00'; '' where there is none. `values` are without them."""

    def truth(self, yes: Array) -> Truth:
        """The answer `yes` (N,) for the rows whose value is known."""
        yes = np.asarray(yes, bool)
        return Truth(yes & self.known, ~yes & self.known)

    def is_missing(self) -> Truth:
        return Truth(~self.known, self.known)

    def compare(self, value: Any, holds: Comparison) -> Truth:
        """With a text, number or flag. Raises WrongKind."""
        if self.kind == "empty":
            return self.truth(self.known)
        if self.kind == "number":
            return self._compare_number(value, holds)
        if self.kind == "flag":
            if not isinstance(value, bool):
                raise WrongKind(f"{self.name} holds true or false: write  {self.name} == true")
            return self.truth(holds(self.values.astype(bool), value))
        if not isinstance(value, str):
            raise WrongKind(f"{self.name} holds {NAMES[self.kind]}: write '{value}' in quotes")
        if self.kind == "date":
            value, zone = _parted(_as_date(self.name, value))
            _check_zones(self.name, self.zones | ({zone} if zone else set()))
            values = np.array(
                [one[: len(value)] for one in self.values.tolist()], object
            )  # 2024-05-01 is the whole day
            return self.truth(holds(values, value))
        self._check_no_dates(value)
        return self.truth(holds(self.values, value))

    def _check_no_dates(self, value: str) -> None:
        """Raise WrongKind for a date that is compared with texts, of which only some are dates."""
        if not _PART_OF_DATE.fullmatch(value):
            return
        listed = [one for one, known in zip(self.values.tolist(), self.known.tolist(), strict=True) if known]
        if any(map(_DATE.fullmatch, listed)):
            other = next(one for one in listed if not _DATE.fullmatch(one))
            raise WrongKind(
                f"{self.name} holds dates, and {shown(other)}, which is none: leave such values empty in the table, or "
                f"write  startswith({self.name}, '{value}')"
            )

    def _compare_number(self, value: Any, holds: Comparison) -> Truth:
        if isinstance(value, bool) or not isinstance(value, int | float):
            told = f": write {value} without quotes" if _is_number(value) else f", and {shown(value)} is none"
            raise WrongKind(f"{self.name} holds numbers{told}")
        exact = self.values.dtype == object or (isinstance(value, int) and abs(value) > _EXACT)
        return self.truth(holds(self.values.astype(object) if exact else self.values, value))

    def compare_column(self, other: ValueColumn, holds: Comparison) -> Truth:
        """Row by row with another column. Raises WrongKind."""
        both = self.known & other.known
        kinds = {self.kind, other.kind} - {"empty"}
        if len(kinds) > 1 and kinds != {"text", "date"}:
            raise WrongKind(f"{self.name} holds {NAMES[self.kind]}, and {other.name} holds {NAMES[other.kind]}")
        if "empty" in (self.kind, other.kind):
            return Truth(both, both)  # no row has both
        mine, others = self.values, other.values
        if self.kind == other.kind == "date":  # a day and a time of it are the same, as with a date in quotes
            _check_zones(f"{self.name} and {other.name}", self.zones | other.zones)
            lengths = [min(map(len, two)) for two in zip(mine, others, strict=True)]
            mine, others = (
                np.array([one[:length] for one, length in zip(some, lengths, strict=True)], object)
                for some in (mine, others)
            )
        yes = np.asarray(holds(mine, others), bool)
        return Truth(yes & both, ~yes & both)

    def test_text(self, test: Callable[[str, str], bool], part: str) -> Truth:
        """For texts and dates: contains, startswith, endswith. Raises WrongKind."""
        if self.kind not in ("text", "date", "empty"):
            raise WrongKind(f"{self.name} holds {NAMES[self.kind]}, and only texts contain or start with others")
        listed = self.values.tolist() if self.kind != "empty" else [""] * len(self.known)
        return self.truth(np.fromiter((test(one, part) for one in listed), bool, len(self.known)))


def as_column(name: str, values: Sequence[Any]) -> ValueColumn:
    """A column from its values, None where unknown. Raises WrongKind where texts and numbers are mixed."""
    values = [None if value != value else value for value in values]  # NaN
    known = np.fromiter((value is not None for value in values), bool, len(values))
    kinds = {_kind_of(value) for value in values} - {"empty"}
    if len(kinds) > 1:
        raise WrongKind(
            f"{name} holds {' and '.join(sorted(NAMES[kind] for kind in kinds))}, which cannot be compared alike"
        )
    kind: ColumnKind = kinds.pop() if kinds else _KINDS.get(name, "empty")
    if kind == "text" and all(value is None or _DATE.fullmatch(value) for value in values):
        kind = "date"
    if kind == "number" and all(isinstance(value, float) or abs(value or 0) <= _EXACT for value in values):
        return ValueColumn(name, kind, np.array([0.0 if one is None else one for one in values], np.float64), known)
    empty: Any = "" if kind in ("text", "date") else 0
    filled = [empty if value is None else value for value in values]
    zones = frozenset[str]()
    if kind == "date":
        parted = [_parted(value.replace(" ", "T", 1)) for value in filled]
        filled = [value for value, _ in parted]
        zones = frozenset(zone for value, zone in parted if "T" in value)
    array = np.empty(len(values), object)
    array[:] = filled
    return ValueColumn(name, kind, array, known, zones)


def _parted(date: str) -> tuple[str, str]:
    """A date without its zone, and the zone, '' where there is none."""
    found = _ZONE.search(date) if "T" in date else None
    if found is None:
        return date, ""
    zone = "+00:00" if found[0] == "Z" else f"{found[0][:3]}:{found[0][-2:]}"
    return date[: found.start()], zone


def _check_zones(names: str, zones: AbstractSet[str]) -> None:
    if len(zones) > 1:
        told = ", ".join(zone or "none" for zone in sorted(zones))
        raise WrongKind(f"the times of {names} have several zones ({told}): write all of them in one, then compare")


def _kind_of(value: Any) -> ColumnKind:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "flag"
    return "text" if isinstance(value, str) else "number"


def _as_date(name: str, value: str) -> str:
    if not _PART_OF_DATE.fullmatch(value):
        raise WrongKind(f"{name} holds dates, and {shown(value)} is not written as one: write '2024-05-01', or a "
                        "part or more of it, as '2024' and '2024-05-01T18:30'")  # fmt: skip
    return value.replace(" ", "T", 1)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


COMPARISONS: dict[str, Comparison] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
