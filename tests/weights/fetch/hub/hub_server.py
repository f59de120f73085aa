"""A web server in this process that speaks the Hugging Face hub's endpoints for models, and refuses on request."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from vitsmith.weights.containers.file_choice import WEIGHTS_SUFFIXES

Files = dict[str, bytes]
TOKEN = "hf_of_the_tests"
ELSEWHERE = "localhost"
"""The name under which the server is the store of large files, which is another host than the hub's 127.0.0.1."""


@dataclass
class Repository:
    """A model: its commits, which branches and tags mean which, and who may have it."""

    commits: dict[str, Files]
    refs: dict[str, str]
    gated: bool = False
    private: bool = False
    served: dict[str, bytes] = field(default_factory=dict)
    """Bytes that the store gives in the place of a large file, by its SHA-256."""


class HubServer(ThreadingHTTPServer):
    """The hub and, under another name, the store of large files."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str, Message]] = []
        self.breaks_after: list[int] = []
        """The next answers with a large file hang up after so many bytes, one each."""
        self.status = 0
        """Answers everything, if it is set."""
        self.allowed = {TOKEN}
        """Tokens of accounts that have access to everything."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, name: str, files: Files, *, commit: str = "", branch: str = "main", **access: bool) -> str:
        """A commit with these files, which a branch or tag means from now on. Returns the commit."""
        commit = commit or hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        repository = self.repositories.setdefault(name, Repository({}, {}))
        repository.commits[commit] = files
        repository.refs[branch] = commit
        for which, value in access.items():
            setattr(repository, which, value)
        return commit

    def fetched(self, suffix: str = "") -> list[str]:
        """The paths of the files whose bytes were asked for, of those that end so."""
        asked = [path for method, path, _ in self.requests if method == "GET" and "/resolve/" in path]
        return [path for path in asked if path.endswith(suffix)]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append((self.command, unquote(path), self.headers))
        if self.server.status:
            return self._refuse(self.server.status)
        if path.startswith("/store/"):
            return self._store(path.removeprefix("/store/"))
        if path.startswith("/api/models/"):
            name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            return self._model(name, unquote(revision) or "main")
        if "/resolve/" in path:
            name, _, rest = path.strip("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            return self._file(name, unquote(revision), unquote(file))
        return self._refuse(404)

    def _found(self, name: str, revision: str) -> tuple[Repository, str] | None:
        """The repository and commit; None after a refusal."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and token not in self.server.allowed):
            self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
            return None
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository, commit

    def _model(self, name: str, revision: str) -> None:
        if (found := self._found(name, revision)) is not None:
            repository, commit = found
            files = [{"rfilename": file} for file in repository.commits[commit]]
            told = {"id": name, "modelId": name, "sha": commit, "siblings": files, "gated": repository.gated}
            self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, file: str) -> None:
        if (found := self._found(name, revision)) is None:
            return None
        repository, commit = found
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository.gated and token not in self.server.allowed:
            return self._refuse(403 if token else 401, "GatedRepo", f"Access to model {name} is restricted")
        content = repository.commits[commit].get(file)
        if content is None:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit}
        if not file.endswith(WEIGHTS_SUFFIXES):
            return self._send(200, content, {**headers, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'})
        digest = hashlib.sha256(content).hexdigest()
        port = self.server.server_address[1]
        headers |= {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        return self._send(302, b"", {**headers, "Location": f"http://{ELSEWHERE}:{port}/store/{digest}"})

    def _store(self, digest: str) -> None:
        """A large file, from where the client wants it."""
        files = (files for one in self.server.repositories.values() for files in one.commits.values())
        content = next(one for group in files for one in group.values() if hashlib.sha256(one).hexdigest() == digest)
        for one in self.server.repositories.values():
            content = one.served.get(digest, content)
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        headers = {"ETag": f'"{digest}"', "Content-Length": str(len(content) - start)}
        if "Range" in self.headers:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        stop = self.server.breaks_after.pop(0) if self.server.breaks_after else None
        self._send(206 if "Range" in self.headers else 200, content[start:][:stop], headers)
        self.close_connection = True

    def _refuse(self, status: int, code: str = "", message: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        self._send(status, b"", headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def running() -> Iterator[HubServer]:
    """A server on this machine, until the context ends."""
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
