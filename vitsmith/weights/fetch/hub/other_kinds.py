"""What a repository of the hub is when it is no vision transformer: told by its files, before weights are fetched."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from vitsmith.errors import shown


@dataclass(frozen=True)
class OtherKind:
    """A kind of repository that is not read."""

    files: str
    """A pattern of the names of files that mark it."""
    what: str
    """What to say of it, and what to do."""

    def marks(self, names: Collection[str]) -> bool:
        return any(re.fullmatch(self.files, name, re.IGNORECASE) for name in names)


_INSTEAD = ": look for a repository that has the model as .safetensors"
ALWAYS = (
    OtherKind(r"model_index\.json", "a diffusion pipeline (model_index.json), not a vision transformer"),
    OtherKind(r"bundle\.json", "a bundle of vitsmith: fetch it first:  {by_hand}"),
)
"""Kinds whose own file tells them, whatever lies beside it."""
WITHOUT_WEIGHTS = (
    OtherKind(
        r"adapter_config\.json",
        "is an adapter alone (PEFT), which changes another model: merge it into that model first",
    ),
    OtherKind(r".*\.gguf", f"has its model as GGUF alone, for llama.cpp{_INSTEAD}"),
    OtherKind(r"(.*/)?openvino_.*\.(xml|bin)", f"has its model as OpenVINO alone{_INSTEAD}"),
    OtherKind(r".*\.onnx", f"has its model as ONNX alone{_INSTEAD}"),
    OtherKind(
        r"(.*/)?(saved_model\.pb|.*\.h5|.*\.keras|.*\.ckpt\.index)", f"has its model for TensorFlow alone{_INSTEAD}"
    ),
    OtherKind(r".*\.msgpack", f"has its model for Flax alone{_INSTEAD}"),
    OtherKind(r".*\.tflite", f"has its model for TensorFlow Lite alone{_INSTEAD}"),
    OtherKind(r".*\.ml(model|package)(/.*)?", f"has its model for Core ML alone{_INSTEAD}"),
)
"""What a repository without weights that vitsmith reads has in their place; the first that fits is told."""


def another_kind(names: Collection[str]) -> str | None:
    """What a repository with files of these names is, whatever else it has; None if it may be a model we read."""
    return next((kind.what for kind in ALWAYS if kind.marks(names)), None)


def without_weights(names: Collection[str]) -> str:
    """What a repository with files of these names is or has, where none of them holds weights that vitsmith reads."""
    listed = ", ".join(sorted(names)[:4]) + (", ..." if len(names) > 4 else "")
    usual = f"has no weights that vitsmith reads: it has {listed or 'nothing'}"
    return next((kind.what for kind in WITHOUT_WEIGHTS if kind.marks(names)), usual)


TIMM = (
    *("vit_", "deit", "beit", "eva", "mixer_", "gmixer_", "gmlp_", "resmlp_", "flexivit_", "naflexvit_", "samvit_"),
    *("aimv2_", "test_vit"),
)
"""Beginnings of the architectures in timm 1.0.31's modules vision_transformer, vision_transformer_hybrid, _relpos and
_sam, naflexvit, deit, beit, eva and mlp_mixer, and of none in its other modules."""
_MOBILE_CLIP = "vit_base_mci_"
_CONVOLUTIONAL = re.compile(
    r"(gluon_|tf_|legacy_|ssl_|swsl_|adv_|ens_adv_|dm_|eca_|ese_|ig_|test_)*"
    r"(resne|wide_resnet|se_?res|seres|ecares|skres|convnext|efficientnet|mobilenet|mnasnet|regnet|densenet|vgg|"
    r"inception|xception|nfnet|nf_|bat_res|dpn|dla|hrnet|vovnet|rexnet|ghostnet|hgnet|cspres|cspdark|cs3|darknet|"
    r"lcnet|tinynet|spnasnet|fbnet|mixnet|nasnet|pnasnet|repvgg|res2net|selecsls|tresnet|starnet|rdnet|edgenext|"
    r"semnasnet|hardcorenas|repghost|fasternet|convmixer|focalnet|mambaout)"
)
HF = (
    *("vit", "vit_mae", "vit_msn", "vit-hybrid", "deit", "beit", "data2vec-vision", "ijepa", "dinov2", "dinov3_vit"),
    *("dinov2_with_registers", "clip", "clip_vision_model", "chinese_clip", "chinese_clip_vision_model", "altclip"),
    *("altclip_vision_model", "metaclip_2", "metaclip_2_vision_model", "mlcd_vision_model", "siglip", "siglip2"),
    *("siglip_vision_model", "siglip2_vision_model", "aimv2", "aimv2_vision_model", "tipsv2", "tipsv2_vision_model"),
    *("vision-text-dual-encoder", "timm_wrapper"),
)
"""`model_type` of transformers' models that hold a vision transformer; whether one is read, its arrays decide."""


def other_architecture(config: Mapping[str, Any]) -> str:
    """What a config.json of timm or transformers describes, if it is no vision transformer or Mixer; '' otherwise."""
    architecture, kind = config.get("architecture"), config.get("model_type")
    if isinstance(architecture, str) and architecture.startswith(_MOBILE_CLIP):
        return f"{architecture} of timm, which has a convolutional front"
    if isinstance(architecture, str) and not architecture.startswith(TIMM):
        what = "a convolutional network" if _CONVOLUTIONAL.match(architecture) else "no plain vision transformer"
        return f"{architecture} of timm, {what}"
    if isinstance(kind, str) and not isinstance(architecture, str) and kind not in HF:
        return f"a model of type {kind!r} of transformers, no plain vision transformer"
    return ""


def other_towers(model: Mapping[str, Any]) -> str:
    """What the `model_cfg` of an open_clip_config.json describes, if it is no pair of transformers; '' otherwise."""
    image, text = (found if isinstance(found := model.get(name), dict) else {} for name in ("vision_cfg", "text_cfg"))
    trunk, name = image.get("timm_model_name"), text.get("hf_model_name")
    if model.get("multimodal_cfg"):
        return "a CoCa of open_clip, with a decoder that writes captions (multimodal_cfg)"
    if isinstance(name, str) and name:
        return f"a model of open_clip whose text tower is {shown(name)} of transformers (hf_model_name)"
    if isinstance(trunk, str) and (told := other_architecture({"architecture": trunk})):
        return f"a model of open_clip whose image tower is {told}"
    if isinstance(image.get("layers"), list) and not trunk:
        return "a model of open_clip whose image tower is a ResNet, a convolutional network"
    return ""


def other_model(config: Mapping[str, Any]) -> str:
    """What a config.json or open_clip_config.json describes, if it is no vision transformer or Mixer; '' otherwise."""
    model = config.get("model_cfg")
    return other_towers(model) if isinstance(model, dict) else other_architecture(config)
