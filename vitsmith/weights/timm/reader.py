"""Reads vision transformers and Mixers of timm, with the `config.json` beside them if it is there."""

from __future__ import annotations

import math

from vitsmith.errors import WeightsError
from vitsmith.models.config import ImageModelConfig, ViTConfig
from vitsmith.models.configure import change
from vitsmith.models.parts import PositionResize
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.layouts import Slot
from vitsmith.weights.metadata import architecture_mistakes, check_count, json_mistakes, read_metadata
from vitsmith.weights.options import LoadOptions
from vitsmith.weights.position_layout import ResizedPositions
from vitsmith.weights.timm.config import infer_timm_config
from vitsmith.weights.timm.images import timm_images, unfollowed
from vitsmith.weights.timm.metadata import TimmMetadata, timm_labels, timm_publication
from vitsmith.weights.timm.names import Naming, timm_slots, timm_zeros
from vitsmith.weights.timm.notes import projects, timm_notes
from vitsmith.weights.timm.parts import PATCHES, POSITIONS, STEM

_RULE: PositionResize = "bicubic"
"""`resample_abs_pos_embed` of timm's layers/pos_embed.py, for every model."""
CLASSIFIER = ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias")


def recognises(file: ArrayFile) -> bool:
    """Whether it has the patch embedding of a ViT or Mixer, and is not one of DINO's authors, who keep `mask_token`."""
    authors = {"mask_token", "blocks.0.ls1.gamma"} <= file.shapes.keys()
    return (PATCHES in file.shapes or STEM in file.shapes) and not authors


def read(file: ArrayFile, options: LoadOptions) -> Conversion:
    """The model that the arrays and `config.json` describe; without it the preprocessing is assumed.

    `options.image_size` is needed only without a config.json, for grids that are not square and for models that have no
    position for their class token. At another size than the file's positions are resized as timm does when it loads
    them. Raises WeightsError, ConfigError for impossible sizes.
    """
    metadata, source = read_metadata(file.path.with_name("config.json"), TimmMetadata), str(file.path)
    with architecture_mistakes(source):
        stored, config = _at_size(file, metadata, options.image_size)
    with json_mistakes(source):
        refused = unfollowed(metadata)
        images = timm_images(config, None if refused else metadata)
        labels = timm_labels(metadata, source) if config.classes and not options.headless else None
    check_count(labels, config.classes, source)
    projection = projects(config, metadata, biased=_has_bias(file))
    naming = Naming.of(file.shapes)
    resized, told = _resized(stored, config)
    return Conversion(
        config=config,
        slots=timm_slots(config, naming) | resized,
        classifier=CLASSIFIER,
        zeros=timm_zeros(config, naming),
        images=images,
        images_refused=refused,
        labels=labels,
        head="none" if projection else None,
        notes=(
            *((f"preprocessing was assumed: {refused}",) if refused else ()),
            *timm_notes(config, metadata, images, image_size=options.image_size is not None, projection=projection),
            *told,
        ),
        publication=timm_publication(metadata),
    )


def _at_size(
    file: ArrayFile, metadata: TimmMetadata | None, size: tuple[int, int] | None
) -> tuple[ImageModelConfig, ImageModelConfig]:
    """The model as the file has it, and at the size (height, width) of the images that are wanted.

    They are one where a `size` says the shape of a grid that nothing else says, and for Mixers, which have one size.
    """
    if size is None:
        stored = infer_timm_config(file, metadata)
        return stored, stored
    try:
        stored = infer_timm_config(file, metadata)
    except WeightsError:  # no square, and no config.json that fits
        wanted = infer_timm_config(file, metadata, image_size=size)
        return wanted, wanted
    if stored.image_size == size:  # also where patches do not fill it, as in So400m/14 at 384
        return stored, stored
    wanted = infer_timm_config(file, metadata, image_size=size)
    if not isinstance(wanted, ViTConfig) or wanted.position_embedding.learned == "none":
        return wanted, wanted
    told = metadata is not None and metadata.image_size == stored.image_size
    if not told and file.shapes[POSITIONS][1] in (math.prod(wanted.grid), wanted.tokens):
        return wanted, wanted
    return stored, change(stored, image_size=size, unseen_edge=False)


def _resized(stored: ImageModelConfig, wanted: ImageModelConfig) -> tuple[dict[str, Slot], tuple[str, ...]]:
    """The slot of positions that move to another grid, and a note that they do; nothing where none do."""
    if not isinstance(stored, ViTConfig) or not isinstance(wanted, ViTConfig) or stored.grid == wanted.grid:
        return {}, ()
    if stored.position_embedding.learned == "none":
        return {}, ()
    layout = ResizedPositions.between(stored, wanted, _RULE)
    return {POSITIONS: Slot("positions.embedding", layout)}, (layout.told,)


def _has_bias(file: ArrayFile) -> bool:
    """Whether the head has a bias that is not zero; timm's CLIP towers have one of zeros beside the projection."""
    return "head.bias" in file.shapes and bool(file.read("head.bias").any())
