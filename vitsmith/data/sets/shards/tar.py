"""One tar shard: the position of each sample's image in the file, and its label."""

from __future__ import annotations

import functools
import os
import re
import tarfile
import threading
from pathlib import Path
from typing import NamedTuple

from vitsmith.data.images.read import IMAGE_SUFFIXES
from vitsmith.data.sets.labelling import CLASSES, Labelling
from vitsmith.data.sets.samples import list_some
from vitsmith.data.sets.shards.tar_headers import read_headers
from vitsmith.errors import DatasetError, ImageError, InputError
from vitsmith.json_text import parse_json

Label = int | str

_MEMBER = re.compile(r"^((?:.*/|)[^./][^./]*)\.([^/]*)$", re.DOTALL)
"""Key and extension, separated at the first dot of the last component; names that begin with a dot are not samples."""

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_BLOCK = 512
_OPEN_SHARDS = 64
_LARGEST_LABEL = 1 << 24  # bytes; a larger .cls, .json or .txt is not a label


class ShardEntry(NamedTuple):
    """One image with one label."""

    member: str
    """Name of the image in the shard."""
    offset: int
    """Position of its first byte in the shard."""
    size: int
    label: Label


class _Member(NamedTuple):
    name: str
    offset: int
    size: int


def scan_shard(path: Path, label_key: str = "", labelling: Labelling = CLASSES) -> list[ShardEntry]:
    """Every sample of a shard, in order, once for each of its labels. Only headers and labels are read.

    Raises DatasetError that names the shard when it is compressed, cut off or damaged, has no images, or has a sample
    without exactly one image or without a label.
    """
    try:
        samples = _group(path)
        entries: list[ShardEntry] = []
        mistakes: list[str] = []
        with path.open("rb") as file:
            for key, members in samples.items():
                images = [member for extension, member in members.items() if f".{extension}" in IMAGE_SUFFIXES]
                labels, wrong = _labels(file.fileno(), members, label_key, labelling)
                if len(images) != 1:
                    wrong = "has several images" if images else "has no image"
                if wrong:
                    mistakes.append(f"{key} {wrong}")
                else:
                    entries += [ShardEntry(*images[0], label) for label in labels]
    except (OSError, tarfile.TarError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"{path} is not a readable tar file ({reason}): write or download it again") from error
    if mistakes:
        told = f"{len(mistakes):,} of its {len(samples):,} samples cannot be used ({list_some(mistakes, ', ')})"
        told += f": a sample is an image and a .{labelling.member} or .json with its {labelling.short}"
        if not entries and not labelling.several and all("/" in key for key in samples):
            told += "; if its folders are the classes, unpack it and give the folder"
        raise DatasetError(f"{path}: {told}")
    if not entries:
        raise DatasetError(f"{path} holds no images: leave it out")
    return entries


def _group(path: Path) -> dict[str, dict[str, _Member]]:
    """The members of each sample: key -> extension -> member."""
    with path.open("rb") as file:
        start = file.read(_BLOCK)
        size = os.fstat(file.fileno()).st_size
    if not start:
        raise DatasetError(f"{path} is empty (0 bytes): write or download it again")
    for magic, kind in _COMPRESSED.items():
        if start.startswith(magic):
            raise DatasetError(f"{path} is compressed ({kind}): decompress it (images hardly shrink)")
    samples: dict[str, dict[str, _Member]] = {}
    for info in read_headers(path):
        parts = _MEMBER.match(info.name.removeprefix("./"))
        if parts is None or parts[1].rpartition("/")[2].startswith("__"):
            continue  # files that macOS adds, and members of WebDataset that begin with '__'
        if info.islnk() or info.issym():
            raise DatasetError(f"{path} holds {info.name} as a link: pack the file itself (tar -h --hard-dereference)")
        if not info.isreg():
            continue
        if info.offset_data + info.size > size:
            raise DatasetError(f"{path} is cut off inside {info.name}: write or download it again")
        extension = parts[2].lower()
        if extension in samples.setdefault(parts[1], {}):
            raise DatasetError(f"{path} holds {info.name} twice: each sample needs its own name")
        samples[parts[1]][extension] = _Member(parts[0], info.offset_data, info.size)
    return samples


def _labels(file: int, members: dict[str, _Member], label_key: str, labelling: Labelling) -> tuple[list[Label], str]:
    """The labels of a sample, and '' or the mistake."""
    plain = labelling.member
    kind = next((kind for kind in (("json",) if label_key else (plain, "json")) if kind in members), "")
    if not kind:
        return [], "has no .json" if label_key else f"has no .{plain} or .json"
    member = members[kind]
    if member.size > _LARGEST_LABEL:
        return [], f"has a .{kind} of {member.size:,} bytes"
    data = _read_at(file, member.size, member.offset, threading.Lock())  # no other thread reads this descriptor
    try:
        value = data.decode("utf-8-sig").strip() if kind == plain else parse_json(data, "")
    except (UnicodeDecodeError, InputError):
        return [], f"has a .{kind} that cannot be read"
    keys = (label_key,) if label_key else labelling.keys
    if kind == "json":
        value = next((value[key] for key in keys if key in value), None) if isinstance(value, dict) else None
    values = value if kind == "json" and labelling.several and isinstance(value, list) else [value]
    if not values or any(not _is_label(one, labelling) for one in values):
        where = f"{' or '.join(map(repr, keys))} in its .json" if kind == "json" else f"{labelling.noun} in its .{kind}"
        return [], f"has no {where}"
    if not labelling.several and kind == plain and value.isascii() and value.isdigit():
        return [int(value)], ""
    return [one.strip() if isinstance(one, str) and labelling.several else one for one in values], ""


def _is_label(value: object, labelling: Labelling) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0 and not labelling.several


class OpenShard:
    """An open shard. The last reference closes its file, so a cache may drop a shard that a thread still reads."""

    def __init__(self, path: Path) -> None:
        self._file = -1
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._one_at_a_time = threading.Lock()

    def read(self, offset: int, size: int) -> bytes:
        """The bytes of a member; fewer when the file has become shorter. Thread-safe. Raises OSError."""
        return _read_at(self._file, size, offset, self._one_at_a_time)

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def _read_at(file: int, size: int, offset: int, one_at_a_time: threading.Lock) -> bytes:
    """Read as os.pread does, which Windows does not have."""
    if hasattr(os, "pread"):
        return os.pread(file, size, offset)
    with one_at_a_time:
        os.lseek(file, offset, os.SEEK_SET)
        found = os.read(file, size)
        while len(found) < size and (more := os.read(file, size - len(found))):
            found += more
        return found


class ShardFiles:
    """The files of many shards; the most recently used ones stay open."""

    def __init__(self) -> None:
        self._open = functools.lru_cache(_OPEN_SHARDS)(OpenShard)

    def read(self, path: Path, offset: int, size: int, name: str) -> bytes:
        """The bytes of a member. Thread-safe. Raises ImageError that begins with `name`."""
        try:
            data = self._open(path).read(offset, size)
        except OSError as error:
            raise ImageError(f"{name}: cannot be read from its shard ({error.strerror}); check {path}") from error
        if len(data) < size:
            raise ImageError(f"{name}: its shard has become shorter since the start; restore {path}")
        return data
