"""The JSON files that lie beside weights: read, checked, and explained when they are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from vitsmith.errors import WeightsError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of the pixels of ImageNet, per channel; torchvision's, and so timm's and HF's, constants."""


class Metadata(BaseModel):
    """The fields we act on: unknown ones are passed over, and null is the same as absent."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

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
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise WeightsError(f"{path}: {told(error)}") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable JSON file ({error})") from None


def told(error: ValidationError) -> str:
    """Every mistake in one line, as 'mean.2: Input should be a valid number (got 'x')'."""
    mistakes = []
    for mistake in error.errors():
        where = ".".join(str(part) for part in mistake["loc"])
        what = mistake["msg"].removeprefix("Value error, ")
        got = "" if isinstance(mistake["input"], dict) else f" (got {mistake['input']!r})"
        mistakes.append(f"{where}: {what}{got}" if where else what)
    return "; ".join(mistakes)
