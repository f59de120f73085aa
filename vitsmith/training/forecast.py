"""What a run of training will take: memory, time and disk, and what to type for another choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitsmith.amounts import bytes_text, duration_text
from vitsmith.training.memory.plan import MemoryPlan, Parts
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.rehearsal import UpdateTimes

LEFT_OUT = "reading every file once before the first update, writing checkpoints, and the report"
"""What the time of a run does not count."""


DRIFT = 0.1
"""Share by which a machine may be faster or slower during the run than while it was measured: the most between a plan
and its run was 7 % (benchmarks/results/training_plan_amd-epyc_2026-12-01.md)."""


@dataclass(frozen=True)
class Duration:
    """Seconds of a whole run, from what was measured of its parts."""

    updates: int
    update: UpdateTimes
    evaluations: int
    evaluation: float
    """Seconds of one evaluation, from a part of the held-out images."""
    test: float = 0.0
    """Seconds of scoring the test images at that pace."""
    before: float = 0.0
    """Seconds before the first update: of the baseline."""

    @property
    def seconds(self) -> float:
        """The whole run at the mean pace of the updates that were measured."""
        return self._at(self.update.mean)

    @property
    def interval(self) -> tuple[float, float]:
        """The whole run, were every update as fast and as slow as the ends of `update`, and the machine by `DRIFT`."""
        low, high = self.update.ends
        return (1 - DRIFT) * self._at(low), (1 + DRIFT) * self._at(high)

    def _at(self, update: float) -> float:
        return self.before + self.updates * update + self.evaluations * self.evaluation + self.test


@dataclass(frozen=True)
class Disk:
    """Bytes that a run writes."""

    checkpoint: int
    checkpoints: int
    """The most that are there at once: one is written before an old one is deleted."""
    bundle: int
    free: int
    """Bytes that are free where the run will write."""

    @property
    def most(self) -> int:
        """Bytes at the fullest moment."""
        return self.checkpoints * self.checkpoint + self.bundle


@dataclass(frozen=True)
class OtherRun:
    """Another way to make the same run."""

    settings: Mapping[str, str]
    """Fields of the recipe and their values."""
    memory: int
    """Predicted peak bytes."""
    effect: str
    """What else changes."""

    @property
    def typed(self) -> str:
        """The options to add to the command."""
        return " ".join(f"--set {name}={value}" for name, value in self.settings.items())


@dataclass(frozen=True)
class TrainingPlan:
    """What `train` would do, chosen and measured on this machine and on the data; nothing is left on disk."""

    model: str
    """The model in words."""
    images: str
    """The data in words."""
    recipe: TrainRecipe
    """With passes over the data turned into updates."""
    devices: str
    memory: MemoryPlan
    measured_memory: int
    """Peak bytes of this process after the updates that were made."""
    duration: Duration
    disk: Disk
    choices: tuple[OtherRun, ...]
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join(f"{name:<{_WIDTH}}{text}".rstrip() for name, text in self.facts())

    def facts(self) -> list[tuple[str, str]]:
        """The plan in lines: a name, '' for the rest of the fact before, and a text."""
        memory, disk = self.memory, self.disk
        cut = "on" if memory.checkpointing else "off"
        choices = [f"{one.typed}: {bytes_text(one.memory)} predicted, {one.effect}" for one in self.choices]
        return [
            ("model", self.model),
            ("images", self.images),
            (
                "update",
                f"{self.recipe.batch.size:,} images on {self.devices}: micro-batch {memory.micro} x "
                f"{memory.accumulate}, checkpointing {cut}, {self.recipe.run.precision}",
            ),
            (
                "memory",
                f"{bytes_text(memory.predicted)} predicted of {bytes_text(memory.available)} available; "
                f"{bytes_text(self.measured_memory)} at most in the updates made here",
            ),
            ("", _listed(memory.parts)),
            *_times(self.duration),
            (
                "disk",
                f"{bytes_text(disk.most)} of {bytes_text(disk.free)} free: {disk.checkpoints} x "
                f"{bytes_text(disk.checkpoint)} of checkpoints, and the bundle of {bytes_text(disk.bundle)}",
            ),
            *(("" if number else "or", told) for number, told in enumerate(choices)),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON. Bytes and seconds."""
        memory, time, disk = self.memory, self.duration, self.disk
        return {
            "model": self.model,
            "images": self.images,
            "recipe": self.recipe.model_dump(mode="json"),
            "devices": self.devices,
            "micro_batch": memory.micro,
            "accumulate": memory.accumulate,
            "checkpointing": memory.checkpointing,
            "memory": {
                "predicted": memory.predicted,
                "available": memory.available,
                "parts": dict(memory.parts),
                "measured": self.measured_memory,
            },
            "update": {
                "seconds": time.update.mean,
                "interval": list(time.update.ends),
                "measured": len(time.update.seconds),
                "waiting": time.update.waiting,
            },
            "run": {
                "seconds": time.seconds,
                "interval": list(time.interval),
                "updates": time.updates,
                "evaluations": time.evaluations,
                "evaluation_seconds": time.evaluation,
                "test_seconds": time.test,
                "before_seconds": time.before,
                "not_counted": LEFT_OUT,
            },
            "disk": {
                "most": disk.most,
                "checkpoint": disk.checkpoint,
                "checkpoints": disk.checkpoints,
                "bundle": disk.bundle,
                "free": disk.free,
            },
            "choices": [
                {"settings": dict(one.settings), "memory": one.memory, "effect": one.effect} for one in self.choices
            ],
            "remarks": list(self.remarks),
        }


_WIDTH = 8  # of the names in the first column


def _listed(parts: Parts) -> str:
    """The parts and their sizes, the largest first."""
    return ", ".join(f"{name} {bytes_text(size)}" for name, size in sorted(parts, key=lambda one: -one[1]))


def _times(time: Duration) -> list[tuple[str, str]]:
    low, high = time.update.ends
    spread = f"{duration_text(time.interval[0])} to {duration_text(time.interval[1])}"
    evaluations = f"{time.evaluations:,} evaluation{'' if time.evaluations == 1 else 's'}"
    return [
        (
            "time",
            f"{_seconds(time.update.mean)} an update ({_seconds(low)} to {_seconds(high)}, "
            f"{len(time.update.seconds)} measured), {time.update.waiting:.0%} of it waiting for images",
        ),
        ("", f"{duration_text(time.seconds)} ({spread}) for {time.updates:,} updates and {evaluations}"),
        ("", f"not counted: {LEFT_OUT}"),
    ]


def _seconds(seconds: float) -> str:
    """'0.31 s', '12 s', '12 min'."""
    return f"{seconds:.2g} s" if seconds < 10 else duration_text(seconds)
