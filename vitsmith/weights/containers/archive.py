"""The zip archives of `.npz` and `torch.save`, checked when they are opened: they may claim anything."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path

from vitsmith.errors import WeightsError, shown

_MOST_MEMBERS = 100_000
_LARGEST_RATIO = 50
"""Unpacked bytes for each byte of the file, at most. Weights hardly compress: more is meant to fill the memory."""
_ALWAYS_ALLOWED = 64 << 20
_CHUNK = 1 << 20

LONGEST_HEADER = 4096
"""Bytes of the header of a `.npy` file. NumPy parses it as Python, and a longer one could overflow the stack."""

NPY_DAMAGE = (OSError, ValueError, EOFError, tokenize.TokenError, OverflowError, RecursionError)
"""Errors of NumPy for a damaged `.npy` file: it parses the header as Python, and computes with any shape in it."""

DAMAGE = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, *NPY_DAMAGE)
"""Errors of zipfile and NumPy for damaged bytes: a changed flag means "encrypted" or "unknown compression"."""


def open_archive(path: Path, what: str) -> zipfile.ZipFile:
    """The archive at `path`, which messages call `what`. No member is read yet.

    Raises WeightsError for a file that is missing, cut off or no archive, has a name twice, is encrypted, or claims
    more than a file of its size can hold.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except DAMAGE as error:
        raise WeightsError(f"{path}: not a complete {what} ({error}); download or copy it again") from None
    try:
        _check_claims(archive.infolist(), path)
    except BaseException:
        archive.close()
        raise
    return archive


def _check_claims(members: list[zipfile.ZipInfo], path: Path) -> None:
    size = path.stat().st_size
    if len(members) > _MOST_MEMBERS:
        raise WeightsError(f"{path}: lists {len(members):,} arrays; no model has more than {_MOST_MEMBERS:,}")
    names: set[str] = set()
    for member in members:
        if member.filename in names:
            raise WeightsError(f"{path}: holds {shown(member.filename)} twice; download or copy it again")
        names.add(member.filename)
        if member.flag_bits & 1:
            raise WeightsError(f"{path}: is encrypted; unpack it with its password first")
    stored, claimed = sum(one.compress_size for one in members), sum(one.file_size for one in members)
    if stored > size:
        raise WeightsError(f"{path}: claims {stored:,} bytes in a file of {size:,}; download or copy it again")
    if claimed > max(_ALWAYS_ALLOWED, _LARGEST_RATIO * size):
        raise WeightsError(f"{path}: claims to unpack {size:,} bytes to {claimed:,}, too many for weights; refused")


def verify_stored(archive: zipfile.ZipFile, path: Path) -> bool:
    """Reads every member of an archive of `torch.save` and compares its checksum; False if it has none.

    torch does not compare checksums when it maps a file into memory. Takes about the time of reading the file once.
    Raises WeightsError for a member that is damaged, or compressed, which torch.save never does.
    """
    members = archive.infolist()
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise WeightsError(
                f"{path}: {shown(member.filename)} is compressed, so another program packed it again: "
                "unpack it, or ask for a .safetensors file"
            )
    if not any(member.CRC for member in members):
        return False  # torch.serialization.set_crc32_options(False)
    for member in members:
        try:
            with archive.open(member) as stream:
                while stream.read(_CHUNK):
                    pass
        except DAMAGE as error:
            raise WeightsError(
                f"{path}: not a complete file of torch.save ({error}); download or copy it again"
            ) from None
    return True
