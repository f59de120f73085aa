"""Downloads a file once and whole: resumed when the connection breaks, checked, and only then put in its place.

While it arrives, a file is `<name>.part` beside its place in the cache; `<name>.part.json` remembers which version of
the server's file those bytes are of, so that they are never continued with another's (RFC 9110, If-Range).
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import socket
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError

from pydantic import ValidationError

from vitsmith.errors import DownloadError, OutputError
from vitsmith.specs import Frozen
from vitsmith.weights.cache import ORIGIN, cached_path, source_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TIMEOUT_S = 20.0
"""Seconds without an answer or a byte after which a connection counts as broken."""
ATTEMPTS = 4
"""Failures in a row, without MIN_PROGRESS new bytes between them, after which we give up."""
BACKOFF_S = 1.0
"""Pause before the second attempt; it doubles with each further one."""
MIN_PROGRESS = 2**20
CHUNK = 2**18
TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})
HOPELESS = {
    socket.gaierror: "the server's name cannot be resolved (is this machine offline?)",
    ConnectionRefusedError: "the connection was refused",
    ssl.SSLCertVerificationError: "its certificate cannot be verified (a company's proxy? set SSL_CERT_FILE)",
}
"""Failures that a new attempt does not mend, unless bytes have already come."""

Show = Callable[[int, int | None], None]
"""Told (bytes so far, bytes in all or None)."""


class _Broken(Exception):
    """This attempt failed; another may do better, unless it is `hopeless`."""

    def __init__(self, why: str, *, hopeless: bool = False) -> None:
        super().__init__(why)
        self.hopeless = hopeless


class _Version(Frozen):
    """Which version of the server's file some bytes are of."""

    validator: str = ""  # a strong ETag, or Last-Modified; "": the server gives neither, so nothing can be resumed
    total: int | None = None  # bytes


@dataclass(frozen=True)
class _Job:
    source: str
    target: Path
    size: int | None
    sha256: str

    def refusal(self, why: str) -> DownloadError:
        mirror = ", or set VITSMITH_MIRROR to a server with a copy" if self.source.startswith(ORIGIN) else ""
        return DownloadError(
            f"could not download {self.source}: {why}; get it on another machine and put it at {self.target} "
            f"or pass that file's path{mirror}"
        )

    def done(self) -> bool:
        """Whether the target is there, with the size and hash asked for."""
        if not self.target.is_file() or self.size not in (None, self.target.stat().st_size):
            return False
        return not self.sha256 or _sha256(self.target) == self.sha256


def download(
    url: str, *, directory: Path | None = None, size: int | None = None, sha256: str = "", progress: bool = True
) -> Path:
    """The local copy of `url`, downloaded unless the cache has it.

    directory: the cache folder, instead of the usual one (see `cached_path` for both).
    size, sha256: bytes and hexadecimal hash that the file must have, where known.
    progress: draw a bar when stderr is a terminal.
    The environment variable VITSMITH_MIRROR replaces https://storage.googleapis.com by another server.
    Raises DownloadError (why, and what to do) and OutputError (no space, or a folder that cannot be written). After a
    failure or Ctrl-C the part that came is kept, where the server lets it be resumed.
    """
    job = _Job(source_of(url), cached_path(url, directory=directory), size, sha256.lower())
    talk = progress and sys.stderr.isatty()
    try:
        if job.done():
            return job.target
        job.target.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(job.target, talk=talk) as part:
            if not job.done():  # another process may have finished it meanwhile
                with _bar(job.target.name, talk=talk) as show:
                    _fetch(job, part, show)
                _verify(job, part)
                part.replace(job.target)
                _sidecar(part).unlink(missing_ok=True)
    except OSError as error:  # of the disk: those of the network have become a DownloadError
        raise OutputError(
            f"cannot write {job.target}: {error.strerror or error}; set VITSMITH_CACHE to a folder that can be written"
        ) from error
    return job.target


def _fetch(job: _Job, part: Path, show: Show) -> None:
    """All bytes into `part`, in as many attempts as it takes."""
    mark, failures = part.stat().st_size, 0
    while True:
        try:
            return _attempt(job, part, show)
        except _Broken as broken:
            grown = part.stat().st_size - mark
            failures = 1 if grown >= MIN_PROGRESS else failures + 1
            mark += max(grown, 0)
            if failures >= ATTEMPTS or (broken.hopeless and grown <= 0):
                if _remembered(part) is None:
                    _forget(part)
                raise job.refusal(str(broken)) from broken
            time.sleep(BACKOFF_S * 2 ** (failures - 1))


def _attempt(job: _Job, part: Path, show: Show) -> None:
    held = _remembered(part)
    start = part.stat().st_size if held else 0
    if held and start == held.total:
        return
    headers = {"User-Agent": "vitsmith"}
    if held and start:
        headers |= {"Range": f"bytes={start}-", "If-Range": held.validator}
    with _open(job, headers, part) as response:
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            if held is None or not _continues(response, held, start):
                _forget(part)
                raise _Broken("the server's file changed during the download")
            version = held
        else:
            version, start = _version(response), 0
        _check_length(job, response, version.total)
        _check_space(job, version.total, start)
        _receive(response, part, version, start, show)
    have = part.stat().st_size
    if version.total not in (None, have):
        raise _Broken(f"the connection closed after {have:,} of {version.total:,} bytes")


def _open(job: _Job, headers: dict[str, str], part: Path) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = _opener().open(
            urllib.request.Request(job.source, headers=headers), timeout=TIMEOUT_S
        )
        return response
    except HTTPError as error:
        error.close()
        status = f"HTTP {error.code} {error.reason}"
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            _forget(part)
            raise _Broken(f"the server's file is shorter than before ({status})") from error
        if error.code in TRANSIENT_STATUS:
            raise _Broken(f"the server answered {status}") from error
        reasons = {401: "the server refuses access", 403: "the server refuses access", 404: "there is no such file"}
        raise job.refusal(f"{reasons.get(error.code, 'the server refuses')} ({status})") from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        for kind, why in HOPELESS.items():
            if isinstance(reason, kind):
                raise _Broken(why, hopeless=True) from error
        raise _Broken(f"no connection: {reason}") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything else."""

    def redirect_request(  # type: ignore[no-untyped-def]  # the signature is urllib's
        self, req, fp, code, msg, headers, newurl
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise HTTPError(req.full_url, code, f"redirects to the unsafe {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Speaks http and https only (urllib's own also opens file: and ftp:), through the proxies of the environment."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _version(response: http.client.HTTPResponse) -> _Version:
    etag, length = response.headers.get("ETag", ""), response.headers.get("Content-Length", "")
    strong = "" if etag.startswith("W/") else etag  # a weak ETag may stand for different bytes
    return _Version(
        validator=strong or response.headers.get("Last-Modified", ""),
        total=int(length) if length.isdecimal() else None,
    )


def _continues(response: http.client.HTTPResponse, held: _Version, start: int) -> bool:
    """Whether a partial answer goes on where we stopped, in the same version of the file."""
    given = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    same_place = given is not None and int(given[1]) == start and given[2] in ("*", str(held.total))
    return same_place and _version(response).validator in ("", held.validator)


def _check_length(job: _Job, response: http.client.HTTPResponse, total: int | None) -> None:
    """Refuses an answer of which we could not say that it is whole."""
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise job.refusal(f"the server sends it {encoding}-encoded, which was not asked for")
    if total is None and not response.chunked and job.size is None and not job.sha256:
        raise job.refusal("the server does not say how long it is, so a truncated file would look whole")
    if job.size is not None and total not in (None, job.size):
        raise job.refusal(f"the server's file has {total:,} bytes, not the {job.size:,} expected")


def _check_space(job: _Job, total: int | None, start: int) -> None:
    free = shutil.disk_usage(job.target.parent).free
    if total is not None and total - start > free:
        raise OutputError(
            f"no space for {job.target}: {(total - start) / 2**20:,.0f} MiB needed, {free / 2**20:,.0f} MiB free; "
            "free some, or set VITSMITH_CACHE to a folder on another disk"
        )


def _receive(
    response: http.client.HTTPResponse, part: Path, version: _Version, start: int, show: Show
) -> None:
    """Writes the answer's body into `part` from byte `start` on."""
    with part.open("r+b") as file:
        file.truncate(start)
        file.seek(start)
        if start == 0:  # only now: the old bytes must be gone before the new version is noted
            _remember(part, version)
        while chunk := _read(response):
            file.write(chunk)
            start += len(chunk)
            show(start, version.total)
        file.flush()
        os.fsync(file.fileno())


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)  # read() would lose what a breaking connection had brought
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"the connection broke ({error})") from error


def _verify(job: _Job, part: Path) -> None:
    have = part.stat().st_size
    if job.size not in (None, have):
        _forget(part)
        raise job.refusal(f"it has {have:,} bytes, not the {job.size:,} expected")
    if job.sha256 and (digest := _sha256(part)) != job.sha256:
        _forget(part)
        raise job.refusal(f"its sha256 is {digest}, not the {job.sha256} expected")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sidecar(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _remember(part: Path, version: _Version) -> None:
    if version.validator:
        _sidecar(part).write_text(version.model_dump_json(), encoding="utf-8")
    else:
        _sidecar(part).unlink(missing_ok=True)


def _remembered(part: Path) -> _Version | None:
    try:
        return _Version.model_validate_json(_sidecar(part).read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, ValidationError):
        return None


def _forget(part: Path) -> None:
    """Empties the partial file, so that the next attempt starts anew."""
    _sidecar(part).unlink(missing_ok=True)
    with part.open("r+b") as file:
        file.truncate(0)
