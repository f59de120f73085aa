"""JSON from outside is read strictly, and a mistake in it is one line that names the file."""

from __future__ import annotations

import json
import os

import pytest

from vitsmith.errors import DatasetError, InputError
from vitsmith.files.regular import NotRegularError, open_regular, read_regular
from vitsmith.json_text import DEEPEST, parse_json, read_json


def test_a_file_gives_the_value_it_was_written_from(tmp_path) -> None:
    value = {"a": [1, 2.5, -3e-7, None, True, {"ü": "é\u2028"}], "b": {}, "c": 10**40}
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "x.json").write_text(json.dumps(value, ensure_ascii=False), encoding=encoding)
        assert read_json(tmp_path / "x.json") == value


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b'{"a": NaN}', "the number NaN, which is not finite"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "the number 1e999"),
        (b'{"a": 1, "b": 2, "a": 3}', "has the key 'a' twice"),
        (b"[" * 100_000 + b"]" * 100_000, "nested deeper than 100 levels"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested deeper than 100 levels"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "nested deeper than 100 levels"),
        (b"1" * 10_000, "4300"),
        (b"", "line 1, column 1"),
        (b'{"a": 1', "line 1, column 8"),
        (b'"\xff"', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (r'{"a": "x\ud800y"}', "'\\ud800' in it is half a character"),
        (r'{"\uDFFF": 1}', "'\\udfff' in it is half a character"),
    ],
)
def test_what_python_would_take_or_stumble_over_is_one_line(text, part) -> None:
    with pytest.raises(DatasetError) as error:
        parse_json(text, "the file x.json", error=DatasetError)
    assert str(error.value).startswith("the file x.json is no")
    assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_brackets_in_texts_and_side_by_side_are_no_levels() -> None:
    value = ["[" * 500, [[] for _ in range(500)], {"{" * 300: 1}]
    assert parse_json(json.dumps(value), "x") == value
    deepest: list[object] = []
    for _ in range(DEEPEST - 1):
        deepest = [deepest]
    assert parse_json(json.dumps(deepest), "x") == deepest


def test_pairs_of_surrogates_and_bytes_of_file_names_are_kept() -> None:
    assert parse_json(r'["\ud83d\ude00", "caf\udce9.png", "\\ud800"]', "x") == [
        "\U0001f600",
        "caf\udce9.png",
        r"\ud800",
    ]


def test_numbers_that_are_not_finite_where_they_are_expected() -> None:
    assert parse_json("[Infinity, 1e999]", "x", finite=False) == [float("inf")] * 2


def test_pipes_devices_and_folders_are_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, part in [
        (tmp_path / "pipe", "it is a named pipe"),
        ("/dev/zero", "it is a device"),
        (tmp_path, "it is a folder"),
        (tmp_path / "dangling", "a link to a file that does not exist"),
        (tmp_path / "loop", "symbolic links"),
        (tmp_path / ("x" * 300), "too long"),
        (str(tmp_path / "a\0b"), "no file has such a name"),
    ]:
        with pytest.raises(OSError) as error:
            open_regular(path)
        assert part in (error.value.strerror or "")
        with pytest.raises(InputError) as refused:
            read_json(path)
        assert part in str(refused.value)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "nothing.json")


def test_a_file_over_the_limit_is_not_read(tmp_path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(NotRegularError, match="over the limit"):
        read_regular(tmp_path / "huge", largest=1 << 20)
    (tmp_path / "small").write_bytes(b"12345")
    assert read_regular(tmp_path / "small", largest=5) == b"12345"
    with pytest.raises(NotRegularError, match="5 bytes, over the limit of 4"):
        read_regular(tmp_path / "small", largest=4)
