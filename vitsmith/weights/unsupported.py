"""Features of other libraries' ViTs and Mixers that ours do not have, recognised by names and shapes of arrays."""

from __future__ import annotations

import re

from vitsmith.errors import WeightsError
from vitsmith.weights.fill import ArrayFile

_PATCH_NORM = r"^(patch_embed|stem)\.norm\."

# Patterns of array names in timm (models/vision_transformer.py, deit.py, beit.py, eva.py, mlp_mixer.py) and in HF
# (models/vit, deit, dinov2 and beit), the most telling first: a model that has several is refused for the first.
FEATURES = {
    r"distillation_": "a distillation token in HF's names (timm's are read)",
    r"register_tokens": "register tokens in HF's names (timm's are read)",
    r"rope\.freqs": "rotary position embeddings that are learned",
    r"relative_position|rel_pos": "relative position biases",
    r"patch_embed\.backbone\.(?!(stem\.)?(conv|norm)\.|stages\.)": "a convolutional front other than the hybrids'",
    _PATCH_NORM: "a norm after the patch embedding",
    r"\.(layer_scale[12]\.lambda1|lambda_[12])$": "LayerScale in HF's names (timm's is read)",
    r"\.attn\.lambda_": "differential attention",
    r"\.attns\.": "parallel branches",
    r"^blocks\.\d+\.in_proj\.": "attention and MLP side by side",
    r"\.mlp\.(w12|w3|weights_in|gate_proj)\.": "a gated MLP (SwiGLU) in other names than timm's",
    r"\.mlp_channels\.gate\.": "spatial gating (gMLP)",
    r"\.linear_tokens\.": "affine layers for norms (ResMLP)",
    r"mask_token|decoder": "the decoder of masked pre-training",
}


def refuse_unsupported(file: ArrayFile, *, rms_norm: bool = False) -> None:
    """Raises WeightsError, naming feature and array, when our models cannot compute what the file holds.

    `rms_norm` says that the norms, one of the patches among them, are known to be RMSNorm, which no array shows.
    """
    for pattern, feature in FEATURES.items():
        if rms_norm and pattern == _PATCH_NORM:
            continue
        found = [name for name in file.shapes if re.search(pattern, name)]
        if found:
            raise WeightsError(f"{file.path}: {feature}, as in {found[0]!r}, is not supported")
    for name in () if rms_norm else file.shapes:
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and layer.endswith(".norm1") and f"{layer}.bias" not in file.shapes:
            raise WeightsError(f"{file.path}: norms without bias (RMSNorm), as in {name!r}, are not supported")


def check_channels(file: ArrayFile, name: str) -> None:
    """Raises WeightsError unless the patch embedding `name`, (width, channels, height, width), takes RGB."""
    shape = file.shapes[name]
    if len(shape) != 4 or shape[1] != 3:
        raise WeightsError(f"{file.path}: {name!r} takes {shape[1]} input channels; vitsmith's models take RGB images")
