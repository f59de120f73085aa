"""Sections of a report: each function takes results of one kind and says what they mean."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitsmith.evaluation.calibration import log_probabilities
from vitsmith.evaluation.evaluation import Evaluation
from vitsmith.evaluation.scores import Scores
from vitsmith.evaluation.speed import MeasuredCost
from vitsmith.gate import Requirements, Verdict
from vitsmith.report.figure import picture
from vitsmith.report.page import Figure, Sample, Section, Table
from vitsmith.report.plots import (
    MOST_CELLS,
    draw_class_accuracies,
    draw_confusion,
    draw_held_out,
    draw_loss,
    draw_reliability,
)
from vitsmith.specs import Head
from vitsmith.training.monitor.events import Evaluated, StepDone

MOST_ROWS = 50
"""Classes up to which a table lists them all."""
WORST = 20
"""Classes in the table when there are more than MOST_ROWS."""

_LARGEST_SAMPLE = 192  # pixels: twice what the page shows, for sharp screens


class Learned(Protocol):
    """What happened in a run of training."""

    @property
    def history(self) -> Sequence[StepDone]: ...
    @property
    def evaluations(self) -> Sequence[Evaluated]: ...


def learning_section(result: Learned, loss_name: str = "Cross-entropy") -> Section:
    """The section on loss, by the name it has in a sentence, and held-out accuracy during training."""
    final = result.evaluations[-1]
    first, last = result.history[0], result.history[-1]
    loss = Figure(
        "Training loss and learning rate",
        picture(
            lambda theme: draw_loss(result.history, theme),
            f"Training loss from {first.loss:.2f} at the first update to {last.loss:.2f} at update {last.step}; the "
            f"learning rate rises to {max(done.learning_rate for done in result.history):.2g} and falls to "
            f"{last.learning_rate:.2g}.",
        ),
        f"{loss_name} on training images as they are drawn, cropped at random; lower is better.",
    )
    accuracy = Figure(
        "Accuracy on held-out images",
        picture(
            lambda theme: draw_held_out(result.evaluations, theme),
            f"Held-out top-1 accuracy at {len(result.evaluations)} points of the training, "
            f"{final.scores.top1:.1%} at the end.",
        ),
        f"The model never learns from these {final.scores.num_images:,} images.",
    )
    return Section("How it learned", figures=(loss, accuracy))


def accuracy_section(evaluation: Evaluation) -> Section:
    """The section on which classes the model confuses, and on how reliable its probabilities are."""
    scores, classes = evaluation.scores, evaluation.classes
    confusion = _confusion_figure(scores, classes)
    reliability = Figure(
        "Reliability",
        picture(
            lambda theme: draw_reliability(scores.reliability, theme),
            f"Accuracy against confidence in {len(scores.reliability)} bins, calibration error "
            f"{scores.calibration_error:.1%}.",
        ),
        "On the dashed line, probability and accuracy agree. Below it the model is overconfident, above it "
        f"underconfident; on average it is off by {100 * scores.calibration_error:.1f} points.",
    )
    table = classes_table(scores, classes)
    return Section("Where it is right and wrong", figures=(confusion, reliability), table=table)


def classes_table(scores: Scores, classes: Sequence[str]) -> Table:
    """A row for each class; with more than 50 classes, the 20 with the lowest accuracy."""
    taken = _taken_for(scores.confusion, classes)
    chosen, caption = list(range(len(classes))), "Each class by itself."
    if len(classes) > MOST_ROWS:
        shares = {index: each.accuracy for index, each in enumerate(scores.per_class) if each.accuracy is not None}
        chosen = sorted(shares, key=lambda index: (shares[index], -scores.per_class[index].count))[:WORST]
        caption = f"The {len(chosen)} of {len(classes):,} classes with the lowest accuracy."
    rows = []
    for index in chosen:
        each = scores.per_class[index]
        accuracy = "" if each.accuracy is None else f"{each.accuracy:.1%}"
        rows.append((classes[index], str(each.count), str(each.correct), accuracy, taken[index]))
    return Table(("class", "images", "right", "accuracy", "most often mistaken for"), tuple(rows), caption)


def costs_section(costs: Sequence[MeasuredCost], how: str) -> Section:
    """The section on size, speed and accuracy; `how` says what was timed, and where."""
    return Section("Size, speed and accuracy", text=how, table=costs_table(costs))


def costs_table(costs: Sequence[MeasuredCost]) -> Table:
    """A row for each bundle, all measured with the same batch."""
    batch = costs[0].speed.batch
    columns = ("bundle", "size, MiB", "top-1", "one image, ms", f"images/s, batch {batch}")
    rows = tuple(
        (
            f"{one.name} ({one.engine})",
            f"{one.mib:.2f}",
            f"{one.top1:.2%}",
            f"{one.speed.latency_ms:.2f}",
            f"{one.speed.images_per_second:,.0f}",
        )
        for one in costs
    )
    return Table(columns, rows)


def gate_section(what: str, verdict: Verdict, required: Requirements) -> Section:
    """The section on what the gate compared, and what it requires. A program that fails it is never written."""
    rows = [
        ("largest difference of any output", f"{verdict.relative:.1e}", _bound(required.relative, ".0e")),
        ("images with the same first choice", f"{verdict.agreement:.1%}", _bound(required.agreement, ".1%")),
        ("batch sizes that run", *2 * (", ".join(map(str, required.batches)),)),
    ]
    if verdict.accuracy is not None:
        low, high = verdict.accuracy.interval
        found = f"{verdict.accuracy.drop:.2f} (95% interval {low:.2f} to {high:.2f})"
        name = f"drop of top-1 on {verdict.accuracy.num_images:,} labelled images, in points"
        rows.append((name, found, _bound(required.accuracy_drop, "g")))
    text = f"{what} {'passed' if verdict.passed else 'failed'}: {verdict.num_images} images went through both programs."
    text = " ".join((text, *(f"Note: {doubt}." for doubt in verdict.doubts)))
    caption = "The difference is a share of the largest output of the original."
    return Section("The gate", text=text, table=Table(("check", "found", "required"), tuple(rows), caption))


def _bound(bound: float | None, style: str) -> str:
    return "not required" if bound is None else format(bound, style)


def sample_of(
    pixels: NDArray[np.uint8],
    *,
    predicted: str,
    probability: float,
    truth: str,
    source: str,
    truth_probability: float | None = None,
) -> Sample:
    """A sample from uint8 RGB pixels of any size."""
    image = Image.fromarray(pixels)
    image.thumbnail((_LARGEST_SAMPLE, _LARGEST_SAMPLE))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return Sample(buffer.getvalue(), predicted, probability, truth, source, truth_probability)


def surest_mistakes(logits: NDArray[np.float32], labels: NDArray[np.int64], count: int) -> list[int]:
    """Positions of at most `count` wrongly classified images, those with the highest probability first."""
    wrong = np.flatnonzero(logits.argmax(axis=1) != labels)
    shifted = logits[wrong] - logits[wrong].max(axis=1, keepdims=True)
    confidence = 1 / np.exp(shifted).sum(axis=1)
    order: list[int] = wrong[np.argsort(-confidence, kind="stable")][:count].tolist()
    return order


def most_wrong(logits: NDArray[np.float32], labels: NDArray[np.int64], count: int, head: Head = "softmax") -> list[int]:
    """Positions of at most `count` wrongly classified images, the least probability of the true class first."""
    wrong = np.flatnonzero(logits.argmax(axis=1) != labels)
    truth = np.take_along_axis(log_probabilities(logits[wrong], head), labels[wrong, None], axis=1)[:, 0]
    order: list[int] = wrong[np.argsort(truth, kind="stable")][:count].tolist()
    return order


def _confusion_figure(scores: Scores, classes: Sequence[str]) -> Figure:
    """The confusion matrix, or, for more classes than it can show, a histogram of their accuracies."""
    right = sum(each.correct for each in scores.per_class)
    if len(classes) > MOST_CELLS:
        return Figure(
            "Accuracy of the classes",
            picture(
                lambda theme: draw_class_accuracies(scores, theme),
                f"Histogram of the accuracies of {len(classes):,} classes; their mean is {scores.macro_recall:.1%}.",
            ),
            "Each class counts once, whatever its number of images. The worst classes are listed below.",
        )
    return Figure(
        "Confusion matrix",
        picture(
            lambda theme: draw_confusion(scores, classes, theme),
            f"Confusion matrix of {len(classes)} classes: {right} of {scores.num_images} images on the diagonal.",
        ),
        "Each row is a true class; images beside the diagonal were mistaken for another class.",
    )


def _taken_for(confusion: NDArray[np.int64], classes: Sequence[str]) -> list[str]:
    """For each true class the most frequent wrong answer and how often it was given."""
    wrong = confusion - np.diag(np.diag(confusion))
    most = wrong.argmax(axis=1)
    return [
        f"{classes[column]} ({wrong[row, column]})" if wrong[row, column] else ""
        for row, column in enumerate(most.tolist())
    ]
