"""Features of other libraries' ViTs and Mixers that ours do not have, recognised by names and shapes of arrays."""

from __future__ import annotations

import re

from vitsmith.errors import WeightsError
from vitsmith.weights.fill import ArrayFile

# Patterns of array names in timm (models/vision_transformer.py, deit.py, beit.py, eva.py, mlp_mixer.py) and in HF
# (models/vit, deit, dinov2 and beit), the most telling first: a model that has several is refused for the first.
FEATURES = {
    r"distillation_": "a distillation token in HF's names (timm's are read)",
    r"reg_tokens?$|register_tokens": "register tokens",
    r"norm_pre\.": "a norm before the blocks (CLIP)",
    r"attn_pool\.": "attention pooling",
    r"rope\.": "rotary position embeddings",
    r"relative_position|rel_pos": "relative position biases",
    r"patch_embed\.backbone\.": "a convolutional front (the hybrids are read from Google's .npz)",
    r"(patch_embed|stem)\.norm\.": "a norm after the patch embedding",
    r"\.(ls[12]\.gamma|gamma_[12]|layer_scale[12]\.lambda1|lambda_[12])$": "LayerScale",
    r"\.attn\.[qk]_norm\.": "normalised queries and keys",
    r"\.attn\.([qv]_bias|[qkv]_proj\.)": "separate projections of query, key and value (EVA, BEiT)",
    r"\.(attn|mlp)\.norm\.": "norms inside attention or the MLP",
    r"\.attns\.": "parallel branches",
    r"\.mlp\.(w12|w3|fc1_[gx]|weights_in|gate_proj)\.": "a gated MLP (SwiGLU)",
    r"\.mlp_channels\.gate\.": "spatial gating (gMLP)",
    r"\.linear_tokens\.": "affine layers for norms (ResMLP)",
    r"mask_token|decoder": "the decoder of masked pre-training",
}


def refuse_unsupported(file: ArrayFile) -> None:
    """Raises WeightsError, naming feature and array, when our models cannot compute what the file holds."""
    for pattern, feature in FEATURES.items():
        found = [name for name in file.shapes if re.search(pattern, name)]
        if found:
            raise WeightsError(f"{file.path}: {feature}, as in {found[0]!r}, is not supported")
    for name, shape in file.shapes.items():
        layer, _, kind = name.rpartition(".")
        if kind != "weight":
            continue
        if layer.endswith((".qkv", ".query", ".q_proj")) and f"{layer}.bias" not in file.shapes:
            raise WeightsError(f"{file.path}: queries, keys and values without bias, as in {name!r}, are not supported")
        narrow = file.shapes.get(f"{layer[:-1]}2.weight")
        if layer.endswith(".fc1") and narrow and shape[0] == 2 * narrow[-1]:
            raise WeightsError(f"{file.path}: a gated MLP, as in {name!r}, is not supported")


def check_channels(file: ArrayFile, name: str) -> None:
    """Raises WeightsError unless the patch embedding `name`, (width, channels, height, width), takes RGB."""
    shape = file.shapes[name]
    if len(shape) != 4 or shape[1] != 3:
        raise WeightsError(f"{file.path}: {name!r} takes {shape[1]} input channels; vitsmith's models take RGB images")
