"""Whatever is written appears whole, for one writer at a time, readable as the umask says; what fails is one line."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.files.folders import hidden, tree, write_folder
from tests.files.libraries import WRITERS
from vitsmith.errors import OutputError
from vitsmith.files import atomic as files
from vitsmith.files import failures as failed_writes
from vitsmith.files import locks, swap, workspace
from vitsmith.files.atomic import claimed, new_folder, optional, replacing, replacing_folder, scratch, write_text
from vitsmith.files.locks import HeldError, Lock
from vitsmith.files.workspace import mend

posix = pytest.mark.skipif(os.name != "posix", reason="needs fork")


# --- killed ----------------------------------------------------------------------------------------------------------

KILLED = """
    import os, sys
    from pathlib import Path
    from vitsmith.files import locks
    from vitsmith.files import swap
    from vitsmith.files.atomic import replacing, replacing_folder
    from tests.files.folders import write_folder

    place, kind, exchange, events = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "exchange", 0

    def run(until):
        if not exchange:
            swap._system_call = lambda: None
        left = [until]

        def count(event, arguments):
            if event == "open" or event.startswith(("os.", "shutil.", "fcntl.", "ctypes.set_errno")):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)

        sys.addaudithook(count)
        target = place / str(until) / "target"
        if kind == "folder":
            write_folder(target, "new")
        else:
            with replacing(target) as partial:
                partial.write_text("new")
        os._exit(0)

    code = 9
    while code == 9:
        child = os.fork()
        if not child:
            run(events)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        events += 1
    print(events, code)
"""
MOST = 60


@posix
@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize(("kind", "how"), [("folder", "exchange"), ("folder", "steps"), ("file", "exchange")])
def test_a_writer_killed_before_any_file_event_leaves_the_old_or_the_new(
    kind: str, how: str, existing: bool, tmp_path: Path
) -> None:
    """A child for each event that Python audits: opening, renaming, making, locking, removing."""
    target_of = [tmp_path / str(event) / "target" for event in range(MOST)]
    for target in target_of:
        target.parent.mkdir()
        if existing and kind == "folder":
            write_folder(target, "old")
        elif existing:
            target.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), kind, how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    events, code = map(int, done.stdout.split())
    assert code == 0 and 10 < events < MOST, done.stderr
    seen = set()
    for target in target_of[:events]:
        mend(target)
        found = tree(target) if target.is_dir() else {"a": target.read_bytes()} if target.exists() else {}
        assert set(found.values()) <= {b"old"} or set(found.values()) <= {b"new"}
        assert len(found) == (2 if kind == "folder" else 1) or (not found and not existing)
        seen |= set(found.values())
        if kind == "folder":
            write_folder(target, "again")
            assert tree(target) == {"a": b"again", "b": b"again"}
        else:
            write_text(target, "again")
            assert target.read_text() == "again"
        assert hidden(target.parent) == []
    assert seen == ({b"old", b"new"} if existing else {b"new"})


CUT_OFF = """
    import os, sys
    from pathlib import Path
    from tests.tiny import CONFIGS, tiny_model
    from vitsmith import Bundle, save
    from vitsmith.files import swap

    rename = Path.rename

    def dies(path, target):
        if path.name == "whole" and not target.exists():
            os._exit(9)
        return rename(path, target)

    swap._system_call = lambda: None
    save(Bundle.of(tiny_model(CONFIGS["vit-token"])), sys.argv[1])
    Path.rename = dies
    save(Bundle.of(tiny_model(CONFIGS["mixer"])), sys.argv[1])
"""


def test_a_reader_finds_a_bundle_whose_replacement_was_cut_off(tmp_path: Path) -> None:
    from vitsmith import load

    folder = tmp_path / "model"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(CUT_OFF), str(folder)], cwd=ROOT, check=False)
    assert done.returncode == 9 and not folder.exists()
    assert load(folder).config.family == "mixer"


@posix
def test_only_what_the_dead_left_is_removed(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; from tests.files.folders import stay; stay(sys.argv[1])", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "writing\n"
    mine = tmp_path / ".notes.partial"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    (tmp_path / ".model.123abc.partial").write_text("of an earlier version, or mine")
    assert len(hidden(tmp_path)) == 3
    workspace._cleaned.clear()
    write_text(tmp_path / "model", "ours")  # the same place, which another process is still writing
    assert (tmp_path / ".model.partial" / "new").exists() and (tmp_path / "model").read_text() == "ours"
    child.kill()
    child.wait()
    child.stdout.close()
    workspace._cleaned.clear()
    files.check_writable(tmp_path / "other")  # whatever comes of it
    assert sorted(hidden(tmp_path)) == [".model.123abc.partial", ".notes.partial"]
    assert (mine / "thesis.txt").read_text() == "years of work"


# --- two at once -----------------------------------------------------------------------------------------------------


def _make(place: str, barrier: Any, made: Any) -> None:
    barrier.wait()
    made.put(str(new_folder(place)))


@posix
def test_processes_released_together_never_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    together, tries = 4, 15
    found: list[str] = []
    for attempt in range(tries):
        barrier, made = context.Barrier(together), context.Queue()
        place = str(tmp_path / str(attempt) / "runs" / "run")
        started = [context.Process(target=_make, args=(place, barrier, made)) for _ in range(together)]
        for process in started:
            process.start()
        found += [made.get(timeout=60) for _ in started]
        for process in started:
            process.join(60)
    assert len(set(found)) == together * tries
    assert {Path(one).name for one in found} == {"run", "run-2", "run-3", "run-4"}


def test_a_place_is_claimed_by_one_and_free_again_after_it(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    told = rf"is being written by process {os.getpid()} on .*choose another place"
    with claimed(out), pytest.raises(OutputError, match=told), claimed(out):
        pass
    assert list(tmp_path.iterdir()) == []
    with claimed(out):
        write_folder(out, "ours")
    assert tree(out) == {"a": b"ours", "b": b"ours"} and hidden(out.parent) == []


@posix
def test_a_lock_ends_with_its_process_however_it_ends(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from vitsmith.files.locks import Lock"
    code += "; lock = Lock.take(Path(sys.argv[1]))"
    child = subprocess.Popen(
        [sys.executable, "-c", f"{code}; print(1, flush=True); sys.stdin.read()", str(tmp_path / "lock")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdin is not None
    child.stdout.readline()
    with pytest.raises(HeldError, match=rf"process {child.pid} on "):
        Lock.take(tmp_path / "lock")
    child.kill()
    child.wait()
    child.stdout.close()
    child.stdin.close()
    with Lock.take(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


# --- writes that fail ------------------------------------------------------------------------------------------------


class SafetensorError(Exception):
    """As safetensors raises it."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; free some space, or choose"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), f"{os.strerror(errno.EDQUOT)}; free some space"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied; choose another place"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/else/x"), "No such file: /else/x; choose another place"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "No space left"),
        (SafetensorError("something else"), "something else; choose"),
        (OSError("400000 requested and 75744 written"), "only a part of it could be written"),
        (OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"), "No space left on device"),
        (RuntimeError("basic_ios::clear: iostream error"), "iostream error"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"), "unexpected pos"),
        (RuntimeError(f"{'x' * 300} write error in x: 5 != 16 (File too large)"), "File too large; free some space"),
    ],
)
def test_a_failed_write_is_one_line_whoever_was_writing(error: Exception, told: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught, replacing(tmp_path / "file") as partial:
        partial.write_text("half")
        raise error
    message = str(caught.value)
    assert message.startswith(f"cannot write {tmp_path / 'file'}: ") and told in message and "\n" not in message
    with pytest.raises(OutputError), replacing_folder(tmp_path / "folder"):
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError("a bug"), ZeroDivisionError(), BrokenPipeError(errno.EPIPE, "Broken")])
def test_what_is_no_failed_write_is_not_called_one(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)), replacing(tmp_path / "file"):
        raise error
    with pytest.raises(type(error)), scratch("test"):
        raise error


def test_a_copy_that_finds_a_full_disk_is_told_of_the_place_and_not_of_the_original(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with pytest.raises(OutputError) as caught, scratch("test") as place, replacing_folder(target) as partial:
        raise OSError(errno.ENOSPC, "No space left on device", str(place / "made"), None, str(partial / "made"))
    told = "No space left on device; free some space, or choose another place"
    assert str(caught.value) == f"cannot write {target}: {told}"


def test_an_error_behind_an_error_is_found(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left on device"), replacing(tmp_path / "file"):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise ValueError("Can't close the ZIP file while there is an open writing handle on it")  # as zipfile


def test_a_full_disk_explains_what_a_library_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(failed_writes.shutil, "disk_usage", lambda _: usage)
    told = r"No space left on device \(it went wrong\); free some space"
    with pytest.raises(OutputError, match=told), replacing(tmp_path / "file"):
        raise RuntimeError("it went wrong")


LIMITED = """
    import resource, sys
    from pathlib import Path
    import numpy as np, torch
    from vitsmith.errors import OutputError
    from vitsmith.files.atomic import replacing_folder
    from tests.files.libraries import WRITERS

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    for name in sys.argv[2:]:
        try:
            with replacing_folder(Path(sys.argv[1]) / name) as partial:
                WRITERS[name](partial)
        except OutputError as error:
            print(name, "refused" if "\\n" not in str(error) and "cannot write" in str(error) else error)
"""


@posix
def test_no_library_that_writes_for_us_ends_in_a_traceback(tmp_path: Path) -> None:
    """The system lets no file of the child grow beyond 100,000 bytes, as a full disk does."""
    from importlib.util import find_spec

    names = [name for name in WRITERS if find_spec(name)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(LIMITED), str(tmp_path), *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.splitlines() == [f"{name} refused" for name in names], done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["/dev/full", "/dev/null"])
def test_devices_are_not_replaced(name: str) -> None:
    with pytest.raises(OutputError, match="it is a device, not a file"):
        write_text(name, "text")
    assert stat.S_ISCHR(Path(name).stat().st_mode)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("x" * 256, r"x+\.\.\.: this name has 256 bytes, and a name can have 255"),
        ("中" * 90, "this name has 270 bytes"),
        ("a\0b", "has a zero byte"),
    ],
)
def test_names_that_no_file_can_have(name: str, told: str, tmp_path: Path) -> None:
    for write in (files.check_writable, new_folder, lambda path: write_text(path, "x")):
        for path in (tmp_path / name, tmp_path / name / "model"):
            with pytest.raises(OutputError, match=told):
                write(path)
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    name = "x" * 255
    for _ in range(2):
        write_text(tmp_path / name, "text")
    write_folder(tmp_path / ("y" * 255), "word")
    assert (tmp_path / name).read_text() == "text" and hidden(tmp_path) == []


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "current").symlink_to("v1")
    write_folder(tmp_path / "current", "new")
    assert (tmp_path / "current").is_symlink() and tree(tmp_path / "v1") == {"a": b"new", "b": b"new"}


# --- the umask -------------------------------------------------------------------------------------------------------

MASKED = """
    import os, sys, tempfile
    from pathlib import Path
    import torch
    import vitsmith as vs
    from tests.retrieval.indexes import unit, write
    from tests.tiny import CONFIGS, tiny_lit, tiny_model
    from vitsmith.files.atomic import replacing_folder
    from vitsmith.runs.run import Run
    from vitsmith.training.checkpoint.disk import CheckpointWriter

    for mask in sys.argv[2:]:
        os.umask(int(mask, 8))
        place = Path(sys.argv[1], mask)
        vs.save(vs.Bundle.of(tiny_model(CONFIGS["vit-token"])), place / "model")
        vs.save(tiny_lit(released=True), place / "lit.npz", format="npz")
        write(place / "index", unit(3))
        with Run("train", "run", place / "run") as run:
            run.log(step=1)
            run.write_json("recipe.json", {})
            checkpoints = CheckpointWriter(run.folder, 2)
            checkpoints.save(1, {"a": torch.zeros(3)}, {})
            checkpoints.wait()
            checkpoints.close()
        with replacing_folder(place / "made") as partial:
            Path(tempfile.mkdtemp(dir=partial), "file").touch(mode=0o600)
"""
MASKS = {"22": 0o022, "77": 0o077, "2": 0o002}


@posix
def test_everything_follows_the_umask(tmp_path: Path) -> None:
    """safetensors makes its files 0600, and tempfile its folders 0700."""
    command = [sys.executable, "-c", textwrap.dedent(MASKED), str(tmp_path), *MASKS]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    for name, mask in MASKS.items():
        made = [tmp_path / name, *(tmp_path / name).rglob("*")]
        names = {path.name for path in made}
        assert {"model.safetensors", "golden.safetensors", "lit.npz", "index.json", "state.safetensors"} <= names
        for path in made:
            expected = (0o777 if path.is_dir() else 0o666) & ~mask
            assert f"{stat.S_IMODE(path.stat().st_mode):o}" == f"{expected:o}", path


# --- what comes beside a result ---------------------------------------------------------------------------------------


def test_what_is_optional_costs_one_remark(capsys: pytest.CaptureFixture[str]) -> None:
    with optional("the plot"):
        raise ValueError("Expected end of text,\nfound '$'")
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "the plot could not be made (Expected end of text, found '$'); everything else is written\n",
    )
    with pytest.raises(KeyboardInterrupt), optional("the plot"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("stream", [None, "closed"])
def test_a_remark_needs_no_standard_error(stream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if stream:
        stream = (tmp_path / "err").open("w")
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    with optional("the plot"):
        raise ValueError("no")


# --- temporary files --------------------------------------------------------------------------------------------------


def test_without_a_place_for_temporary_files_tmpdir_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(files.tempfile, "mkdtemp", none)
    with pytest.raises(OutputError, match=r"No usable temporary directory .*set TMPDIR"), scratch("test"):
        pass


def test_a_full_place_for_temporary_files_names_tmpdir() -> None:
    told = r"cannot write temporary files in .*No space left on device.*TMPDIR"
    with pytest.raises(OutputError, match=told), scratch("test") as place:
        raise OSError(errno.ENOSPC, "No space left on device", str(place / "x"))
    assert not place.exists()
    with pytest.raises(FileNotFoundError), scratch("test"):  # about something else
        raise FileNotFoundError(errno.ENOENT, "No such file", "/somewhere/else")


# --- other systems ----------------------------------------------------------------------------------------------------


class Windows:
    """msvcrt's locks: of bytes, mandatory, and only of those that are not locked."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], int] = {}

    def locking(self, number: int, mode: int, size: int) -> None:
        assert mode == self.LK_NBLCK and size == 1 and os.lseek(number, 0, os.SEEK_CUR) > 1_000_000
        held = os.fstat(number)
        key = held.st_dev, held.st_ino
        owner = self.held.get(key)
        if owner is not None and owner != number and _is_open(owner, key):
            raise PermissionError(errno.EACCES, "Permission denied")
        self.held[key] = number


def _is_open(number: int, key: tuple[int, int]) -> bool:
    try:
        found = os.fstat(number)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == key


def test_windows_locks_and_swaps_in_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No fcntl, no exchange, no flushing of folders, no mode bits."""
    monkeypatch.setattr(locks, "_fcntl", None)
    monkeypatch.setattr(locks, "_msvcrt", Windows())
    monkeypatch.setattr(workspace, "exchange", lambda first, second: False)
    with Lock.take(tmp_path / "lock"), pytest.raises(HeldError, match=f"process {os.getpid()} "):
        Lock.take(tmp_path / "lock")
    with Lock.take(tmp_path / "lock"):
        pass
    for word in ("old", "new"):
        write_folder(tmp_path / "folder", word)
        write_text(tmp_path / "file", word)
        assert tree(tmp_path / "folder") == {"a": word.encode(), "b": word.encode()}
        assert (tmp_path / "file").read_text() == word
    folder = tmp_path / "folder"
    with claimed(folder), pytest.raises(OutputError, match="is being written by"), claimed(folder):
        pass
    assert hidden(tmp_path) == []


def test_folders_are_not_flushed_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    flushed: list[int] = []
    monkeypatch.setattr(files.os, "fsync", flushed.append)
    monkeypatch.setattr(files, "_WINDOWS", True)
    files.flush(tmp_path)
    assert flushed == []
    files.flush(tmp_path / "file")
    assert len(flushed) == 1


def test_where_there_are_no_locks_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_fcntl", None)
    with Lock.take(tmp_path / "lock"), Lock.take(tmp_path / "lock"):
        pass
    write_folder(tmp_path / "folder", "word")
    assert tree(tmp_path) == {"folder/a": b"word", "folder/b": b"word"}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EIO])
def test_a_file_system_without_a_swap_is_told_from_one_that_fails(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(first: bytes, second: bytes) -> int:
        swap.ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(swap, "_system_call", lambda: fails)
    if number == errno.EIO:
        with pytest.raises(OSError, match=re.escape(os.strerror(number))):
            swap.exchange(tmp_path / "a", tmp_path / "b")
    else:
        assert swap.exchange(tmp_path / "a", tmp_path / "b") is False


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2")
def test_two_folders_swap_places_in_one_step(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
    if not swap.exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system has no such step")
    assert (tmp_path / "a" / "name").read_text() == "b" and (tmp_path / "b" / "name").read_text() == "a"


def test_text_that_is_not_utf_8_is_escaped_as_json_does(tmp_path: Path) -> None:
    write_text(tmp_path / "x.json", json.dumps({"name": "caf\udce9"}, ensure_ascii=False))
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"name": "caf\udce9"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "photos/x"),
            "cannot use photos/x: Permission denied; check",
        ),
        (OSError(errno.ENAMETOOLONG, "File name too long", b"x"), "cannot use x: File name too long"),
        (OSError(errno.ENOSPC, "No space left on device"), "cannot use a file: No space left on device"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), ""),  # may be a fault of ours
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
        (PermissionError(errno.EACCES, "Permission denied", 3), ""),
    ],
)
def test_trouble_with_a_file_that_nobody_expected_is_one_line(error: OSError, told: str) -> None:
    found = failed_writes.why_unusable(error)
    assert found.startswith(told) and bool(found) == bool(told)
