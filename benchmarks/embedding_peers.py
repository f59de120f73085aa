"""The image towers that benchmarks/embedding_throughput.py compares, with one set of weights in all libraries.

timm's model gets random values in every array and is saved as timm saves for the hub; vitsmith loads that folder. The
models of transformers and open_clip get the same arrays under their own names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm_coverage import randomise
from torch import Tensor, nn

Arrays = dict[str, Tensor]
SIZES = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
"""Those of a ViT-B, in the words of transformers."""


@dataclass(frozen=True)
class Family:
    """One image tower, and its model in each library."""

    name: str
    timm: str
    arguments: dict[str, Any]
    """Of timm's constructor, so that its answers are those of the authors."""
    peers: dict[str, Callable[[Mapping[str, Tensor]], nn.Module]] = field(default_factory=dict)
    """Other libraries, whose model is made of timm's arrays."""


class Pooled(nn.Module):
    """A tower of transformers that gives the feature of an image alone."""

    def __init__(self, tower: nn.Module, feature: str) -> None:
        super().__init__()
        self.tower = tower
        self.feature = feature

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = getattr(self.tower(pixel_values=images), self.feature)
        return found


def timm_tower(family: Family, folder: Path) -> nn.Module:
    """timm's model with random values, saved into `folder`."""
    import timm
    from timm.models import save_for_hf

    model: nn.Module = timm.create_model(family.timm, **family.arguments).eval()
    randomise(model)
    with torch.no_grad():
        for name, array in model.named_parameters():
            if name == "head.bias":  # CLIP's projection has none
                array.zero_()
    save_for_hf(model, folder, model_args=family.arguments, safe_serialization=True)
    return model


def _dinov3(arrays: Mapping[str, Tensor]) -> nn.Module:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    tower = DINOv3ViTModel(DINOv3ViTConfig(**SIZES, num_register_tokens=4))
    names = {
        "cls_token": "embeddings.cls_token",
        "reg_token": "embeddings.register_tokens",
        "patch_embed.proj": "embeddings.patch_embeddings",
        "norm": "norm",
        "block": "model.layer.{}",
        "norm1": "norm1",
        "norm2": "norm2",
        "attn.qkv": "attention.{}_proj",
        "attn.proj": "attention.o_proj",
        "mlp.fc1": "mlp.up_proj",
        "mlp.fc2": "mlp.down_proj",
        "gamma_1": "layer_scale1.lambda1",
        "gamma_2": "layer_scale2.lambda1",
    }
    filled = dict(_renamed(arrays, names))
    for name, array in tower.state_dict().items():
        if name.endswith(("q_proj.bias", "v_proj.bias", "mask_token")):  # timm has none: zeros in the released files
            filled[name] = torch.zeros_like(array)
    return Pooled(_filled(tower, filled), "pooler_output")


def _siglip2(arrays: Mapping[str, Tensor]) -> nn.Module:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    tower = SiglipVisionModel(SiglipVisionConfig(**SIZES, patch_size=16, image_size=224))
    names = {
        **_CLIP_BLOCKS,
        "pos_embed": "embeddings.position_embedding.weight",
        "patch_embed.proj": "embeddings.patch_embedding",
        "norm": "post_layernorm",
        "block": "encoder.layers.{}",
        "attn_pool.latent": "head.probe",
        "attn_pool.proj": "head.attention.out_proj",
        "attn_pool.norm": "head.layernorm",
        "attn_pool.mlp.fc1": "head.mlp.fc1",
        "attn_pool.mlp.fc2": "head.mlp.fc2",
    }
    pooled = {name: arrays[name] for name in arrays if not name.startswith(("attn_pool.q.", "attn_pool.kv."))}
    filled = dict(_renamed(pooled, names))
    for kind in ("weight", "bias"):
        both = [arrays[f"attn_pool.q.{kind}"], arrays[f"attn_pool.kv.{kind}"]]
        filled[f"head.attention.in_proj_{kind}"] = torch.cat(both)
    return Pooled(_filled(tower, filled), "pooler_output")


def _clip(arrays: Mapping[str, Tensor]) -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    tower = CLIPVisionModelWithProjection(
        CLIPVisionConfig(**SIZES, patch_size=32, image_size=224, projection_dim=512, hidden_act="quick_gelu")
    )
    names = {
        **_CLIP_BLOCKS,
        "cls_token": "vision_model.embeddings.class_embedding",
        "pos_embed": "vision_model.embeddings.position_embedding.weight",
        "patch_embed.proj": "vision_model.embeddings.patch_embedding",
        "norm_pre": "vision_model.pre_layrnorm",
        "norm": "vision_model.post_layernorm",
        "block": "vision_model.encoder.layers.{}",
        "head": "visual_projection",
    }
    return Pooled(_filled(tower, dict(_renamed(_without_bias(arrays), names))), "image_embeds")


def _open_clip(arrays: Mapping[str, Tensor]) -> nn.Module:
    from open_clip.transformer import QuickGELU, VisionTransformer

    tower = VisionTransformer(224, 32, 768, 12, 12, 4.0, output_dim=512, act_layer=QuickGELU)
    names = {
        "cls_token": "class_embedding",
        "pos_embed": "positional_embedding",
        "patch_embed.proj": "conv1",
        "norm_pre": "ln_pre",
        "norm": "ln_post",
        "block": "transformer.resblocks.{}",
        "norm1": "ln_1",
        "norm2": "ln_2",
        "attn.qkv": "attn.in_proj",
        "attn.proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "head": "proj",
    }
    filled = dict(_renamed(_without_bias(arrays), names))
    packed = {name: name.replace("in_proj.", "in_proj_") for name in filled}
    filled = {packed[name]: array for name, array in filled.items()}
    filled["proj"] = filled.pop("proj.weight").T
    return _filled(tower, filled)


_CLIP_BLOCKS = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.{}_proj",
    "attn.proj": "self_attn.out_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
"""Inside a block of CLIP and SigLIP in transformers."""


def _renamed(arrays: Mapping[str, Tensor], names: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """timm's arrays under other names; a name of queries, keys and values with a hole is three matrices."""
    for name, array in arrays.items():
        stem, dot, kind = name.rpartition(".") if name.endswith((".weight", ".bias")) else (name, "", "")
        where = ""
        if stem.startswith("blocks."):
            _, number, stem = stem.split(".", 2)
            where = names["block"].format(number) + "."
        if "{}" in names[stem]:
            for letter, third in zip("qkv", array.chunk(3), strict=True):
                yield f"{where}{names[stem].format(letter)}{dot}{kind}", third
        else:
            yield f"{where}{names[stem]}{dot}{kind}", array


def _without_bias(arrays: Mapping[str, Tensor]) -> Arrays:
    return {name: array for name, array in arrays.items() if name != "head.bias"}


def _filled(tower: nn.Module, arrays: Arrays) -> nn.Module:
    """The tower with these arrays, each of which must have its place."""
    expected = tower.state_dict()
    tower.load_state_dict({name: array.reshape(expected[name].shape) for name, array in arrays.items()})
    return tower.eval()


FAMILIES = (
    Family(
        "DINOv3-B/16",
        "vit_base_patch16_dinov3",
        {"num_classes": 0, "global_pool": "token", "img_size": 224},
        {"transformers": _dinov3},
    ),
    Family(
        "SigLIP2-B/16",
        "vit_base_patch16_siglip_224",
        {"act_layer": "gelu_tanh"},
        {"transformers": _siglip2},  # open_clip's tower is timm's
    ),
    Family(
        "CLIP-B/32",
        "vit_base_patch32_clip_quickgelu_224",
        {"num_classes": 512},
        {"transformers": _clip, "open_clip": _open_clip},
    ),
)
