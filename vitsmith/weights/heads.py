"""What the outputs of a checkpoint mean, where its format does not say: by the file's name and the head's arrays."""

from __future__ import annotations

import math

from vitsmith.models.build import Model
from vitsmith.models.config import LiTConfig
from vitsmith.specs import Head
from vitsmith.weights.augreg import augreg_head

IMAGENET_21K = 21_843
"""Classes of ImageNet-21k as Google's models know it. Those with a head of so many were trained by a sigmoid loss:
`config.loss` in vit_i21k.py and bit_i21k.py of big_vision's configurations."""
MANY = 100
"""Classes from which on the biases tell."""


def assumed_head(model: Model, name: str) -> tuple[Head, tuple[str, ...]]:
    """What its outputs most probably mean, and what the user should know of that. `name` is the file's.

    A loss for each class by itself drives biases towards the odds of one class, about -log(classes). Softmax does not
    see what all biases have in common, so that it stays where it began, at 0.
    """
    classes = 0 if isinstance(model.config, LiTConfig) else model.config.classes
    known = augreg_head(name) if classes else "softmax"
    if known == "sigmoid":
        return known, ("its name is that of AugReg's pre-training, which was by a sigmoid: each class is judged alone",)
    if known is not None:
        return known, ()
    if classes == IMAGENET_21K:
        return "sigmoid", (
            f"it has the {classes:,} classes of ImageNet-21k, on which pre-training was by a sigmoid: each class is "
            f"judged alone; if yours was trained by softmax, {_say('softmax')}",
        )
    if classes < MANY:
        return "softmax", ()
    mean = float(model.get_parameter("head.bias").detach().double().mean())
    if mean < -math.log(classes) / 2:
        return "softmax", (
            f"read as softmax, though the biases of its head are {mean:.1f} on average, as training of each class by "
            f"itself (sigmoid, binary cross-entropy) leaves them: if it was trained so, {_say('sigmoid')}",
        )
    return "softmax", ()


def _say(head: Head) -> str:
    return f"say dataclasses.replace(bundle, head={head!r}), then vs.save"
