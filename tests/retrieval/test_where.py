"""Conditions on columns, beside the same written in Python for each row."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.retrieval.indexes import SPACE, unit, write
from vitsmith.errors import InputError
from vitsmith.retrieval.index import Index, open_index
from vitsmith.retrieval.queries.where import matching
from vitsmith.retrieval.writer import IndexWriter

ROWS: list[dict[str, Any]] = [
    {"taken": "2024-05-01T10:20:30", "width": 4000, "city": "Paris", "shown": True, "height": 3000, "note": None},
    {"taken": "2023-12-31T23:59:59", "width": 100, "city": "Rome's", "shown": False, "height": 200, "note": None},
    {"taken": None, "width": None, "city": None, "shown": None, "height": None, "note": None},
    {"taken": "2024-05-31T00:00:00", "width": 100, "city": "", "shown": True, "height": None, "note": None},
    {
        "taken": "2024-06-01T00:00:00",
        "width": 2**60 + 1,
        "city": "São Paulo",
        "shown": None,
        "height": 1.5,
        "note": None,
    },
]
NAMES = ("beach/1.jpg", "beach/2.jpg", "a.png", "b 'c'.png", "é.png")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """`ROWS` in several parts, with a column whose name is no word, and one of mixed values."""
    folder = tmp_path_factory.mktemp("where") / "index"
    with IndexWriter(folder, SPACE, part_rows=2) as writer:
        for name, row, vector in zip(NAMES, ROWS, unit(5), strict=True):
            writer.add((name, vector), None, {**row, "f-number": row["height"], "mixed": row["width"] or "wide"})
        return writer.finish()


def rows(index: Index, text: str) -> list[int]:
    found = matching(index, text)
    assert found.dtype == bool and found.shape == (5,)
    return np.flatnonzero(found).tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("taken >= '2024-05-01' and width > 1000 and city == 'Paris'", [0]),
        ("city = 'Paris'", [0]),
        ("'Paris' = city OR city = \"Rome's\"", [0, 1]),
        ("city = 'Rome''s'", [1]),
        ("city != 'Paris'", [1, 3, 4]),
        ("city <> 'Paris' AND NOT shown = TRUE", [1]),
        ("not city = 'Paris'", [1, 3, 4]),
        ("city in ['Paris', 'São Paulo']", [0, 4]),
        ("city in ('Paris')", [0]),
        ("width ≥ 4000 and width ≠ 5 and not width ≤ 1", [0, 4]),
        ("width < 1e999 and width > -1e999 and width < 9" + "9" * 500, [0, 1, 3, 4]),
        ("city != 'a\x00b' and city == \"Paris\"", [0]),
        ("city not in ('Paris', 'Rome')", [1, 3, 4]),
        ("city is none", [2]),
        ("city IS NOT NULL", [0, 1, 3, 4]),
        ("note is none and note == 'x'", []),
        ("not note == 'x'", []),
        ("100 <= width < 5000", [0, 1, 3]),
        ("width > height", [0, 4]),
        ("width == 1152921504606846977", [4]),
        ("width == 1152921504606846976", []),
        ("height > -1.5e0", [0, 1, 4]),
        ("height == 1.5", [4]),
        ("`f-number` < 250", [1, 4]),
        ("shown", [0, 3]),
        ("not shown", [1]),
        ("shown or width == 100", [0, 1, 3]),
        ("taken = '2024-05-01'", [0]),
        ("taken <= '2024-05-01'", [0, 1]),
        ("taken > '2024-05'", [4]),
        ("'2024' < taken", []),
        ("taken >= '2024'", [0, 3, 4]),
        ("taken == '2024-05-01 10:20'", [0]),
        ("taken < '2024-05-01T10:20:31' and not taken < '2024'", [0]),
        ("'beach' in id and not id == 'beach/2.jpg'", [0]),
        ("contains(id, '''c''') or startswith(id, 'é')", [3, 4]),
        ("endswith(id, '.png') and (width is none or width < 1000)", [2, 3]),
        ("width > 1\n  and shown", [0, 3]),
    ],
)
def test_rows_that_fulfil_a_condition(index: Index, text: str, expected: list[int]) -> None:
    assert rows(index, text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("widht > 5", r"at 'widht > 5' \(character 1\): .*did you mean width\? the columns are id, taken, width, city"),
        ("city == Paris", r"at 'Paris' \(character 9\): no column is called 'Paris': a text stands in quotes"),
        ("width > '1000'", "width holds numbers: write 1000 without quotes"),
        ("city == 5", "city holds texts: write '5' in quotes"),
        ("width > city", "width holds numbers, and city holds texts"),
        ("mixed > 5", "mixed holds numbers and texts"),
        ("taken > 2024-05-01", r"at '2024-05-01' \(character 9\): a date stands in quotes: write '2024-05-01'"),
        ("taken > 2024-05-01T10:20", "a date stands in quotes: write '2024-05-01T10:20'"),
        ("taken > 2024-05", "this is no number: .*date in quotes"),
        ("taken > 2024-1", "nothing is computed here; a date stands in quotes"),
        ("width > 1,000", r"at '000' \(character 11\): this is no number: write 1000 for 1,000"),
        ("width > 1,500 and shown", r"at ',500 and shown' \(character 10\): a comma stands only between the values"),
        ("(width > 1,500)", "a comma stands only between"),
        ("width in [1,000]", "this is no number"),
        ("width > 5,", r"at ',' \(character 10\): a comma stands only"),
        ("(width, height) > 5", r"at ', height\) > 5' \(character 7\): a comma"),
        ("width > 1_000", "this is no number: write 1000"),
        ("width > 1.5.2", "this is no number"),
        ("width > 007", "this is no number"),
        ("width > 0x10", "this is no number"),
        ("-width > 5", r"at '-width > 5' \(character 1\): .*a column has no minus: write  latitude < -5"),
        ("5 < -width", r"at '-width' \(character 5\): .*a column has no minus"),
        ("width - 1 > 5", "nothing is computed here"),
        ("-'x' < width", "only a number has a minus"),
        ("city like 'P%'", r"at \"like 'P%'\" \(character 6\): there is no 'like' here: write  contains"),
        ("width BETWEEN 1 AND 5", "there is no 'BETWEEN' here: write  100 <= width <= 200"),
        ("city == “Paris”", "'“' has no meaning here: a text stands between straight quotes"),
        ("shown && width > 5", "'&' has no meaning here: conditions are joined by 'and'"),
        ("!shown", "'!' has no meaning here: write 'not'"),
        ("width > 5; drop", "';' has no meaning here: there is one condition"),
        ("width => 5", r"at '=> 5' \(character 7\): write '>='"),
        ("city === 'Paris'", "write '=='"),
        ("city == 'Paris' or 'Rome'", r"at \"'Rome'\" \(character 20\): a value stands alone: write its column again"),
        ("width > nan", "no column is called 'nan'"),
        ("Width > 5", "did you mean width"),
        ("city == 'a\\'b'", "the text has no ' at its end"),
        ("`city == 'x'", "the name of the column has no ` at its end"),
        ("city \x00 'x'", r"'\\x00' has no meaning here"),
        ("city in 'Paris'", "followed by a list in brackets"),
        ("city in []", "followed by a list in brackets"),
        ("city in [width]", "a text in quotes or a number stands here"),
        ("none == width", "write  is none"),
        ("width == true", "width holds numbers"),
        ("shown == 1", "shown holds true or false"),
        ("width", "width is not true or false by itself"),
        ("width == none", "write  is none"),
        ("city is 'Paris'", "asks whether a value is missing"),
        ("width >", "at its end: a column, text or number is missing"),
        ("width > > 5", r"at '> 5' \(character 9\)"),
        ("(width > 5", "'\\(' was never closed"),
        ("city == 'Paris", "the text has no ' at its end"),
        ("1 < 2", "a column stands on one side"),
        ("width in 5", "followed by a list in brackets"),
        ("len(id) > 5", "the functions are contains, startswith, endswith"),
        ("contains(id)", "takes a column and a text"),
        ("startswith(width, '1')", "only texts contain or start with others"),
        ("width + 1 > 5", r"'\+' has no meaning here"),
        ("__import__('os').system('x')", r"'\.' has no meaning here"),
        ("lambda", "no column is called 'lambda'"),
        ("(" * 300 + "shown" + ")" * 300, "mistake|nested"),
        ("not " * 2400 + "shown", "nested too deeply"),
        ("shown and " * 2000 + "shown", "at most 10,000"),
    ],
)
def test_a_mistake_is_shown_where_it_is(index: Index, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as error:
        matching(index, text)
    assert "\n" not in str(error.value) and str(error.value).startswith("`where`")


def test_an_index_without_columns_has_its_ids(tmp_path: Path) -> None:
    write(tmp_path / "index", unit(3))
    assert matching(open_index(tmp_path / "index"), "id == '1.jpg'").tolist() == [False, True, False]
    with pytest.raises(InputError, match="there is only id in"):
        matching(open_index(tmp_path / "index"), "width > 5")


def test_an_id_that_is_written_as_a_date_is_a_name(tmp_path: Path) -> None:
    for names in (["2024-05-01", "2024-05-02"], ["2024-05-01", "a dog"]):
        with IndexWriter(tmp_path / names[1], SPACE) as writer:
            for name, vector in zip(names, unit(2), strict=True):
                writer.add((name, vector), None)
            writer.finish()
        index = open_index(tmp_path / names[1])
        assert matching(index, "id == '2024-05-01'").tolist() == [True, False]
        assert matching(index, "id == id").all()


def dated(folder: Path) -> Index:
    columns: dict[str, list[str | None]] = {
        "day": ["2024-05-01", "2024-05-02", None],
        "time": ["2024-05-01T10:20:30", "2024-05-01 23:00", "2023-01-01T00:00:00.5"],
        "zoned": ["2024-05-01T10:20:30Z", None, "2024-05-01T12:20:30.5+0000"],
        "zones": ["2024-05-01T10:20:30+02:00", "2024-05-01T09:20:30Z", None],
        "some": ["2024-05-01", "unknown", None],
        "others": ["2024-05-01T10:20:30", "unknown", None],
        "leap": ["2024-02-29", "2023-02-29", None],
        "city": ["Paris", "unknown", None],
        "month": ["2024-05", "2024-06", None],
        "taken": [None] * 3,
        "width": [None] * 3,
        "a name": [1, 2, 3],
        "and": [True, False, None],
    }
    with IndexWriter(folder, SPACE) as writer:
        for number, vector in enumerate(unit(3)):
            writer.add((f"{number}.jpg", vector), None, {name: values[number] for name, values in columns.items()})
        return writer.finish()


def test_dates_of_a_table_never_change_their_meaning_in_silence(tmp_path: Path) -> None:
    index = dated(tmp_path / "index")
    for text, expected in (
        ("day == time", [0]), ("day > time", [1]), ("time == '2024-05-01T23:00'", [1]), ("time < '2024'", [2]),
        ("zoned == '2024-05-01T10:20:30'", [0]), ("zoned >= '2024-05-01T12:20:30Z'", [2]), ("some == 'unknown'", [1]),
        ("startswith(some, '2024')", [0]), ("taken > '2024' or width > 5", []), ("not taken == time", []),
        # the less exact date says how far both are compared
        ("day == '2024-05-01T10:20'", [0]), ("day >= '2024-05-02T00:00'", [1]),
        ("time == '2023-01-01T00:00:00.50'", [2]),
        ("time == '2024-05-01T10'", [0]), ("time == '2024-05-01 23'", [1]), ("zoned == '2024-05-01T10Z'", [0]),
        ("zoned == '2024-05-01T10:20:30+00'", [0]), ("zoned == '2024-05-01T10:20:30.0-0000'", [0]),
        # texts are searched as they stand in the table
        ("endswith(zoned, 'Z')", [0]), ("contains(time, '01 23')", [1]),
        ("month == '2024-05'", [0]), ("city == some", [1]), ("leap is none", [2]),
        ("`a name` > 2", [2]), ("`and`", [0]),
    ):  # fmt: skip
        assert np.flatnonzero(matching(index, text)).tolist() == expected, text
    for text, told in (
        (
            "some >= '2024'",
            r"some holds dates, and 'unknown', which is none: leave such values empty .* startswith\(some",
        ),
        ("leap >= '2024'", "leap holds dates, and '2023-02-29', which is none"),
        ("some >= '2024-02-30'", "some holds dates, and 'unknown', which is none"),
        ("zones > '2024'", r"the times of zones have several zones \(\+00:00, \+02:00\)"),
        ("zoned > '2024-05-01T10:20:30+02:00'", r"zoned are in the zone \+00:00, and .* is in another: write it in"),
        ("zoned > time", "the times of zoned and time have several zones"),
        ("taken > '2024-05-01T10:20Z'", "the dates of taken have no zone, and '2024-05-01T10:20Z' has one: leave it"),
        ("day > '2024-05-01T10:20+02:00'", "the dates of day have no zone"),
        ("day == some", "day holds dates, and some holds texts, as 'unknown': leave what is no date empty"),
        ("city < day", "day holds dates, and city holds texts, as 'Paris'"),
        ("some == others", "others holds dates, and some holds texts, as 'unknown'"),
        ("taken > 5", "taken holds dates: write '5' in quotes"),
        ("width > 'x'", "width holds numbers"),
        ("taken > 'last May'", "is not written as a date"),
        ("`a name` == 'x'", "`a name` holds numbers, and 'x' is none"),
        ("ann > 5", "no column is called 'ann': .*`a name`, `and`"),
    ):
        with pytest.raises(InputError, match=told):
            matching(index, text)


@pytest.mark.parametrize(
    ("date", "told"),
    [
        ("2024-02-30", "the days of 2024-02 go from 01 to 29"),
        ("2023-02-29", "the days of 2023-02 go from 01 to 28"),
        ("1900-02-29", "the days of 1900-02 go from 01 to 28"),
        ("2024-04-31", "the days of 2024-04 go from 01 to 30"),
        ("2024-01-00", "the days of 2024-01 go from 01 to 31"),
        ("2024-13", "months go from 01 to 12"),
        ("2024-00-01", "months go from 01 to 12"),
        ("2024-01-01T24:00", "hours go from 00 to 23"),
        ("2024-01-01T25", "hours go from 00 to 23"),
        ("2024-01-01 10:60", "minutes go from 00 to 59"),
        ("2024-12-31T23:59:60", "seconds go from 00 to 59"),
        ("2024-01-01T10:20+15:00", "the hours of a zone go from 00 to 14"),
        ("2024-01-01T10:20+01:60", "the minutes of a zone go from 00 to 59"),
        *((wrong, "is not written as a date: write '2024-05-01', a part of it") for wrong in (
            "01.05.2024", "2024-5-1", "2024/05/01", "20240501", "24-05-01", "2024-05-01T", "2024-05-01T10:20:30 PM",
            "2024-05-01Z", "2024-05-01T10:2", "2024-05-01T10:20:30.", "2024-05-01T10:20:30 Z", "2024-W18", "may", "",
            " 2024", "\uff12\uff10\uff12\uff14", "2024-05-01T10:20:30Z+02:00", "2024-05-01\n", "now", "-2024",
        )),
    ],
)  # fmt: skip
def test_a_date_that_cannot_be_is_told(index: Index, date: str, told: str) -> None:
    with pytest.raises(InputError, match="taken holds dates, and .*" + told) as error:
        matching(index, f"width > 5 and taken >= '{date}'")
    assert "(character 24)" in str(error.value)


_SIGNS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _comparison(row: dict[str, Any], name: str, sign: str, value: Any) -> bool | None:
    return None if row[name] is None else _SIGNS[sign](row[name], value)


def _and(left: bool | None, right: bool | None) -> bool | None:
    return False if False in (left, right) else None if None in (left, right) else True


_LEAVES = st.one_of(
    st.tuples(
        st.sampled_from(["width", "height"]), st.sampled_from([*_SIGNS]), st.sampled_from([1.5, 100, 2**60, 2**60 + 1])
    ),
    st.tuples(st.just("city"), st.sampled_from([*_SIGNS]), st.sampled_from(["", "Paris", "Q"])),
)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.tuples(st.just("not"), inner), st.tuples(st.sampled_from(["and", "or"]), inner, inner)),
    max_leaves=8,
)


def _written(tree: Any) -> str:
    if tree[0] == "not":
        return f"not ({_written(tree[1])})"
    if tree[0] in ("and", "or"):
        return f"(({_written(tree[1])}) {tree[0]} ({_written(tree[2])}))"
    value = f"'{tree[2]}'" if isinstance(tree[2], str) else tree[2]
    return f"{tree[0]} {tree[1]} {value}"


def _of_row(tree: Any, row: dict[str, Any]) -> bool | None:
    """Kleene's logic: True, False, or None where it is not known."""
    if tree[0] == "not":
        inner = _of_row(tree[1], row)
        return None if inner is None else not inner
    if tree[0] == "and":
        return _and(_of_row(tree[1], row), _of_row(tree[2], row))
    if tree[0] == "or":
        left, right = (_of_row(("not", one), row) for one in tree[1:])
        both = _and(left, right)
        return None if both is None else not both
    return _comparison(row, *tree)


@settings(max_examples=150, deadline=None)
@given(_TREES)
def test_any_condition_is_what_python_says_row_by_row(index: Index, tree: Any) -> None:
    assert rows(index, _written(tree)) == [at for at, row in enumerate(ROWS) if _of_row(tree, row) is True]


_WORDS = [
    *("and", "or", "not", "in", "is", "none", "(", ")", "[", "]", ",", "-", "=", "==", "<", "!=", "<>", "'a'", '"b'),
    *("`id`", "id", "width", "shown", "taken", "mixed", "contains", "5", "1e9", ".", "*", ":", "x", "\x00", "é", "#"),
    *("\\", "\n", "'2024'"),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(st.sampled_from(_WORDS), max_size=9).map(" ".join), st.text(max_size=30)))
def test_no_text_does_anything_but_choose_rows_or_be_refused(index: Index, text: str) -> None:
    try:
        found = matching(index, text)
    except InputError as error:
        assert str(error).startswith("`where`")
    else:
        assert found.dtype == bool and found.shape == (5,)
