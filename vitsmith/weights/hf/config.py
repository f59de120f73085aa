"""The configuration that an HF model's `config.json` and arrays stand for."""

from __future__ import annotations

from typing import Any

from vitsmith.errors import WeightsError, shown
from vitsmith.models.config import ViTConfig, indivisible
from vitsmith.models.configure import parse_config
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.hf.model_types import GELUS, HFConfig
from vitsmith.weights.hf.names import HEADS, HFNaming
from vitsmith.weights.unsupported import check_channels


def infer_hf_config(file: ArrayFile, metadata: HFConfig, naming: HFNaming, prefix: str) -> ViTConfig:
    """The configuration of a classifier, or of a bare model, which has no classes, at the size of `config.json`.

    A bare ViTModel's pooler, a linear layer and tanh, is our `representation`. Raises WeightsError for what our models
    do not have, naming it.
    """
    _check(file, metadata)
    check_channels(file, f"{prefix}{naming.patches}.weight")
    heads = [file.shapes[f"{head}.weight"] for head in HEADS if f"{head}.weight" in file.shapes]
    pooler = file.shapes.get(f"{prefix}pooler.dense.weight")
    size, patch = _pair(metadata.image_size), _pair(metadata.patch_size)
    config: ViTConfig = parse_config(
        {
            "family": "vit",
            "width": metadata.hidden_size,
            "depth": metadata.num_hidden_layers,
            "heads": metadata.num_attention_heads,
            "mlp_width": metadata.intermediate_size,
            "patch": patch,
            "image_size": size,
            "unseen_edge": metadata.unseen_edge and bool(indivisible(size, patch)),
            "classes": heads[0][0] if heads else 0,
            "representation": pooler[0] if pooler and not heads else None,
            "gelu": metadata.gelu,
            "norm_eps": metadata.layer_norm_eps,
            **metadata.parts(frozenset(file.shapes)),
        }
    )
    return config


def _check(file: ArrayFile, metadata: HFConfig) -> None:
    """Raises WeightsError for a class or activation that is not read."""
    begin = metadata.classes_begin
    other = [name for name in metadata.architectures if not name.startswith(begin)]
    if other:
        raise WeightsError(
            f"{file.path}: architecture {shown(other[0])} in its config.json is not supported, of "
            f"{metadata.model_type!r} only {begin} is"
        )
    for field, supported in (("num_channels", 3), ("pooler_act", "tanh")):
        if getattr(metadata, field) != supported:
            raise WeightsError(
                f"{file.path}: {field} {getattr(metadata, field)!r} is not supported, only {supported!r} is"
            )
    if metadata.gelu is None:
        known = "silu, because its MLP is gated" if metadata.gated else ", ".join(GELUS)
        raise WeightsError(f"{file.path}: activation {metadata.hidden_act!r} is not supported, known are {known}")


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
