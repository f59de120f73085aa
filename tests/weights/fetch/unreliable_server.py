"""A web server in this process that serves one file, and misbehaves on request."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BYTES = random.Random(0).randbytes(600_000)
OTHER = random.Random(1).randbytes(600_000)
Answer = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    """Serves `content` at any path; the first requests get the `answers` instead, one each."""

    daemon_threads = True
    content = BYTES
    etag: str | None = '"first"'

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: deque[Answer] = deque()
        self.requests: list[tuple[str, Message]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def ranges(self) -> list[str | None]:
        return [headers["Range"] for _, headers in self.requests]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers))
        answer = self.server.answers.popleft() if self.server.answers else whole
        answer(self)

    def begin(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


def whole(handler: Handler) -> None:
    """A correct server: ranges, and If-Range."""
    content, wanted = handler.server.content, handler.headers["Range"]
    if wanted and handler.headers["If-Range"] == handler.server.etag:
        from_there(handler)
    else:
        handler.begin(200, Content_Length=len(content))
        handler.wfile.write(content)


def from_there(handler: Handler) -> None:
    """A server that answers a range whatever If-Range says."""
    content, start = handler.server.content, int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    if start >= len(content):
        handler.begin(416, Content_Range=f"bytes */{len(content)}", Content_Length=0)
        return
    rest = content[start:]
    handler.begin(206, Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}", Content_Length=len(rest))
    handler.wfile.write(rest)


def without_ranges(handler: Handler) -> None:
    handler.begin(200, Content_Length=len(handler.server.content))
    handler.wfile.write(handler.server.content)


def broken_after(count: int) -> Answer:
    """Announces the whole file and hangs up after `count` bytes."""

    def answer(handler: Handler) -> None:
        handler.begin(200, Content_Length=len(handler.server.content))
        handler.wfile.write(handler.server.content[:count])

    return answer


def status(code: int) -> Answer:
    return lambda handler: handler.begin(code, Content_Length=0)


def chunked(handler: Handler) -> None:
    handler.begin(200, Transfer_Encoding="chunked")
    for start in range(0, len(BYTES), 100_000):
        handler.wfile.write(b"186a0\r\n" + BYTES[start : start + 100_000] + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")


def chunked_and_broken(handler: Handler) -> None:
    handler.begin(200, Transfer_Encoding="chunked")
    handler.wfile.write(b"186a0\r\n" + BYTES[:100_000] + b"\r\n")


def of_unknown_length(handler: Handler) -> None:
    handler.begin(200)
    handler.wfile.write(BYTES[:1000])


@contextmanager
def running() -> Iterator[Server]:
    """A server on this machine, until the context ends."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
