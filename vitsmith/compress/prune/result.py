"""The result of pruning: each stage's accuracy and size, the speed, and whether the gate passes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitsmith.compress.prune.sizes import describe_sizes
from vitsmith.compress.result import Result, bounds_to_dict, speeds_to_dict, write_result
from vitsmith.evaluation.scores import Scores
from vitsmith.evaluation.speed import Speedup
from vitsmith.gate import Measured, Paired, Requirements, failures, refusal
from vitsmith.machine import describe_machine
from vitsmith.models.config import ImageModelConfig, LiTConfig
from vitsmith.runs.run import Run
from vitsmith.training.monitor.events import Event
from vitsmith.training.monitor.metrics_file import row_of
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.weights.bundle.bundle import Bundle

BATCH = 16
"""Batch size at which throughput is measured."""


REQUIRED = Requirements(accuracy_drop=1.0, agreement=0.99, speedup=1.05)
"""Requirements of a pruned model: accuracy with labels, else agreement."""


@dataclass(frozen=True, eq=False)
class PruningStage:
    """A stage of the model, and its scores on the evaluation images."""

    name: str
    scores: Scores
    right: NDArray[np.bool_]
    """(readable images,) which images it classifies correctly, in order."""
    parameters: int
    gflops: float

    @property
    def mib(self) -> float:
        """Size of its float32 weights, in MiB."""
        return self.parameters * 4 / 2**20


@dataclass(frozen=True, eq=False, repr=False)
class Pruned(Result):
    """The result of pruning."""

    stages: tuple[PruningStage, ...]
    """The original, the pruned model, and the distilled one unless there was no distillation."""
    speedup: Speedup
    """Speed of the last stage over that of the original."""
    recipe: TrainRecipe | None = None
    """Recipe of the distillation; None: there was none."""
    notes: tuple[str, ...] = ()

    work = "pruning"

    def __str__(self) -> str:
        changed = describe_sizes(model_config(self.original), model_config(self.bundle))
        kept = f"{self.accuracy}" if self.accuracy is not None else f"top-1 agreement {self.agreement:.2%}"
        return f"{changed}; {kept} on {self.images.name}, {self.speedup}{refusal(self.failures)}"

    @cached_property
    def accuracy(self) -> Paired | None:
        """Accuracy of the original and of the last stage on the same images; None without labels.

        Raises InputError where the images differ.
        """
        return Paired.of(self.stages[0].right, self.stages[-1].right) if self.images.labelled else None

    @property
    def agreement(self) -> float | None:
        """Share of images that the last stage answers as the original does; None with labels."""
        return None if self.images.labelled else float(self.stages[-1].right.mean())

    @property
    def measured(self) -> Measured:
        return Measured(accuracy=self.accuracy, agreement=self.agreement, speedup=self.speedup.batches, batch=BATCH)

    @property
    def bounds(self) -> Requirements:
        answers = self.required.of_answers(labelled=self.images.labelled, classes=True)
        return replace(answers, speedup=self.required.speedup)

    @property
    def advice(self) -> str:
        lenient = replace(self.bounds, strict=False)
        if failures(self.measured, lenient.only("accuracy_drop", "agreement")):
            return "prune less, or distil longer with `steps`"
        if failures(self.measured, lenient.only("speedup")):
            return "prune more, or keep the model as it is"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        stages = [
            {
                "stage": stage.name,
                "parameters": stage.parameters,
                "gflops": stage.gflops,
                "mib": stage.mib,
                "top1": stage.scores.top1,
                "top1_interval": list(stage.scores.top1_interval),
            }
            for stage in self.stages
        ]
        return {
            "original": self.original.where,
            "changed": describe_sizes(model_config(self.original), model_config(self.bundle)),
            "data": self.images.name,
            "labelled": self.images.labelled,
            "notes": [*self.images.told, *self.notes],
            "stages": stages,
            **speeds_to_dict(self.speedup),
            "batch": self.speedup.after.batch,
            "speedups": [self.speedup.single, self.speedup.batches],
            "machine": describe_machine(),
            "requirements": bounds_to_dict(self.required, min_agreement="agreement", min_speedup="speedup"),
            "agreement": self.agreement,
            **(self.accuracy.to_dict() if self.accuracy else {}),
            "failures": list(self.failures),
            "doubts": list(self.doubts),
        }


def model_config(bundle: Bundle) -> ImageModelConfig:
    """Return the configuration of a bundle that is not a LiT."""
    config = bundle.config
    assert not isinstance(config, LiTConfig)
    return config


def write_pruned(pruned: Pruned, target: Path, *, events: Iterable[Event] = ()) -> Bundle:
    """Writes a run of `prune` as `write_result` does, with the recipe and the log of the distillation."""

    def write_distillation(run: Run) -> None:
        for event in events:
            run.log(**row_of(event))
        if pruned.recipe is not None:
            run.write_json("recipe.json", pruned.recipe.model_dump(mode="json"))

    return write_result("prune", pruned, target, write_distillation)
