"""Makes the bundle of a finished run: its weights, where they come from, and how good they are."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from vitsmith.data.images.read import Rgb
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.data.sets.samples import Splits
from vitsmith.errors import ImageError
from vitsmith.machine import describe_machine
from vitsmith.models.build import ImageModel
from vitsmith.records import NOT_KNOWN, Measurement, Provenance, Publication
from vitsmith.specs import ImageSpec, Labels
from vitsmith.training.images.result import TrainResult
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.version import __version__
from vitsmith.weights.bundle.agreements import LICENSE, agreement_of
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.measurements import accuracy, training_speed

GOLDEN_IMAGES = 4


def make_bundle(
    model: ImageModel,
    images: ImageSpec,
    recipe: TrainRecipe,
    splits: Splits,
    result: TrainResult,
    publication: Mapping[str, str],
    teacher: Publication = NOT_KNOWN,
) -> Bundle:
    """The bundle of a trained model; its golden examples are held-out images.

    `publication` is that of the checkpoint that the run began from; its licence also holds for the bundle. The words of
    a licence of the `teacher` that must be passed on go with the student too.
    """
    taught: dict[str, Any] = {}
    if teacher.license_text:
        taught = {"license_text": teacher.license_text, "notes": (_taught(teacher),)}
    bundle = Bundle.of(
        model,
        preprocessing=images,
        labels=Labels(names=splits.classes),
        head=recipe.loss.kind,
        provenance=Provenance(
            source=f"vitsmith train on {recipe.data.path}, {recipe.schedule.steps} steps",
            kind="trained",
            parent=recipe.model.init,
            date=datetime.date.today().isoformat(),
            vitsmith=__version__,
            **{**taught, **publication},
        ),
        measurements=measurements(recipe, result),
    )
    return bundle.with_golden(_golden_images(splits, result) or sample_images(GOLDEN_IMAGES))


def _taught(teacher: Publication) -> str:
    under = f"is under the {teacher.license}, whose words are"
    if agreement_of(teacher.license) is None:  # a student itself
        under = "learnt from a model whose licence is"
    return f"its teacher {under} in {LICENSE}: read there what holds for students"


def _golden_images(splits: Splits, result: TrainResult) -> list[Rgb]:
    """Held-out images, evenly chosen. An image that has become unreadable since it was scored is skipped."""
    readable = result.predicted.indices.tolist()
    found = []
    for index in readable[:: max(len(readable) // GOLDEN_IMAGES, 1)][:GOLDEN_IMAGES]:
        with suppress(ImageError):
            found.append(splits.val.image(index))
    return found


def measurements(recipe: TrainRecipe, result: TrainResult) -> tuple[Measurement, ...]:
    """Scores on the held-out images, and the speed of training."""
    scores = result.final.scores
    machine = describe_machine()
    data = f"{recipe.data.path}, {scores.num_images} held-out images"
    speed = statistics.median(done.images_per_second for done in result.history)
    tested = []
    if result.tested is not None:
        of_test = f"{recipe.data.path}, {result.tested.num_images} test images"
        tested.append(accuracy(result.tested.top1, of_test, machine, interval=result.tested.top1_interval))
    return (
        accuracy(scores.top1, data, machine, interval=scores.top1_interval),
        *tested,
        accuracy(scores.top5, data, machine, metric="top5"),
        accuracy(scores.calibration_error, data, machine, metric="calibration_error"),
        training_speed(speed, "images", recipe.data.path, machine, recipe.run.precision),
    )
