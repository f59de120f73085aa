"""A model at another resolution, without any training: position embeddings move to the new grid."""

from __future__ import annotations

import torch

from vitsmith.data.images.sample_photos import sample_images
from vitsmith.errors import ConfigError
from vitsmith.layers.positions import ResizeMethod, resize_positions
from vitsmith.models.build import build
from vitsmith.models.config import ViTConfig, show_size
from vitsmith.models.configure import change
from vitsmith.weights.bundle.bundle import Bundle

GOLDEN_IMAGES = 2


def resize_bundle(bundle: Bundle, image_size: tuple[int, int], *, positions: ResizeMethod | None = None) -> Bundle:
    """The same weights for images of another size (height, width), as a bundle in memory with new golden answers.

    Both models share the arrays of their weights, but for the position embeddings: copy one before you train it.
    Accuracy falls, as the model was not fine-tuned at that size: callers measure it. Raises ConfigError for models of
    a fixed resolution (Mixers), towers of LiT, and sizes that are not a whole number of patches.
    """
    model = bundle.model
    old = model.config
    if not isinstance(old, ViTConfig):
        raise ConfigError(f"{bundle.where} is bound to its resolution {show_size(bundle.preprocessing.size)}")
    new = change(old, image_size=image_size)
    assert isinstance(new, ViTConfig)
    resized = build(new, device="meta")
    arrays = {name: parameter.detach() for name, parameter in model.named_parameters()}
    name = "positions.embedding"
    if name in arrays:
        method = positions or old.position_embedding.resize
        arrays[name] = resize_positions(arrays[name], old.grid, new.grid, prefix=old.prefix_positions, method=method)
    resized.load_state_dict(arrays, assign=True)
    note = f"resized from {show_size(old.image_size)} to {show_size(image_size)} without fine-tuning"
    images = bundle.preprocessing.model_copy(update={"size": image_size})
    made = bundle.derive(resized, note, by="vitsmith compress", preprocessing=images)
    with torch.no_grad():
        return made.with_golden(list(bundle.golden.images) if bundle.golden else sample_images(GOLDEN_IMAGES))


def smaller_sizes(bundle: Bundle, shares: tuple[float, ...]) -> list[tuple[int, int]]:
    """Image sizes of about these shares of the bundle's sides, in whole patches; [] where it cannot be resized."""
    config = bundle.config
    if not isinstance(config, ViTConfig):
        return []
    step = [patch * (config.resnet.stride if config.resnet else 1) for patch in config.patch]
    sizes = []
    for share in shares:
        size = tuple(max(round(share * side / one), 1) * one for side, one in zip(config.image_size, step, strict=True))
        if size < config.image_size and (size[0], size[1]) not in sizes:
            sizes.append((size[0], size[1]))
    return sizes
