"""The head of a checkpoint: whether it was trained, and what its outputs mean if the format does not say it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vitsmith.errors import WeightsError
from vitsmith.models.build import Model
from vitsmith.models.config import LiTConfig
from vitsmith.specs import Head
from vitsmith.weights.fetch.augreg import augreg_head
from vitsmith.weights.layouts import Slot

IMAGENET_21K = 21_843
"""Classes of ImageNet-21k in Google's models. Those with so many classes were trained with a sigmoid loss:
`config.loss` in vit_i21k.py and bit_i21k.py of big_vision's configurations."""
MANY = 100
"""Number of classes from which the biases show the loss."""
_HEADS = ("head.weight", "distillation_head.weight")


FEATURES = "there is no classifier head in this file: the model gives its features"


def check_head(model: Model, slots: Mapping[str, Slot], source: str, *, may_lack: bool) -> None:
    """Raises WeightsError when a classifier is absent or all zeros: its answers would mean nothing.

    `slots` has the names of its arrays in `source`; `may_lack`: an absent one is no mistake.
    """
    if isinstance(model.config, LiTConfig) or (may_lack and not model.config.classes):
        return
    hint = "load(..., headless=True) for features, or init_for_finetune() for a new head"
    if not model.config.classes:
        raise WeightsError(
            f"{source}: there is no classifier head in this file: give it one with  vitsmith train  , or use {hint}"
        )
    for name, slot in slots.items():
        if slot.parameter in _HEADS and not model.get_parameter(slot.parameter).any():
            raise WeightsError(f"{source}: {name!r} is all zeros (a head that was never trained): use {hint}")


def assumed_head(model: Model, name: str) -> tuple[Head, tuple[str, ...]]:
    """Returns what the outputs most probably mean, and notes for the user. `name` is the file's name.

    A sigmoid loss drives the biases towards the log odds of one class, about -log(classes). Softmax ignores a shift of
    all biases together, so that their mean stays where it began, at 0.
    """
    classes = 0 if isinstance(model.config, LiTConfig) else model.config.classes
    known = augreg_head(name) if classes else "softmax"
    if known == "sigmoid":
        return known, ("by its name AugReg pre-trained it with a sigmoid loss: each class is scored by itself",)
    if known is not None:
        return known, ()
    if classes == IMAGENET_21K:
        return "sigmoid", (
            f"it has the {classes:,} classes of ImageNet-21k, where pre-training used a sigmoid loss: each class is "
            f"scored by itself; if yours was trained with softmax, {_say('softmax')}",
        )
    if classes < MANY:
        return "softmax", ()
    biases = dict(model.named_parameters()).get("head.bias")
    mean = 0.0 if biases is None else float(biases.detach().double().mean())
    if mean < -math.log(classes) / 2:
        return "softmax", (
            f"read as softmax, but the biases of its head are {mean:.1f} on average, as after training with a sigmoid "
            f"loss (binary cross-entropy): if it was trained so, {_say('sigmoid')}",
        )
    return "softmax", ()


def _say(head: Head) -> str:
    return f"use dataclasses.replace(bundle, head={head!r}), then vs.save"
