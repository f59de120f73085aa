"""The description of an index, index.json, and the names of its files."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from vitsmith.encode import What
from vitsmith.errors import InputError
from vitsmith.fields import Frozen, PositiveInt
from vitsmith.files.atomic import write_text
from vitsmith.json_text import json_or_none, read_json, to_json

FORMAT, NEWEST = 1, 2
"""The format is 2 where a field is used that vitsmith did not know at first, so that older ones say what they lack."""
DESCRIPTION = "index.json"
SYNC = "sync.json"
"""The description of an unfinished sync: the parts of index.json, and those that are to take their places."""

Kind = Literal["images", "texts"]
Dtype = Literal["float16", "float32"]


class Space(Frozen):
    """The model that made the embeddings, and the way they are stored."""

    kind: Kind
    identity: str = Field(description="`identity_of` the model: only embeddings of the same model may be compared")
    model: str = Field(description="the model as the user gave it: a path or a published name")
    engine: str = Field("", description="engine that computed them")
    precision: str = Field("fp32", description="arithmetic of that engine")
    width: PositiveInt = Field(description="E")
    dtype: Dtype = "float16"
    what: What = Field("pooled", description="of an image: its pooled feature, its class token, or its patches")
    grid: tuple[PositiveInt, PositiveInt] | None = Field(None, description="(rows, columns) of patches")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what one input has: (E,), or (rows, columns, E)."""
        return (*(self.grid or ()), self.width)

    @property
    def numbers(self) -> int:
        """How many numbers one input has."""
        return math.prod(self.shape)


class IndexPart(Frozen):
    """A part of the rows, on disk."""

    rows: int = Field(ge=0)
    inputs: PositiveInt = Field(description="number of its images or texts, including unreadable ones")
    names: str = Field(description="SHA-256 over the names of these inputs, in order")
    files: dict[str, str] = Field(description="SHA-256 of each file")
    retried: bool = Field(False, description="its inputs were unreadable in an earlier part, and could be read later")
    number: int | None = Field(None, ge=0, description="the number in the names of its files; None: its position")
    columns: tuple[str, ...] = Field((), description="names of its columns, which are what is known of its rows")

    @property
    def failures(self) -> int:
        """Number of inputs that could not be read."""
        return self.inputs - self.rows


class Description(Frozen):
    """The content of index.json."""

    format: int
    space: Space
    complete: bool
    parts: tuple[IndexPart, ...] = ()
    root: str = Field("", description="the folder from which ids that are relative paths lead; empty: not known")
    numbered: int = Field(0, ge=0, description="parts so far, also those that are gone: no number is used twice")
    checksum: str = ""
    """SHA-256 of all the other fields."""

    def number_of(self, part: int) -> int:
        """The number in the names of the files of the part at this position."""
        number = self.parts[part].number
        return part if number is None else number

    @property
    def next_number(self) -> int:
        """The number of the next part."""
        return max(self.numbered, 1 + max(map(self.number_of, range(len(self.parts))), default=-1))

    @property
    def count(self) -> int:
        """N."""
        return sum(part.rows for part in self.parts)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of all columns, in order."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.columns))

    @property
    def failures(self) -> int:
        """Number of inputs that could not be read and have no vector."""
        return self.inputs - self.count

    @property
    def inputs(self) -> int:
        """Number of images or texts that are done."""
        return sum(part.inputs for part in self.parts if not part.retried)


def is_index(folder: str | os.PathLike[str]) -> bool:
    """Whether `folder` has an index.json."""
    return (Path(folder) / DESCRIPTION).is_file()


def read_description(folder: Path, name: str = DESCRIPTION) -> Description:
    """Read index.json. Raises InputError."""
    path = folder / name
    try:
        fields = read_json(path) if folder.is_dir() else None
    except FileNotFoundError:
        fields = None
    except InputError as error:
        raise InputError(f"{error}; the index is damaged: {REMEDY}") from None
    if fields is None:
        what = "a file, and an index is a folder" if folder.is_file() else f"not an index (it has no {DESCRIPTION})"
        raise InputError(f"{folder} is {what}: {_how_to_get_one(folder)}")
    if not isinstance(fields, dict) or fields.get("format") not in (FORMAT, NEWEST):
        found = fields.get("format") if isinstance(fields, dict) else None
        raise InputError(f"{path} has format {found}, and this vitsmith reads {FORMAT} and {NEWEST}: use a newer one")
    if fields.get("checksum") != _checksum(fields):
        raise InputError(f"{path} was changed after it was written (its checksum differs): {REMEDY}")
    try:
        return Description.model_validate(fields)
    except ValidationError as error:
        raise InputError(f"{path} is damaged ({error.error_count()} mistakes): {REMEDY}") from None


def _how_to_get_one(place: Path) -> str:
    """What to do instead of giving `place`, which is no index."""
    out = place.with_suffix("") if place.is_file() else place
    if is_index(out):
        return f"there is one in {out}"
    return f"make one with  vitsmith embed MODEL IMAGES --out {free_place(out)}"


def free_place(folder: Path) -> Path:
    """`folder`, or a name like it where that is no index: embed writes over nothing else."""
    if is_index(folder) or not folder.exists():
        return folder
    return folder.parent / f"{folder.resolve().name}-index"


def unfinished_sync(folder: Path, description: Description) -> Description | None:
    """What a sync that was interrupted has made so far; None where there is none of the index with `description`."""
    try:
        found = read_description(folder, SYNC)
    except InputError:
        return None
    begins = found.parts[: len(description.parts)] == description.parts
    return found if begins and len(found.parts) > len(description.parts) and found.space == description.space else None


def write_description(folder: Path, description: Description, name: str = DESCRIPTION) -> None:
    """Replace index.json, in one step."""
    fields = description.model_dump(mode="json")
    _leave_out_unused(fields, ("root", "numbered"))  # without later fields, older versions read it
    _leave_out_unused(fields["space"], ("grid",))
    if fields["space"]["what"] == Space.model_fields["what"].default:
        del fields["space"]["what"]
    for part in fields["parts"]:
        _leave_out_unused(part, ("number", "columns"))
    later = {"root", "numbered"} & fields.keys() or any({"number", "columns"} & part.keys() for part in fields["parts"])
    fields["format"] = NEWEST if later else FORMAT
    fields["checksum"] = _checksum(fields)
    write_text(folder / name, to_json(fields, indent=1) + "\n")


def _leave_out_unused(fields: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if fields[name] is None or fields[name] in ("", 0, []):
            del fields[name]


def check_same_model(folder: Path, space: Space, identity: str, model: str) -> None:
    """Raise InputError, with both names, when the vectors of an index are not those of the model called `model`."""
    if space.identity != identity:
        other = "another model or vocabulary" if space.kind == "texts" else "another model"
        if os.path.abspath(model) == os.path.abspath(space.model):  # noqa: PTH100 - of any text
            raise InputError(
                f"{folder} was made by {other} that had the same name, {model}, or by this one read in another way "
                f"(identity {space.identity[:12]}, now {identity[:12]}): read it as embed did, with the same --read-as "
                "and --image-size, or embed again with --force"
            )
        raise InputError(
            f"{folder} was made by {other}: by {space.model} (identity {space.identity[:12]}), and this is "
            f"{model} ({identity[:12]}); their embeddings cannot be compared: use that model, or embed again with "
            "--force"
        )


def describe_numbers(space: Space) -> str:
    """'768 numbers', for patches '16x16 patches of 768 numbers'."""
    numbers = f"{space.width} numbers"
    return numbers if space.grid is None else f"{space.grid[0]}x{space.grid[1]} patches of {numbers}"


def check_searchable(folder: Path, space: Space) -> None:
    """Raise InputError for an index of patches: a search compares one vector of each image."""
    if space.what == "patches":
        raise InputError(
            f"{folder} holds patches, to be read as arrays, and a search needs one vector of each image: make another "
            "index with  vitsmith embed --what pooled"
        )


def checksum_now(folder: Path) -> str:
    """The checksum that index.json has now; empty where it cannot be read."""
    fields = json_or_none(folder / DESCRIPTION)
    found = fields.get("checksum") if isinstance(fields, dict) else None
    return found if isinstance(found, str) else ""


def _checksum(fields: dict[str, Any]) -> str:
    rest = {name: value for name, value in fields.items() if name != "checksum"}
    return hashlib.sha256(to_json(rest, sort_keys=True, ascii_only=True).encode()).hexdigest()


def vectors_name(number: int) -> str:
    return f"part-{number:06d}.npy"


def ids_name(number: int) -> str:
    return f"part-{number:06d}.ids.jsonl"


def failed_name(number: int) -> str:
    return f"part-{number:06d}.failed.jsonl"


def seen_name(number: int) -> str:
    return f"part-{number:06d}.seen.jsonl"


def columns_name(number: int) -> str:
    return f"part-{number:06d}.columns.json"


def copies_name(number: int) -> str:
    return f"part-{number:06d}.copies.jsonl"


REMEDY = "copy the index again, or make it anew with  vitsmith embed MODEL IMAGES --out INDEX --force"
"""Advice for a damaged index, the end of messages."""
