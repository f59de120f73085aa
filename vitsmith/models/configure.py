"""Make a checked configuration from a name and options. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vitsmith.errors import ConfigError, suggestion
from vitsmith.fields import mistakes_in
from vitsmith.models.config import LiTConfig, ModelConfig
from vitsmith.models.presets import find_preset

_ANY_CONFIG: TypeAdapter[Any] = TypeAdapter(ModelConfig)


def configure(
    name: str,
    *,
    classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    **overrides: Any,
) -> ModelConfig:
    """The configuration that `create_model` would build."""
    preset, size_in_name = find_preset(name)
    size = image_size if image_size is not None else size_in_name
    changes = dict(overrides)
    if size is not None:
        changes["image_size"] = tuple(size) if isinstance(size, Sequence) else (size, size)
    if classes is not None:
        changes["classes"] = classes
    if isinstance(preset.config, LiTConfig):
        if classes is not None:
            raise ConfigError(f"{preset.name} has no classes: it matches images with texts (leave classes out)")
        image = change(preset.config.image, **changes)
        return change(preset.config, image=image.model_dump())
    return change(preset.config, **changes)


def change(config: Any, **changes: Any) -> Any:
    """A copy of `config` with fields changed and everything checked again. Raises ConfigError."""
    known = type(config).model_fields
    unknown = [field for field in changes if field not in known]
    told = [f"unknown option of a {config.family} model {field!r}: {suggestion(field, known)}" for field in unknown]
    changes = {field: value for field, value in changes.items() if field in known}
    wanted = changes.get("pooling")
    pooling = wanted if isinstance(wanted, str) else ""  # anything else is refused below
    if pooling in ("gap", "unpooled") and "class_token" not in changes:
        changes["class_token"] = False  # the original adds the class token only for the token kinds
    elif pooling in ("token", "token_unpooled") and "class_token" not in changes:
        changes["class_token"] = True
    try:
        changed = parse_config({**config.model_dump(), **changes})
    except ConfigError as error:
        told.append(str(error))
    if told:
        raise ConfigError("; ".join(told))
    return changed


def parse_config(fields: dict[str, Any]) -> Any:
    """A checked configuration from plain data. Raises ConfigError with all mistakes in one line."""
    try:
        return _ANY_CONFIG.validate_python(fields)
    except ValidationError as error:
        raise ConfigError(mistakes_in(error, skip=1)) from None
