"""A partial download: its bytes, the version of the server's file they belong to, and which process writes it.

`<name>.part` lies beside the place of `<name>`. `<name>.part.json` notes the version, so that the bytes of one version
are never continued with those of another (If-Range, RFC 9110 section 13.1.5).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from vitsmith.fields import Frozen
from vitsmith.files.locks import is_at, lock


class Version(Frozen):
    """The version of the server's file that some bytes belong to."""

    validator: str = ""
    """A strong ETag or the Last-Modified date; '' if the server gives neither: then nothing can be resumed."""
    total: int | None = None
    """Size of the whole file in bytes; None if the server does not say it."""


@dataclass(frozen=True)
class Partial:
    """The partial file at `path`, which exists."""

    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def version(self) -> Version | None:
        """The version that the bytes belong to; None if they cannot be continued."""
        try:
            return Version.model_validate_json(self._note.read_text(encoding="utf-8"))
        except (FileNotFoundError, UnicodeDecodeError, ValidationError):
            return None

    def begin(self, version: Version) -> None:
        """Empties the file, then notes `version`: so the note never stands beside bytes of another version."""
        self.forget()
        if version.validator:
            self._note.write_text(version.model_dump_json(), encoding="utf-8")

    def forget(self) -> None:
        """Empties the file, so that the next attempt starts from the beginning."""
        with self.path.open("r+b") as file:
            file.truncate()
        self._note.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        """Puts the file in its place, in one step."""
        self.path.replace(target)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")


@contextmanager
def claim(target: Path, name: str = "", *, talk: bool = False) -> Iterator[Partial]:
    """The partial file of `target`, for this process alone. Waits while another process has it; says so if `talk`.

    `name` is the file's name in what is said; '': that of `target`.
    If files cannot be locked (some cluster file systems), this process gets a file of its own, which is not kept.
    """
    shared = Partial(target.with_name(target.name + ".part"))
    while True:
        with shared.path.open("ab") as handle:
            if not _lock(handle, name or target.name, talk=talk):
                break
            if not is_at(handle, shared.path):
                continue  # the other process finished that file: the name is free for a new one
            try:
                yield shared
            finally:
                if is_at(handle, shared.path) and not shared.size:
                    shared.discard()
            return
    with suppress(OSError):
        if not shared.size:
            shared.discard()
    own = Partial(target.with_name(f"{target.name}.{os.getpid()}.part"))
    own.path.touch()
    try:
        yield own
    finally:
        own.discard()


def _lock(handle: IO[bytes], name: str, *, talk: bool) -> bool:
    """Locks the file, and waits for that; returns False if the file system has no locks."""
    ours = lock(handle)
    if ours is False:
        if talk:
            print(f"waiting for another process that is downloading {name}", file=sys.stderr)
        ours = lock(handle, wait=True)
    return bool(ours)
