"""The page of a quickstart, from training to the exported bundle, and the results it is made from."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitsmith.data.images.read import read_image
from vitsmith.data.sets.samples import Splits
from vitsmith.escapes import shell_quoted
from vitsmith.evaluation.evaluation import Evaluation
from vitsmith.evaluation.speed import MeasuredCost
from vitsmith.gate import SAME_ANSWERS, Verdict
from vitsmith.machine import describe_machine
from vitsmith.models.cost import parameters
from vitsmith.predict import Prediction, softmax
from vitsmith.report.page import Command, Headline, Report, Section
from vitsmith.report.sections import (
    accuracy_section,
    costs_section,
    gate_section,
    learning_section,
    sample_of,
    surest_mistakes,
)
from vitsmith.training.images.run import Trained
from vitsmith.weights.bundle.bundle import Bundle

MOST_MISTAKES = 12
VERSIONS = ("vitsmith", "torch", "onnx", "onnxruntime", "numpy")

_TIMING = (
    "Inference alone, in float32, without reading and preprocessing: medians of many runs, with both engines taking "
    "turns. The numbers are this machine's. A model this small says little about larger ones: measure your own."
)


@dataclass(frozen=True)
class ImageFile:
    """An image file, its true class, and the exported bundle's prediction."""

    path: Path
    truth: str
    prediction: Prediction

    @property
    def right(self) -> bool:
        return self.prediction.label == self.truth


@dataclass(frozen=True, eq=False)
class QuickstartResult:
    """The results of a quickstart."""

    folder: Path
    splits: Splits
    trained: Trained
    exported: Bundle
    evaluation: Evaluation
    """The exported bundle's evaluation on the held-out images."""
    verdict: Verdict
    images: Path
    """The folder of `files`."""
    files: tuple[ImageFile, ...]
    costs: tuple[MeasuredCost, MeasuredCost]
    """The costs of the trained bundle and of the exported one."""
    seconds: float
    """Seconds from opening the data to the last measurement."""

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        scores = self.evaluation.scores
        verdict = self.verdict
        return {
            "report": str(self.report),
            "bundles": [self.trained.bundle.where, self.exported.where],
            "num_images": scores.num_images,
            "top1": scores.top1,
            "top1_interval": list(scores.top1_interval),
            "gate": verdict.to_dict() | {"relative": verdict.relative},
            "files": {str(file.path): file.prediction.label for file in self.files},
            "costs": [asdict(cost) for cost in self.costs],
            "seconds": self.seconds,
        }


def make_report(result: QuickstartResult, command: str) -> Report:
    """The page. `command` is the command that was typed."""
    return Report(
        title="A vision transformer that reads handwritten digits",
        summary=_summary(result),
        headlines=_headlines(result),
        sections=(
            learning_section(result.trained.result),
            accuracy_section(result.evaluation),
            _files_section(result.files),
            _mistakes_section(result.evaluation, result.splits),
            costs_section(result.costs, _TIMING),
            gate_section("The ONNX export", result.verdict, SAME_ANSWERS),
        ),
        commands=next_commands(result),
        facts=_facts(result, command),
    )


def next_commands(result: QuickstartResult) -> tuple[Command, ...]:
    """Commands to try with the bundles, to be typed in the folder where the quickstart ran."""
    exported, images = shell_quoted(result.exported.where), shell_quoted(str(result.images))
    return (
        Command("Name the digits in image files:", f"vitsmith predict {exported} {images} --top 3"),
        Command(
            "Evaluate the exported model on the held-out digits again:", f"vitsmith evaluate {exported} --data digits"
        ),
        Command("See what a bundle records about itself:", f"vitsmith inspect {exported}"),
        Command(
            "Train on your own images, a folder with one sub-folder for each class (a checkpoint is downloaded once):",
            "vitsmith train FOLDER --model augreg:Ti_16 --recipe finetune-small-data",
        ),
    )


def _summary(result: QuickstartResult) -> str:
    scores, config = result.evaluation.scores, result.trained.bundle.config
    right = sum(each.correct for each in scores.per_class)
    return (
        f"A small vision transformer of {parameters(config):,} weights was trained from nothing, on this machine, on "
        f"{len(result.splits.train):,} scanned digits. Of {scores.num_images} others, never seen before, it reads "
        f"{right} right. It was exported to ONNX, compared with the original, loaded again from disk and tried on "
        f"image files; all of it took {result.seconds:.0f} seconds. The writers of the held-out digits also wrote "
        "training digits: the score shows how well it reads these writers, not other people's handwriting."
    )


def _headlines(result: QuickstartResult) -> tuple[Headline, ...]:
    scores, cost = result.evaluation.scores, result.costs[1]
    low, high = scores.top1_interval
    interval = f"of {scores.num_images} images; 95% interval {low:.1%} to {high:.1%}"
    return (
        Headline(f"{scores.top1:.1%}", "held-out accuracy", interval),
        Headline(f"{scores.calibration_error:.1%}", "calibration error", "by how much probabilities are off"),
        Headline(f"{cost.mib:.2f} MiB", "exported model", f"{cost.engine} engine, float32"),
        Headline(f"{cost.speed.latency_ms:.2f} ms", "for one image", "median, inference alone"),
    )


def _files_section(files: tuple[ImageFile, ...]) -> Section:
    right = sum(file.right for file in files)
    samples = tuple(
        sample_of(
            read_image(file.path),
            predicted=file.prediction.label,
            probability=file.prediction.probability,
            truth=file.truth,
            source=f"{file.path.parent.name}/{file.path.name}",
        )
        for file in files
    )
    text = f"Held-out digits written as PNG files and read by the exported model: {right} of {len(files)} right."
    return Section("Predicted from image files", text=text, samples=samples)


def _mistakes_section(evaluation: Evaluation, splits: Splits) -> Section:
    """The mistakes with the highest probabilities."""
    mistakes = surest_mistakes(evaluation.logits, evaluation.labels, len(evaluation.labels))
    shown = mistakes[:MOST_MISTAKES]
    names = evaluation.classes
    samples = []
    for index in shown:
        probabilities = softmax(evaluation.logits[index])
        predicted = int(probabilities.argmax())
        sample = sample_of(
            splits.val.image(index),
            predicted=names[predicted],
            probability=float(probabilities[predicted]),
            truth=names[evaluation.labels[index]],
            source=splits.val.names[index],
        )
        samples.append(sample)
    if not mistakes:
        text = "It made none on the held-out digits."
    elif len(shown) == len(mistakes):
        text = f"All {len(mistakes)} on the held-out digits, the highest probability first."
    else:
        text = f"The {len(shown)} of {len(mistakes)} on the held-out digits with the highest probabilities."
    return Section("Mistakes", text=text, samples=tuple(samples))


def _facts(result: QuickstartResult, command: str) -> tuple[tuple[str, str], ...]:
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in VERSIONS)
    return (
        ("command", command),
        ("run folder", str(result.folder)),
        ("date", datetime.date.today().isoformat()),
        ("machine", describe_machine()),
        ("system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"),
        ("versions", versions),
        ("data", "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, 1998), as in scikit-learn"),
    )
