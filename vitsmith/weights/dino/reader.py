"""Reads DINOv2 and DINOv3 as their authors publish them: one `.pth`, and perhaps one with a head beside it."""

from __future__ import annotations

import torch

from vitsmith.errors import WeightsError
from vitsmith.models.config import show_size
from vitsmith.models.configure import change
from vitsmith.records import Publication
from vitsmith.weights.bundle.agreements import DINOV3_LICENSE
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.dino.config import DINOV2_SIZE, HEAD_WIDTH, infer_dino_config
from vitsmith.weights.dino.head import HEAD_SLOTS, classes_of, head_beside, head_labels, is_head
from vitsmith.weights.dino.images import dino_images
from vitsmith.weights.dino.names import BIAS_MASK, MASK, PATCHES, PERIODS, SAME, SCALE, dino_slots
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.metadata import architecture_mistakes
from vitsmith.weights.options import LoadOptions
from vitsmith.weights.position_layout import ResizedPositions, resizing_note

DINOV3_NOTES = (
    "as in the authors' code: the feature is the class token (timm's is the mean of the patches: pooling='gap')",
    "as in the authors' code: periods of rotary positions are the stored ones (timm and transformers compute them "
    "anew: periods='float32')",
)
UNUSED = (MASK, PERIODS, "local_cls_norm.")
"""How names begin of arrays that are used in training, or in the configuration."""


def recognises(file: ArrayFile) -> bool:
    """Whether it has LayerScale and the token of masked patches (timm's files are without the second), or is a head."""
    return {PATCHES, SCALE, MASK} <= file.shapes.keys() or is_head(file)


def read(file: ArrayFile, options: LoadOptions) -> Conversion:
    """The model that the arrays show; heads are assumed to be 64 wide where nothing shows it.

    Unless it is to be headless, its head is the one that lies beside it under its published name, if there is one.
    Images are of the size that the authors' preprocessing gives, 224 pixels for DINOv2 and 256 for DINOv3, or the
    caller's. Raises WeightsError, ConfigError for impossible sizes.
    """
    if is_head(file):
        raise WeightsError(f"{file.path}: a head without its model: give the model, beside which it lies")
    head = None if options.headless else head_beside(file.path)
    with architecture_mistakes(str(file.path)):
        stored = infer_dino_config(file)
        if head:
            stored = change(stored, classes=classes_of(head, stored), pooling="token_and_gap")
        rotary = stored.position_embedding.rotary is not None
        usual = stored.image_size if rotary else (DINOV2_SIZE, DINOV2_SIZE)
        config = change(stored, image_size=options.image_size or options.adapted_size or usual)
    rule = config.position_embedding.resize
    positions = SAME if stored.grid == config.grid else ResizedPositions.between(stored, config, rule)
    masks = {name for name in file.shapes if name.endswith(BIAS_MASK)}
    slots = dino_slots(
        config,
        names=file.shapes,
        positions=positions,
        masks={name.removesuffix("_mask"): _mask(file, name) for name in masks},
    )
    return Conversion(
        config=config,
        slots={**slots, **HEAD_SLOTS} if head else slots,
        beside=head,
        labels=head_labels(config.classes) if head else None,
        head="softmax" if head else None,
        unused=frozenset({name for name in file.shapes if name.startswith(UNUSED)} | masks),
        classifier=(),
        images=dino_images(config, file.path),
        notes=(
            f"preprocessing was assumed, the file does not hold it: the authors', for {show_size(config.image_size)}",
            *(
                DINOV3_NOTES
                if PERIODS in file.shapes
                else (f"heads were assumed to be {HEAD_WIDTH} wide, as in every DINOv2",)
            ),
            *((f"its head is {head.path.name}, for the class token and the mean of the patches",) if head else ()),
            *resizing_note(stored, config, rule),
        ),
        publication=Publication(license=DINOV3_LICENSE if rotary else ""),
    )


def _mask(file: ArrayFile, name: str) -> torch.Tensor:
    """A mask of biases. Raises WeightsError where it was never set: it is made of NaN."""
    mask = file.read(name)
    if not mask.isfinite().all():
        raise WeightsError(f"{file.path}: {name!r} was never set (it is not finite): take another copy")
    return mask
