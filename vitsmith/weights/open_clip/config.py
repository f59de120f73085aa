"""The configuration that `model_cfg` and the arrays stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitsmith.arrays import Shape
from vitsmith.errors import WeightsError
from vitsmith.models.config import LiTConfig, ViTConfig, indivisible
from vitsmith.models.configure import change, parse_config
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.open_clip.model_cfg import ModelCfg, TextCfg, VisionCfg
from vitsmith.weights.open_clip.names import TRUNK
from vitsmith.weights.timm.config import infer_timm_config
from vitsmith.weights.timm.metadata import ModelArgs, PretrainedCfg, TimmMetadata
from vitsmith.weights.timm.parts import PATCHES

_POOLINGS = {"tok": "token", "avg": "gap"}


class Trunk:
    """The arrays of an image tower of timm within a file, by timm's names."""

    def __init__(self, file: ArrayFile) -> None:
        self.path, self._file = file.path, file
        self.shapes: dict[str, Shape] = {
            name.removeprefix(TRUNK): shape for name, shape in file.shapes.items() if name.startswith(TRUNK)
        }

    def read(self, name: str) -> Tensor:
        return self._file.read(f"{TRUNK}{name}")


def two_towers(file: ArrayFile, model: ModelCfg) -> LiTConfig:
    """The configuration at the image size of the file. Raises WeightsError for what our towers do not have."""
    image = _of_timm(file, model) if model.vision_cfg.timm_model_name else _plain(model)
    fields = {
        "family": "lit",
        "image": image.model_dump(),
        "text": _text(model.text_cfg, model),
        "bias": model.init_logit_bias is not None,
    }
    towers: LiTConfig = parse_config(fields)
    return towers


def timm_metadata(vision: VisionCfg) -> TimmMetadata:
    """What timm's config.json would say of the image tower, as open_clip creates it (`TimmModel`)."""
    told = "" if vision.timm_model_name is None else vision.timm_model_name.partition(".")[0]  # without its tag
    behind = vision.timm_proj == "linear"  # then open_clip leaves the pooling as it is where none is told
    pool = vision.timm_pool
    return TimmMetadata(
        architecture=told,
        global_pool=None if behind and not pool else pool,
        model_args=ModelArgs(img_size=vision.image_size),
        pretrained_cfg=PretrainedCfg(),
    )


def _of_timm(file: ArrayFile, model: ModelCfg) -> ViTConfig:
    vision = model.vision_cfg
    arrays = Trunk(file)
    if PATCHES not in arrays.shapes:
        raise WeightsError(
            f"{file.path}: array '{TRUNK}{PATCHES}' is missing: {vision.timm_model_name} is no vision transformer, or "
            "these are not its arrays"
        )
    trunk = infer_timm_config(arrays, timm_metadata(vision))
    assert isinstance(trunk, ViTConfig)
    changes: dict[str, Any] = {"classes": model.embed_dim, "head_bias": vision.timm_proj_bias}
    positions = {**trunk.position_embedding.model_dump(), "resize": "bicubic"}
    tower: ViTConfig = change(trunk, position_embedding=positions, **(changes if vision.timm_proj == "linear" else {}))
    return tower


def _plain(model: ModelCfg) -> ViTConfig:
    vision = model.vision_cfg
    size, patch = _pair(vision.image_size), _pair(vision.patch_size)
    tower: ViTConfig = parse_config(
        {
            "family": "vit",
            "width": vision.width,
            "depth": vision.layers,
            "heads": max(vision.width // vision.head_width, 1),
            "mlp_width": int(vision.width * vision.mlp_ratio),
            "patch": patch,
            "image_size": size,
            "unseen_edge": bool(indivisible(size, patch)),
            "classes": model.embed_dim,
            "pooling": _POOLINGS[vision.pool_type],
            "gelu": vision.gelu(model.quick_gelu),
            "norm_eps": vision.norm_kwargs.eps,
            "norm_after_pooling": vision.final_ln_after_pool and vision.pool_type == "avg",
            "patch_bias": False,
            "position_embedding": {"resize": "bicubic"},
            "norm_before": not vision.no_ln_pre,
            "block": {"layer_scale": vision.ls_init_value is not None},
            "head_bias": False,
        }
    )
    return tower


def _text(text: TextCfg, model: ModelCfg) -> Mapping[str, Any]:
    return {
        "kind": "transformer",
        "width": text.width,
        "depth": text.layers,
        "heads": text.heads,
        "mlp_width": int(text.width * text.mlp_ratio),
        "vocabulary": text.vocab_size,
        "length": text.context_length,
        "classes": model.embed_dim if text.proj_type == "linear" else 0,
        "gelu": text.gelu(model.quick_gelu),
        "norm_eps": text.norm_kwargs.eps,
        "mask": "none" if text.no_causal_mask else "causal",
        "pooling": "last" if text.pool_type == "last" else "end",
        "end_token": text.eos_id if text.pool_type == "eos" else None,
        "head_bias": text.proj_bias,
    }


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
