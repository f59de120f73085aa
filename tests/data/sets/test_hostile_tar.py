"""Tar files and patterns that were made to loop, to exhaust memory or to be read wrongly: one line, at once."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.images.photographs import PHOTO, encoded
from vitsmith.data.sets.datasets import open_labelled
from vitsmith.data.sets.shards.braces import MOST, expand_braces
from vitsmith.errors import DatasetError

PNG = encoded(PHOTO, "PNG")


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, **fields: object) -> bytes:
    """A header block, with numbers that `tarfile` would refuse to write, in base 256 (GNU)."""
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[-512:])
    if size < 0 or size >= 8**11:
        block[124:136] = (b"\xff" if size < 0 else b"\x80") + size.to_bytes(11, "big", signed=size < 0)
    else:
        block[124:136] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name: str, data: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    return header(name, len(data), kind) + data + bytes(-len(data) % 512)


def pax(*records: bytes) -> bytes:
    return member("pax", b"".join(records), tarfile.XHDTYPE)


def record(key: bytes, value: bytes, *, lie: int = 0) -> bytes:
    length = len(key) + len(value) + 3
    length += len(str(length + len(str(length))))
    return b"%d %s=%s\n" % (length + lie, key, value)


SAMPLE = member("a.png", PNG) + member("a.cls", b"0")
END = bytes(1024)


def told(tmp_path: Path, data: bytes) -> str:
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(DatasetError) as error:
        open_labelled(str(tmp_path / "x.tar"))
    message = str(error.value)
    assert str(tmp_path / "x.tar") in message
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (SAMPLE + header("b.png", -512) + END, "gives a negative size"),
        (SAMPLE + header("b.png", -(2**60)) + END, "gives a negative size"),
        (SAMPLE + pax(record(b"size", b"-1024")) + member("b.png", PNG) + END, "a pax header gives the size b'-1024'"),
        (SAMPLE + pax(record(b"size", b"1e3")) + member("b.png", PNG) + END, "a pax header gives the size"),
        (SAMPLE + pax(record(b"size", b"9" * 17)) + member("b.png", PNG) + END, "is cut off inside b.png"),
        (
            SAMPLE + pax(record(b"path", b"b.png", lie=5)) + member("x", PNG) + END,
            "does not have the length that it gives",
        ),
        (
            SAMPLE + pax(record(b"path", b"b.png", lie=-3)) + member("x", PNG) + END,
            "a record does not have the length that it gives",
        ),
        (SAMPLE + pax(b"0 path=b.png\n") + member("x", PNG) + END, "does not have the length that it gives"),
        (SAMPLE + pax(b"99999999999999999999 path=b\n") + member("x", PNG) + END, "a pax header is damaged"),
        (SAMPLE + pax(record(b"comment", b"x" * (2 << 20))) + member("b.png", PNG) + END, "an extended header has 2,"),
        (SAMPLE + header("pax", 1 << 40, tarfile.XHDTYPE) + END, "an extended header has 1,099,511,627,776 bytes"),
        (SAMPLE + member("././@LongLink", b"b" * 100, tarfile.GNUTYPE_LONGNAME) * 2000 + END, "extended headers in a"),
        (SAMPLE + pax(record(b"path", b"b.png")) * 2000 + END, "extended headers in a row"),
        (SAMPLE + header("b.png", len(PNG), tarfile.GNUTYPE_SPARSE) + PNG + END, "is a sparse file"),
        (SAMPLE + pax(record(b"GNU.sparse.major", b"1")) + member("b.png", PNG) + END, "holds a sparse file"),
        (SAMPLE + header("b.png", 1 << 62) + END, "is cut off inside b.png"),
        (SAMPLE + SAMPLE + END, "holds a.png twice"),
        (SAMPLE + header("b.png", kind=tarfile.SYMTYPE, linkname="/etc/passwd") + END, "holds b.png as a link"),
        (SAMPLE + header("b.png", kind=tarfile.LNKTYPE, linkname="a.png") + END, "holds b.png as a link"),
        (SAMPLE + END + SAMPLE.replace(b"a.", b"b.") + END, "data follows its end mark"),
        (SAMPLE, "it has no end mark"),
        (SAMPLE + member("b.json", b"[" * 100_000) + member("b.png", PNG) + END, "has a .json that cannot be read"),
        (SAMPLE + member("b.json", b'{"label": 1, "label": 2}') + member("b.png", PNG) + END, "a .json that cannot"),
        (SAMPLE + member("b.png", b"") + END, "has no .cls"),
        (b"x" * 4096, "is not a readable tar file"),
        (header("empty") * 10_001 + SAMPLE + END, "its first 10,000 members are empty"),
    ],
    ids=range(26),
)
def test_a_hostile_header_is_one_line(tmp_path, data, part) -> None:
    assert part in told(tmp_path, data)


def test_long_names_and_honest_pax_headers_are_read(tmp_path) -> None:
    long = "deep/" * 60 + "a"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "x.tar", "w", format=form) as tar:
            for name, data in ((f"{long}.png", PNG), (f"{long}.cls", b"0"), ("../ü.png", PNG), ("../ü.cls", b"1")):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(data), 1.5
                tar.addfile(info, io.BytesIO(data))
        samples, _ = open_labelled(str(tmp_path / "x.tar"))
        assert samples.names == [f"x.tar/{long}.png", "x.tar/../ü.png"]
        assert samples.image(1).shape == PHOTO.shape


def test_a_shard_that_is_a_pipe_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "x.tar")
    with pytest.raises(DatasetError, match="there is no shard"):
        open_labelled(str(tmp_path / "x.tar"))


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("x-{0..999999999999}.tar", "stands for 1,000,000,000,000 names, more than 100,000"),
        ("x-{0..99999}-{0..99999}.tar", "stands for 10,000,000,000 names"),
        ("x" + "{a,b}" * 500 + ".tar", "stands for too many names"),
        ("x-{9..0}.tar", "counts down from 9 to 0"),
        ("x-{a,{b,c}}.tar", "nested braces"),
        ("x-{a,b.tar", "an unmatched brace"),
        ("x-a,b}.tar", "an unmatched brace"),
        ("x-" + "{" * 5000 + "}" * 5000 + ".tar", "nested braces"),
        ("x-{0.." + "9" * 5000 + "}.tar", "there is no shard"),
        ("x" * 5000 + ".tar", "there is no shard"),
    ],
)
def test_a_hostile_pattern_is_one_line(pattern, part, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError) as error:
        open_labelled(pattern)
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_patterns_are_expanded_as_a_shell_does() -> None:
    for pattern in ("a-{08..11}.tar", "{x,y}-{0..2}/{b}{c,d}.tar", "plain.tar"):
        command = f"printf '%s\\n' {pattern.replace('{b}', 'b')}"
        expected = subprocess.run(["bash", "-c", command], check=True, capture_output=True, text=True).stdout.split()
        assert expand_braces(pattern) == expected
    assert len(expand_braces(f"{{0..{MOST - 1}}}")) == MOST


def write_zeros(path: Path, text: bytes, size: int) -> None:
    with path.open("wb") as file:
        file.write(text)
        file.truncate(size)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("t.csv", lambda path: write_zeros(path, b"path,label\n", 1 << 30), "holds a NUL character"),
        ("t.csv", lambda path: path.write_bytes(b'path,label\n"' + b"x" * (3 << 20)), "is longer than 1,048,576"),
        (
            "t.csv",
            lambda path: path.write_bytes(b'path,label\n"' + b"x,y\n" * 300_000),
            'a quote (") before it does not close',
        ),
        ("t.csv", lambda path: path.write_bytes("path,label\na,b\n".encode("utf-16")), "is not UTF-8 text"),
        ("t.csv", lambda path: path.write_bytes("path,label\na,b\n".encode("utf-16-le")), "it may be UTF-16"),
        ("t.csv", lambda path: path.write_text("path,label,label\na,b,c\n"), "names the column 'label' twice"),
        ("t.csv", lambda path: path.write_text("path,label\na,b,c\n"), "line 2: has 3 fields where the header has 2"),
        ("t.csv", lambda path: path.write_text("path,label\na/b%2Epng,c\n"), "without % codes"),
        ("t.csv", lambda path: path.write_text("path,label\nhttps://x.org/a.png,c\n"), "addresses are not fetched"),
        ("t.csv", lambda path: path.write_text("path,label\na,c\n"), "a (line 2, a folder)"),
        ("t.csv", lambda path: os.mkfifo(path), "it is a named pipe"),
        ("t.csv", lambda path: path.mkdir(), "has none"),
        ("t.jsonl", lambda path: path.write_text("[" * 100_000 + "]" * 100_000 + "\n"), "nested deeper than 100"),
        ("t.jsonl", lambda path: path.write_text('{"path": NaN, "label": 1}\n'), "the number NaN"),
        ("t.jsonl", lambda path: path.write_text('{"path": 5, "label": 1}\n'), "has no path in 'path'"),
        (
            "t.jsonl",
            lambda path: path.write_text('{"path": "a/b.png", "label": 1.5}\n'),
            "has no class name in 'label'",
        ),
        (
            "t.jsonl",
            lambda path: path.write_text('{"path": "a/b.png", "label": [1]}\n'),
            "has no class name in 'label'",
        ),
        ("t.jsonl", lambda path: path.write_text('{"path": "a/b.png", "label": null}\n'), "has no class name"),
    ],
    ids=range(18),
)
def test_a_hostile_table_is_one_line(tmp_path, name, content: Callable[[Path], object], part) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.png").write_bytes(PNG)
    content(tmp_path / name)
    with pytest.raises(DatasetError) as error:
        open_labelled(str(tmp_path / name))
    assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    "text", ["Path;Label\na/b.png;x, y\n", "path\tlabel\na/b.png\tx, y\n", '\n\nlabel,path\n"x, y",a/b.png']
)
def test_tables_of_other_separators_are_read(tmp_path, text) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.png").write_bytes(PNG)
    (tmp_path / "t.csv").write_text(text, encoding="utf-8-sig")
    samples, _ = open_labelled(str(tmp_path / "t.csv"))
    assert (samples.names, samples.classes) == (["a/b.png"], ("x, y",))


def test_a_tar_that_would_loop_ends_also_from_the_command_line(tmp_path) -> None:
    (tmp_path / "x.tar").write_bytes(SAMPLE + header("b.png", -512) + END)
    command = [sys.executable, "-m", "vitsmith", "train", "--data", str(tmp_path / "x.tar"), "--arch", "Ti_16"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "gives a negative size" in done.stderr
    assert "Traceback" not in done.stderr
