"""Downloads from a server in this process that misbehaves on request: what arrives is whole, or nothing does."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import socket
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from http.client import HTTPMessage
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError

import pytest

from tests.weights.fetch.unreliable_server import (
    BYTES,
    OTHER,
    Answer,
    Handler,
    Server,
    broken_after,
    chunked,
    chunked_and_broken,
    from_there,
    of_unknown_length,
    running,
    status,
    whole,
    without_ranges,
)
from vitsmith.errors import DownloadError, OutputError
from vitsmith.files import locks
from vitsmith.weights.fetch import connection, partial
from vitsmith.weights.fetch import download as download_module
from vitsmith.weights.fetch.addresses import cached_path
from vitsmith.weights.fetch.download import download


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download_module, "BACKOFF_S", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("VITSMITH_MIRROR", raising=False)
    with running() as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    return f"{server.address}/bucket/model.npz"


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_fetched_once(server: Server, url: str, tmp_path: Path) -> None:
    path = download(url, directory=tmp_path)
    assert path.read_bytes() == BYTES
    assert path == cached_path(url, directory=tmp_path)
    assert download(url, directory=tmp_path, size=len(BYTES)) == path
    assert len(server.requests) == 1
    assert files_in(tmp_path) == {"model.npz"}


def test_a_broken_connection_is_continued_where_it_broke(server: Server, url: str, tmp_path: Path) -> None:
    server.answers.extend([broken_after(250_000)])
    assert download(url, directory=tmp_path).read_bytes() == BYTES
    assert server.ranges == [None, "bytes=250000-"]
    assert server.requests[1][1]["If-Range"] == '"first"'
    assert files_in(tmp_path) == {"model.npz"}


def test_a_later_call_continues_what_an_earlier_one_got(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "ATTEMPTS", 1)
    server.answers.append(broken_after(100_000))
    with pytest.raises(DownloadError, match="closed after 100,000 of 600,000 bytes"):
        download(url, directory=tmp_path)
    assert files_in(tmp_path) == {"model.npz.part", "model.npz.part.json"}
    assert download(url, directory=tmp_path).read_bytes() == BYTES
    assert server.ranges == [None, "bytes=100000-"]


def test_ctrl_c_keeps_what_came(server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, chunks = download_module.read_some, iter([50_000])

    def interrupted(response: object) -> bytes:
        for size in chunks:
            return response.read(size)  # type: ignore[attr-defined,no-any-return]
        raise KeyboardInterrupt

    monkeypatch.setattr(download_module, "read_some", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download(url, directory=tmp_path)
    assert not cached_path(url, directory=tmp_path).exists()
    monkeypatch.setattr(download_module, "read_some", read)
    assert download(url, directory=tmp_path).read_bytes() == BYTES
    assert server.ranges == [None, "bytes=50000-"]


def test_a_bad_line_is_borne_as_long_as_bytes_come(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def a_little_more(handler: Handler) -> None:
        start = 60_000 * (len(server.requests) - 1)
        handler.begin(206, Content_Range=f"bytes {start}-599999/600000", Content_Length=600_000 - start)
        handler.wfile.write(BYTES[start : start + 60_000])

    monkeypatch.setattr(download_module, "MIN_PROGRESS", 60_000)
    server.answers.extend([broken_after(60_000)] + [a_little_more] * 9)
    assert download(url, directory=tmp_path).read_bytes() == BYTES
    assert len(server.requests) == 10 > download_module.ATTEMPTS


def test_a_part_that_had_all_bytes_needs_no_server(server: Server, url: str, tmp_path: Path) -> None:
    path = cached_path(url, directory=tmp_path)
    path.parent.mkdir(parents=True)
    path.with_name("model.npz.part").write_bytes(BYTES)
    path.with_name("model.npz.part.json").write_text('{"validator": "x", "total": 600000}')
    assert download(url, directory=tmp_path).read_bytes() == BYTES
    assert server.requests == []


def test_a_file_that_is_always_truncated_never_arrives(server: Server, url: str, tmp_path: Path) -> None:
    server.answers.extend([lambda handler: broken_after(1000)(handler)] * 20)
    with pytest.raises(DownloadError, match="closed after 1,000 of 600,000 bytes"):
        download(url, directory=tmp_path)
    assert len(server.requests) == download_module.ATTEMPTS
    assert files_in(tmp_path) == {"model.npz.part", "model.npz.part.json"}


def test_without_a_validator_nothing_is_continued_or_kept(server: Server, url: str, tmp_path: Path) -> None:
    server.etag = None
    server.answers.append(broken_after(1000))
    assert download(url, directory=tmp_path / "a").read_bytes() == BYTES
    assert server.ranges == [None, None]
    server.answers.extend([broken_after(1000)] * 20)
    with pytest.raises(DownloadError, match="closed after"):
        download(url, directory=tmp_path / "b")
    assert files_in(tmp_path / "b") == set()


def test_a_weak_etag_is_no_validator(server: Server, url: str, tmp_path: Path) -> None:
    server.etag = 'W/"first"'
    server.answers.append(broken_after(1000))
    assert download(url, directory=tmp_path).read_bytes() == BYTES
    assert server.ranges == [None, None]


@pytest.mark.parametrize("then", [whole, from_there], ids=["a correct server", "a server that ignores If-Range"])
def test_a_file_that_changed_is_started_anew(server: Server, url: str, tmp_path: Path, then: Answer) -> None:
    def changed(handler: Handler) -> None:
        server.content, server.etag = OTHER, '"second"'
        then(handler)

    server.answers.extend([broken_after(250_000), changed])
    assert download(url, directory=tmp_path).read_bytes() == OTHER


def test_a_new_version_without_a_validator_does_not_inherit_the_old_one(
    server: Server, url: str, tmp_path: Path
) -> None:
    def changed(handler: Handler) -> None:
        server.content, server.etag = OTHER, None
        broken_after(1000)(handler)

    server.answers.extend([broken_after(250_000), changed])
    assert download(url, directory=tmp_path).read_bytes() == OTHER
    assert server.ranges == [None, "bytes=250000-", None]


def test_a_file_that_became_shorter_is_started_anew(server: Server, url: str, tmp_path: Path) -> None:
    def shorter(handler: Handler) -> None:
        server.content, server.etag = OTHER[:1000], '"second"'
        from_there(handler)

    server.answers.extend([broken_after(250_000), shorter])
    assert download(url, directory=tmp_path).read_bytes() == OTHER[:1000]
    assert server.ranges == [None, "bytes=250000-", None]


def test_a_server_without_ranges_is_asked_for_everything_again(server: Server, url: str, tmp_path: Path) -> None:
    server.answers.extend([broken_after(250_000), without_ranges])
    assert download(url, directory=tmp_path).read_bytes() == BYTES


@pytest.mark.parametrize("given", ["bytes 7-599999/600000", "bytes 250000-599998/599999", "bytes 250000-599999/*x"])
def test_an_answer_that_does_not_fit_is_not_spliced(server: Server, url: str, tmp_path: Path, given: str) -> None:
    def misfit(handler: Handler) -> None:
        handler.begin(206, Content_Range=given, Content_Length=350_000)
        handler.wfile.write(OTHER[:350_000])

    server.answers.extend([broken_after(250_000), misfit])
    assert download(url, directory=tmp_path).read_bytes() == BYTES
    assert server.ranges == [None, "bytes=250000-", None]


def test_passing_faults_of_the_server_are_waited_out(server: Server, url: str, tmp_path: Path) -> None:
    server.answers.extend([status(503), status(429)])
    assert download(url, directory=tmp_path).read_bytes() == BYTES
    assert len(server.requests) == 3


def test_lasting_faults_of_the_server_are_told(server: Server, url: str, tmp_path: Path) -> None:
    server.answers.extend([status(500)] * 20)
    with pytest.raises(DownloadError, match="HTTP 500"):
        download(url, directory=tmp_path)
    assert len(server.requests) == download_module.ATTEMPTS


@pytest.mark.parametrize(
    ("code", "words"), [(404, "there is no such file"), (403, "the server refuses access"), (410, "refuses")]
)
def test_a_refusal_is_told_at_once_with_what_to_do(
    server: Server, url: str, tmp_path: Path, code: int, words: str
) -> None:
    server.answers.append(status(code))
    with pytest.raises(DownloadError) as caught:
        download(url, directory=tmp_path)
    message = str(caught.value)
    assert url in message and words in message and f"HTTP {code}" in message
    assert f"put it at {cached_path(url, directory=tmp_path)}" in message
    assert "\n" not in message
    assert len(server.requests) == 1
    assert files_in(tmp_path) == set()


def test_a_closed_port_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waited for a port that is closed"))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(DownloadError, match=r"the connection was refused; get it on another machine and put it at"):
        download(f"http://127.0.0.1:{port}/model.npz", directory=tmp_path)


def test_no_name_server_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("VITSMITH_MIRROR", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waited for a name that is unknown"))
    with pytest.raises(DownloadError, match=r"offline\?.*VITSMITH_MIRROR"):
        download("https://storage.googleapis.com/vit_models/sam/ViT-B_16.npz", directory=tmp_path)


def test_a_name_server_that_is_gone_for_a_moment_is_waited_for(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve, gone = socket.getaddrinfo, iter([False, True, True])

    def sometimes(*args: object, **options: object) -> object:
        if next(gone, False):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", sometimes)
    server.answers.append(broken_after(1000))
    assert download(url, directory=tmp_path).read_bytes() == BYTES
    assert server.ranges == [None, "bytes=1000-"]


def test_a_wrong_size_is_refused_before_the_bytes_come(server: Server, url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="has 600,000 bytes, not the 7 expected"):
        download(url, directory=tmp_path, size=7)
    assert files_in(tmp_path) == set()


def test_a_wrong_hash_leaves_nothing(server: Server, url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"sha256 is {hashlib.sha256(BYTES).hexdigest()}, not the {'0' * 64}"):
        download(url, directory=tmp_path, sha256="0" * 64)
    assert files_in(tmp_path) == set()
    assert download(url, directory=tmp_path, sha256=hashlib.sha256(BYTES).hexdigest().upper()).read_bytes() == BYTES


@pytest.mark.parametrize("known", [{"size": len(BYTES)}, {"sha256": hashlib.sha256(BYTES).hexdigest()}])
def test_a_cached_file_that_is_not_the_known_one_is_replaced(
    server: Server, url: str, tmp_path: Path, known: dict[str, int | str]
) -> None:
    path = cached_path(url, directory=tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a page of the hotel's wireless network")
    assert download(url, directory=tmp_path, **known).read_bytes() == BYTES  # type: ignore[arg-type]


def test_a_chunked_answer_is_whole_or_continued(server: Server, url: str, tmp_path: Path) -> None:
    server.answers.append(chunked)
    assert download(url, directory=tmp_path / "a").read_bytes() == BYTES
    server.answers.append(chunked_and_broken)
    assert download(url, directory=tmp_path / "b").read_bytes() == BYTES
    assert server.ranges == [None, None, "bytes=100000-"]


def test_an_answer_of_unknown_length_is_refused(server: Server, url: str, tmp_path: Path) -> None:
    server.answers.extend([of_unknown_length] * 2)
    with pytest.raises(DownloadError, match="does not say how long the file is"):
        download(url, directory=tmp_path)
    with pytest.raises(DownloadError, match="has 1,000 bytes, not the 600,000 expected"):
        download(url, directory=tmp_path, size=len(BYTES))
    assert files_in(tmp_path) == set()


def test_an_encoded_answer_is_refused(server: Server, url: str, tmp_path: Path) -> None:
    server.answers.append(lambda handler: handler.begin(200, Content_Encoding="gzip", Content_Length=0))
    with pytest.raises(DownloadError, match="gzip-encoded"):
        download(url, directory=tmp_path)


def test_a_folder_that_cannot_be_made_is_told(server: Server, url: str, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match=r"cannot write .*cache.*: .*; set VITSMITH_CACHE"):
        download(url, directory=tmp_path / "cache")


def test_a_full_disk_is_told_before_and_while_writing(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
        with pytest.raises(OutputError, match=r"0\.6 MiB needed, 0\.1 MiB free"):
            download(url, directory=tmp_path)
    assert files_in(tmp_path) == set()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left on device"):
            download(url, directory=tmp_path)
    assert not cached_path(url, directory=tmp_path).exists()


def test_several_at_once_make_one_download(server: Server, url: str, tmp_path: Path) -> None:
    started = threading.Event()

    def slow(handler: Handler) -> None:
        handler.begin(200, Content_Length=len(BYTES))
        handler.wfile.write(BYTES[:1000])
        handler.wfile.flush()
        started.wait(0.2)  # never set: long enough for the others to arrive
        handler.wfile.write(BYTES[1000:])

    server.answers.append(slow)
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: download(url, directory=tmp_path), range(4)))
    assert [path.read_bytes() == BYTES for path in paths] == [True] * 4
    assert len(server.requests) == 1
    assert files_in(tmp_path) == {"model.npz"}


def test_who_waited_for_a_part_that_was_given_up_gets_a_new_one(tmp_path: Path) -> None:
    def claimed() -> int:
        with partial.claim(tmp_path / "model.npz") as part:
            part.begin(partial.Version(validator="x"))
            return part.size

    with ThreadPoolExecutor(1) as pool:
        with partial.claim(tmp_path / "model.npz"):
            waiting = pool.submit(claimed)
            wait([waiting], timeout=0.1)
            assert not waiting.done()
        assert waiting.result() == 0
    assert files_in(tmp_path) == set()


def test_without_locks_each_process_has_a_part_of_its_own(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_fcntl", None)
    with partial.claim(tmp_path / "model.npz") as part:
        assert part.path.name == f"model.npz.{os.getpid()}.part"
    server.answers.append(broken_after(1000))
    assert download(url, directory=tmp_path / "cache").read_bytes() == BYTES
    assert server.ranges == [None, "bytes=1000-"]
    assert files_in(tmp_path / "cache") == {"model.npz"}


def test_a_redirect_is_followed_but_not_out_of_https(server: Server, url: str, tmp_path: Path) -> None:
    server.answers.append(lambda handler: handler.begin(302, Location="/elsewhere/model.npz", Content_Length=0))
    assert download(url, directory=tmp_path).read_bytes() == BYTES
    assert [path for path, _ in server.requests] == ["/bucket/model.npz", "/elsewhere/model.npz"]
    request = urllib.request.Request("https://host/model.npz")
    with pytest.raises(HTTPError, match="unprotected"):
        connection.Redirects().redirect_request(
            request,
            io.BytesIO(),
            302,
            "Found",
            HTTPMessage(),
            "http://host/model.npz",
        )


def test_a_mirror_gets_the_request_and_the_cache_keeps_the_place(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITSMITH_MIRROR", f"{server.address}/copies/")
    path = download(
        "https://storage.googleapis.com/vit_models/imagenet21k+imagenet2012/R50+ViT-B_16.npz", directory=tmp_path
    )
    assert path == tmp_path / "storage.googleapis.com/vit_models/imagenet21k+imagenet2012/R50+ViT-B_16.npz"
    assert [path for path, _ in server.requests] == ["/copies/vit_models/imagenet21k%2Bimagenet2012/R50%2BViT-B_16.npz"]


def test_the_bar_is_drawn_on_a_terminal_only(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown(stream: io.StringIO, folder: str, *, progress: bool = True) -> str:
        monkeypatch.setattr("sys.stderr", stream)
        download(url, directory=tmp_path / folder, progress=progress)
        return stream.getvalue()

    assert "model.npz" in shown(Terminal(), "a")
    assert shown(Terminal(), "b", progress=False) == ""
    assert shown(io.StringIO(), "c") == ""
