"""Reads CLIP, SigLIP and their kin as open_clip publishes them, with the `open_clip_config.json` beside them."""

from __future__ import annotations

from dataclasses import replace

from vitsmith.models.config import LiTConfig
from vitsmith.models.configure import change
from vitsmith.models.text_config import TextTransformerConfig
from vitsmith.weights.assumptions import assumed_note
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.layouts import Layout, Scalar, Slot, within
from vitsmith.weights.metadata import architecture_mistakes, json_mistakes
from vitsmith.weights.open_clip.config import Trunk, timm_metadata, two_towers
from vitsmith.weights.open_clip.images import open_clip_images
from vitsmith.weights.open_clip.model_cfg import ModelCfg, read_open_clip_config
from vitsmith.weights.open_clip.names import (
    BIAS,
    SAME,
    SCALE,
    VISUAL,
    image_slots,
    scalar_slots,
    text_prefix,
    text_slots,
    trunk_slots,
)
from vitsmith.weights.open_clip.texts import open_clip_text
from vitsmith.weights.options import LoadOptions
from vitsmith.weights.position_layout import ResizedPositions, resizing_note
from vitsmith.weights.timm.names import Naming, timm_zeros
from vitsmith.weights.timm.notes import knows_heads


def recognises(file: ArrayFile) -> bool:
    """Whether it has an image tower that is called 'visual', and the scale of logits."""
    return SCALE in file.shapes and any(name.startswith(VISUAL) for name in file.shapes)


def read(file: ArrayFile, options: LoadOptions) -> Conversion:
    """The model that `open_clip_config.json` describes, which must be there, with its preprocessing and tokenizer.

    Positions move to images of the caller's size as in open_clip. Raises WeightsError.
    """
    source, described = str(file.path), read_open_clip_config(file.path)
    model = described.model_cfg
    with architecture_mistakes(source):
        stored = two_towers(file, model)
        config = _resized(stored, options.image_size)
    assert isinstance(config.text, TextTransformerConfig)
    with json_mistakes(source):
        images = open_clip_images(described.preprocess_cfg, config.image_size)
        texts = open_clip_text(model.text_cfg, config.text, file.path.parent)
    lacking = [BIAS] if config.bias and BIAS not in file.shapes else []  # open_clip takes 0 for it
    slots, zeros = _slots(file, stored, config, model)
    return Conversion(
        config=config,
        slots={name: slot for name, slot in slots.items() if name not in lacking},
        zeros=(*zeros, *(slots[name] for name in lacking)),
        classifier=(),
        images=images,
        text=texts.spec,
        vocabulary=texts.vocabulary,
        texts_refused=texts.refused,
        notes=(
            *_notes(model, config),
            *texts.notes,
            *resizing_note(stored.image, config.image, config.image.position_embedding.resize),
        ),
    )


def _resized(stored: LiTConfig, size: tuple[int, int] | None) -> LiTConfig:
    if size in (None, stored.image_size):
        return stored
    image = change(stored.image, image_size=size, unseen_edge=False)
    resized: LiTConfig = change(stored, image=image.model_dump())
    return resized


def _slots(
    file: ArrayFile, stored: LiTConfig, config: LiTConfig, model: ModelCfg
) -> tuple[dict[str, Slot], tuple[Slot, ...]]:
    """Where each array goes, and the parts of the model that the file leaves out because they are zero."""
    tower, scalar = config.image, Scalar() if file.shapes[SCALE] == () else SAME
    positions: Layout = SAME
    if stored.image.grid != tower.grid:
        positions = ResizedPositions.between(stored.image, tower, tower.position_embedding.resize)
    zeros: tuple[Slot, ...] = ()
    if model.vision_cfg.timm_model_name:
        naming = Naming.of(Trunk(file).shapes)
        apart = model.vision_cfg.timm_proj == "linear"
        image = within("", "image.", trunk_slots(tower, naming, head_apart=apart, positions=positions))
        zeros = tuple(replace(slot, parameter=f"image.{slot.parameter}") for slot in timm_zeros(tower, naming))
    else:
        image = within(VISUAL, "image.", image_slots(tower, positions))
    assert isinstance(config.text, TextTransformerConfig)
    texts = within(text_prefix(file.shapes), "text.", text_slots(config.text))
    return dict([*image, *texts, *scalar_slots(config, scalar)]), zeros


def _notes(model: ModelCfg, config: LiTConfig) -> tuple[str, ...]:
    """What arrays do not show, and what open_clip decides in another way than others who publish the same weights."""
    vision = model.vision_cfg
    if not vision.timm_model_name:
        return ()
    known = knows_heads(timm_metadata(vision), config.image)
    notes = assumed_note([] if known else [f"{config.image.heads} heads"])
    erf = [what for what, tower in (("image", config.image), ("text", config.text)) if tower.gelu == "erf"]
    if "siglip" in vision.timm_model_name and erf:
        towers = f"the {' and the '.join(erf)} tower"
        others = "the authors and transformers compute the tanh form: gelu='tanh'"
        return (*notes, f"as in open_clip: GELU erf in {towers} ({others})")
    return notes
