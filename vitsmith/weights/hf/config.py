"""HF's `config.json` of a ViT: the configuration it stands for, and the labels."""

from __future__ import annotations

import re
from typing import Annotated, Any

from vitsmith.errors import WeightsError, shown
from vitsmith.fields import Number, Pixels
from vitsmith.models.config import Depth, Eps, Hidden, ViTConfig, Width
from vitsmith.models.configure import parse_config
from vitsmith.specs import Head, Labels
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.hf.names import prefix_of
from vitsmith.weights.metadata import Metadata, class_names
from vitsmith.weights.unsupported import check_channels, refuse_unsupported

Size = Pixels | tuple[Pixels, Pixels]

_HEADS: dict[str, Head] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "regression",
}
"""The meaning of the outputs for each `problem_type`."""
_GELUS = {"gelu": "erf", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


class HFConfig(Metadata):
    """Fields and defaults of transformers' ViTConfig (models/vit/configuration_vit.py)."""

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


def infer_hf_config(file: ArrayFile, metadata: HFConfig) -> ViTConfig:
    """The configuration of a ViTForImageClassification, or of a bare ViTModel, which has no classes.

    A bare model's pooler, a linear layer and tanh, is our `representation`. Raises WeightsError for what our models do
    not have, naming it.
    """
    if metadata.model_type != "vit":
        raise WeightsError(f"{file.path}: model_type {metadata.model_type!r} is not supported, only 'vit' is")
    other = [name for name in metadata.architectures if not name.startswith("ViT")]
    if other:
        raise WeightsError(
            f"{file.path}: architecture {shown(other[0])} in its config.json is not supported, only ViT is"
        )
    refuse_unsupported(file)
    for field, supported in (("qkv_bias", True), ("num_channels", 3), ("pooler_act", "tanh")):
        if getattr(metadata, field) != supported:
            raise WeightsError(
                f"{file.path}: {field} {getattr(metadata, field)!r} is not supported, only {supported!r} is"
            )
    if metadata.hidden_act not in _GELUS:
        raise WeightsError(
            f"{file.path}: activation {metadata.hidden_act!r} is not supported, known are {', '.join(_GELUS)}"
        )
    prefix = prefix_of(set(file.shapes))
    check_channels(file, f"{prefix}embeddings.patch_embeddings.projection.weight")
    pooler = file.shapes.get(f"{prefix}pooler.dense.weight")
    config: ViTConfig = parse_config(
        {
            "family": "vit",
            "width": metadata.hidden_size,
            "depth": metadata.num_hidden_layers,
            "heads": metadata.num_attention_heads,
            "mlp_width": metadata.intermediate_size,
            "patch": _pair(metadata.patch_size),
            "image_size": _pair(metadata.image_size),
            "classes": file.shapes["classifier.weight"][0] if "classifier.weight" in file.shapes else 0,
            "representation": pooler[0] if pooler and "classifier.weight" not in file.shapes else None,
            "gelu": _GELUS[metadata.hidden_act],
            "norm_eps": metadata.layer_norm_eps,
        }
    )
    return config


def unsaid(metadata: HFConfig) -> tuple[str, ...]:
    """Notes on what no array shows and config.json leaves out, for the user to check."""
    fields = ("num_attention_heads", "hidden_act", "layer_norm_eps")
    left_out = [field for field in fields if field not in metadata.model_fields_set]
    if not left_out:
        return ()
    taken = ", ".join(f"{field} {getattr(metadata, field)}" for field in left_out)
    return (f"config.json does not have {', '.join(left_out)}: HF's defaults were used ({taken})",)


def hf_head(metadata: HFConfig, classes: int, source: str) -> tuple[Head, tuple[str, ...]]:
    """Returns what the outputs mean, and a note if only their number shows it.

    Without a problem type transformers trains one output by mean squared error, as a regression, and several by
    cross-entropy (loss/loss_utils.py, `ForSequenceClassificationLoss`). Raises WeightsError for an unknown type.
    """
    kind = metadata.problem_type
    if kind is None and classes == 1:
        return "regression", ("config.json has no problem_type: its one output is read as regression, as HF does",)
    if kind is not None and (not isinstance(kind, str) or kind not in _HEADS):
        raise WeightsError(f"{source}: problem_type {kind!r} in config.json is unknown, known are {', '.join(_HEADS)}")
    return "softmax" if kind is None else _HEADS[kind], ()


def hf_labels(metadata: HFConfig, source: str) -> Labels | None:
    """The class names of `id2label` in the order of the logits; None for the placeholders LABEL_0, LABEL_1, ..."""
    names = class_names(metadata.id2label, f"{source}: in the config.json beside it, id2label")
    if names is None or all(re.fullmatch(r"LABEL_\d+", name) for name in names):
        return None
    return Labels.as_found(names)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
