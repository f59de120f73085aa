"""A trained model made ready for another task: new head, other resolution. Source: checkpoint.py of the original."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from vitsmith.arguments import flag, instance, known_name
from vitsmith.errors import ConfigError, UnknownNameError
from vitsmith.layers.positions import RESIZERS, ResizeMethod, resize_positions
from vitsmith.models.build import ImageModel, Model, build
from vitsmith.models.config import MixerConfig, ViTConfig, show_size
from vitsmith.models.configure import change
from vitsmith.models.isolation import isolated
from vitsmith.models.lit import LiT
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.fill import require_finite_model
from vitsmith.weights.load import load_with, size_of
from vitsmith.weights.options import LoadOptions


@dataclass
class AdaptReport:
    """What happened to each array."""

    loaded: list[str] = field(default_factory=list)
    resized: dict[str, str] = field(default_factory=dict)
    copied: dict[str, str] = field(default_factory=dict)
    """New arrays that start as copies: name of the array -> name of the original."""
    reset: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"loaded   {len(self.loaded)} arrays"]
        lines += [f"resized  {name}: {how}" for name, how in self.resized.items()]
        lines += [f"copied   {name}: begins as {origin}" for name, origin in self.copied.items()]
        lines += [
            f"{what:8} {', '.join(names)}" for what, names in (("reset", self.reset), ("unused", self.unused)) if names
        ]
        return "\n".join(lines)


def init_for_finetune(
    source: str | os.PathLike[str] | Bundle | Model,
    *,
    classes: int,
    image_size: int | tuple[int, int] | None = None,
    positions: ResizeMethod | None = None,
    keep_representation: bool = False,
    name: str | None = None,
    **overrides: Any,
) -> tuple[ImageModel, AdaptReport]:
    """A model for new classes from trained weights, in training mode, and a report of what became of each array.

    The head is reset to zeros. Position embeddings move to the grid of `image_size` (default: the source's own) as the
    author's code does it, or as `positions` says (see `resize_positions`). `overrides` are configuration fields such as
    dropout=0.1. A model given as an object must not be used afterwards.
    """
    size = size_of(image_size)
    if positions is not None:
        known_name(positions, "way to resize position embeddings", RESIZERS)
    flag(keep_representation, "keep_representation")
    if isinstance(source, Bundle):
        model = source.model
    elif isinstance(source, str | os.PathLike):
        model = load_with(source, LoadOptions(name=name, headless=True, adapted_size=size)).model
    else:
        model = instance(
            source, Model, "what is fine-tuned", "a path, a published name, a bundle or a model of vitsmith"
        )
    require_finite_model(model, source.where if isinstance(source, Bundle) else "the model")
    return adapt(
        model,
        classes=classes,
        image_size=size,
        positions=positions,
        keep_representation=keep_representation,
        **overrides,
    )


@isolated()
def adapt(
    source: Model,
    *,
    classes: int,
    image_size: tuple[int, int] | None = None,
    positions: ResizeMethod | None = None,
    keep_representation: bool = False,
    **overrides: Any,
) -> tuple[ImageModel, AdaptReport]:
    """A model for `classes` new classes with the arrays of `source`, in training mode, and a report.

    The arrays are moved, not copied: `source` must not be used afterwards. The head starts at zero. A LiT
    model gives its image tower. The representation layer (`pre_logits`) is dropped with the head, as the original
    does by default, unless `keep_representation`; so is the `unit` part of a classifier made of texts. `overrides` are
    configuration fields such as dropout=0.1.
    `distillation_token=True` adds that token to a model without one: it and its position begin as the class token and
    its position, so that its head sees trained features from the first update on. False removes it.
    Raises ConfigError for what cannot be adapted, such as a Mixer at another resolution.
    """
    if positions is not None and positions not in RESIZERS:
        raise UnknownNameError("way to resize position embeddings", positions, RESIZERS)
    report = AdaptReport()
    if isinstance(source, LiT):
        report.unused += [name for name, _ in source.named_parameters() if not name.startswith("image.")]
        source = source.image
    changes: dict[str, Any] = {"classes": classes, **overrides}
    if image_size is not None:
        changes["image_size"] = image_size
    if isinstance(source.config, ViTConfig) and not keep_representation:
        changes |= {"representation": None, "unit": None}
    if isinstance(source.config, ViTConfig):
        if image_size not in (None, source.config.image_size):
            changes.setdefault("unseen_edge", False)  # only the publisher's own size leaves one
        changes.setdefault("head_bias", True)  # a projection has none; a classifier has one
        changes.setdefault("class_token", source.config.class_token)  # another pooling leaves the tokens as they are
    config = change(source.config, **changes)
    _refuse_impossible(source.config, config)
    model = build(config, device="meta")
    given = dict(source.named_parameters())
    arrays: dict[str, torch.Tensor] = {}
    for name, expected in model.named_parameters():
        arrays[name] = _adapted(name, expected, given, source.config, config, positions, report)
    model.load_state_dict(arrays, assign=True)
    assert isinstance(model, ImageModel) and isinstance(model.head, nn.Linear)
    report.unused += sorted(name for name in given if name not in arrays)
    return model.requires_grad_(True).train(), report


def _adapted(
    name: str,
    expected: torch.Tensor,
    given: dict[str, nn.Parameter],
    old: ViTConfig | MixerConfig,
    new: ViTConfig | MixerConfig,
    positions: ResizeMethod | None,
    report: AdaptReport,
) -> torch.Tensor:
    if name.startswith(("head.", "distillation_head.")):
        report.reset.append(name)
        return torch.zeros(expected.shape, dtype=expected.dtype)
    if name == "distillation_token" and name not in given:
        report.copied[name] = "class_token"
        return given["class_token"].data.clone()
    if name == "positions.embedding" and isinstance(old, ViTConfig) and isinstance(new, ViTConfig):
        return _adapted_positions(given[name].data, old, new, positions, report)
    report.loaded.append(name)
    return given[name].data


def _adapted_positions(
    embedding: torch.Tensor, old: ViTConfig, new: ViTConfig, wanted: ResizeMethod | None, report: AdaptReport
) -> torch.Tensor:
    """Position embeddings (1, tokens, width) of another grid, with or without one for the distillation token."""
    name, changes = "positions.embedding", []
    method = wanted or old.position_embedding.resize
    if old.grid != new.grid:
        changes.append(f"grid {show_size(old.grid)} to {show_size(new.grid)} ({method})")
        embedding = resize_positions(embedding, old.grid, new.grid, prefix=old.prefix_positions, method=method)
    if new.distillation_token and not old.distillation_token:
        changes.append("the distillation token's position begins as the class token's")
        embedding = torch.cat([embedding[:, :1], embedding], dim=1)
    if old.distillation_token and not new.distillation_token:
        changes.append("the distillation token's position is left out")
        embedding = torch.cat([embedding[:, :1], embedding[:, 2:]], dim=1)
    if changes:
        report.resized[name] = ", ".join(changes)
    else:
        report.loaded.append(name)
    return embedding


def _refuse_impossible(old: ViTConfig | MixerConfig, new: ViTConfig | MixerConfig) -> None:
    if isinstance(old, MixerConfig) and old.grid != new.grid:
        raise ConfigError(
            f"a Mixer is bound to its resolution: its token-mixing weights belong to {show_size(old.image_size)}, "
            f"so image_size cannot become {show_size(new.image_size)}"
        )
    if new.classes < 1:
        raise ConfigError("classes must be at least 1 for fine-tuning")
    free = {
        "classes",
        "image_size",
        "dropout",
        "attention_dropout",
        "stochastic_depth",
        "distillation_token",
        "head_bias",
        "pooling",
        "gelu",
    }
    if isinstance(new, ViTConfig):
        free |= {part for part in ("representation", "unit") if getattr(new, part) is None}  # dropped with the head
    fixed = set(type(old).model_fields) - free
    moved = [field for field in sorted(fixed) if getattr(old, field) != getattr(new, field)]
    if moved:
        raise ConfigError(f"{', '.join(moved)} cannot change in fine-tuning: the arrays decide; use create_model()")
