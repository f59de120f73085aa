"""Results about a program on this machine, kept in the cache folder so that they are found only once.

Each question has a small JSON file. It is written whole, so that two processes at once do no harm. A file that is
damaged, or of another machine, program or package, is ignored.
"""

from __future__ import annotations

import functools
import hashlib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vitsmith.errors import OutputError
from vitsmith.files.atomic import sha256, write_text
from vitsmith.files.cache import cache_folder
from vitsmith.json_text import json_or_none, to_json
from vitsmith.machine import describe_machine, processor_flags
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import is_program
from vitsmith.weights.bundle.hashes import hashes_of
from vitsmith.weights.bundle.manifest import MANIFEST

PACKAGE = Path(__file__).parents[1]


def question(what: str, program: str, packages: tuple[str, ...], **more: Any) -> dict[str, Any]:
    """The question that an answer belongs to: program, this machine, versions of packages, and `more`."""
    flags = hashlib.sha256(" ".join(sorted(processor_flags())).encode()).hexdigest()[:16]
    versions = {package: installed_version(package) for package in packages}
    machine = {"machine": describe_machine(), "flags": flags}
    return {"what": what, "program": program, "packages": versions, **machine, **more}


def recall(asked: dict[str, Any]) -> dict[str, Any] | None:
    """The remembered answer; None if there is none, or if it cannot be read."""
    try:
        kept = json_or_none(place_of(asked))
    except OutputError:  # there is no cache
        return None
    if not isinstance(kept, dict) or kept.get("question") != asked or not isinstance(kept.get("answer"), dict):
        return None
    answer: dict[str, Any] = kept["answer"]
    return answer


def remember(asked: dict[str, Any], answer: dict[str, Any]) -> None:
    """Keeps an answer; if the cache cannot be written, it is found again the next time."""
    with suppress(OutputError):
        text = to_json({"question": asked, "answer": answer}, indent=1, ascii_only=True)
        write_text(place_of(asked), text + "\n", durable=False)


def place_of(asked: dict[str, Any]) -> Path:
    """The file of a question."""
    name = hashlib.sha256(to_json(asked, sort_keys=True, ascii_only=True).encode()).hexdigest()[:32]
    return cache_folder() / "engines" / f"{name}.json"


def program_hash(bundle: Bundle) -> str:
    """A hash of the files of an exported program, equal for equal files in any folder."""
    return hashlib.sha256(to_json(_program_files(bundle), sort_keys=True, ascii_only=True).encode()).hexdigest()[:32]


def unchanged(bundle: Bundle) -> bool:
    """Whether the files of its program are still those that bundle.json names; large ones are not read again."""
    files = _program_files(bundle)
    return hashes_of(bundle.place, files) == files


def _program_files(bundle: Bundle) -> dict[str, str]:
    """SHA-256 of the files of the bundle's own program, by name."""
    assert bundle.folder is not None
    described = json_or_none(bundle.folder / MANIFEST)
    files = described.get("files") if isinstance(described, dict) else None
    if not isinstance(files, dict):
        files = {path.name: sha256(path) for path in bundle.folder.iterdir() if path.is_file()}
    own = bundle.place.relative_to(bundle.folder).as_posix()
    here = "" if own == "." else f"{own}/"
    return {
        name.removeprefix(here): digest
        for name, digest in files.items()
        if name.startswith(here) and is_program(name.removeprefix(here))
    }


def installed_version(package: str) -> str:
    """The version of a Python package, which is not imported; '' if it is not installed.

    For a package that another distribution brings (onnxruntime-gpu brings onnxruntime): when its files were written.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        found = find_spec(package)
        return "" if found is None or found.origin is None else f"of {Path(found.origin).stat().st_mtime_ns}"


@functools.cache
def code_state(package: Path = PACKAGE, folders: tuple[str, ...] = ("data", "engines")) -> str:
    """A hash that changes when the code in `folders` is edited, even in one version: by default the code that
    preprocesses images or runs programs."""
    state = [
        (path.relative_to(package).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for folder in folders
        for path in (package / folder).rglob("*.py")
    ]
    return hashlib.sha256(repr(sorted(state)).encode()).hexdigest()[:16]
