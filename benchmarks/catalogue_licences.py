"""The licence of each checkpoint of the catalogue, as its publisher states it, and where."""

from __future__ import annotations

import re

COMMERCIAL = {"apache-2.0": True, "mit": True, "dinov3-license": True, "apple-amlr": False, "cc-by-nc-4.0": False}
"""Licence -> whether it allows commercial use. DINOv3's grants use of any kind but those that its section 1.b names
(military, nuclear, espionage, weapons); Apple's is for research alone."""

CARD = "its model card on the hub"
STATED: tuple[tuple[str, str, str], ...] = (
    (r"hf:timm/\w+\.metaclip_", "cc-by-nc-4.0", CARD),
    (r"hf:timm/vit_\w+\.laion400m_", "mit", CARD),
    (r"hf:timm/eva(02)?_\w+_clip_", "mit", CARD),
    (r"hf:timm/ViT-", "apache-2.0", CARD),
    (r"hf:openai/", "mit", "openai/CLIP LICENSE, of code and released weights"),
    (r"hf:laion/", "mit", CARD),
    (r"hf:apple/DFN", "apple-amlr", CARD),
    (r"hf:UCSC-VLAA/", "apache-2.0", CARD),
    (r"hf:facebook/dinov2-", "apache-2.0", "facebookresearch/dinov2@b8931f7b README.md, of code and weights"),
    (r"hf:facebook/dinov3-", "dinov3-license", "facebookresearch/dinov3@6876159a README.md and LICENSE.md"),
    (
        r"SigLIP2-",
        "apache-2.0",
        "the model cards of google/siglip2-* on the hub, and google-research/big_vision LICENSE",
    ),
    (r"(ViT|R|R26|R50|LiT|Mixer)[-+]", "apache-2.0", "google-research/vision_transformer LICENSE"),
)
"""Beginnings of sources; the first that fits counts. A licence that no source states is ''."""


def licence_of(source: str) -> tuple[str, bool | None, str]:
    """The licence, whether it allows commercial use, and who says so; ('', None, '') where it is not known."""
    if source.startswith("hf:timm/") and not source.endswith(".safetensors"):
        told = licence_of_timm(source.removeprefix("hf:timm/"))
        if told:
            return told, COMMERCIAL[told], "timm 1.0.31's configuration of it, and its model card on the hub"
    for pattern, licence, where in STATED:
        if re.match(pattern, source):
            return licence, COMMERCIAL.get(licence), where
    raise SystemExit(f"whose licence has {source}?")


def licence_of_timm(tag: str) -> str:
    """The licence that timm states of an image model; '' for other names."""
    import timm

    if tag not in timm.list_pretrained():
        return ""
    return str(timm.get_pretrained_cfg(tag).license or "")
