"""Makes the model that a run starts from, with fresh weights or a checkpoint's, and its preprocessing."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from vitsmith.errors import ConfigError
from vitsmith.models.build import ImageModel, create_model
from vitsmith.models.vit import VisionTransformer
from vitsmith.specs import ImageSpec
from vitsmith.training.recipes.recipe import ModelSpec, TrainRecipe
from vitsmith.weights.finetune import AdaptReport, init_for_finetune
from vitsmith.weights.load import assumed, load_with
from vitsmith.weights.options import LoadOptions


class Start(NamedTuple):
    """A model ready to be trained."""

    model: ImageModel
    images: ImageSpec
    report: AdaptReport | None
    """How the checkpoint's arrays were adapted; None for fresh weights."""
    notes: tuple[str, ...] = ()
    """What had to be assumed about the checkpoint."""
    publication: dict[str, str] = {}
    """Who published the checkpoint, and its licence: see `Provenance.publication`."""


def start(recipe: TrainRecipe, classes: int) -> Start:
    """The recipe's model for `classes` classes, in training mode, its head at zero or as `model.head_std` says.

    Fresh weights depend on the recipe's seed and use the original's preprocessing; a checkpoint keeps its own
    preprocessing, at the recipe's size. Raises what `init_for_finetune` and `create_model` raise.
    """
    spec = recipe.model
    if spec.init:
        size = spec.image_size and (spec.image_size, spec.image_size)
        sizes = {"image_size": spec.init_size, "adapted_size": size or None}
        chosen: dict[str, Any] = {**sizes, **spec.read_as}
        bundle = load_with(spec.init, LoadOptions(name=spec.name or None, headless=True, **chosen))
        model, report = init_for_finetune(bundle, classes=classes, image_size=spec.image_size, **spec.config)
        _start_head(model, spec, recipe.run.seed)
        images = bundle.preprocessing.model_copy(update={"size": model.config.image_size})
        return Start(model, images, report, assumed(bundle), bundle.provenance.publication)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.run.seed)
        fresh = create_model(spec.name, classes=classes, image_size=spec.image_size, **spec.config)
        if isinstance(fresh, VisionTransformer) and fresh.positions is not None:
            nn.init.normal_(fresh.positions.embedding, std=spec.position_std)
    if not isinstance(fresh, ImageModel):
        raise ConfigError(f"{spec.name} matches images with texts: train an image model")
    _start_head(fresh, spec, recipe.run.seed)
    return Start(fresh, ImageSpec.original(fresh.config.image_size), None)


def _start_head(model: ImageModel, spec: ModelSpec, seed: int) -> None:
    """Sets the bias of the head, and its weights unless they stay zero; the same for a distillation head."""
    generator = torch.Generator().manual_seed(seed)
    for head in (model.head, getattr(model, "distillation_head", None)):
        if head is None:
            continue
        assert isinstance(head, nn.Linear)
        if head.bias is not None:
            nn.init.constant_(head.bias, spec.head_bias)
        if spec.head_std:
            with torch.no_grad():
                head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * spec.head_std)
