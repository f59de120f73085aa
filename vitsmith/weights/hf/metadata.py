"""What HF's `config.json` says about outputs: the labels, and what the outputs mean."""

from __future__ import annotations

import re

from vitsmith.errors import WeightsError
from vitsmith.specs import Head, Labels
from vitsmith.weights.hf.model_types import HFConfig
from vitsmith.weights.metadata import Metadata, class_names

_HEADS: dict[str, Head] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "regression",
}
"""The meaning of the outputs for each `problem_type`."""


def unsaid(metadata: Metadata, where: str = "config.json") -> tuple[str, ...]:
    """Notes on what no array shows and config.json leaves out, for the user to check. `where` its fields should be."""
    fields = ("num_attention_heads", "hidden_act", "layer_norm_eps")
    left_out = [field for field in fields if field not in metadata.model_fields_set]
    if not left_out:
        return ()
    taken = ", ".join(f"{field} {getattr(metadata, field)}" for field in left_out)
    return (f"{where} does not have {', '.join(left_out)}: HF's defaults were used ({taken})",)


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
