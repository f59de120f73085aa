"""The `.npz` container, read without unpickling anything and without holding more than one array at a time."""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
import torch
from torch import Tensor

from vitsmith.errors import WeightsError
from vitsmith.files import replacing
from vitsmith.weights.layouts import Shape

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    OSError,
    RuntimeError,  # zipfile: a damaged flag says "encrypted" or "unknown compression"
    tokenize.TokenError,  # NumPy: a damaged header
)


class NpzFile:
    """An open `.npz`: names and shapes from the headers at once, arrays one by one on request.

    Raises WeightsError for a file that is not an `.npz`, is truncated, or holds Python objects.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._zip = zipfile.ZipFile(self.path)
        except FileNotFoundError:
            raise WeightsError(f"{self.path}: no such file") from None
        except _DAMAGE as error:
            raise WeightsError(f"{self.path}: not a complete .npz file ({error}); download or copy it again") from None
        self.shapes: dict[str, Shape] = {}
        for member in self._zip.namelist():
            name = member.removesuffix(".npy")
            self.shapes[name] = self._shape(name)

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
                array = np.lib.format.read_array(stream, allow_pickle=False)
                stream.read()  # to the end, so that the checksum is compared
        except _DAMAGE as error:
            raise WeightsError(f"{self.path}: array {name!r} is damaged ({error}); download the file again") from None
        with np.errstate(all="ignore"):  # what float32 cannot hold becomes infinite, and is refused by name
            return torch.from_numpy(np.asarray(array, np.float32))

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
                shape, _, dtype = read_header(stream)
                size = self._member(name).file_size - stream.tell()
        except _DAMAGE as error:
            raise WeightsError(f"{self.path}: {name!r} is not an array, or damaged ({error}); copy it again") from None
        if dtype.hasobject:
            raise WeightsError(f"{self.path}: array {name!r} holds pickled Python objects; refused, they can run code")
        if dtype.kind != "f":
            raise WeightsError(f"{self.path}: array {name!r} has type {dtype}, weights are floating point")
        if size != math.prod(shape) * dtype.itemsize:  # before anyone allocates what a damaged header claims
            raise WeightsError(f"{self.path}: array {name!r} is damaged: {size} bytes are not {shape} of {dtype}")
        return tuple(int(side) for side in shape)


def write_npz(path: str | os.PathLike[str], arrays: Iterable[tuple[str, Tensor]]) -> None:
    """Writes arrays one by one, uncompressed as `np.savez` does, and replaces `path` only when all are there."""
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as container:
        for name, array in arrays:
            with container.open(name + ".npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array.detach().float().cpu().contiguous().numpy(), allow_pickle=False)
