"""Columns of a table as arrays, and comparisons of them. N rows.

A comparison has three answers: yes, no, and neither where a value is not known, as in SQL.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal, NamedTuple

import numpy as np

from vitsmith.arrays import Array
from vitsmith.conditions.dates import Moment, looks_like_date, read_date, read_day, why_no_date
from vitsmith.conditions.expression import written_name
from vitsmith.errors import shown

ColumnKind = Literal["text", "date", "number", "flag", "empty"]

_EXACT = 2**53  # whole numbers up to here are exact in float64
NAMES: dict[ColumnKind, str] = {
    "text": "texts", "date": "dates", "number": "numbers", "flag": "true or false", "empty": "nothing",
}  # fmt: skip

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

    written: str
    """The name, as a condition has it."""
    kind: ColumnKind
    values: Array
    known: Array
    zones: frozenset[str] = frozenset()
    """Of dates with a time their zones, as '+02:00'; '' where there is none. `values` are without them."""
    texts: Array | None = None
    """Dates as the table has them."""
    may_be_dates: bool = True
    """False for ids: an id that is written as a date is a name."""

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
                raise WrongKind(f"{self.written} holds true or false: write  {self.written} == true")
            return self.truth(holds(self.values.astype(bool), value))
        if not isinstance(value, str):
            raise WrongKind(f"{self.written} holds {NAMES[self.kind]}: write '{value}' in quotes")
        if self.kind == "date":
            return self.truth(holds(*_up_to_the_shorter(self.values, [self._moment(value).text] * len(self.values))))
        self._check_no_dates(value)
        return self.truth(holds(self.values, value))

    def _moment(self, value: str) -> Moment:
        """A text as a date that compares with those of the column. Raises WrongKind."""
        moment = read_date(value)
        if moment is None:
            raise WrongKind(f"{self.written} holds dates, and {shown(value)} {why_no_date(value)}")
        _check_zones(self.written, self.zones)
        mine = next(iter(self.zones), "")
        if moment.zone and not mine:
            raise WrongKind(f"the dates of {self.written} have no zone, and {shown(value)} has one: leave it out")
        if moment.zone not in ("", mine):
            raise WrongKind(
                f"the times of {self.written} are in the zone {mine}, and {shown(value)} is in another: write it in "
                f"{mine}"
            )
        return moment

    def _check_no_dates(self, value: str) -> None:
        """Raise WrongKind for a date that is compared with texts, of which only some are dates."""
        if looks_like_date(value) and self._has_days():
            raise WrongKind(
                f"{self.written} holds dates, and {shown(self._no_day())}, which is none: leave such values empty in "
                f"the table, or write  startswith({self.written}, '{value}')"
            )

    def _listed(self) -> list[Any]:
        """The values that are known."""
        listed: list[Any] = self.values[self.known].tolist()
        return listed

    def _has_days(self) -> bool:
        """Whether some of the texts are dates."""
        return self.may_be_dates and any(read_day(one) is not None for one in self._listed())

    def _no_day(self) -> str:
        """The first text that is no date."""
        return next(one for one in self._listed() if read_day(one) is None)

    def _compare_number(self, value: Any, holds: Comparison) -> Truth:
        if isinstance(value, bool) or not isinstance(value, int | float):
            told = (
                f": write {value} without quotes"
                if isinstance(value, str) and _is_number(value)
                else f", and {shown(value)} is none"
            )
            raise WrongKind(f"{self.written} holds numbers{told}")
        exact = self.values.dtype == object or (isinstance(value, int) and abs(value) > _EXACT)
        return self.truth(holds(self.values.astype(object) if exact else self.values, value))

    def compare_column(self, other: ValueColumn, holds: Comparison) -> Truth:
        """Row by row with another column. Raises WrongKind."""
        both = self.known & other.known
        kinds = {self.kind, other.kind} - {"empty"}
        if kinds == {"text", "date"} or (kinds == {"text"} and self._has_days() and other._has_days()):
            texts, dates = (self, other) if self.kind == "text" else (other, self)
            raise WrongKind(
                f"{dates.written} holds dates, and {texts.written} holds texts, as {shown(texts._no_day())}: leave "
                "what is no date empty in the table"
            )
        if len(kinds) > 1:
            raise WrongKind(f"{self.written} holds {NAMES[self.kind]}, and {other.written} holds {NAMES[other.kind]}")
        if "empty" in (self.kind, other.kind):
            return Truth(both, both)  # no row has both
        mine, others = self.values, other.values
        if self.kind == "date":
            _check_zones(f"{self.written} and {other.written}", self.zones | other.zones)
            mine, others = _up_to_the_shorter(mine, others)
        yes = np.asarray(holds(mine, others), bool)
        return Truth(yes & both, ~yes & both)

    def test_text(self, test: Callable[[str, str], bool], part: str) -> Truth:
        """For texts and dates: contains, startswith, endswith. Raises WrongKind."""
        if self.kind not in ("text", "date", "empty"):
            raise WrongKind(f"{self.written} holds {NAMES[self.kind]}, and only texts contain or start with others")
        texts = self.values if self.texts is None else self.texts
        listed = texts.tolist() if self.kind != "empty" else [""] * len(self.known)
        return self.truth(np.fromiter((test(one, part) for one in listed), bool, len(self.known)))


def as_column(
    name: str, values: Sequence[Any], *, usual: ColumnKind = "empty", may_be_dates: bool = True
) -> ValueColumn:
    """A column from its values, None where unknown; `usual` is its kind where all are.

    Raises WrongKind where texts and numbers are mixed.
    """
    values = [None if value != value else value for value in values]  # NaN
    known = np.fromiter((value is not None for value in values), bool, len(values))
    kinds = {_kind_of(value) for value in values} - {"empty"}
    written = written_name(name)
    if len(kinds) > 1:
        raise WrongKind(
            f"{written} holds {' and '.join(sorted(NAMES[kind] for kind in kinds))}, which cannot be compared alike"
        )
    kind: ColumnKind = kinds.pop() if kinds else usual
    moments = _as_days(values) if kind == "date" or (kind == "text" and may_be_dates) else None
    if moments is not None:
        zones = {moment.zone for moment in moments if "T" in moment.text}
        texts = [moment.text for moment in moments]
        filled = _array(["" if value is None else value for value in values])
        return ValueColumn(written, "date", _array(texts), known, frozenset(zones), filled)
    if kind == "number" and all(isinstance(value, float) or abs(value or 0) <= _EXACT for value in values):
        return ValueColumn(written, kind, np.array([0.0 if one is None else one for one in values], np.float64), known)
    empty: Any = "" if kind == "text" else 0
    filled = _array([empty if value is None else value for value in values])
    return ValueColumn(written, kind, filled, known, may_be_dates=may_be_dates)


def _as_days(values: Sequence[str | None]) -> list[Moment] | None:
    """Values as dates, Moment("") where unknown; None where one is no date."""
    moments = []
    for value in values:
        moment = Moment("") if value is None else read_day(value)
        if moment is None:
            return None
        moments.append(moment)
    return moments


def _up_to_the_shorter(some: Iterable[str], others: Iterable[str]) -> tuple[Array, Array]:
    """Pairs of dates, both only as exact as the shorter says: 2024-05 and 2024-05-01 are the same, in 2024-05."""
    pairs = [(one[: len(other)], other[: len(one)]) for one, other in zip(some, others, strict=True)]
    return _array([one for one, _ in pairs]), _array([other for _, other in pairs])


def _array(values: Sequence[Any]) -> Array:
    """One value a row, of any kind."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


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


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


COMPARISONS: dict[str, Comparison] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
