"""The kinds of image that callers may give, and how their bytes are read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitsmith.data.images.tensors import is_tensor
from vitsmith.errors import ImageError
from vitsmith.files.regular import NotRegularError, read_with_state


class Tensor(Protocol):
    """A tensor of torch, JAX and others; `image_tensors` says which tensors are images."""

    @property
    def device(self) -> Any: ...

    def __array__(self, dtype: Any = None) -> NDArray[Any]: ...


class SelfReading(os.PathLike[str]):
    """A path that is asked for its bytes, so that it can record what was read."""

    def read_all(self) -> bytes:
        """The bytes of the file. Raises ImageError."""
        raise NotImplementedError


ImageSource = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | NDArray[np.generic] | Image.Image | Tensor
)

LARGEST = 1 << 30
"""The largest file, in bytes: 178 million pixels of three 16-bit channels without compression."""

_GIVE = "give a path, the bytes of a file, an open file, a uint8 array, a tensor or a Pillow image"


def several(images: Any) -> Iterable[ImageSource]:
    """One image becomes a list of one; an array of four axes, or of texts, is already several images.

    Raises ImageError for anything that is neither an image nor a sequence of images. A mapping or set is refused: it
    has no order.
    """
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim >= 4 or (images.dtype.kind in "USO" and images.ndim == 1) else [images]
    if is_tensor(images):
        return list(images) if len(images.shape) >= 4 else [images]
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | Image.Image) or _is_file(images):
        return [images]
    if isinstance(images, Mapping | AbstractSet) or not isinstance(images, Iterable):
        raise ImageError(f"{_kind(images)} is neither an image nor a list of images: {_GIVE}, or a list of these")
    return images


def is_encoded(source: object) -> bool:
    """Whether a source is a file or the bytes of a file, rather than pixels."""
    return isinstance(source, str | os.PathLike | bytes | bytearray | memoryview) or _is_file(source)


def read_bytes(source: Any) -> bytes:
    """The bytes of a source that is a path, an open file or bytes. Raises ImageError."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if isinstance(source, SelfReading):
        return source.read_all()
    if isinstance(source, str | os.PathLike):
        return read_path(os.fsdecode(source))[0]
    if _is_file(source):
        return _read_file(source)
    raise ImageError(f"{_kind(source)} is not an image; {_hint(source)}")


def name_source(source: object) -> str:
    """The name of an image in messages: its path where it has one."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    if isinstance(source, Image.Image):
        return os.fsdecode(getattr(source, "filename", "")) or "Pillow image"
    if _is_file(source):
        name = getattr(source, "name", "")
        return os.fsdecode(name) if isinstance(name, str | bytes) and name else "image file"
    if isinstance(source, bytes | bytearray | memoryview):
        return "image bytes"
    if is_tensor(source):
        return "image tensor"
    return "image array" if isinstance(source, np.ndarray) else "image"


def read_path(path: str) -> tuple[bytes, os.stat_result]:
    """The bytes of an image file, and the state of that file just before they were read. Raises ImageError."""
    try:
        return read_with_state(path, largest=LARGEST)
    except FileNotFoundError as error:
        if path.startswith("~") and (home := os.path.expanduser(path)) != path:  # noqa: PTH111 - of any text
            return read_path(home)
        raise _unreadable(error) from error
    except OSError as error:
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
            raise ImageError("is a folder; give one image file") from error
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> ImageError:
    remedy = "give an image file" if isinstance(error, NotRegularError) else "check the path and its permissions"
    return ImageError(f"cannot be read ({error.strerror}); {remedy}")


def _read_file(file: Any) -> bytes:
    """All of an open file, from its beginning, so that it may be read again."""
    try:
        if file.seekable():
            file.seek(0)
        data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # a file that is closed is a ValueError
        raise ImageError(f"cannot be read ({error}); open it for reading bytes, with 'rb'") from error
    if not isinstance(data, bytes):
        raise ImageError("is open as text; open it for reading bytes, with 'rb'")
    if len(data) > LARGEST:
        raise ImageError(f"has more than {LARGEST:,} bytes, the limit; give a smaller image")
    return data


def _is_file(source: object) -> bool:
    return all(callable(getattr(source, method, None)) for method in ("read", "seekable", "seek"))


def _kind(source: object) -> str:
    kind = type(source)
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}" if kind.__module__ != "builtins" else kind.__name__


def _hint(source: object) -> str:
    if hasattr(source, "__array__"):
        return "give it as a NumPy array, uint8 of shape (height, width, 3)"
    return _GIVE
