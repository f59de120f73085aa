"""The model types of transformers with two towers, CLIP, MetaCLIP 2 and SigLIP: the fields of their `config.json`.

The towers' own fields are in objects of it, `vision_config` and `text_config`. Files have what differs from a class's
defaults, or all: the defaults are those of transformers 5.24, models/*/configuration_*.py.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import model_validator

from vitsmith.fields import Number
from vitsmith.models.parts import Classes, Depth, Eps, Hidden, Length, Pieces, Width
from vitsmith.weights.hf.model_types import HFConfig, Size
from vitsmith.weights.hf.names import PROJECTION
from vitsmith.weights.metadata import Metadata

SCALE = "logit_scale"
"""What only a model with both towers has."""
POSITION_IDS = "embeddings.position_ids"
"""The numbers 0, 1, 2, ... that transformers wrote into files until 4.31."""


class CLIPVisionConfig(HFConfig):
    """CLIP's image tower. Its classifier sees the mean of the patches before the last LayerNorm."""

    patch_size: Size = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: Eps = 1e-5
    projection_dim: Classes = 512

    classes_begin: ClassVar[str] = "CLIP"
    unseen_edge: ClassVar[bool] = True
    usual_images: ClassVar[dict[str, Any]] = {"image_processor_type": "CLIPImageProcessor"}

    def projects(self, names: frozenset[str]) -> bool:
        return SCALE in names or f"{PROJECTION}.weight" in names

    def unused(self, names: frozenset[str]) -> tuple[str, ...]:
        return (POSITION_IDS, "post_layernorm.") if _classifies(names) else (POSITION_IDS,)

    def parts(self, names: frozenset[str]) -> dict[str, Any]:
        parts = {"norm_before": True, "patch_bias": False, "position_embedding": {"resize": self.resize}}
        if self.projects(names):
            return {**parts, "classes": self.projection_dim, "head_bias": False}
        return {**parts, "pooling": "gap", "final_norm": False} if _classifies(names) else parts


class MetaClip2VisionConfig(CLIPVisionConfig):
    """MetaCLIP 2's image tower, which is CLIP's."""

    classes_begin: ClassVar[str] = "MetaClip2"


class SiglipVisionConfig(HFConfig):
    """SigLIP's image tower, without a class token. Its classifier sees the mean of the patches."""

    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: Eps = 1e-6
    vision_use_head: bool = True

    classes_begin: ClassVar[str] = "Siglip"
    unseen_edge: ClassVar[bool] = True
    usual_images: ClassVar[dict[str, Any]] = {"image_processor_type": "SiglipImageProcessor"}

    @property
    def notes(self) -> tuple[str, ...]:
        if self.gelu == "tanh":
            others = "timm and open_clip compute erf for most SigLIP towers: gelu='erf' gives it"
            return (f"GELU tanh, as in transformers and the authors' code ({others})",)
        return (f"GELU {self.gelu}, as config.json says (the authors' code computes tanh: gelu='tanh' gives it)",)

    def unused(self, names: frozenset[str]) -> tuple[str, ...]:
        return (POSITION_IDS, "head.") if _classifies(names) else (POSITION_IDS,)

    def parts(self, names: frozenset[str]) -> dict[str, Any]:
        parts = {"class_token": False, "position_embedding": {"resize": self.resize}}
        if _classifies(names):
            return {**parts, "pooling": "gap"}
        if not self.vision_use_head:
            return {**parts, "pooling": "unpooled"}
        pool = {"heads": self.num_attention_heads, "mlp_width": self.intermediate_size}
        return {**parts, "pooling": "attention", "attention_pool": pool}


class HFTextConfig(Metadata):
    """The fields of all text towers, with SigLIP's defaults."""

    vocab_size: Pieces = 32_000
    hidden_size: Width = 768
    num_hidden_layers: Depth = 12
    num_attention_heads: Width = 12
    intermediate_size: Hidden = 3072
    max_position_embeddings: Length = 64
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: Eps = 1e-6

    def parts(self) -> dict[str, Any]:
        """Fields of our configuration besides the sizes."""
        return {}


class SiglipTextConfig(HFTextConfig):
    """SigLIP's text tower: no mask, the last token pooled, padding or not."""

    projection_size: Width | None = None

    def parts(self) -> dict[str, Any]:
        return {"classes": self.projection_size or self.hidden_size}


class CLIPTextConfig(HFTextConfig):
    """CLIP's text tower: no token sees a later one, and the first end token is pooled.

    An `eos_token_id` of 2 is older than the tokenizer's own number, and stands for the largest id.
    """

    vocab_size: Pieces = 49_408
    hidden_size: Width = 512
    num_attention_heads: Width = 8
    intermediate_size: Hidden = 2048
    max_position_embeddings: Length = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: Eps = 1e-5
    eos_token_id: Annotated[int, Number] = 49_407

    largest_at: ClassVar[int | None] = 2
    """The `eos_token_id` that stands for the largest id."""

    def parts(self) -> dict[str, Any]:
        largest = self.eos_token_id in (self.largest_at, self.vocab_size - 1)
        end = None if largest else self.eos_token_id
        return {"mask": "causal", "pooling": "end", "end_token": end, "head_bias": False}


class MetaClip2TextConfig(CLIPTextConfig):
    """MetaCLIP 2's text tower, whose end token is 2."""

    largest_at: ClassVar[int | None] = None


class TwoTowerConfig(Metadata):
    """The fields that all have besides those of their towers. Those of a classifier are the image tower's here."""

    architectures: tuple[str, ...] = ()
    id2label: Any = None
    problem_type: Any = None
    vision_config: HFConfig
    text_config: HFTextConfig

    bias: ClassVar[bool] = False
    """Whether a learned bias stands beside the scale."""
    text_head: ClassVar[str]
    """The name of the projection of texts."""
    tokenizer_class: ClassVar[str]
    """The tokenizer of a folder that does not name it."""

    @property
    def image(self) -> HFConfig:
        """The fields of the image tower, with those of the outputs."""
        outputs = ("architectures", "id2label", "problem_type")
        return self.vision_config.model_copy(update={name: getattr(self, name) for name in outputs})

    @property
    def text(self) -> dict[str, Any]:
        """Fields of the text tower's configuration besides its sizes."""
        return self.text_config.parts()


class CLIPConfig(TwoTowerConfig):
    """CLIP. Old files have the fields of towers in `vision_config_dict` and `text_config_dict` too: those count."""

    vision_config: CLIPVisionConfig = CLIPVisionConfig()
    text_config: CLIPTextConfig = CLIPTextConfig()
    projection_dim: Classes = 512

    text_head: ClassVar[str] = "text_projection"
    tokenizer_class: ClassVar[str] = "CLIPTokenizer"

    @model_validator(mode="before")
    @classmethod
    def _oldest(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        names = ("vision_config", "text_config")
        return fields | {name: fields[f"{name}_dict"] for name in names if fields.get(f"{name}_dict") is not None}

    @property
    def image(self) -> HFConfig:
        return super().image.model_copy(update={"projection_dim": self.projection_dim})

    @property
    def text(self) -> dict[str, Any]:
        return {**super().text, "classes": self.projection_dim}


class MetaClip2Config(CLIPConfig):
    """MetaCLIP 2, which has its own vocabulary."""

    vision_config: MetaClip2VisionConfig = MetaClip2VisionConfig()
    text_config: MetaClip2TextConfig = MetaClip2TextConfig()

    tokenizer_class: ClassVar[str] = "XLMRobertaTokenizer"


class SiglipConfig(TwoTowerConfig):
    """SigLIP, and SigLIP 2 of fixed image size. The bias makes each pair a question of its own."""

    vision_config: SiglipVisionConfig = SiglipVisionConfig()
    text_config: SiglipTextConfig = SiglipTextConfig()

    bias: ClassVar[bool] = True
    text_head: ClassVar[str] = "text_model.head"
    tokenizer_class: ClassVar[str] = "SiglipTokenizer"


def _classifies(names: frozenset[str]) -> bool:
    return "classifier.weight" in names
