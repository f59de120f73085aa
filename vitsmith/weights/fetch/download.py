"""Downloads a file once and whole: resumed when the connection breaks, checked, and only then put in its place."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import socket
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

from vitsmith.errors import DownloadError, OutputError
from vitsmith.weights.fetch.addresses import ORIGIN, cached_path, source_of
from vitsmith.weights.fetch.connection import BrokenError, continuation, opener, read_some, version_of
from vitsmith.weights.fetch.partial import Partial, Version, claim

TIMEOUT_S = 20.0
"""Seconds without an answer or a byte after which a connection counts as broken."""
ATTEMPTS = 4
"""Failures in a row, without MIN_PROGRESS new bytes between them, after which we give up."""
BACKOFF_S = 1.0
"""Pause before the second attempt; it doubles with each further failure in a row."""
MIN_PROGRESS = 2**20

TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})
REFUSALS = {401: "the server refuses access", 403: "the server refuses access", 404: "there is no such file"}
HOPELESS = {
    socket.gaierror: "the server's name cannot be resolved (is this machine offline?)",
    ConnectionRefusedError: "the connection was refused",
    ssl.SSLCertVerificationError: "its certificate cannot be verified (a company's proxy? set SSL_CERT_FILE)",
}
"""Failures that another attempt does not cure, unless some bytes have already arrived."""

Show = Callable[[int, int | None], None]
"""Is called with (bytes so far, total bytes or None)."""


@dataclass(frozen=True)
class Transfer:
    """A file to fetch, and what messages say about it."""

    source: str
    """Its address."""
    target: Path
    size: int | None = None
    """Bytes, where known."""
    sha256: str = ""
    """In hexadecimal, where known."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the request, such as those that say who asks; they go to the host of `source` only."""
    name: str = ""
    """The file's name in messages; '': its address."""
    advice: str = ""
    """What to do if it cannot be downloaded."""
    cache: str = "VITSMITH_CACHE"
    """The environment variable that names the folder in which `target` is."""

    @property
    def file(self) -> str:
        """The file's name at the server, for the bar: that of `target` may be a hash."""
        return unquote(urlsplit(self.source).path).rpartition("/")[2]

    def refusal(self, why: str) -> DownloadError:
        return DownloadError(f"could not download {self.name or self.source}: {why}; {self.advice}")

    def done(self) -> bool:
        """Whether the target is there, with the size and hash asked for."""
        if not self.target.is_file() or self.size not in (None, self.target.stat().st_size):
            return False
        return not self.sha256 or _sha256(self.target) == self.sha256


def download(
    url: str, *, directory: Path | None = None, size: int | None = None, sha256: str = "", progress: bool = True
) -> Path:
    """The local copy of `url`, downloaded unless the cache has it.

    directory: the cache folder to use, instead of the usual one (`cached_path` says where in it).
    size, sha256: bytes and hexadecimal hash that the file must have, where known.
    progress: draw a bar when stderr is a terminal.
    The environment variable VITSMITH_MIRROR replaces https://storage.googleapis.com by another server.
    Raises DownloadError (why, and what to do) and OutputError (no space, or a folder that cannot be written). After a
    failure or Ctrl-C the received bytes are kept if the server lets a download be resumed.
    """
    source, target = source_of(url), cached_path(url, directory=directory)
    mirror = ", or set VITSMITH_MIRROR to a server with a copy" if source.startswith(ORIGIN) else ""
    advice = f"get it on another machine and put it at {target}, or pass that file's path{mirror}"
    return run(Transfer(source, target, size, sha256.lower(), advice=advice), progress=progress)


def run(transfer: Transfer, *, progress: bool = True) -> Path:
    """The target of a transfer, downloaded unless it is there. Raises as `download`, and keeps what came as it does."""
    talk = progress and sys.stderr.isatty()
    try:
        if transfer.done():
            return transfer.target
        transfer.target.parent.mkdir(parents=True, exist_ok=True)
        with claim(transfer.target, transfer.file, talk=talk) as part:
            if not transfer.done():  # another process may have finished it meanwhile
                with _bar(transfer.file, talk=talk) as show:
                    _fetch(transfer, part, show)
                _verify(transfer, part)
                part.finish(transfer.target)
    except OSError as error:  # of the disk; errors of the network are DownloadErrors by now
        raise OutputError(
            f"cannot write {transfer.target}: {error.strerror or error}; set {transfer.cache} to a folder that can be "
            "written"
        ) from error
    return transfer.target


def _fetch(transfer: Transfer, part: Partial, show: Show) -> None:
    """All bytes into `part`, in as many attempts as it takes."""
    began = most = part.size
    failures = 0
    while True:
        try:
            return _attempt(transfer, part, show)
        except BrokenError as broken:
            grown = max(part.size - most, 0)
            most += grown
            failures = 1 if grown >= MIN_PROGRESS else failures + 1
            if failures >= ATTEMPTS or (broken.hopeless and most == began):
                if part.version is None:
                    part.forget()
                raise transfer.refusal(str(broken)) from broken
            time.sleep(BACKOFF_S * 2 ** (failures - 1))


def _attempt(transfer: Transfer, part: Partial, show: Show) -> None:
    held = part.version
    start = part.size if held else 0
    if held and start == held.total:
        return
    headers = {"User-Agent": "vitsmith", **transfer.headers}
    if held and start:
        headers |= {"Range": f"bytes={start}-", "If-Range": held.validator}
    with _open(transfer, part, headers) as response:
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            continued = continuation(response, held, start) if held else None
            if continued is None:
                part.forget()
                raise BrokenError("the server's file changed during the download")
            version = continued
        else:
            version, start = version_of(response), 0
        _check_answer(transfer, response, version)
        _check_space(transfer, version, start)
        if start == 0:
            part.begin(version)
        _receive(response, part, version, show)
    if version.total is not None and version.total != part.size:
        raise BrokenError(f"the connection closed after {part.size:,} of {version.total:,} bytes")


def _open(transfer: Transfer, part: Partial, headers: dict[str, str]) -> http.client.HTTPResponse:
    try:
        request = urllib.request.Request(transfer.source, headers=headers)
        response: http.client.HTTPResponse = opener().open(request, timeout=TIMEOUT_S)
        return response
    except HTTPError as error:
        error.close()
        status = f"HTTP {error.code} {error.reason}"
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.forget()
            raise BrokenError(f"the server's file changed during the download ({status})") from error
        if error.code in TRANSIENT_STATUS:
            raise BrokenError(f"the server fails ({status})") from error
        raise transfer.refusal(f"{REFUSALS.get(error.code, 'the server refuses')} ({status})") from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        for kind, why in HOPELESS.items():
            if isinstance(reason, kind):
                raise BrokenError(why, hopeless=True) from error
        raise BrokenError(f"no answer ({reason})") from error


def _check_answer(transfer: Transfer, response: http.client.HTTPResponse, version: Version) -> None:
    """Refuses an answer that is encoded, has another size, or whose end could not be recognised."""
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise transfer.refusal(f"the server sends it {encoding}-encoded, which was not asked for")
    if version.total is None and not response.chunked and transfer.size is None and not transfer.sha256:
        raise transfer.refusal("the server does not say how long the file is, so a truncated file would look whole")
    if transfer.size is not None and version.total is not None and transfer.size != version.total:
        raise transfer.refusal(f"the server's file has {version.total:,} bytes, not the {transfer.size:,} expected")


def _check_space(transfer: Transfer, version: Version, start: int) -> None:
    needed, free = (version.total or 0) - start, shutil.disk_usage(transfer.target.parent).free
    if needed > free:
        raise OutputError(
            f"no space for {transfer.target}: {needed / 2**20:,.1f} MiB needed, {free / 2**20:,.1f} MiB free; "
            f"free some space, or set {transfer.cache} to a folder on another disk"
        )


def _receive(response: http.client.HTTPResponse, part: Partial, version: Version, show: Show) -> None:
    with part.path.open("ab") as file:
        while chunk := read_some(response):
            file.write(chunk)
            show(file.tell(), version.total)
        file.flush()
        os.fsync(file.fileno())


def _verify(transfer: Transfer, part: Partial) -> None:
    wrong = ""
    if transfer.size not in (None, part.size):
        wrong = f"it has {part.size:,} bytes, not the {transfer.size:,} expected"
    elif transfer.sha256 and (digest := _sha256(part.path)) != transfer.sha256:
        wrong = f"its sha256 is {digest}, not the {transfer.sha256} expected"
    if wrong:
        part.forget()
        raise transfer.refusal(wrong)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _bar(name: str, *, talk: bool) -> Iterator[Show]:
    """A progress bar on stderr if `talk`."""
    if not talk:
        yield lambda received, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=None)
        yield lambda received, total: progress.update(task, completed=received, total=total)
