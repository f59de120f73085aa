"""An image model of transformers, or the image tower of one that reads texts too, with its preprocessing and labels."""

from __future__ import annotations

from vitsmith.models.config import ViTConfig
from vitsmith.models.configure import change
from vitsmith.records import Publication
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.hf.config import infer_hf_config
from vitsmith.weights.hf.images import (
    PREPROCESSOR,
    HFPreprocessor,
    find_preprocessor,
    hf_images,
    hf_notes,
    unfollowed,
)
from vitsmith.weights.hf.metadata import hf_head, hf_labels, unsaid
from vitsmith.weights.hf.model_types import HFConfig
from vitsmith.weights.hf.names import HEADS, PROJECTION, SAME, hf_pieces, hf_slots, naming_of, prefix_of
from vitsmith.weights.metadata import architecture_mistakes, check_count, json_mistakes
from vitsmith.weights.options import LoadOptions
from vitsmith.weights.position_layout import ResizedPositions, resizing_note


def read_image_model(file: ArrayFile, metadata: HFConfig, options: LoadOptions) -> Conversion:
    """The model that `metadata`, the fields of its `config.json`, describes.

    Its image size is the caller's, or the preprocessor's where transformers moves positions to the size of the images
    and the folder has one, or that of `config.json`. Raises WeightsError.
    """
    source, names = str(file.path), frozenset(file.shapes)
    prefix = prefix_of(names)
    naming = naming_of(names, prefix)
    found = find_preprocessor(file.path.parent, metadata.usual_images)
    refused = unfollowed(found) if found else ""
    followed = found if found and not refused else HFPreprocessor.model_validate(metadata.usual_images)
    with architecture_mistakes(source):
        stored = infer_hf_config(file, metadata, naming, prefix)
        config = _resized(stored, metadata, None if refused else found, options)
    projects = metadata.projects(names)
    answers = config.classes and not projects and not options.headless
    asked = config.image_size in (options.image_size, options.adapted_size)
    with json_mistakes(source):
        images = hf_images(followed, config.image_size)
        labels = hf_labels(metadata, source) if answers else None
    check_count(labels, config.classes, source)
    head, told = hf_head(metadata, config.classes, source) if answers else (None, ())
    positions = SAME if stored.grid == config.grid else ResizedPositions.between(stored, config, metadata.resize)
    heads = (PROJECTION,) if projects else tuple(head for head in HEADS if f"{head}.weight" in names)
    slots = hf_slots(config, naming, prefix, positions=positions, heads=heads)
    without_bias = tuple(f".{layer}.bias" for layer in metadata.without_bias(naming))
    zeros = tuple(slots.pop(name) for name in [*slots] if name.endswith(without_bias))
    unused = {name for name in names if name.removeprefix(prefix).startswith(metadata.unused(names))}
    unused |= {name for name in names if 0 in file.shapes[name]}  # no registers, in the type that has them
    return Conversion(
        config=config,
        slots=slots,
        zeros=zeros,
        unused=frozenset(unused),
        pieces=hf_pieces(config, prefix),
        classifier=tuple(f"{head}.{kind}" for head in heads for kind in ("weight", "bias")),
        images=images,
        missing="" if found else PREPROCESSOR,
        images_refused=refused,
        labels=labels,
        head="none" if projects else head,
        notes=(
            *unsaid(metadata),
            *metadata.notes,
            *_assumed(found, refused, metadata),
            *(hf_notes(found, config.image_size, asked=asked) if found and not refused else ()),
            *resizing_note(stored, config, metadata.resize),
            *_left_out(unused),
            *told,
        ),
        publication=Publication(license=metadata.license),
    )


def _assumed(found: HFPreprocessor | None, refused: str, metadata: HFConfig) -> tuple[str, ...]:
    """A note where preprocessing is the usual one of such models: the folder has none, or one that is not followed."""
    if found and not refused:
        return ()
    why = refused or f"there is no {PREPROCESSOR}"
    published = f"that of the published {metadata.classes_begin} models, at the model's own size"
    return (f"{why}: the usual preprocessing is {published}",)


def _resized(
    stored: ViTConfig, metadata: HFConfig, preprocessor: HFPreprocessor | None, options: LoadOptions
) -> ViTConfig:
    """The configuration at the size of the images that come."""
    size = options.image_size or (options.adapted_size if metadata.any_size else None)
    if size is not None and size != stored.image_size:
        return change(stored, image_size=size, unseen_edge=False)
    if size is None and metadata.any_size and preprocessor:
        size = _size_of(preprocessor)
    if size in (None, stored.image_size):
        return stored
    seen = all(side % patch == 0 for side, patch in zip(size, stored.patch, strict=True))
    return change(stored, image_size=size, unseen_edge=not seen)


def _size_of(preprocessor: HFPreprocessor) -> tuple[int, int] | None:
    """(height, width) of what a preprocessor gives; None where that is another for each image."""
    size = preprocessor.cut or preprocessor.edges
    return (size["height"], size["width"]) if size.keys() == {"height", "width"} else None


def _left_out(unused: set[str]) -> tuple[str, ...]:
    """A note on a decoder that the file has and no answer needs."""
    decoder = sorted(name for name in unused if name.startswith("decoder."))
    return (f"the decoder of pre-training ({len(decoder)} arrays) was left out",) if decoder else ()
