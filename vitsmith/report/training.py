"""The page of a training run, and its figures as files."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitsmith.amounts import duration_text
from vitsmith.data.sets.samples import Splits
from vitsmith.errors import ImageError, MissingPackageError
from vitsmith.escapes import shell_quoted
from vitsmith.evaluation.calibration import log_probabilities
from vitsmith.evaluation.evaluation import Evaluation
from vitsmith.evaluation.scores import Scores, score_logits
from vitsmith.files.atomic import optional, replacing, write_text
from vitsmith.models.build import count_parameters
from vitsmith.report.figure import png
from vitsmith.report.page import Command, Headline, Report, Sample, Section, Table, render
from vitsmith.report.plots import MOST_CELLS, draw_class_accuracies, draw_confusion, draw_curves, draw_reliability
from vitsmith.report.run_facts import command_of, facts_of_run, interval_text
from vitsmith.report.sections import accuracy_section, classes_table, learning_section, most_wrong, sample_of
from vitsmith.training.images.baseline import Baseline
from vitsmith.training.images.run import Trained
from vitsmith.training.images.validation import Predicted
from vitsmith.training.monitor.events import Evaluated, StepDone, Warned
from vitsmith.training.recipes.recipe import TrainRecipe

MOST_WRONG = 24

_LEARNED, _RIGHT = "How it learned", "Where it is right and wrong"
_MOST_EVALUATIONS = 20  # rows of the table


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """What happened in a run, from its first update on, even when it was resumed."""

    recipe: TrainRecipe
    folder: Path
    command: str
    """The command that was typed."""
    splits: Splits
    history: Sequence[StepDone]
    evaluations: Sequence[Evaluated]
    warnings: Sequence[Warned]
    predicted: Predicted
    """The final model's answers for the held-out images."""
    baseline: Baseline | None = None
    plan: str = ""
    """The reason of the memory plan."""
    adapted: str = ""
    """How a checkpoint's arrays were adapted."""
    parameters: int | None = None

    @property
    def scores(self) -> Scores:
        """The scores of the final model."""
        return self.evaluations[-1].scores

    @property
    def images_per_second(self) -> float:
        """Median over the updates."""
        return statistics.median(done.images_per_second for done in self.history)

    @property
    def seconds(self) -> float:
        """Seconds of all updates and evaluations, over all parts of a resumed run."""
        updates = sum(self.recipe.batch.size / done.images_per_second for done in self.history)
        return updates + sum(each.seconds for each in self.evaluations)


def write_report(trained: Trained, splits: Splits, folder: Path) -> Path:
    """Writes `report.html` and, with matplotlib, its figures as PNGs into the run's folder. Raises OutputError."""
    result = trained.result
    run = TrainingRun(
        recipe=trained.recipe,
        folder=folder,
        command=command_of(folder),
        splits=splits,
        history=result.history,
        evaluations=result.evaluations,
        warnings=result.warnings,
        predicted=result.predicted,
        baseline=trained.baseline,
        plan=trained.plan.reason,
        adapted=trained.report,
        parameters=count_parameters(trained.bundle.model),
    )
    page = folder / "report.html"
    write_text(page, render(make_training_report(run)))
    with optional("the plots beside the report"):
        write_plots(run, folder)
    return page


def make_training_report(run: TrainingRun) -> Report:
    """The page of a run. Without matplotlib it has tables where its figures would be, and says how to get them."""
    return Report(
        title=f"Training on {run.recipe.data.path}",
        summary=_summary(run),
        headlines=_headlines(run),
        sections=tuple(
            section
            for section in (_warnings_section(run), _learning(run), _accuracy(run), _most_wrong_section(run))
            if section is not None
        ),
        commands=_commands(run),
        facts=_facts(run),
    )


def write_plots(run: TrainingRun, folder: Path) -> tuple[Path, ...]:
    """Writes curves.png, reliability.png and confusion.png (more than 100 classes: classes.png) into `folder`.

    Writes nothing without matplotlib. Raises OutputError.
    """
    scores = score_logits(run.predicted.logits, run.predicted.labels, run.recipe.loss.kind)
    few = len(run.splits.classes) <= MOST_CELLS
    try:
        figures = {
            "curves.png": draw_curves(run.history, run.evaluations),
            "reliability.png": draw_reliability(scores.reliability),
            "confusion.png" if few else "classes.png": (
                draw_confusion(scores, run.splits.classes) if few else draw_class_accuracies(scores)
            ),
        }
    except MissingPackageError:
        return ()
    for name, figure in figures.items():
        with replacing(folder / name) as partial:
            partial.write_bytes(png(figure))
    return tuple(folder / name for name in figures)


def _summary(run: TrainingRun) -> str:
    recipe, scores, splits = run.recipe, run.scores, run.splits
    right = sum(each.correct for each in scores.per_class)
    what = recipe.model.name or "A model"
    size = f" of {run.parameters:,} weights" if run.parameters else ""
    origin = f"from {recipe.model.init}" if recipe.model.init else "from nothing"
    if recipe.distill is not None:
        origin += f" and the answers of {recipe.distill.teacher}"
    text = (
        f"{what}{size} learned {origin}, in {len(run.history):,} updates of {recipe.batch.size} images, from "
        f"{len(splits.train):,} images of {len(splits.classes):,} classes. It classifies "
        f"{right:,} of {scores.num_images:,} held-out images right."
    )
    if run.baseline is not None:
        text += f" {run.baseline.compare(scores.top1)}"
    best = max(run.evaluations, key=lambda each: each.scores.top1)
    if best.scores.top1_interval[0] > scores.top1:
        text += f" After update {best.step:,} it was clearly better, {best.scores.top1:.1%}: train for fewer updates."
    return text


def _headlines(run: TrainingRun) -> tuple[Headline, ...]:
    scores = run.scores
    headlines = [
        Headline(
            f"{scores.top1:.1%}",
            "held-out accuracy",
            f"of {scores.num_images:,} images; {interval_text(scores.top1_interval)}",
        )
    ]
    if run.baseline is not None:
        linear, knn = run.baseline.linear_interval, run.baseline.knn_interval
        seen = f"of {run.baseline.val_images:,}"
        headlines += [
            Headline(f"{run.baseline.linear:.1%}", "linear probe, before", f"{seen}; {interval_text(linear)}"),
            Headline(f"{run.baseline.knn:.1%}", "k-NN, before", f"{seen}; {interval_text(knn)}"),
        ]
    else:
        off = "mean error of its probabilities"
        headlines.append(Headline(f"{scores.calibration_error:.1%}", "calibration error", off))
    waiting = statistics.median(done.waiting for done in run.history)
    rate = run.images_per_second
    headlines += [
        Headline(
            f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}", "images/s", f"{waiting:.0%} of the time waiting for images"
        ),
        Headline(duration_text(run.seconds), "training time", "with evaluations"),
    ]
    return tuple(headlines)


def _warnings_section(run: TrainingRun) -> Section | None:
    if not run.warnings:
        return None
    notes = (
        warned.message if f"step {warned.step}" in warned.message else f"step {warned.step:,}: {warned.message}"
        for warned in run.warnings
    )
    return Section("What to look at", notes=tuple(notes))


def _learning(run: TrainingRun) -> Section:
    try:
        return learning_section(run, "Cross-entropy" if run.recipe.distill is None else "The loss of distillation")
    except MissingPackageError as error:
        return Section(_LEARNED, text=f"Figures are left out: {error}", table=_evaluations_table(run.evaluations))


def _accuracy(run: TrainingRun) -> Section:
    predicted, classes = run.predicted, run.splits.classes
    scores = score_logits(predicted.logits, predicted.labels, run.recipe.loss.kind)
    evaluation = Evaluation(scores, predicted.logits, predicted.labels, classes, run.evaluations[-1].seconds)
    try:
        return accuracy_section(evaluation)
    except MissingPackageError:
        text = f"Calibration error: probabilities are off by {100 * scores.calibration_error:.1f} points on average."
        return Section(_RIGHT, text=text, table=classes_table(scores, classes))


def _evaluations_table(evaluations: Sequence[Evaluated]) -> Table:
    """At most 20 of the evaluations, evenly chosen, the last among them."""
    chosen = np.unique(np.linspace(0, len(evaluations) - 1, _MOST_EVALUATIONS).round().astype(int)).tolist()
    rows = []
    for each in (evaluations[index] for index in chosen):
        scores = each.scores
        low, high = scores.top1_interval
        rows.append((f"{each.step:,}", f"{scores.top1:.1%}", f"{low:.1%} to {high:.1%}", f"{scores.nll:.3f}"))
    return Table(("update", "held-out top-1", "95% interval", "cross-entropy, nats"), tuple(rows))


def _most_wrong_section(run: TrainingRun) -> Section:
    predicted = run.predicted
    mistakes = most_wrong(predicted.logits, predicted.labels, len(predicted.labels), run.recipe.loss.kind)
    if not mistakes:
        return Section("Most wrong images", text="It made no mistake on the held-out images.")
    samples = [sample for index in mistakes[:MOST_WRONG] if (sample := _sample(run, index)) is not None]
    how_many = "All" if len(samples) == len(mistakes) else f"{len(samples)} of"
    text = (
        f"{how_many} {len(mistakes):,} mistakes on the held-out images, the lowest probability of the true class "
        "first: look here for wrong labels. Each image has its predicted class with its probability, and below it "
        "the label with its probability."
    )
    return Section("Most wrong images", text=text, samples=tuple(samples))


def _sample(run: TrainingRun, index: int) -> Sample | None:
    """A held-out image and its prediction; None if the image cannot be read any more."""
    predicted, val, names = run.predicted, run.splits.val, run.splits.classes
    position = int(predicted.indices[index])
    probabilities = np.exp(log_probabilities(predicted.logits[index : index + 1], run.recipe.loss.kind)[0])
    answer, truth = int(probabilities.argmax()), int(predicted.labels[index])
    try:
        pixels = val.image(position)
    except ImageError:
        return None
    return sample_of(
        pixels,
        predicted=names[answer],
        probability=float(probabilities[answer]),
        truth=names[truth],
        source=val.names[position],
        truth_probability=float(probabilities[truth]),
    )


def _commands(run: TrainingRun) -> tuple[Command, ...]:
    bundle = shell_quoted(str(run.folder / "model"))
    data = shell_quoted(run.recipe.data.val or run.recipe.data.path)
    for option, column in (("image", run.recipe.data.image_column), ("label", run.recipe.data.label_column)):
        data += f" --{option}-column {shell_quoted(column)}" if column else ""
    return (
        Command("Classify images:", f"vitsmith predict {bundle} IMAGES --top 3"),
        Command("Evaluate the model again:", f"vitsmith evaluate {bundle} --data {data}"),
        Command("Export it, compared with the original:", f"vitsmith export {bundle} --to onnx"),
    )


def _facts(run: TrainingRun) -> tuple[tuple[str, str], ...]:
    return facts_of_run(
        run.recipe,
        run.folder,
        run.command,
        f"{len(run.splits.train):,} for training, {len(run.splits.val):,} held out",
        ("checkpoint", "; ".join(" ".join(line.split()) for line in run.adapted.splitlines())),
        ("baseline", "" if run.baseline is None else str(run.baseline)),
        ("memory", run.plan),
        ("arithmetic", _arithmetic(run.history)),
    )


def _arithmetic(history: Sequence[StepDone]) -> str:
    known = [(done.images_per_second, done.peak_share) for done in history if done.peak_share]
    if not known:
        return ""
    peak = max(rate / share for rate, share in known)  # in images a second; the last one known is the highest
    share = statistics.median(rate for rate, _ in known) / peak
    if any(share >= 1 for _, share in known):
        return f"{share:.0%} of the fastest update: the device's measured peak was too low to compare with"
    return f"{share:.0%} of the measured peak"
