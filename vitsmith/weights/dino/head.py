"""The linear classifiers that the authors of DINOv2 and DINOv3 publish beside their models, in files of their own.

Source: hub/classifiers.py of facebookresearch/dinov2 and facebookresearch/dinov3.
"""

from __future__ import annotations

import re
from pathlib import Path

from vitsmith.data.text.class_lists import class_list, list_of_size
from vitsmith.errors import WeightsError
from vitsmith.models.config import ViTConfig
from vitsmith.specs import Labels
from vitsmith.weights.containers.tensors import TorchFile
from vitsmith.weights.dino.names import SAME
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.layouts import Slot

WEIGHT, BIAS = "weight", "bias"
HEAD_SLOTS = {WEIGHT: Slot("head.weight", SAME), BIAS: Slot("head.bias", SAME)}
_PUBLISHED = re.compile(r"(\w+?)(_imagenet1k)?_linear(4?)_head(-[0-9a-f]{8})?\.pth")
"""Names of heads: that of the model, and 4 for those that see the last four blocks."""


def is_head(file: ArrayFile) -> bool:
    """Whether it is a head alone, without its model."""
    return file.shapes.keys() == {WEIGHT, BIAS} and _PUBLISHED.fullmatch(file.path.name) is not None


def head_beside(model: Path) -> TorchFile | None:
    """The open head that lies beside a model under its published name; None if there is none.

    Raises WeightsError if there is only one for the last four blocks.
    """
    stem = model.name.partition("_pretrain")[0]
    beside = [(one, match) for one in sorted(model.parent.iterdir()) if (match := _PUBLISHED.fullmatch(one.name))]
    heads = [(one, match[3]) for one, match in beside if match[1] == stem]
    for path, blocks in heads:
        if not blocks:
            return TorchFile(path)
    if heads:
        raise WeightsError(
            f"{heads[0][0]}: a head for the class tokens of the last four blocks, which vitsmith's models do not give: "
            f"put {stem}_linear_head.pth beside {model.name}, or use load(..., headless=True) for features"
        )
    return None


def classes_of(head: TorchFile, config: ViTConfig) -> int:
    """The number of classes. Raises WeightsError for a head of another model."""
    shape = head.shapes.get(WEIGHT, ())
    if head.shapes.keys() != {WEIGHT, BIAS} or len(shape) != 2 or shape[1] != 2 * config.width:
        raise WeightsError(
            f"{head.path}: not a head for the class token and the mean of the patches of a model {config.width} wide"
        )
    return shape[0]


def head_labels(classes: int) -> Labels | None:
    """The names of ImageNet-1k's classes, on which all published heads were trained."""
    return Labels(names=class_list("imagenet-1k")) if list_of_size(classes) == "imagenet-1k" else None
