"""Which paths mean a bundle: its folder, that of the run that made it, and a file or folder of one of its programs."""

from __future__ import annotations

import os
from pathlib import Path

from vitsmith.errors import BundleError
from vitsmith.specs import Program
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import is_bundle, is_program

_PROGRAMS = "programs"
"""The folder of a bundle's further programs."""


def find_bundle(path: str | os.PathLike[str]) -> Path | None:
    """The folder of the bundle that a path means; None for a path that means none.

    'runs/train/pets', 'runs/train/pets/model' and 'runs/train/pets/model/model.safetensors' mean the same one; so do
    'runs/train/pets/model/programs/onnx-fp32' and the file in it.
    """
    place = Path(path)
    if is_bundle(place):
        return place
    if is_bundle(place / "model"):
        return place / "model"
    if _is_program_folder(place):
        return place.parent.parent
    if not is_program(place.name, "model") or not _is_file(place):
        return None
    folder = place.parent.parent.parent if place.parent.parent.name == _PROGRAMS else place.parent
    return folder if is_bundle(folder) else None


def names_program(path: str | os.PathLike[str]) -> bool:
    """Whether a path means one program of a bundle, by its file or its folder, and not the bundle with all of them."""
    folder, place = find_bundle(path), Path(path)
    return folder is not None and (_is_file(place) or place.parent == folder / _PROGRAMS)


def using_program(bundle: Bundle, path: Path) -> Bundle:
    """The bundle with the program that a path means; unchanged for a path that means the bundle, and see `find_bundle`.

    Raises BundleError for a file or folder that the bundle was not written with.
    """
    if bundle.folder is None or not names_program(path):
        return bundle
    one_file = _is_file(path)
    inside = (path.parent if one_file else path).relative_to(bundle.folder).as_posix()
    stored = next((one for one in bundle.programs if one.folder == ("" if inside == "." else inside)), None)
    if stored is None or (one_file and path.suffix not in SUFFIXES[stored.program]):
        what = "a file" if one_file else "a program"
        raise BundleError(f"{path} is not {what} of the bundle in {bundle.folder}: give that folder, or move the other")
    return bundle.using(stored)


SUFFIXES = {
    "torch": (".safetensors",),
    "onnx": (".onnx", ".data"),
    "openvino": (".xml", ".bin"),
    "executorch": (".pte",),
}
"""The suffixes of the files of each program; that of the file which an engine opens is the first."""


def program_file(part: str, program: Program) -> str:
    """The name of the file that an engine opens, 'model.onnx' or 'text.xml'."""
    return f"{part}{SUFFIXES[program][0]}"


def _is_program_folder(path: Path) -> bool:
    """Whether it is a folder in a bundle's folder `programs`."""
    try:
        return path.parent.name == _PROGRAMS and path.is_dir() and is_bundle(path.parent.parent)
    except (OSError, ValueError):  # a name that no file can have
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
