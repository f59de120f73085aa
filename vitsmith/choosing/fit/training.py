"""How a model is trained on a device of so many bytes: micro-batch, accumulation, checkpointing, and hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from vitsmith.amounts import bytes_text, duration_text
from vitsmith.choosing.fit.inference import RESERVE, Device
from vitsmith.errors import InputError
from vitsmith.models.config import LiTConfig, ModelConfig
from vitsmith.training.memory.plan import MemoryPlan, plan_memory
from vitsmith.training.recipes.file import lay_over, parse_recipe, read_recipe

_FORWARD, _RECOMPUTED = 3, 4
"""An update's arithmetic in forward passes: one, and twice as much back (arXiv 2204.02311 B); with checkpointing one
more."""


@dataclass(frozen=True)
class TrainingFit:
    """How `train` would cut a batch on the device. All of it is predicted."""

    memory: int
    """Bytes of the device."""
    plan: MemoryPlan
    precision: str
    images: int
    """Images to be learned from in all, every pass counted."""
    seconds: float | None
    """Of updates; None where no time of the device is known."""

    def __str__(self) -> str:
        plan = self.plan
        cut = "on" if plan.checkpointing else "off"
        time = (
            "no time: the device is not here, give its profile"
            if self.seconds is None
            else f"{self.images:,} images take about {duration_text(self.seconds)}, {self._passes} forward passes each"
        )
        return (
            f"training in {self.precision}: micro-batch {plan.micro} x {plan.accumulate}, checkpointing {cut}, "
            f"{bytes_text(plan.predicted)} of {bytes_text(self.memory)}, predicted; {time}"
        )

    @property
    def _passes(self) -> int:
        return _RECOMPUTED if self.plan.checkpointing else _FORWARD

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; bytes and seconds."""
        plan = self.plan
        return {
            "memory": self.memory,
            "predicted": plan.predicted,
            "parts": dict(plan.parts),
            "micro_batch": plan.micro,
            "accumulate": plan.accumulate,
            "checkpointing": plan.checkpointing,
            "precision": self.precision,
            "images": self.images,
            "seconds": self.seconds,
        }


def training_fit(
    config: ModelConfig,
    memory: int,
    *,
    recipe: str = "finetune",
    precision: str = "fp32",
    device: Device = "gpu",
    images: int = 0,
    seconds_per_image: float | None = None,
) -> TrainingFit:
    """How a run of `recipe` fits into nine tenths of `memory` bytes, by the planner of `train`.

    `seconds_per_image` is of a forward pass on the device, as `predict_cost` gives it; then the time of `images` is
    told. Raises InputError where it does not fit, saying what would help, and for two towers.
    """
    if isinstance(config, LiTConfig):
        raise InputError(
            "a model of two towers is trained by `lit`, which has no plan of its memory: give its image tower"
        )
    fields = {"data": {"path": "digits"}, "model": {"name": "ViT-Ti_16"}, "run": {"precision": precision}}
    wanted = parse_recipe(lay_over(read_recipe(recipe), fields))
    kind = torch.device("cuda" if device == "gpu" else "cpu")
    plan = plan_memory(config, wanted, device=kind, available=int(memory * (1 - RESERVE)), built=False)
    passes = _RECOMPUTED if plan.checkpointing else _FORWARD
    seconds = None if seconds_per_image is None else images * passes * seconds_per_image
    return TrainingFit(memory, plan, precision, images, seconds)
