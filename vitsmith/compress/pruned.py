"""What pruning came to: each stage's accuracy and size, the speed, and whether that is good enough to be kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitsmith.compress.material import Material
from vitsmith.compress.sizes import describe_sizes
from vitsmith.errors import GateError
from vitsmith.evaluate.scores import Scores
from vitsmith.evaluate.speed import Speedup
from vitsmith.finite import require_numbers
from vitsmith.machine import describe_machine
from vitsmith.models.config import ImageModelConfig, LiTConfig
from vitsmith.runs import whole_run
from vitsmith.train.events import Event
from vitsmith.train.history import row_of
from vitsmith.train.recipe import TrainRecipe
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.bundle_folder import read_bundle, write_bundle

RESULT, MODEL = "prune.json", "model"
BATCH = 16
"""Of the throughput that is measured."""


@dataclass(frozen=True)
class Demands:
    """What a pruned model must keep, and what it must give for that."""

    max_drop: float = 1.0
    """Points of top-1 that may be lost; without labels, of agreement with the original."""
    min_speedup: float = 1.05
    """Least images/s, in batches of 16, as a multiple of the original's."""

    def __post_init__(self) -> None:
        require_numbers(self)


@dataclass(frozen=True, eq=False)
class Stage:
    """A model on the way, and how good it is on the images that judge."""

    name: str
    scores: Scores
    parameters: int
    gflops: float

    @property
    def mib(self) -> float:
        """Size of its weights."""
        return self.parameters * 4 / 2**20


@dataclass(frozen=True, eq=False)
class Pruned:
    """What pruning came to. `bundle` is in memory; look at `failures`, or call `require`, before it is used."""

    bundle: Bundle
    original: Bundle
    material: Material
    stages: tuple[Stage, ...]
    """The original, right after pruning, and after distillation unless there was none."""
    speedup: Speedup
    """Of the last over the original."""
    demands: Demands
    recipe: TrainRecipe | None = None
    """Of the distillation."""
    notes: tuple[str, ...] = ()

    @property
    def lost(self) -> float:
        """Points of top-1, or of agreement, that the last has less than the original."""
        return 100 * (self.stages[0].scores.top1 - self.stages[-1].scores.top1)

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the gate says no; () when it says yes."""
        demands, what = self.demands, "top-1" if self.material.labelled else "agreement with the original"
        failures = []
        if not self.lost <= demands.max_drop + 1e-9:
            failures.append(f"it lost {self.lost:.2f} points of {what} (allowed {demands.max_drop:g})")
        speedup = self.speedup.batches
        if not speedup >= demands.min_speedup:
            failures.append(
                f"it computes {speedup:.2f} times as many images a second in batches of {BATCH} "
                f"(required {demands.min_speedup:g})"
            )
        return tuple(failures)

    def require(self) -> None:
        """Raises GateError when the gate says no."""
        if self.failures:
            raise GateError(
                f"pruning of {self.original.where} was refused, nothing was written: {'; '.join(self.failures)}; "
                "prune less, or distil longer with --steps"
            )

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
        before, after = self.speedup.before, self.speedup.after
        return {
            "original": self.original.where,
            "changed": describe_sizes(model_config(self.original), model_config(self.bundle)),
            "data": self.material.name,
            "labelled": self.material.labelled,
            "notes": [*self.material.told, *self.notes],
            "stages": stages,
            "latency_ms": [before.latency_ms, after.latency_ms],
            "images_per_second": [before.images_per_second, after.images_per_second],
            "batch": after.batch,
            "speedups": [self.speedup.single, self.speedup.batches],
            "machine": describe_machine(),
            "demands": vars(self.demands),
            "failures": list(self.failures),
        }


def model_config(bundle: Bundle) -> ImageModelConfig:
    """The configuration of a bundle that is no LiT."""
    config = bundle.config
    assert not isinstance(config, LiTConfig)
    return config


def write_pruned(
    pruned: Pruned,
    name: str,
    out: Path | None = None,
    *,
    events: Iterable[Event] = (),
) -> Bundle:
    """Writes a run of `prune`, by default into `runs/prune/<name>`, whole or not at all, and gives the bundle in it.

    It holds the model, the numbers (prune.json), the distillation's recipe and log, and the command. What is at `out`
    is replaced. Raises GateError when the gate said no, OutputError.
    """
    pruned.require()
    with whole_run("prune", name, out) as (run, target):
        for event in events:
            run.log(**row_of(event))
        if pruned.recipe is not None:
            run.write_json("recipe.json", pruned.recipe.model_dump(mode="json"))
        run.write_json(RESULT, pruned.to_dict())
        write_bundle(pruned.bundle, run.folder / MODEL)
    return read_bundle(target / MODEL, verify=False)
