"""A connection to a server: which way it may go, the version of a file that it gives, and its bytes until it breaks."""

from __future__ import annotations

import http.client
import re
import urllib.request
from typing import IO
from urllib.error import HTTPError

from vitsmith.weights.fetch.partial import Version

CHUNK = 2**18


class BrokenError(Exception):
    """This attempt failed; another may succeed, unless it is `hopeless`."""

    def __init__(self, why: str, *, hopeless: bool = False) -> None:
        super().__init__(why)
        self.hopeless = hopeless


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything else: most files have no hash to check.

    Another host is not told who asks.
    """

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise HTTPError(req.full_url, code, f"redirect to the unprotected {newurl}", headers, fp)
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and following.host != req.host:
            following.remove_header("Authorization")
        return following


def opener() -> urllib.request.OpenerDirector:
    """Speaks http and https only (urllib's own also opens file: and ftp:), through the environment's proxies."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def version_of(response: http.client.HTTPResponse) -> Version:
    etag, length = response.headers.get("ETag", ""), response.headers.get("Content-Length", "")
    strong = "" if etag.startswith("W/") else etag  # a weak one may stand for different bytes
    return Version(
        validator=strong or response.headers.get("Last-Modified", ""),
        total=int(length) if length.isdecimal() else None,
    )


def continuation(response: http.client.HTTPResponse, held: Version, start: int) -> Version | None:
    """The version that a partial answer continues, from where we stopped; None if it is another or unknown one."""
    given = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if given is None or int(given[1]) != start or version_of(response).validator not in ("", held.validator):
        return None
    total = held.total if given[2] == "*" else int(given[2])
    if total is None or held.total not in (None, total):
        return None
    return Version(validator=held.validator, total=total)


def read_some(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)  # read() would lose what a breaking connection had brought
    except (OSError, http.client.HTTPException) as error:
        raise BrokenError(f"the connection broke ({error})") from error
