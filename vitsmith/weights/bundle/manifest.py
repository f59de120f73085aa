"""`bundle.json`, format 2: everything about a bundle but its numbers, checked when it is read.

Format 2 has a field for each part. A part that a later version of vitsmith adds is written only where it is used: so
older versions read what does not need it, and name what they do not know.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitsmith.errors import BundleError
from vitsmith.fields import AS_FOUND, Frozen, mistakes_in
from vitsmith.json_text import read_json, to_json
from vitsmith.models.config import ModelConfig
from vitsmith.records import Measurement, Provenance
from vitsmith.specs import Calibration, Head, ImageSpec, Labels, Similarity, StoredProgram
from vitsmith.text_spec import TextSpec
from vitsmith.version import __version__
from vitsmith.weights.bundle.identity import canonical
from vitsmith.weights.bundle.upgrade import from_format_1

FORMAT = 2
MANIFEST = "bundle.json"


_PARTS = {"text", "labels", "calibration", "similarity"}
"""Fields that are written even if they are None; fields of later versions are left out then."""


class Manifest(BaseModel):
    """The contents of bundle.json."""

    model_config = ConfigDict(extra="forbid")

    format: int
    config: ModelConfig
    preprocessing: ImageSpec
    text: TextSpec | None = None
    head: Head
    labels: Labels | None = None
    calibration: Calibration | None = None
    provenance: Provenance
    measurements: tuple[Measurement, ...] = ()
    similarity: Similarity | None = None
    programs: tuple[StoredProgram, ...] = Field(min_length=1)
    """The usual one first."""
    weights: str = ""
    """Hash of the values of the weights; an exported program has that of the weights it was made from."""
    files: dict[str, str]
    """SHA-256 of each file but the model card and the record of images, by its path in the folder."""
    checksum: str = ""
    """SHA-256 of all the other fields, so that a changed label or mean is noticed too."""


def read_manifest(folder: Path) -> tuple[Manifest, int]:
    """Reads bundle.json of a folder; also returns the format that it was written in.

    Raises BundleError for an unknown format, for unknown fields, and if the file was changed after it was written.
    """
    path = folder / MANIFEST
    try:
        fields: Any = read_json(path, error=BundleError, finite=False)
        found = _check_format(fields, path)
        if fields.get("checksum") != checksum(fields):
            raise BundleError(
                f"{path} was changed after it was written (its checksum differs); export the bundle again"
            )
        if found == 1:
            fields = from_format_1(fields)
        return Manifest.model_validate(fields, context=AS_FOUND), found
    except FileNotFoundError:
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}") from None
    except ValidationError as error:
        raise BundleError(_explained(error, fields, path)) from None


def manifest_text(manifest: Manifest) -> str:
    """The text of bundle.json."""
    parts = {name: getattr(manifest, name) for name in Manifest.model_fields}
    fields = {name: _plain(part) for name, part in parts.items() if name in _PARTS or part is not None}
    fields["checksum"] = checksum(fields)
    return to_json(fields, indent=2) + "\n"


def _plain(part: Any) -> Any:
    """A part as plain data for JSON."""
    if isinstance(part, Frozen):
        return canonical(part)
    return [_plain(one) for one in part] if isinstance(part, tuple) else part


def checksum(fields: dict[str, Any]) -> str:
    """SHA-256 of all fields but itself."""
    rest = {name: value for name, value in fields.items() if name != "checksum"}
    return hashlib.sha256(to_json(rest, sort_keys=True, ascii_only=True, finite=False).encode()).hexdigest()


def _check_format(fields: Any, path: Path) -> int:
    """The format of a description, 1 or 2. Raises BundleError for others."""
    found = fields.get("format") if isinstance(fields, dict) else None
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise BundleError(f"{path} does not describe a bundle (its format is {found!r}); copy the bundle again")
    if found > FORMAT:
        raise BundleError(
            f"{path} has format {found}, and vitsmith {__version__} reads formats 1 to {FORMAT}: a newer version wrote "
            f"it{_writer(fields)}; update with  pip install -U vitsmith"
        )
    return found


def _writer(fields: dict[str, Any]) -> str:
    provenance = fields.get("provenance")
    version = provenance.get("vitsmith") if isinstance(provenance, dict) else None
    return f" (vitsmith {version})" if isinstance(version, str) and version else ""


def _explained(error: ValidationError, fields: dict[str, Any], path: Path) -> str:
    """Says what is wrong with a description whose checksum is right: fields of a newer version, or damage."""
    mistakes = error.errors()
    unknown = [one["loc"] for one in mistakes if one["type"] == "extra_forbidden"]
    # A list whose every part has an unknown field is empty for pydantic, and it says that too.
    others = [one for one in mistakes if all(where[: len(one["loc"])] != one["loc"] for where in unknown)]
    if not others:
        names = ", ".join(".".join(map(str, where)) for where in unknown)
        return (
            f"{path} has fields that vitsmith {__version__} does not know: {names}; a newer version wrote "
            f"it{_writer(fields)}; update with  pip install -U vitsmith"
        )
    return f"{path} is damaged ({mistakes_in(error)}); copy the bundle again"
