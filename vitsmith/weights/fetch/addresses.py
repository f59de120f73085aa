"""Which server a file is fetched from, and where in the cache it is kept."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from vitsmith.errors import DownloadError
from vitsmith.files.cache import cache_folder

ORIGIN = "https://storage.googleapis.com"
"""Where the published checkpoints are: gs://<bucket>/<path> is ORIGIN/<bucket>/<path>."""


def cached_path(url: str, *, directory: Path | None = None) -> Path:
    """The place of the file of `url` in the cache: by host and path, so that files of the same name do not collide.

    The place is the same with and without a mirror. Raises DownloadError for an address that names no file.
    """
    parts = urlsplit(_checked(url, "address"))
    segments = [unquote(segment) for segment in parts.path.split("/")[1:]]
    unsafe = any(set(segment) & set("/\\:\0") or segment in ("", ".", "..") for segment in segments)
    if unsafe or not segments:
        raise DownloadError(f"cannot download {url!r}: its path does not name a file")
    if parts.query:
        segments.insert(-1, "query-" + hashlib.sha256(parts.query.encode()).hexdigest()[:8])
    host = parts.netloc.lower().replace(":", "_")
    return (cache_folder() if directory is None else directory).joinpath(host, *segments)


def source_of(url: str) -> str:
    """The address to fetch `url` from: percent-encoded, and at $VITSMITH_MIRROR instead of ORIGIN when that is set."""
    clean = _checked(url, "address")
    mirror = os.environ.get("VITSMITH_MIRROR", "")
    if mirror and clean.startswith(f"{ORIGIN}/"):
        return _checked(mirror, "VITSMITH_MIRROR").rstrip("/") + clean.removeprefix(ORIGIN)
    return clean


def _checked(url: str, what: str) -> str:
    """`url` with the characters encoded that need it ('+' too: some servers read it as a space)."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        usable = False
    if not usable or parts.username is not None:
        raise DownloadError(f"cannot download from {what} {url!r}: it must be http:// or https://, without a user name")
    path = quote(parts.path, safe="/%:@!$&'()*,;=~")
    return parts._replace(path=path, fragment="").geturl()
