"""`vitsmith.evaluate`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, cast

from vitsmith.arguments import Tell, named_arguments, warn
from vitsmith.data.images.unreadable import SHARE
from vitsmith.evaluation.evaluation import Classifier, Evaluation, match_classes, refuse_regression
from vitsmith.evaluation.evaluation import evaluate as evaluate_classifier
from vitsmith.evaluation.held_out import Asked, EvaluationSet
from vitsmith.predict import Predictor
from vitsmith.verbs.inputs import Choose, Data, Model, asked_of, choosing, left_out
from vitsmith.weights.bundle.bundle import Bundle

Watch = Callable[[int], AbstractContextManager[Callable[[], None]]]
"""Given the number of evaluation images, gives what is called before each of them while they are evaluated."""


@named_arguments
def evaluate(
    model: Model | Classifier,
    data: Data,
    *,
    split: str = "",
    engine: str = "auto",
    precision: str = "auto",
    batch_size: int = 32,
    skip_unreadable: float = SHARE,
    tell: Tell = warn,
) -> Evaluation:
    """Evaluates a model on labelled images: top-1 with its interval, top-5, each class, calibration.

    Args:
        model: a classifier as a bundle, or anything `vitsmith.load` takes; or an opened `Predictor` or
            `ZeroShotClassifier`, which keeps its own engine, precision and batch size.
        data: a path of class folders, a table or shards, 'digits', a `DataSpec`, samples, or pairs of an image and the
            name of its class. Classes are matched by name.
        split: 'train', 'val', 'test' or 'all' of a data set; default: the images that the model was not trained on.
        engine: as for `Predictor`, like `precision` and `batch_size`.
        skip_unreadable: share of images that may be unreadable. They are left out of the scores.
        tell: called with messages: which images are evaluated, which are left out; by default only warnings are shown.

    Raises InputError, DatasetError and ImageError as the verb does.
    """
    asked = asked_of(data, split, tell)
    opened: Classifier | None = None if isinstance(model, Bundle | str | os.PathLike) else model
    if opened is not None and not (hasattr(opened, "logits") and hasattr(opened, "labels")):
        opened = Predictor(cast(Any, model))  # which says what a model is
    classifier = opened or Predictor(
        cast(Model, model), engine, precision=precision, batch_size=batch_size, num_images=len(asked.samples)
    )
    found, evaluation_set = evaluate_on(classifier, asked, choosing(tell), tell, skip_unreadable=skip_unreadable)
    return replace(found, model=classifier.where, data=evaluation_set.name, told=evaluation_set.told)


def evaluate_on(
    classifier: Classifier,
    asked: Asked,
    choose: Choose,
    tell: Tell,
    *,
    skip_unreadable: float,
    watch: Watch = lambda _: nullcontext(lambda: None),
) -> tuple[Evaluation, EvaluationSet]:
    """Evaluates an opened classifier, for `evaluate` and the command line. Returns also which images were used.

    `choose` chooses the images among those that were asked for.
    """
    refuse_regression(classifier, "top-1 accuracy")
    match_classes(classifier, asked.samples)  # before any image is read
    evaluation_set = choose([opened_bundle(classifier)], asked)
    with watch(len(evaluation_set.samples)) as on_image:
        found = evaluate_classifier(
            classifier,
            evaluation_set.samples,
            skip_unreadable=skip_unreadable,
            on_image=on_image,
            tell=left_out(tell),
        )
    return found, evaluation_set


def opened_bundle(classifier: Any) -> Bundle:
    """The bundle of a `Predictor` or a `ZeroShotClassifier`."""
    return cast(Bundle, classifier.encoder.bundle if hasattr(classifier, "encoder") else classifier.bundle)
