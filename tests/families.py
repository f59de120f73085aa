"""Every family of image encoders as one small bundle: what each verb, and the matrix of verbs, is tried on."""

from __future__ import annotations

from typing import Any

import vitsmith as vs
from tests import REFERENCE
from tests.tiny import CLIP_TEXT, TEXT, VIT, tiny_model, towers
from vitsmith.models.config import LiTConfig, ModelConfig
from vitsmith.models.configure import change
from vitsmith.records import Provenance
from vitsmith.specs import Labels

LABELS = ("red", "green", "blue")


def configs() -> dict[str, ModelConfig]:
    """A model with two towers for CLIP and SigLIP, classifiers of three classes, and an encoder without a head."""
    siglip = TEXT.model_copy(update={"vocabulary": 62, "classes": 48})
    clip = change(towers()["clip-quick"], classes=32, head_bias=False)
    classifiers = {name: change(towers()[name], classes=3) for name in ("registers", "dinov3", "deit3")}
    return {
        "clip": LiTConfig(image=clip, text=CLIP_TEXT),
        "siglip": LiTConfig(image=towers()["siglip"], text=siglip, bias=True),
        **classifiers,
        "mae": change(VIT, classes=0, gelu="erf"),
    }


FAMILIES = configs()
CLASSIFIERS = ("registers", "dinov3", "deit3")
TWO_TOWERS = ("clip", "siglip")


def bundle_of(name: str) -> vs.Bundle:
    config = FAMILIES[name]
    more: dict[str, Any] = {}
    if isinstance(config, LiTConfig):
        file = {"clip": "clip.bpe", "siglip": "sentencepiece.model"}[name]
        more["vocabulary"] = (REFERENCE / "text" / file).read_bytes()
    if name in CLASSIFIERS:
        more["labels"] = Labels(names=LABELS)
    terms = {"license": "DINOv3 License", "license_text": "DINOv3 words"} if name == "dinov3" else {}
    images = vs.ImageSpec.pillow(config.image_size, resize="squash" if name == "siglip" else "shorter")
    provenance = Provenance(source=name, **terms)
    return vs.Bundle.of(tiny_model(config), preprocessing=images, provenance=provenance, **more)
