"""The `.npz` container, read without unpickling anything and without holding more than one array at a time."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import torch
from torch import Tensor

from vitsmith.arrays import Shape
from vitsmith.errors import InputError, WeightsError, shown
from vitsmith.files.atomic import replacing
from vitsmith.json_text import parse_json, to_json
from vitsmith.weights.containers.archive import DAMAGE, LONGEST_HEADER, open_archive

_MARK = b"vitsmith "
_COMMENT_END = 2048
"""Number of bytes at the end of a file that are searched for our comment."""


class NpzFile:
    """An open `.npz`: names and shapes from the headers at once, arrays one by one on request.

    `told` is what the writer noted beside the arrays, see `write_npz`; {} for files of other programs.

    Raises WeightsError for a file that is not an `.npz`, is truncated, or holds Python objects.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._zip = open_archive(self.path, ".npz file")
        try:
            self.told = self._told()
            self.shapes = self._shapes()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def read(self, name: str) -> Tensor:
        """One array as float32. Its checksum in the container is verified."""
        try:
            with self._open(name) as stream:
                array = np.lib.format.read_array(stream, allow_pickle=False, max_header_size=LONGEST_HEADER)
                stream.read()  # to the end, so that the checksum is compared
        except DAMAGE as error:
            raise WeightsError(f"{self.path}: array {name!r} is damaged ({error}); download the file again") from None
        with np.errstate(all="ignore"):  # what float32 cannot hold becomes infinite, and is refused by name
            return torch.from_numpy(np.asarray(array, np.float32))

    def _told(self) -> dict[str, Any]:
        """What `write_npz` noted beside the arrays; {} for a comment of another program."""
        if told := _opened(self._zip.comment):
            return told
        with self.path.open("rb") as file:
            file.seek(max(self.path.stat().st_size - _COMMENT_END, 0))
            end = file.read()
        if _MARK.strip() in end or b'"image_size"' in end:
            raise WeightsError(f"{self.path}: the comment of the archive is damaged; copy the file again")
        return {}

    def _shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for member in self._zip.namelist():
            name = member.removesuffix(".npy")
            if name in shapes:
                raise WeightsError(f"{self.path}: holds the array {shown(name)} twice; download or copy it again")
            shapes[name] = self._shape(name)
        return shapes

    def _open(self, name: str) -> IO[bytes]:
        return self._zip.open(self._member(name))

    def _member(self, name: str) -> zipfile.ZipInfo:
        return self._zip.NameToInfo.get(name + ".npy") or self._zip.getinfo(name)

    def _shape(self, name: str) -> Shape:
        try:
            with self._open(name) as stream:
                version = np.lib.format.read_magic(stream)
                read_header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read_header(stream, max_header_size=LONGEST_HEADER)
                size = self._member(name).file_size - stream.tell()
        except DAMAGE as error:
            raise WeightsError(f"{self.path}: {name!r} is not an array, or damaged ({error}); copy it again") from None
        if dtype.hasobject:
            raise WeightsError(f"{self.path}: array {name!r} holds pickled Python objects; refused, they can run code")
        if dtype.kind != "f":
            raise WeightsError(f"{self.path}: array {name!r} has type {dtype}, weights are floating point")
        if size != math.prod(shape) * dtype.itemsize:  # before anyone allocates what a damaged header claims
            raise WeightsError(f"{self.path}: array {name!r} is damaged: {size} bytes are not {shape} of {dtype}")
        return tuple(int(side) for side in shape)


def write_npz(
    path: str | os.PathLike[str], arrays: Iterable[tuple[str, Tensor]], *, told: Mapping[str, Any] | None = None
) -> None:
    """Writes arrays one by one, uncompressed as `np.savez` does, and replaces `path` only when all are there.

    `told` holds what no array shows, as JSON. It becomes the comment of the zip archive, which NumPy, and so the
    readers of JAX and timm, do not see.
    """
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as container:
        if told:
            container.comment = _sealed(told)
        for name, array in arrays:
            with container.open(name + ".npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array.detach().float().cpu().contiguous().numpy(), allow_pickle=False)


def _sealed(told: Mapping[str, Any]) -> bytes:
    """The comment with a checksum: the archive's checksums do not cover it."""
    text = to_json(told, sort_keys=True, ascii_only=True).encode()
    return b"%s%08x %s" % (_MARK, zlib.crc32(text), text)


def _opened(comment: bytes) -> dict[str, Any] | None:
    """The `told` that `_sealed` was given; None for anything else."""
    checksum, _, text = comment.removeprefix(_MARK).partition(b" ")
    if not comment.startswith(_MARK) or checksum != b"%08x" % zlib.crc32(text):
        return None
    with suppress(InputError):
        told = parse_json(text, "the comment")
        return told if isinstance(told, dict) else None
    return None
