"""From a name or a configuration to a model with fresh weights."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from vitsmith.errors import ConfigError, suggestion
from vitsmith.models.config import LiTConfig, MixerConfig, ModelConfig, ViTConfig
from vitsmith.models.initializers import initialize
from vitsmith.models.lit import LiT
from vitsmith.models.mixer import MlpMixer
from vitsmith.models.presets import find_preset
from vitsmith.models.vit import VisionTransformer

Model = VisionTransformer | MlpMixer | LiT
ImageModel = VisionTransformer | MlpMixer

_FAMILIES: dict[type, type[nn.Module]] = {ViTConfig: VisionTransformer, MixerConfig: MlpMixer, LiTConfig: LiT}
_ANY_CONFIG: TypeAdapter[Any] = TypeAdapter(ModelConfig)


def create_model(
    name: str,
    *,
    classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    device: str | torch.device = "cpu",
    **overrides: Any,
) -> Model:
    """A model with fresh weights, in training mode.

    Args:
        name: any spelling of an architecture, see `vitsmith models`.
        classes: number of classes (default 1000); 0 gives the pooled feature instead of logits.
        image_size: pixels, an int or (height, width) (default 224).
        device: 'meta' builds the skeleton without any memory.
        overrides: fields of the configuration, such as `dropout=0.1, stochastic_depth=0.1, pooling="gap"`.

    The head starts at zero, as the original's does, so a fresh model gives equal logits to all classes.
    Raises UnknownNameError for an unknown name and ConfigError for anything in the configuration, all at once.
    """
    config = configure(name, classes=classes, image_size=image_size, **overrides)
    return build(config, device=device)


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
        changes["image_size"] = (size, size) if isinstance(size, int) else tuple(size)
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
    if unknown:
        told = "; ".join(f"{field!r}: {suggestion(field, known)}" for field in unknown)
        raise ConfigError(f"unknown option of a {config.family} model {told}")
    if changes.get("pooling") in ("gap", "unpooled") and "class_token" not in changes:
        changes["class_token"] = False  # the original adds the class token only for the token kinds
    elif changes.get("pooling") in ("token", "token_unpooled") and "class_token" not in changes:
        changes["class_token"] = True
    return parse_config({**config.model_dump(), **changes})


def parse_config(fields: dict[str, Any]) -> Any:
    """A checked configuration from plain data. Raises ConfigError with every mistake in one line."""
    try:
        return _ANY_CONFIG.validate_python(fields)
    except ValidationError as error:
        told = []
        for mistake in error.errors():
            where = ".".join(str(part) for part in mistake["loc"][1:])
            what = mistake["msg"].removeprefix("Value error, ")
            told.append(f"{where}: {what} (got {mistake['input']!r})" if where else what)
        raise ConfigError("; ".join(told)) from None


def build(config: ModelConfig, *, device: str | torch.device = "cpu", fresh: bool = True) -> Model:
    """The model of a configuration; with `fresh=False` its arrays are allocated but hold nothing yet."""
    family = _FAMILIES[type(config)]
    with torch.device("meta"):
        model = family(config)
    if torch.device(device).type != "meta":
        model = model.to_empty(device=device)
        if fresh:
            initialize(model)
    assert isinstance(model, VisionTransformer | MlpMixer | LiT)
    return model


def count_parameters(model: nn.Module) -> int:
    """Number of weights, all of them trainable or not."""
    return sum(parameter.numel() for parameter in model.parameters())
