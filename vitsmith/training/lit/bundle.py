"""Makes the LiT bundle of a finished `lit` run: its weights, where they come from, and how good they are."""

from __future__ import annotations

import datetime
import statistics

from vitsmith.data.sets.samples import Samples
from vitsmith.errors import ImageError
from vitsmith.machine import describe_machine
from vitsmith.records import Measurement, Provenance, Publication
from vitsmith.training.images.bundle import GOLDEN_IMAGES
from vitsmith.training.lit.result import LitResult
from vitsmith.training.lit.towers import Towers
from vitsmith.training.recipes.lit import LitRecipe
from vitsmith.version import __version__
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.measurements import accuracy, recall, training_speed


def make_lit_bundle(towers: Towers, recipe: LitRecipe, held_out: Samples, result: LitResult) -> Bundle:
    """The bundle of trained towers; its golden examples are held-out images."""
    lit = towers.lit.cpu().requires_grad_()
    image = towers.origin.publication if towers.origin is not None else {}
    notes = (f"image tower locked, from {recipe.image.init}", *((towers.told,) if towers.told else ()))
    bundle = Bundle.of(
        lit,
        preprocessing=towers.images,
        text=towers.text,
        vocabulary=towers.vocabulary,
        provenance=Provenance(
            source=f"vitsmith lit on {recipe.data.path}, {recipe.schedule.steps} steps",
            kind="trained",
            parent=recipe.image.init,
            date=datetime.date.today().isoformat(),
            vitsmith=__version__,
            notes=notes,
            **image,
            text=None if towers.text_origin == Publication(**image) else towers.text_origin,
        ),
        measurements=measurements(recipe, result),
    )
    golden = []
    for index in range(0, len(held_out), max(len(held_out) // GOLDEN_IMAGES, 1)):
        try:
            golden.append(held_out.image(index))
        except ImageError:  # the run has reported it
            continue
        if len(golden) == GOLDEN_IMAGES:
            break
    return bundle.with_golden(golden) if golden else bundle


def measurements(recipe: LitRecipe, result: LitResult) -> tuple[Measurement, ...]:
    """Recall on the held-out pairs, accuracy on the unseen, and the speed of training."""
    final = result.final
    machine = describe_machine()
    data = f"{recipe.data.path}, {final.num_images} held-out images, {final.num_captions} captions"
    found = []
    for direction, shares, interval in (
        ("image_to_text", final.image_to_text, final.image_interval),
        ("text_to_image", final.text_to_image, final.text_interval),
    ):
        found.append(recall(shares[1], 1, direction, data, machine, interval))
    if final.unseen is not None and final.unseen_interval is not None:
        unseen = f"{recipe.data.path}, {final.num_unseen_images} images of unseen combinations"
        interval = final.unseen_interval
        found.append(accuracy(final.unseen, unseen, machine, metric="zero_shot_top1", interval=interval))
    if result.history:  # a process that only resumes beside the main one has none
        speed = statistics.median(done.images_per_second for done in result.history)
        found.append(training_speed(speed, "pairs", recipe.data.path, machine, recipe.run.precision))
    return tuple(found)
