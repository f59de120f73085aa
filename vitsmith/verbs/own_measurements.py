"""What `recommend` measures itself where it is asked to: accuracy on own images, the best rows, what fits a device."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vitsmith.amounts import mebibytes
from vitsmith.arguments import Tell, flag, instance, whole_number
from vitsmith.choosing.fit.device import DeviceFit, device_fit
from vitsmith.choosing.measured.stage import MeasureStage
from vitsmith.choosing.own_images.stage import POINTS, AccuracyStage
from vitsmith.choosing.request import Request
from vitsmith.choosing.result import Recommendations
from vitsmith.choosing.run import NOTHING_MEASURED, Stages
from vitsmith.cost.predict import predict_cost
from vitsmith.data.sets.datasets import DataSpec, check_there
from vitsmith.errors import InputError
from vitsmith.needs_torch import require_torch
from vitsmith.verbs.inputs import described_data

if TYPE_CHECKING:
    from vitsmith.cost.predict import Machine

Location = str | os.PathLike[str]
MOST_MEASURED = 50
FITTED = 3
"""Checkpoints of which is told what fits a device."""
_BATCH = 32  # of the forward passes that training time is told by


@dataclass(frozen=True, kw_only=True)
class OwnMeasurements:
    """What is asked for beside the published figures and the predictions."""

    data: DataSpec | None = None
    """Labelled images whose accuracy ranks."""
    download: bool = False
    """Whether weights are fetched for that."""
    seed: int = 0
    measure: int = 0
    """How many of the best rows are built and measured."""
    device_memory: int = 0
    """Bytes of a device; 0: nothing is asked."""
    train_images: int = 0
    """Images to learn from in all, every pass counted, of which the time is told."""
    options: dict[str, Any] = field(default_factory=dict)
    """Other arguments of `accuracy_on`."""

    def check(self, request: Request, machine: Machine | None) -> None:
        """Raises, before any work, for what cannot be measured: InputError, DatasetError, MissingPackageError."""
        if self.data is None and self.download:
            raise InputError("`download` fetches weights to score on `data`: give `data` too")
        if self.train_images and not self.device_memory:
            raise InputError("`train_images` are for a device: give `device_memory` too")
        if self.measure and (machine is not None or not request.timed):
            raise InputError("`measure` measures this machine: leave `measure` out for the profile of another")
        if self.data is not None:
            check_there(self.data.path)
        if self.data is not None or self.measure:
            require_torch()

    def stages(self, request: Request, tell: Tell) -> Stages:
        """The stages of the ranking."""
        if self.data is None and not self.measure:
            return NOTHING_MEASURED
        accuracy = None
        if self.data is not None:
            accuracy = AccuracyStage(self.data, seed=self.seed, download=self.download, tell=tell, options=self.options)
        tie = NOTHING_MEASURED.tie if accuracy is None else POINTS
        cost = None
        if self.measure:
            cost = MeasureStage(self.measure, request.budgets, request.scenario.photo, tie=tie, tell=tell)
        return Stages(accuracy, cost, tie)

    def added_to(self, found: Recommendations, stages: Stages, machine: Machine | None) -> Recommendations:
        """The result with what the stages found, and what fits the device."""
        own = stages.accuracy.found if isinstance(stages.accuracy, AccuracyStage) else None
        remarks = found.remarks if own is None else (*found.remarks, *own.remarks())
        return replace(found, own_images=own, fits=tuple(self._fits(found, machine)), remarks=remarks)

    def _fits(self, found: Recommendations, machine: Machine | None) -> list[DeviceFit]:
        if not self.device_memory:
            return []
        first = {row.checkpoint.name: row.checkpoint.config for row in found}
        return [
            device_fit(
                name,
                config,
                self.device_memory,
                images=self.train_images,
                seconds_per_image=_forward(config, machine) if self.train_images else None,
            )
            for name, config in list(first.items())[:FITTED]
        ]


def _forward(config: Any, machine: Machine | None) -> float | None:
    """Seconds of a forward pass of one image on the device whose profile it is; None where there is none."""
    if machine is None:
        return None
    try:
        return predict_cost(config, engine="torch", batch=_BATCH, machine=machine).latency / _BATCH
    except InputError:
        return None


NOTHING_ASKED = OwnMeasurements()


def own_measurements(
    data: Location | DataSpec = "",
    *,
    download: bool = False,
    measure: int = 0,
    device_memory: str = "",
    train_images: int = 0,
    seed: int = 0,
    **options: Any,
) -> OwnMeasurements:
    """What a caller asks for, checked. Raises InputError."""
    described = described_data(data)
    size = mebibytes("`device_memory`", instance(device_memory, str, "device_memory", "text as '8GB'"))
    return OwnMeasurements(
        data=described if described.path else None,
        download=flag(download, "download"),
        seed=whole_number(seed, "seed", least=0, most=2**63 - 1),
        measure=whole_number(measure, "measure", least=0, most=MOST_MEASURED),
        device_memory=0 if size is None else round(size * 2**20),
        train_images=whole_number(train_images, "train_images", least=0),
        options=options,
    )
