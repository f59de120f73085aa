"""timm's `config.json`: its fields, the labels, and who published the weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import model_validator

from vitsmith.fields import Finite, Pixels, Triple
from vitsmith.models.parts import Classes, Width
from vitsmith.records import NOT_KNOWN, Publication
from vitsmith.specs import Labels
from vitsmith.weights.metadata import IMAGENET_MEAN, IMAGENET_STD, Metadata, class_names


class PretrainedCfg(Metadata):
    """How the weights were evaluated. Defaults: timm/models/_pretrained.py and data/config.py."""

    input_size: tuple[Pixels, Pixels, Pixels] = (3, 224, 224)
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    crop_pct: Finite = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    label_names: Any = None
    tag: Any = None
    hf_hub_id: Any = None
    license: Any = None


class RefusedArgs(Metadata):
    """Arguments of the constructor that change the arithmetic, and leave no trace in the arrays."""

    norm_layer: Any = None
    embed_layer: Any = None
    block_fn: Any = None
    mlp_layer: Any = None
    attn_layer: Any = None
    use_post_norm: Any = None
    rope_type: Any = None
    rope_temperature: Any = None
    rope_grid_offset: Any = None
    rope_grid_indexing: Any = None
    rope_rotate_half: Any = None
    ref_feat_shape: Any = None
    use_rot_pos_emb: Any = None
    dynamic_img_pad: Any = None


class ModelArgs(RefusedArgs):
    """Arguments of the constructor that the arrays do not show."""

    img_size: Pixels | tuple[Pixels, Pixels] | None = None
    num_heads: Width | None = None
    global_pool: str | None = None
    act_layer: str | None = None
    attn_pool_num_heads: Width | None = None
    num_classes: Classes | None = None
    pool_include_prefix: bool = False


class TimmMetadata(Metadata):
    """timm's `config.json`, as models/_hub.py writes it; in old ones all fields were on one level."""

    architecture: str
    num_classes: Classes | None = None
    global_pool: str | None = None
    model_args: ModelArgs = ModelArgs()
    pretrained_cfg: PretrainedCfg

    @model_validator(mode="before")
    @classmethod
    def _nested(cls, fields: Any) -> Any:
        nested = fields.get("pretrained_cfg") or fields if isinstance(fields, dict) else None
        if not isinstance(nested, dict):
            return fields
        names = fields.get("label_names") or nested.get("label_names") or fields.get("labels")
        return {**fields, "pretrained_cfg": {**nested, "label_names": names}}

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        size = self.model_args.img_size or self.pretrained_cfg.input_size[1:]
        return (size, size) if isinstance(size, int) else size

    def fits(self, tokens: int, patch: Sequence[int], prefix: int) -> bool:
        """Whether images of `image_size` have `tokens` position embeddings, with or without those of the `prefix`."""
        height, width = self.image_size
        patches = (height // patch[0]) * (width // patch[1])
        return tokens in (patches, patches + prefix)

    @property
    def pooling(self) -> str | None:
        told = self.model_args.global_pool
        return self.global_pool if told is None else told


_USUAL_LICENSE = "apache-2.0"
_NOT_USUAL = ("openai", "laion", "datacomp")
"""Tags of weights that have another licence than the usual one timm states (timm/models/vision_transformer.py)."""


def is_default_license(name: str, terms: str) -> bool:
    """Whether the licence of 'timm/ARCHITECTURE.TAG' is only timm's default, and says nothing of such weights."""
    owner, _, model = name.partition("/")
    return owner == "timm" and terms == _USUAL_LICENSE and model.partition(".")[2].startswith(_NOT_USUAL)


def timm_publication(metadata: TimmMetadata | None) -> Publication:
    """Who published the weights, and their licence, as far as `config.json` has them.

    'timm/' stands for 'timm/ARCHITECTURE.TAG' (timm/models/_registry.py), and 'OWNER/NAME@COMMIT' has a commit
    (`hf_split` in _hub.py).
    """
    if metadata is None:
        return NOT_KNOWN
    told = metadata.pretrained_cfg
    tag, name, terms = (one if isinstance(one, str) else "" for one in (told.tag, told.hf_hub_id, told.license))
    if name == "timm/":
        name += f"{metadata.architecture}.{tag}" if tag else metadata.architecture
    name, _, revision = name.partition("@")
    known = re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None
    if is_default_license(f"timm/{metadata.architecture}.{tag}", terms):
        terms = ""
    return Publication(origin=f"hf:{name}" if known else "", revision=revision if known else "", license=terms)


def timm_labels(metadata: TimmMetadata | None, source: str) -> Labels | None:
    """The class names that `config.json` gives, in the order of the logits. Raises WeightsError for anything else."""
    found = metadata.pretrained_cfg.label_names if metadata else None
    names = class_names(found, f"{source}: in the config.json beside it, label_names")
    return None if names is None else Labels.as_found(names)
