"""Which paths mean a bundle: its folder, the folder of the run that made it, or a file of its weights or programs."""

from __future__ import annotations

import os
from pathlib import Path

from vitsmith.errors import BundleError
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.bundle_folder import is_bundle, is_program

_PROGRAMS = "programs"
"""The folder of a bundle's further programs."""


def find_bundle(path: str | os.PathLike[str]) -> Path | None:
    """The folder of the bundle that a path means; None for a path that means none.

    'runs/train/pets', 'runs/train/pets/model' and 'runs/train/pets/model/model.safetensors' mean the same one.
    """
    place = Path(path)
    if is_bundle(place):
        return place
    if is_bundle(place / "model"):
        return place / "model"
    if not is_program(place.name, "model") or not _is_file(place):
        return None
    folder = place.parent.parent.parent if place.parent.parent.name == _PROGRAMS else place.parent
    return folder if is_bundle(folder) else None


def using_file(bundle: Bundle, path: Path) -> Bundle:
    """The bundle with the program that a file in its folder belongs to; unchanged for a path that is not a file.

    Raises BundleError for a file that the bundle was not written with.
    """
    if bundle.folder is None or not _is_file(path):
        return bundle
    inside = path.parent.relative_to(bundle.folder).as_posix()
    stored = next((one for one in bundle.programs if one.folder == ("" if inside == "." else inside)), None)
    if stored is None or path.suffix not in SUFFIXES[stored.program]:
        raise BundleError(f"{path} is not a file of the bundle in {bundle.folder}: give that folder, or move the file")
    return bundle.using(stored)


SUFFIXES = {
    "torch": (".safetensors",),
    "onnx": (".onnx", ".data"),
    "openvino": (".xml", ".bin"),
    "executorch": (".pte",),
}
"""The suffixes of the files of each program."""


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
