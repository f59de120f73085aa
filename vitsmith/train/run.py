"""A whole run: from a recipe and its data to a bundle in the run's folder."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass

import torch

from vitsmith import __version__
from vitsmith.data.samples import Splits
from vitsmith.evaluate.evaluation import describe_machine
from vitsmith.runs import Run
from vitsmith.specs import Labels, Measurement, Provenance
from vitsmith.train.loop import Evaluated, Event, Listener, StepDone, TrainResult, train
from vitsmith.train.recipe import TrainRecipe
from vitsmith.train.start import start
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.bundle_folder import write_bundle

GOLDEN_IMAGES = 4


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run gives: the bundle on disk, and what happened on the way."""

    bundle: Bundle
    result: TrainResult


def train_to_bundle(
    recipe: TrainRecipe,
    splits: Splits,
    run: Run,
    *,
    on_event: Listener,
    on_start: Callable[[str], None] = lambda _: None,
) -> Trained:
    """Trains, logging every step to the run's metrics.jsonl, and writes `<run>/model` when all is done.

    `on_start` is told what became of a checkpoint's arrays. Golden examples are held-out images. Raises what
    `start` and `train` raise; whatever stops it, no part of a bundle is left.
    """
    run.write_json("recipe.json", recipe.model_dump(mode="json"))
    model, images, report = start(recipe, len(splits.classes))
    if report is not None:
        on_start(str(report))

    def listen(event: Event) -> None:
        run.log(**_row(event))
        on_event(event)

    model.to("cuda" if torch.cuda.is_available() else "cpu")
    result = train(model, splits, recipe, images, on_event=listen)
    scores = result.final.scores
    low, high = scores.top1_interval
    bundle = Bundle.of(
        model.cpu(),
        images=images,
        labels=Labels(names=splits.classes),
        provenance=Provenance(
            source=f"vitsmith train on {recipe.data}, {recipe.steps} steps",
            format="trained",
            parent=recipe.init_from,
            date=datetime.date.today().isoformat(),
            vitsmith=__version__,
        ),
        measurements=(
            Measurement(
                name="top1",
                value=scores.top1,
                low=low,
                high=high,
                data=f"{recipe.data}, {scores.images} held-out images",
                machine=describe_machine(),
                date=datetime.date.today().isoformat(),
            ),
        ),
    )
    step = max(len(splits.val) // GOLDEN_IMAGES, 1)
    golden = [splits.val.image(index) for index in range(0, len(splits.val), step)][:GOLDEN_IMAGES]
    return Trained(write_bundle(bundle.with_golden(golden), run.folder / "model"), result)


def _row(event: StepDone | Evaluated) -> dict[str, float]:
    if isinstance(event, Evaluated):
        scores = event.scores
        return {"step": event.step, "top1": scores.top1, "nll": scores.nll, "seconds": event.seconds}
    return {
        "step": event.step,
        "loss": event.loss,
        "learning_rate": event.learning_rate,
        "gradient_norm": event.gradient_norm,
        "images_per_second": event.images_per_second,
    }
