"""Read the headers of an untrusted tar file: what would loop, exhaust memory or be misread is refused.

`tarfile` reads the format, but it jumps backwards for a negative size, trusts the length that a pax record gives, keeps
extended headers of any size, and ignores everything after the end mark.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_EXTENDED = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_LARGEST_EXTENDED = 1 << 20  # bytes; the names and attributes of a file take some hundred
_MOST_EXTENDED = 8  # in a row; a long name, a long link and a pax header are three
_MOST_EMPTY = 10_000  # empty members at the start; a million of them take a minute to skip
_RECORD = re.compile(rb"(\d{1,10}) ([^=\n]+)=", re.ASCII)


class Header(tarfile.TarInfo):
    """A member's header that is checked before `tarfile` acts on it."""

    def _proc_member(self, tar: Any) -> Any:
        """Check the header; `tarfile` provides this method for subclasses ("can be overridden", in its source)."""
        if self.size < 0:
            raise tarfile.ReadError(f"the header of {self.name!r} gives a negative size")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"{self.name!r} is a sparse file: pack it without --sparse")
        tar.extended = getattr(tar, "extended", 0) + 1 if self.type in _EXTENDED else 0
        if tar.extended > _MOST_EXTENDED:
            raise tarfile.ReadError(f"it has more than {_MOST_EXTENDED} extended headers in a row")
        if tar.extended and self.size > _LARGEST_EXTENDED:
            raise tarfile.ReadError(f"an extended header has {self.size:,} bytes, over {_LARGEST_EXTENDED:,}")
        if self.type in _PAX:
            _check_pax(tar.fileobj, self.size)
        return super()._proc_member(tar)  # type: ignore[misc]


def _check_pax(file: BinaryIO, size: int) -> None:
    """Raise ReadError unless each record has the length that it gives (POSIX.1-2008, pax)."""
    start = file.tell()
    records = file.read(size)
    file.seek(start)
    at = 0
    while at < len(records):
        record = _RECORD.match(records, at)
        end = at + int(record[1]) if record else at
        if record is None or end <= record.end() or end > len(records) or records[end - 1 : end] != b"\n":
            raise tarfile.ReadError("a pax header is damaged: a record does not have the length that it gives")
        key, value = record[2], records[record.end() : end - 1]
        if key.startswith(b"GNU.sparse"):
            raise tarfile.ReadError("it holds a sparse file: pack it without --sparse")
        if key == b"size" and not re.fullmatch(rb"\d{1,18}", value, re.ASCII):
            raise tarfile.ReadError(f"a pax header gives the size {value[:20]!r}")
        at = end
    if len(records) < size:
        raise tarfile.ReadError("a pax header is cut off")


def read_headers(path: Path) -> Iterator[tarfile.TarInfo]:
    """Yield every member of an uncompressed tar file, up to its end mark. Raises TarError and OSError.

    There must be an end mark, with only zeros behind it: of tar files joined end to end, only the first would be read.
    """
    with tarfile.open(path, "r:", tarinfo=Header) as tar:
        at, empty = 0, 0
        try:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # otherwise it keeps every header
                if tar.offset <= at:
                    raise tarfile.ReadError(f"the header of {info.name!r} leads back to an earlier position")
                at = tar.offset
                empty = empty + 1 if not info.size and empty >= 0 else -1  # -1 once a member was not empty
                if empty > _MOST_EMPTY:
                    raise tarfile.ReadError(f"its first {_MOST_EMPTY:,} members are empty")
                yield info
        except (
            ValueError,
            IndexError,
            OverflowError,
            RecursionError,
        ) as error:  # from bad numbers and names in headers
            raise tarfile.ReadError(f"a header is damaged ({error})") from error
        end = tar.offset
    with path.open("rb") as file:  # tarfile treats a damaged header, and the end of the file, as the end of the archive
        size = file.seek(0, 2)
        file.seek(end)
        mark = file.read(tarfile.BLOCKSIZE)
        if mark != bytes(tarfile.BLOCKSIZE):
            told = "it is damaged" if len(mark) == tarfile.BLOCKSIZE else "it is cut off: it has no end mark"
            raise tarfile.ReadError(f"{told} after {end:,} of {size:,} bytes")
        while block := file.read(1 << 20):
            if block.strip(b"\0"):
                raise tarfile.ReadError(
                    "data follows its end mark, as when files are joined with  cat: join them with  tar --concatenate"
                )
