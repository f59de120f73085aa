"""The model types of transformers that are images' alone: the fields of `config.json`, and the parts these stand for.

Files have what differs from a class's defaults, or all: the defaults are those of transformers 5.24,
models/*/configuration_*.py.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from vitsmith.fields import Finite, Number, Pixels
from vitsmith.models.config import Registers
from vitsmith.models.parts import Depth, Eps, Hidden, PositionResize, Width
from vitsmith.weights.bundle.agreements import DINOV3_LICENSE
from vitsmith.weights.hf.names import HFNaming
from vitsmith.weights.metadata import IMAGENET_MEAN, IMAGENET_STD, Metadata

Size = Pixels | tuple[Pixels, Pixels]

IMAGENET = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
GELUS = {"gelu": "erf", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "quick_gelu": "quick"}


class HFConfig(Metadata):
    """The fields that all have, with ViTConfig's defaults."""

    architectures: tuple[str, ...] = ()
    model_type: str = "vit"
    hidden_size: Width = 768
    num_hidden_layers: Depth = 12
    num_attention_heads: Width = 12
    intermediate_size: Hidden = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: Eps = 1e-12
    image_size: Size = 224
    patch_size: Size = 16
    num_channels: Annotated[int, Number] = 3
    qkv_bias: bool = True
    pooler_act: str = "tanh"
    id2label: Any = None
    problem_type: Any = None

    classes_begin: ClassVar[str] = "ViT"
    """How the names in `architectures` begin."""
    resize: ClassVar[PositionResize] = "bicubic_plain"
    """How transformers moves learned positions to another grid."""
    any_size: ClassVar[bool] = False
    """Whether it does so for images of any size, not only when asked with `interpolate_pos_encoding`."""
    unseen_edge: ClassVar[bool] = False
    """Whether it takes images of a size that patches do not fill, and leaves the rest out."""
    usual_images: ClassVar[dict[str, Any]] = {"image_processor_type": "ViTImageProcessor"}
    """The preprocessor_config.json of the published files, for a folder with none, or with one that is not followed."""
    license: ClassVar[str] = ""
    """The licence of the published files, where all have one that must be passed on with them."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What transformers decides in another way than other libraries that publish the same weights."""
        return ()

    @property
    def gated(self) -> bool:
        return False

    @property
    def gelu(self) -> str | None:
        """The form of GELU; None for an activation that is another, or not the one that a gated MLP must have."""
        return GELUS.get(self.hidden_act)

    def parts(self, names: frozenset[str]) -> dict[str, Any]:
        """Fields of our configuration besides the sizes. `names` are those in the file, without what is before all."""
        return {"block": {"qkv_bias": self.qkv_bias}}

    def unused(self, names: frozenset[str]) -> tuple[str, ...]:
        """How the names of arrays begin that the answers do not depend on."""
        return ()

    def projects(self, names: frozenset[str]) -> bool:
        """Whether its head projects to an embedding, and gives no logits."""
        return False

    def without_bias(self, naming: HFNaming) -> tuple[str, ...]:
        """Names of linear layers whose bias the files do not have and which is zero."""
        return ()


class DeiTConfig(HFConfig):
    """DeiT. Its second token is a register, except where it has a head of its own (...WithTeacher)."""

    classes_begin: ClassVar[str] = "DeiT"
    usual_images: ClassVar[dict[str, Any]] = {"image_processor_type": "DeiTImageProcessor", **IMAGENET}

    def parts(self, names: frozenset[str]) -> dict[str, Any]:
        teacher = "distillation_classifier.weight" in names
        second = {"distillation_token": True} if teacher else {"registers": 1}
        return {
            **super().parts(names),
            **second,
            "position_embedding": {"resize": self.resize},
        }


class ViTMAEConfig(HFConfig):
    """The encoder of MAE. Fixed sine and cosine positions are stored like learned ones."""

    classes_begin: ClassVar[str] = "ViTMAE"
    usual_images: ClassVar[dict[str, Any]] = {"image_processor_type": "ViTImageProcessor", **IMAGENET}

    def unused(self, names: frozenset[str]) -> tuple[str, ...]:
        return ("decoder.",)

    def parts(self, names: frozenset[str]) -> dict[str, Any]:
        return {**super().parts(names), "position_embedding": {"resize": self.resize}}


class Dinov2Config(HFConfig):
    """DINOv2; its classifier sees the class token and the mean of the patches."""

    layer_norm_eps: Eps = 1e-6
    patch_size: Size = 14
    mlp_ratio: Annotated[Finite, Field(gt=0, le=1_024)] = 4
    use_swiglu_ffn: bool = False
    num_register_tokens: Registers = 0

    classes_begin: ClassVar[str] = "Dinov2"
    any_size: ClassVar[bool] = True
    unseen_edge: ClassVar[bool] = True
    usual_images: ClassVar[dict[str, Any]] = {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 256},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        **IMAGENET,
    }

    @property
    def gated(self) -> bool:
        return self.use_swiglu_ffn

    @property
    def gelu(self) -> str | None:
        return "erf" if self.gated else super().gelu  # the gated MLP has silu, whatever hidden_act says

    def unused(self, names: frozenset[str]) -> tuple[str, ...]:
        return ("embeddings.mask_token",)

    def parts(self, names: frozenset[str]) -> dict[str, Any]:
        hidden = int(self.hidden_size * self.mlp_ratio)
        return {
            "mlp_width": (int(hidden * 2 / 3) + 7) // 8 * 8 if self.gated else hidden,
            "pooling": "token_and_gap" if "classifier.weight" in names else "token",
            "registers": self.num_register_tokens,
            "position_embedding": {
                "learned": "class" if self.num_register_tokens else "all",
                "resize": self.resize,
            },
            "block": {"layer_scale": True, "gated": self.gated, "qkv_bias": self.qkv_bias},
        }


class Dinov2WithRegistersConfig(Dinov2Config):
    """DINOv2 with registers, whose positions are resized with antialiasing."""

    patch_size: Size = 16
    num_register_tokens: Registers = 4

    classes_begin: ClassVar[str] = "Dinov2WithRegisters"
    resize: ClassVar[PositionResize] = "bicubic"


class DINOv3ViTConfig(HFConfig):
    """DINOv3, which has rotary positions alone."""

    hidden_size: Width = 384
    num_attention_heads: Width = 6
    intermediate_size: Hidden = 1536
    layer_norm_eps: Eps = 1e-5
    rope_theta: Finite = 100.0
    query_bias: bool = True
    key_bias: bool = False
    value_bias: bool = True
    proj_bias: bool = True
    mlp_bias: bool = True
    use_gated_mlp: bool = False
    num_register_tokens: Registers = 0

    classes_begin: ClassVar[str] = "DINOv3ViT"
    license: ClassVar[str] = DINOV3_LICENSE
    any_size: ClassVar[bool] = True
    unseen_edge: ClassVar[bool] = True
    usual_images: ClassVar[dict[str, Any]] = {
        "image_processor_type": "DINOv3ViTImageProcessor",
        "size": {"height": 224, "width": 224},
        "resample": 2,
        "do_center_crop": False,
        **IMAGENET,
    }

    @property
    def notes(self) -> tuple[str, ...]:
        return (
            "as in transformers: the feature is the class token (timm's is the mean of the patches: pooling='gap')",
            "as in transformers: periods of rotary positions are float32 (the authors' files have them in bfloat16: "
            "periods='bfloat16')",
        )

    @property
    def gated(self) -> bool:
        return self.use_gated_mlp

    @property
    def gelu(self) -> str | None:
        if self.gated:
            return "erf" if self.hidden_act == "silu" else None
        return super().gelu

    def unused(self, names: frozenset[str]) -> tuple[str, ...]:
        return ("embeddings.mask_token",)

    def parts(self, names: frozenset[str]) -> dict[str, Any]:
        return {
            "registers": self.num_register_tokens,
            "position_embedding": {"learned": "none", "rotary": {"base": self.rope_theta}},
            "block": {
                "layer_scale": True,
                "gated": self.gated,
                "qkv_bias": self.query_bias or self.key_bias or self.value_bias,
            },
        }

    def without_bias(self, naming: HFNaming) -> tuple[str, ...]:
        query, key, value = naming.qkv
        have = {
            (query,): self.query_bias,
            (key,): self.key_bias,
            (value,): self.value_bias,
            (naming.out,): self.proj_bias,
            (*naming.widen, naming.narrow): self.mlp_bias,
        }
        return tuple(layer for layers, bias in have.items() if not bias for layer in layers)
