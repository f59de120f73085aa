"""Recognise the content of a file by its first bytes, not by its name. No torch here.

Every reader of weights, vocabularies, label files and indexes uses this, so that messages name a page of HTML, a Git
LFS pointer or an archive that was given by mistake.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from vitsmith.errors import InputError
from vitsmith.files.regular import open_regular, read_regular

_HEAD = 4096
_DOWNLOAD = "the download did not get the file: download it again, with the address of the file itself"
_UNPACK = "unpack it, and give its content"


@dataclass(frozen=True)
class Content:
    """The content of a file: `kind` for programs, `what` and `advice` for messages."""

    kind: str
    """'safetensors', 'npz', 'torch' (of torch.save, in either format), 'index' (of parts), 'text', or another."""
    what: str
    advice: str = ""

    @property
    def told(self) -> str:
        """'is a Git LFS pointer, not the file itself: run  git lfs pull  in its folder'."""
        return f"is {self.what}: {self.advice}" if self.advice else f"is {self.what}"


_LFS = Content(
    "lfs",
    "a Git LFS pointer, not the file it stands for",
    "run  git lfs pull  in its folder, or download the file itself",
)
_HTML = Content("html", "an HTML page", _DOWNLOAD)
_PROGRAM = (
    "no bundle.json beside it says how it reads images and what its classes are; give the folder that  "
    "vitsmith export  wrote, or export the model with it"
)
_OPENVINO = Content("xml", "an OpenVINO program (.xml)", _PROGRAM)
_XML = Content("xml", "an XML document, as servers send for errors", _DOWNLOAD)
_JSON = Content("json", "a JSON document", _DOWNLOAD)
_EMPTY = Content("empty", "empty", "download or copy it again")
_SPARSE = Content("zeros", "full of zeros", "download or copy it again")
_UNKNOWN = Content("unknown", "of a kind that vitsmith does not know")

SAFETENSORS = Content("safetensors", "a .safetensors file")
NPZ = Content("npz", "an .npz of NumPy")
TORCH = Content("torch", "a file of torch.save")
INDEX = Content("index", "an index of .safetensors files")
_ANNEX = Content(
    "annex",
    "a git-annex pointer, not the file it stands for",
    "run  git annex get  in its folder, or download the file itself",
)
_SHORT = 100  # bytes
_TEXT = Content("text", "text")

_MAGIC = (
    (b"\x1f\x8b", Content("gzip", "a gzip archive", _UNPACK)),
    (b"BZh", Content("bzip2", "a bzip2 archive", _UNPACK)),
    (b"\xfd7zXZ\0", Content("xz", "an xz archive", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", Content("zstd", "a Zstandard archive", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", Content("7z", "a 7-Zip archive", _UNPACK)),
    (b"Rar!", Content("rar", "a RAR archive", _UNPACK)),
    (b"\x89HDF\r\n\x1a\n", Content("hdf5", "an HDF5 file, as Keras writes (.h5, .keras)")),
    (b"GGUF", Content("gguf", "a GGUF file of llama.cpp")),
    (b"\x93NUMPY", Content("npy", "one .npy array", "give the .npz or .safetensors with all arrays of the model")),
    (b"\xff\xd8\xff", Content("image", "a JPEG image")),
    (b"\x89PNG\r\n\x1a\n", Content("image", "a PNG image")),
    (b"%PDF-", Content("pdf", "a PDF document")),
    (b"SQLite format 3\0", Content("sqlite", "an SQLite database")),
    (b"PAR1", Content("parquet", "a Parquet table")),
    (b"\x7fELF", Content("elf", "an executable")),
    (b"MZ", Content("exe", "a Windows executable")),
)
_MAGIC_AT = (
    (4, b"TFL3", Content("tflite", "a TensorFlow Lite program (.tflite)")),
    (4, b"ET", Content("pte", "an ExecuTorch program (.pte)", _PROGRAM)),
    (257, b"ustar", Content("tar", "a tar archive", _UNPACK)),
    (-8, struct.pack("<Q", 0xDB4775248B80FB57), Content("tf", "the index of a TensorFlow checkpoint")),
)

# Formats without a mark at the beginning: they are recognised by their suffix when nothing else fits.
_BY_SUFFIX = {
    ".msgpack": Content("msgpack", "a msgpack file of Flax"),
    ".pb": Content("pb", "a TensorFlow graph (.pb)"),
    ".onnx": Content("onnx", "an ONNX program", _PROGRAM),
}


def content_of(path: Path) -> Content:
    """Recognise the content of the file at `path`. Raises InputError when it cannot be read."""
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD)
            size = file.seek(0, 2)
            file.seek(max(size - 8, 0))
            tail = file.read(8)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    found = _binary(head, tail, size) or _zip(path, head) or mistaken_text(head)
    if found is not None and found.kind == "json" and b'"weight_map"' in head:
        return INDEX
    if found is None and path.name.endswith(".json"):
        return _JSON
    if found is None and (said := short_text(head, size)):
        found = Content("text", f"text that says {said!r}")
    return found or _BY_SUFFIX.get(path.suffix.lower()) or (_TEXT if _is_text(head) else _UNKNOWN)


def not_weights(content: Content) -> str:
    """'is an HDF5 file, not weights: give .safetensors, .npz or a .pth of torch.save'."""
    advice = content.advice or "give .safetensors, .npz or a .pth of torch.save"
    return f"is {content.what}, not weights: {advice}"


def read_words(path: Path, what: str, *, largest: int = 256 << 20, also: Collection[str] = ()) -> bytes:
    """The bytes of a file of words, names or pieces; `what` names it in messages. Raises InputError.

    A SentencePiece model is not text, so only files that are known to be something else are refused; `also` are kinds
    of content that it may be, as 'json'.
    """
    found = content_of(path)
    if found.kind not in ("text", "unknown", *also):
        raise InputError(f"{path} is not {what}: it {found.told}")
    try:
        return read_regular(path, largest=largest)
    except OSError as error:
        raise InputError(f"cannot read {what}, {path}: {error.strerror or error}") from None


def mistaken_text(head: bytes) -> Content | None:
    """What a text file is instead of a list of names or words, from its beginning; None when it may be such a list."""
    if not head:
        return _EMPTY
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:512]
    lower = start.lower()
    if start.startswith((b"version https://git-lfs", b"version https://hawser")):
        return _LFS
    if start.startswith(b"/annex/objects/"):
        return _ANNEX
    if lower.startswith((b"<!doctype html", b"<html", b"<head", b"<!doctype")):
        return _HTML
    if start.startswith(b"<?xml") and b"<net " in head:
        return _OPENVINO
    if start.startswith(b"<?xml"):
        return _HTML if b"<html" in lower else _XML
    if lower.startswith(b"<error>"):
        return _XML
    if start.startswith((b'{"', b"{}", b"[{", b'["')) or (start[:1] == b"{" and start[1:].lstrip()[:1] == b'"'):
        return _JSON
    return None


def _binary(head: bytes, tail: bytes, size: int) -> Content | None:
    for magic, content in _MAGIC:
        if head.startswith(magic):
            return content
    for at, magic, content in _MAGIC_AT:
        if (tail if at < 0 else head[at : at + len(magic)]) == magic:
            return content
    if head and not head.strip(b"\0"):
        return _SPARSE
    # A pickle of protocol 2 or later, as torch.save wrote it before torch 1.6.
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return TORCH
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length <= max(size - 8, 100_000_000):  # also of a file that was cut off
        return SAFETENSORS
    return None


def _zip(path: Path, head: bytes) -> Content | None:
    """The kind of content of a zip archive."""
    if not head.startswith((b"PK\3\4", b"PK\5\6")):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        cut = Content("zip", "a zip archive that is damaged or cut off", "download or copy it again")
        return _suited(head) or cut
    inner = {name.partition("/")[2] for name in names}
    if any(name.startswith("code/") for name in inner) and "data.pkl" in inner:
        return Content("torchscript", "a TorchScript program, which can run code", "ask for its state dict")
    if "archive_format" in inner or any(name.startswith("models/") for name in inner | set(names)):
        return Content("pt2", "a program of torch.export (.pt2)", "ask for its state dict")
    if "data.pkl" in inner:
        return TORCH
    if "model.weights.h5" in names:
        return Content("keras", "a Keras model (.keras)")
    if names and all(name.endswith(".npy") for name in names):
        return NPZ
    if names and not any(name.endswith("/") or "." in name for name in names):
        return NPZ  # arrays without the suffix, which some writers leave out
    return Content("zip", "a zip archive" if names else "an empty zip archive", _UNPACK)


def _suited(head: bytes) -> Content | None:
    """The content of an archive with an unreadable list of members, by its first member; its reader finds the error."""
    length = int.from_bytes(head[26:28], "little")
    first = head[30 : 30 + length]
    if first.endswith(b".npy"):
        return NPZ
    return TORCH if first.endswith(b"/data.pkl") else None


def short_text(head: bytes, size: int) -> str:
    """The text of a file of one line, such as 'Entry not found' of a server; '' for others. `head` is its beginning."""
    text = head.removeprefix(b"\xef\xbb\xbf").decode("ascii", "replace").strip()
    return text if size <= _SHORT and text.isprintable() and text.isascii() else ""


def _is_text(head: bytes) -> bool:
    return b"\0" not in head and not any(byte < 9 or 13 < byte < 27 for byte in head)
