"""A file that is still arriving: its bytes, which version of the server's file they are of, and whose it is to write.

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
from vitsmith.locks import is_at, lock


class Version(Frozen):
    """Which version of the server's file some bytes are of."""

    validator: str = ""
    """A strong ETag or the Last-Modified date; '' when the server gives neither: then nothing can be resumed."""
    total: int | None = None
    """Bytes of the whole file, where the server says it."""


@dataclass(frozen=True)
class Partial:
    """The partial file at `path`, which exists."""

    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def version(self) -> Version | None:
        """The version that the bytes are of; None when they cannot be continued."""
        try:
            return Version.model_validate_json(self._note.read_text(encoding="utf-8"))
        except (FileNotFoundError, UnicodeDecodeError, ValidationError):
            return None

    def begin(self, version: Version) -> None:
        """Empties the file for the bytes of `version`; before noting it, lest the note meet another version's bytes."""
        self.forget()
        if version.validator:
            self._note.write_text(version.model_dump_json(), encoding="utf-8")

    def forget(self) -> None:
        """Empties the file, so that the next attempt starts anew."""
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
def claim(target: Path, *, talk: bool = False) -> Iterator[Partial]:
    """The partial file of `target`, for this process alone; waits (and says so, to talk) while another one has it.

    Where files cannot be locked (some cluster file systems) it is one of this process's own, not kept.
    """
    shared = Partial(target.with_name(target.name + ".part"))
    while True:
        with shared.path.open("ab") as handle:
            if not _lock(handle, target.name, talk=talk):
                break
            if not is_at(handle, shared.path):
                continue  # who had the lock has finished that file: the name is free for a new one
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
    """Whether the file is locked for us, after waiting for it; False where there are no locks."""
    ours = lock(handle)
    if ours is False:
        if talk:
            print(f"waiting for another process that is downloading {name}", file=sys.stderr)
        ours = lock(handle, wait=True)
    return bool(ours)
