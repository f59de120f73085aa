"""onnxruntime-web from npm: fetched once, checked, and what to do is said when it cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vitsmith.errors import DownloadError, InputError
from vitsmith.exporters import web_runtime


@pytest.fixture
def archive() -> Path:
    """npm's own archive, from the cache or from npm."""
    try:
        web_runtime.web_runtime()
    except DownloadError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return web_runtime.cache_folder() / "npm" / web_runtime.ARCHIVE


def npm_that(place: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts an `npm` into the path, and an empty cache."""
    program = place / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("VITSMITH_CACHE", str(place / "cache"))


def test_the_runtime_is_fetched_once_and_kept(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tmp_path / "calls"
    npm_that(tmp_path, f'echo "$@" >> {calls}; cp {archive} "$4"/', monkeypatch)
    first = web_runtime.web_runtime()
    assert set(first) == set(web_runtime.FILES) and len(first["ort-wasm-simd-threaded.wasm"]) == 14_239_897
    assert [path.name for path in (tmp_path / "cache/npm").iterdir()] == [web_runtime.ARCHIVE]
    monkeypatch.setenv("PATH", "")
    assert web_runtime.web_runtime() == first  # from the cache
    assert len(calls.read_text().splitlines()) == 1 and "pack onnxruntime-web@1.30.0" in calls.read_text()


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        (
            "echo 'npm error code ENOTFOUND' >&2; exit 1",
            DownloadError,
            "npm could not fetch .* ENOTFOUND.*put the file at",
        ),
        ('echo other > "$4"/onnxruntime-web-1.30.0.tgz', InputError, "is not the published .* npm gave other bytes"),
        ("exit 0", DownloadError, r"npm could not fetch onnxruntime-web@1\.30\.0 \(exit 0\)"),
    ],
)
def test_npm_that_fails(
    script: str, error: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm_that(tmp_path, script, monkeypatch)
    with pytest.raises(error, match=words) as told:
        web_runtime.web_runtime()
    assert "\n" not in str(told.value) and not (tmp_path / "cache/npm" / web_runtime.ARCHIVE).exists()


def test_without_npm_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path))
    with pytest.raises(DownloadError, match=r"npm pack onnxruntime-web@1\.30\.0  on a machine .* at .*1\.30\.0\.tgz$"):
        web_runtime.web_runtime()
    (tmp_path / "other.tgz").write_bytes(b"other")
    with pytest.raises(InputError, match=r"other\.tgz is not the published onnxruntime-web@1\.30\.0"):
        web_runtime.web_runtime(tmp_path / "other.tgz")
    with pytest.raises(InputError, match=r"cannot read .*none\.tgz"):
        web_runtime.web_runtime(tmp_path / "none.tgz")
