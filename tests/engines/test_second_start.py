"""What is remembered between starts: hashes of files and golden answers; and that nothing changed passes for it."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitsmith as vs
from tests.command_line import call
from tests.exporting import export_onnx
from tests.tiny import VIT, pictures, tiny_model
from vitsmith import Bundle
from vitsmith.engines import golden_answers
from vitsmith.engines import open as base
from vitsmith.engines.onnx.engine import OnnxEngine
from vitsmith.engines.tuning_cache import PACKAGE, code_state, installed_version
from vitsmith.errors import BundleError
from vitsmith.weights.bundle import hashes
from vitsmith.weights.bundle.hashes import forget, hashes_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An exported bundle with a file that is large enough to be remembered, on a disk whose clock is exact."""
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "LARGE", 1000)
    monkeypatch.setattr(hashes, "_SETTLED", 0)
    export_onnx(Bundle.of(tiny_model(VIT)).with_golden(pictures(2)), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are hashed from now on."""
    names: list[str] = []
    real = hashes.sha256
    monkeypatch.setattr(hashes, "sha256", lambda path: names.append(Path(path).name) or real(path))
    return names


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of the engine was given."""
    counts: list[int] = []
    real = OnnxEngine.run
    monkeypatch.setattr(OnnxEngine, "run", lambda engine, images: counts.append(len(images)) or real(engine, images))
    return counts


def test_large_files_are_hashed_once(folder: Path, hashed: list[str]) -> None:
    vs.load(folder)
    assert set(hashed) >= {"model.onnx", "golden.safetensors"}
    hashed.clear()
    vs.load(folder)
    assert not {"model.onnx", "golden.safetensors"} & set(hashed)
    forget(folder)
    vs.load(folder)
    assert "model.onnx" in hashed


def same_size_and_time(path: Path) -> None:
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as file:  # the same inode
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def same_by_another_file(path: Path) -> None:
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    other = path.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("changed", [same_size_and_time, same_by_another_file])
@pytest.mark.parametrize("name", ["model.onnx", "golden.safetensors"])
def test_a_changed_byte_is_refused_though_size_and_time_are_as_they_were(
    folder: Path, name: str, changed: Callable[[Path], None]
) -> None:
    vs.load(folder)
    vs.load(folder)
    time.sleep(0.02)  # the next tick of the clock of the file system
    changed(folder / name)
    with pytest.raises(BundleError, match=f"{name} is not the file this bundle was written with"):
        vs.load(folder)


def test_a_file_that_was_just_written_is_hashed_again(
    folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "_SETTLED", 10**12)
    for _ in range(2):
        hashed.clear()
        hashes_of(folder, ["model.onnx"])
        assert hashed == ["model.onnx"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"model.onnx": 1}', b'{"model.onnx": [[1], "x"]}'])
def test_a_damaged_memory_is_as_if_there_were_none(folder: Path, content: bytes) -> None:
    vs.load(folder)
    place = hashes._place_of(folder)
    assert place.is_file()
    place.write_bytes(content)
    vs.load(folder)


def test_golden_answers_are_compared_once(folder: Path, ran: list[int]) -> None:
    bundle = vs.load(folder)
    base.open_engine(bundle, "onnx")
    assert ran == [2]
    opened = base.open_engine(vs.load(folder), "onnx")
    assert ran == [2]
    opened.run(np.zeros((1, 3, 16, 24), np.float32))
    assert ran == [2, 1]
    base.open_engine(vs.load(folder, verify=False), "onnx")
    assert ran == [2, 1, 2]  # nobody knows what is in these files
    base.open_engine(vs.load(folder), "onnx", goal="latency")
    assert ran == [2, 1, 2, 2]


def test_what_changes_an_answer_is_compared_again(
    folder: Path, ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = vs.load(folder)
    base.open_engine(bundle, "onnx")
    mean = bundle.preprocessing.model_copy(update={"mean": (0.4, 0.5, 0.5)})
    with pytest.raises(BundleError, match="is preprocessed differently here"):
        base.open_engine(dataclasses.replace(bundle, preprocessing=mean), "onnx")
    golden = bundle.golden
    assert golden is not None
    other = dataclasses.replace(golden, outputs=golden.outputs + 1)
    with pytest.raises(BundleError, match="give other answers here"):
        base.open_engine(dataclasses.replace(bundle, golden=other), "onnx")
    ran.clear()
    monkeypatch.setattr(golden_answers, "code_state", lambda: "edited")
    base.open_engine(bundle, "onnx")
    assert ran == [2]


@pytest.mark.parametrize(
    ("edited", "noticed"),
    [("data/images/preprocess.py", True), ("engines/onnx/engine.py", True), ("engines/open.py", True),
     ("training/loop.py", False)],
)  # fmt: skip
def test_edited_code_is_another_state_in_whatever_room_it_lies(edited: str, noticed: bool, tmp_path: Path) -> None:
    for name in ("data/images/preprocess.py", "engines/onnx/engine.py", "engines/open.py", "training/loop.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("old = 1")
    code_state.cache_clear()
    before = code_state(tmp_path)
    (tmp_path / edited).write_text("edited = 2")
    code_state.cache_clear()
    assert (code_state(tmp_path) != before) == noticed


def test_the_code_whose_state_is_kept_is_there() -> None:
    assert all((PACKAGE / name).is_file() for name in ("data/images/preprocess.py", "engines/onnx/engine.py"))


def test_a_wrong_answer_is_not_remembered_as_right(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = OnnxEngine.run
    monkeypatch.setattr(OnnxEngine, "run", lambda engine, images: real(engine, images) + 1)
    for _ in range(2):
        with pytest.raises(BundleError, match="give other answers here"):
            base.open_engine(vs.load(folder), "onnx")


def test_a_file_that_changed_after_it_was_loaded_is_not_taken_for_the_one_that_held(
    folder: Path, ran: list[int]
) -> None:
    bundle = vs.load(folder)
    base.open_engine(bundle, "onnx")
    program = (folder / "model.onnx").read_bytes()
    time.sleep(0.02)
    (folder / "model.onnx").write_bytes(program + b"")  # the same bytes: it is read again, and still holds
    base.open_engine(bundle, "onnx")
    assert ran == [2]
    (folder / "model.onnx").write_bytes(program.replace(b"pytorch", b"pytorcH", 1))
    base.open_engine(bundle, "onnx")
    assert ran == [2, 2]


def test_the_version_of_a_package_that_another_brings_is_when_it_was_written(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "runtime_of_another.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    first = installed_version("runtime_of_another")
    os.utime(tmp_path / "runtime_of_another.py", (1, 1))
    assert first != installed_version("runtime_of_another") == "of 1000000000"
    assert installed_version("not_there_at_all") == ""


def test_inspect_compares_everything_anew(folder: Path, hashed: list[str], ran: list[int], capsys: Any) -> None:
    base.open_engine(vs.load(folder), "onnx")
    hashed.clear()
    ran.clear()
    assert call(capsys, "inspect", folder)[0] == 0
    assert "model.onnx" in hashed and ran == [2]
