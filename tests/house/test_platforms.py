"""Windows and macOS by simulation: what they do not have is taken away, and everything goes on.

Locks, swaps and flushing without their POSIX forms are in tests/files/test_files.py.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from vitsmith.data.sets.shards import tar
from vitsmith.data.sets.shards.tar import OpenShard, ShardFiles, scan_shard
from vitsmith.engines.tuning_cache import recall, remember
from vitsmith.errors import OutputError
from vitsmith.files import cache
from vitsmith.process import child
from vitsmith.process.child import signal_name
from vitsmith.stream import _yield_to_engine


def test_shards_are_read_without_pread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    contents = [random.integers(0, 256, 70_000).astype(np.uint8).tobytes() for _ in range(8)]
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number, content in enumerate(contents):
            for name, data in ((f"{number}.jpg", content), (f"{number}.cls", str(number).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    expected = scan_shard(tmp_path / "a.tar")
    monkeypatch.delattr(os, "pread", raising=False)
    entries = scan_shard(tmp_path / "a.tar")
    assert entries == expected and [entry.label for entry in entries] == list(range(8))
    shards, wrong = ShardFiles(), []

    def read(start: int) -> None:
        for at in range(200):
            entry = entries[(start + at) % 8]
            found = shards.read(tmp_path / "a.tar", entry.offset, entry.size, entry.member)
            if found != contents[int(entry.label)]:
                wrong.append(entry)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    size = (tmp_path / "a.tar").stat().st_size
    assert len(OpenShard(tmp_path / "a.tar").read(size - 10, 100)) == 10, "fewer where the file ends"


def test_a_shard_is_opened_for_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows opens files as text unless it is told."""
    (tmp_path / "a.tar").touch()
    flags: list[int] = []
    opened = os.open
    monkeypatch.setattr(os, "O_BINARY", 1 << 30, raising=False)
    monkeypatch.setattr(tar.os, "open", lambda path, mode: flags.append(mode) or opened(path, os.O_RDONLY))
    OpenShard(tmp_path / "a.tar")
    assert flags == [os.O_RDONLY | 1 << 30]


def test_decoders_keep_their_priority_where_it_belongs_to_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "setpriority", lambda *_: pytest.fail("of the whole process"))
    _yield_to_engine()


def test_signals_that_a_system_does_not_have_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signal_name(int(signal.SIGTERM)) == "SIGTERM" and signal_name(99) == "signal 99"
    monkeypatch.delattr(signal, "SIGKILL", raising=False)
    assert child._how(-9, "") and child._how(3, "a\nb").endswith("exit code 3 (b)")


# --- folders of a user ------------------------------------------------------------------------------------------------


def test_the_cache_is_where_the_variables_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VITSMITH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.cache_folder() == tmp_path / ".cache" / "vitsmith"
    monkeypatch.setenv("XDG_CACHE_HOME", "~/other")
    assert cache.cache_folder() == tmp_path / "other" / "vitsmith"
    monkeypatch.setenv("VITSMITH_CACHE", "~/third")
    assert cache.cache_folder() == tmp_path / "third"


def test_without_a_home_nothing_is_remembered_and_downloads_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    monkeypatch.delenv("VITSMITH_CACHE")
    with pytest.raises(OutputError, match=r"there is no home folder .*: set VITSMITH_CACHE to a folder"):
        cache.cache_folder()
    remember({"what": "x"}, {"answer": 1})
    assert recall({"what": "x"}) is None


def test_a_cache_that_cannot_be_written_only_forgets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "file"))
    remember({"what": "x"}, {"answer": 1})
    assert recall({"what": "x"}) is None
