"""What our readers make of a published architecture that no one downloaded: from its names, shapes and JSON."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitsmith.errors import ConfigError, InputError
from vitsmith.models.build import build
from vitsmith.models.config import LiTConfig, ModelConfig
from vitsmith.models.configure import change, configure
from vitsmith.specs import ImageSpec
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.fetch.published import find_checkpoint
from vitsmith.weights.fill import check_arrays
from vitsmith.weights.hf.reader import read as read_hf_file
from vitsmith.weights.jax.config import infer_config
from vitsmith.weights.jax.names import jax_slots
from vitsmith.weights.open_clip.reader import read as read_open_clip_file
from vitsmith.weights.options import LoadOptions
from vitsmith.weights.timm.reader import read as read_timm_file
from vitsmith.weights.timm.reader import recognises as recognises_timm


class UnreadError(InputError):
    """A published figure of what is no row of the catalogue, and why."""


@dataclass(frozen=True)
class Reading:
    """What `load` makes of a checkpoint."""

    library: str
    architecture: str
    config: ModelConfig
    images: ImageSpec | None = None
    """Preprocessing; None for what Google's files have, which is one for all."""
    parameters: int = 0
    """Their number by its library, which may leave out biases that are zero."""


class Shapes:
    """A file of arrays of these shapes, all zero."""

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.path, self.shapes = path, dict(shapes)

    def read(self, name: str) -> Tensor:
        return torch.zeros(()).expand(self.shapes[name])


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in model.state_dict().items()}


def _checked(found: Conversion, file: Shapes) -> Conversion:
    """Raises WeightsError unless every array fills its parameter."""
    if found.pieces:
        raise UnreadError("arrays in pieces are not compared here")
    check_arrays(build(found.config, device="meta"), found.slots, file, unused=found.unused)
    return found


@functools.cache
def read_timm(tag: str) -> Reading:
    """The model of a tag of timm, with the config.json that timm writes for the hub. Raises InputError."""
    import timm
    from timm.models import save_for_hf

    with torch.device("meta"):
        model = timm.create_model(tag, pretrained=False)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        stub = nn.Linear(1, 1)
        stub.pretrained_cfg, stub.num_classes = model.pretrained_cfg, model.num_classes
        stub.num_features, stub.global_pool = model.num_features, getattr(model, "global_pool", None)
        save_for_hf(stub, folder, safe_serialization=True)
        path = folder / "config.json"
        described = json.loads(path.read_text())
        described.pop("model_args", None)
        path.write_text(json.dumps(described))
        file = Shapes(folder / "model.safetensors", shapes_of(model))
        if not recognises_timm(file):
            raise UnreadError("its arrays are not those of a plain ViT or Mixer of timm")
        found = _checked(read_timm_file(file, LoadOptions()), file)
    count = sum(one.numel() for one in model.parameters())
    return Reading("timm", tag.partition(".")[0], found.config, found.images, count)


@functools.cache
def read_open_clip(name: str, tag: str) -> Reading:
    """A model of open_clip, with the open_clip_config.json that it writes for the hub. Raises InputError."""
    import open_clip
    from open_clip import model as models
    from open_clip.pretrained import get_pretrained_cfg

    config, told = open_clip.get_model_config(name), get_pretrained_cfg(name, tag)
    images = {"mean": told["mean"], "std": told["std"], "interpolation": told["interpolation"]}
    images |= {"resize_mode": told["resize_mode"], "size": config["vision_cfg"]["image_size"]}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        described = {"model_cfg": config, "preprocess_cfg": images}
        (folder / "open_clip_config.json").write_text(json.dumps(described))
        fields = json.loads(json.dumps(config))
        kind = models.CustomTextCLIP if fields.pop("custom_text", False) else models.CLIP
        with torch.device("meta"):
            model = kind(**fields)
        file = Shapes(folder / "open_clip_model.safetensors", shapes_of(model))
        found = _checked(read_open_clip_file(file, LoadOptions()), file)
    return Reading("open_clip", name, found.config, found.images)


@functools.cache
def read_hf(source: str) -> Reading:
    """A model of transformers, with the config.json and preprocessor_config.json of the hub. Raises InputError."""
    import transformers

    kind, fields, images = _HF[source.removeprefix("hf:")]
    described = getattr(transformers, f"{kind}Config")(**fields)
    model_class = "CLIPModel" if kind == "CLIP" else f"{kind}Model"
    with torch.device("meta"):
        model = getattr(transformers, model_class)(described)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = {**described.to_dict(), "architectures": [model_class]}
        (folder / "config.json").write_text(json.dumps(config, default=str))
        (folder / "preprocessor_config.json").write_text(json.dumps(images))
        file = Shapes(folder / "model.safetensors", shapes_of(model))
        options = LoadOptions(headless=True) if kind != "CLIP" else LoadOptions()
        found = _checked(read_hf_file(file, options), file)
    return Reading("transformers", source.partition("/")[2], found.config, found.images)


def read_google(tag: str) -> Reading:
    """A file of Google's, whose arrays are those of our writer's. Raises InputError."""
    row = find_checkpoint(tag)
    size = (row.resolution, row.resolution)
    config = _at(configure(row.model), size)
    if row.classes is not None and not isinstance(config, LiTConfig):
        config = change(config, classes=row.classes)
    model = build(config, device="meta")
    shapes = {
        name: slot.foreign_shape(tuple(model.get_parameter(slot.parameter).shape))
        for name, slot in jax_slots(config).items()
    }
    if isinstance(config, LiTConfig) and config.image.attention_pool:  # big_vision's name
        shapes["img/pos_embedding"] = shapes.pop("img/Transformer/posembed_input/pos_embedding")
    told = infer_config(shapes, image_size=size)
    if told != config:
        raise UnreadError(f"the arrays of {tag} are read as another model")
    return Reading("google", f"{row.model}@{row.resolution}", config)


def _at(config: ModelConfig, size: tuple[int, int]) -> ModelConfig:
    """`config` for images of this size, whose edge may fill no patch."""
    if isinstance(config, LiTConfig):
        return change(config, image=_at(config.image, size).model_dump())
    try:
        return change(config, image_size=size)
    except ConfigError:
        return change(config, image_size=size, unseen_edge=True)


# What config.json and preprocessor_config.json of these models have on the hub, beside the defaults of transformers.
_CUT = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True}
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3}
_BIT = {"image_processor_type": "BitImageProcessor", "do_resize": True, "do_rescale": True, **_CUT, **_IMAGENET}
_BIT |= {"rescale_factor": 1 / 255, "do_normalize": True}
_V3 = {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 224, "width": 224}, **_IMAGENET}
_V3 |= {"resample": 2, "do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}


def _sizes(width: int, depth: int, heads: int, **more: Any) -> dict[str, Any]:
    return {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads, **more}


_DINOV2 = {"small": _sizes(384, 12, 6), "base": _sizes(768, 12, 12), "large": _sizes(1024, 24, 16)}
_DINOV2 |= {"giant": _sizes(1536, 40, 24, use_swiglu_ffn=True)}
_GATED = {"use_gated_mlp": True, "hidden_act": "silu"}
_DINOV3 = {
    "vits16": _sizes(384, 12, 6, intermediate_size=1536),
    "vits16plus": _sizes(384, 12, 6, intermediate_size=1536, **_GATED),
    "vitb16": _sizes(768, 12, 12, intermediate_size=3072),
    "vitl16": _sizes(1024, 24, 16, intermediate_size=4096),
    "vith16plus": _sizes(1280, 32, 20, intermediate_size=5120, **_GATED),
    "vit7b16": _sizes(4096, 40, 32, intermediate_size=8192, query_bias=False, value_bias=False, **_GATED),
}


def _clip(side: int, patch: int, large: bool) -> tuple[str, dict[str, Any], dict[str, Any]]:
    image = _sizes(1024, 24, 16, intermediate_size=4096) if large else _sizes(768, 12, 12, intermediate_size=3072)
    text = _sizes(768, 12, 12, intermediate_size=3072) if large else _sizes(512, 12, 8, intermediate_size=2048)
    fields = {
        "vision_config": {**image, "patch_size": patch, "image_size": side},
        "text_config": {**text, "eos_token_id": 2},
        "projection_dim": 768 if large else 512,
    }
    images = {"feature_extractor_type": "CLIPFeatureExtractor", "size": side, "crop_size": side, "resample": 3}
    images |= {"do_resize": True, "do_center_crop": True, "do_normalize": True}
    images |= {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    return "CLIP", fields, images


_HF = {
    "openai/clip-vit-base-patch32": _clip(224, 32, False),
    "openai/clip-vit-base-patch16": _clip(224, 16, False),
    "openai/clip-vit-large-patch14": _clip(224, 14, True),
    "openai/clip-vit-large-patch14-336": _clip(336, 14, True),
}
_V2 = {"image_size": 518, "patch_size": 14}
_HF |= {f"facebook/dinov2-{name}": ("Dinov2", {**size, **_V2}, _BIT) for name, size in _DINOV2.items()}
_HF |= {
    f"facebook/dinov2-with-registers-{name}": ("Dinov2WithRegisters", {**size, **_V2, "num_register_tokens": 4}, _BIT)
    for name, size in _DINOV2.items()
}
_HF |= {
    f"facebook/dinov3-{name}-pretrain-lvd1689m": ("DINOv3ViT", {**size, "num_register_tokens": 4}, _V3)
    for name, size in _DINOV3.items()
}
