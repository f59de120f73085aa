"""The JSON files that lie beside weights: read, checked, and explained when they are wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from vitsmith.errors import ConfigError, WeightsError
from vitsmith.fields import mistakes_in
from vitsmith.json_text import read_json
from vitsmith.specs import Labels

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's pixels, per channel: the constants of torchvision, timm and HF."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""The same of the images that OpenAI trained CLIP on (clip/clip.py, `_transform`)."""

_NUMBER = re.compile("[0-9]{1,9}")
_BACKGROUND = ("background", "dummy")


class Metadata(BaseModel):
    """The fields we act on: unknown ones are ignored, and null is the same as absent."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=(), allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: Any) -> Any:
        return (
            {key: value for key, value in fields.items() if value is not None} if isinstance(fields, dict) else fields
        )


M = TypeVar("M", bound=Metadata)


def read_metadata(path: Path, kind: type[M]) -> M | None:
    """The file's fields, or None when there is no such file. Raises WeightsError, naming every wrong field."""
    try:
        return kind.model_validate(read_json(path, error=WeightsError))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise WeightsError(f"{path}: {mistakes_in(error)}") from None


@contextmanager
def architecture_mistakes(source: str) -> Iterator[None]:
    """Begins messages on mistakes in an architecture, in arrays, JSON files or `image_size`, with the file's name."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    except ValidationError as error:
        raise WeightsError(f"{source}: the JSON files beside it do not fit: {mistakes_in(error)}") from None


@contextmanager
def json_mistakes(source: str) -> Iterator[None]:
    """Says of mistakes in preprocessing and labels that they are in the JSON files beside a file."""
    try:
        yield
    except ConfigError as error:
        raise WeightsError(f"{source}: the JSON files beside it do not fit: {error}") from None


def class_names(found: Any, where: str) -> tuple[str, ...] | None:
    """Names of classes as JSON has them, in the order of the logits; None for none. `where` begins messages.

    A list is in that order; an object has them by number, {"10": "cat", "9": "dog", ...}, in any order. Numbers as
    names are taken as text. Raises WeightsError for anything else, and for numbers that are not 0 to n - 1.
    """
    if not found:
        return None
    if not isinstance(found, list | tuple | dict):
        raise WeightsError(f"{where} is neither a list of names nor an object with a name for each number")
    numbered = list(found.items()) if isinstance(found, dict) else list(enumerate(found))
    names: dict[int, str] = {}
    for key, name in numbered:
        if not _NUMBER.fullmatch(str(key)):
            raise WeightsError(f"{where}.{key}: a class is named by its number, 0 to {len(numbered) - 1}")
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise WeightsError(f"{where}.{key}: a name is text (got {name!r})")
        names[int(key)] = str(name)
    if sorted(names) != list(range(len(numbered))):
        raise WeightsError(f"{where} does not number the classes 0 to {len(numbered) - 1}, each once")
    return tuple(names[index] for index in range(len(names)))


def check_count(labels: Labels | None, classes: int, source: str) -> None:
    """Raises WeightsError for labels of another number of classes."""
    if labels and len(labels) != classes:
        hint = miscounted(labels.names, classes)
        raise WeightsError(f"{source}: has {classes} classes, the config.json beside it names {len(labels)}{hint}")


def miscounted(names: tuple[str, ...], classes: int) -> str:
    """Why the numbers of names and classes may differ, for the end of a message; '' if unknown."""
    if len(names) == classes + 1 and names[0].strip().lower() in _BACKGROUND:
        return f"; the first, {names[0]!r}, is from TensorFlow's lists, which have one name more: leave it out"
    return ""
