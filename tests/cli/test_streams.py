"""Standard streams that are closed, on a full disk or read by nobody: a result that is lost is never exit code 0."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitsmith.cli.main import main
from vitsmith.cli.terminal import streams
from vitsmith.errors import InputError, OutputError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX shells and devices")

FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
CLOSED = "vitsmith: standard output is closed, and results are lost: send them to a file or pipe\n"
TOLD_FULL = (
    "vitsmith: results could not be written to standard output (No space left on device) and are lost: send them to a "
    "disk with free space\n"
)


def shell(arguments: str, **environment: str) -> tuple[int, str, str]:
    """(exit code of vitsmith, what came out, what was said) of `vitsmith ARGUMENTS` in bash, `$?` behind a pipe too."""
    line = f"{sys.executable} -m vitsmith {arguments}\nexit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=120,
        errors="replace",
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("redirected", "code", "told"),
    [
        (">&-", 2, CLOSED),
        pytest.param("> /dev/full", 2, TOLD_FULL, marks=FULL),
        ("2>&-", 0, ""),
        pytest.param("2> /dev/full", 0, "", marks=FULL),
        ("<&-", 0, ""),
        (">&- 2>&- <&-", 2, ""),
        ("| true", 0, ""),
        ("| head -n 1", 0, ""),
    ],
)
def test_every_way_a_stream_can_be(redirected: str, code: int, told: str) -> None:
    for verb, unbuffered in (("--version", "1"), ("models --json", "")):
        ended, out, err = shell(f"{verb} {redirected}", PYTHONUNBUFFERED=unbuffered)
        assert (ended, err) == (code, told)
        assert bool(out) == (code == 0 and "true" not in redirected)


def test_help_is_written_whole_or_is_an_error() -> None:
    assert shell("train --help >&-")[::2] == (2, CLOSED)
    code, out, err = shell("--help | head -n 2")
    assert (code, err) == (0, "") and "Usage" in out


@FULL
def test_a_mistake_is_exit_code_2_though_nobody_can_be_told() -> None:
    for redirected in ("2> /dev/full", "2>&- >&- <&-"):
        assert shell(f"inspect nowhere {redirected}") == (2, "", "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252:strict"])
def test_results_come_in_every_encoding(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "猫 é 🐱").mkdir()
    monkeypatch.chdir(tmp_path)
    code, out, err = shell("inspect '猫 é 🐱'", PYTHONIOENCODING=encoding)
    assert (code, out) == (2, "") and err.startswith("vitsmith: ") and err.count("\n") == 1


def test_json_is_json_in_every_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    from vitsmith.cli.terminal.output import print_json

    for encoding in ("ascii", "cp1252", "utf-8"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        print_json({"name": "猫 é 🐱"})
        stream.flush()
        assert json.loads(stream.buffer.getvalue().decode(encoding)) == {"name": "猫 é 🐱"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("columns", ["1", "x"])
def test_help_and_tables_fit_any_width(columns: str) -> None:
    for verb in ("predict --help", "models"):
        code, out, err = shell(verb, COLUMNS=columns, TERM="dumb", NO_COLOR="1")
        assert (code, err) == (0, "") and out


def test_standard_input_that_is_closed_or_unreadable_is_one_line() -> None:
    told = "standard input is closed: give it something to read, as in  vitsmith predict MODEL - < photo.jpg"
    before = sys.stdin
    for stdin in (None, _closed_input()):
        sys.stdin = stdin
        try:
            with pytest.raises(InputError) as refused:
                streams.read_standard_input()
        finally:
            sys.stdin = before
        assert str(refused.value) == told


def _closed_input() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedReader(_Unreadable()))


class _Unreadable(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        raise OSError(9, "Bad file descriptor")


def test_a_closed_standard_input_is_told_by_the_verb_that_reads_it(tmp_path: Path) -> None:
    code, out, err = shell("predict nowhere - <&-")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "standard input is closed" in err


def test_what_cannot_be_written_is_told_once_and_then_dropped() -> None:
    read, write = os.pipe()
    os.close(read)
    raw = streams._Results(write)
    with pytest.raises(streams.ReaderGone):
        raw.write(b"x")
    assert raw.write(b"more") == 4  # as at the end of the interpreter, which flushes again
    os.close(write)
    with pytest.raises(OutputError, match="standard output is closed"):
        streams._Results(write).write(b"x")
    assert streams._Remarks(write).write(b"remark") == 6


def test_a_pipe_that_is_full_for_a_moment_loses_nothing() -> None:
    """Some programs make a pipe non-blocking for everybody; Python's own stream would lose what does not fit."""
    code = (
        "import os, sys; os.set_blocking(1, False); from vitsmith.cli.main import main; main(['models', '--json'] * 1)"
    )
    line = f'{sys.executable} -c "{code}" | (sleep 1; cat)'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert done.stderr == "" and len(json.loads(done.stdout)) > 10


def test_calling_main_in_a_program_leaves_its_streams_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr, sys.stdin
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out.startswith("vitsmith ")
    assert before == (sys.stdout, sys.stderr, sys.stdin)
