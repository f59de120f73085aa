"""Answers of the measured engines: difference from the reference, and accuracy on labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.benchmark.contenders import Subject
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.sets.samples import Samples
from vitsmith.engines.protocol import Engine
from vitsmith.engines.registry import ENGINES
from vitsmith.errors import GateError, InputError
from vitsmith.evaluation.evaluation import Evaluation, evaluate, match_classes, refuse_regression
from vitsmith.gate import agreement_of, lowest_cosine, relative_difference
from vitsmith.models.config import LiTConfig
from vitsmith.names import same_names
from vitsmith.predict import Predictor
from vitsmith.specs import Labels
from vitsmith.weights.bundle.bundle import Bundle

TOGETHER = 8
"""Batch size where nothing is timed."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Images, and the outputs with which all engines are compared."""

    name: str
    images: tuple[Array, ...]
    """uint8 RGB, because each model has its own preprocessing."""
    outputs: Array
    labels: Labels | None
    classes: int
    """Number of classes; 0 for embeddings, features and regression values."""


@dataclass(frozen=True)
class Parity:
    """Difference of outputs from those of the reference."""

    difference: float
    """Largest difference, as a share of the reference's largest output."""
    cosine: float
    """Lowest cosine of any image."""
    agreement: float | None
    """Share of images with the same top class; None for outputs that are not logits."""


def reference_of(subjects: Sequence[Subject], images: Sequence[Array]) -> Reference | None:
    """The float32 answers of the first torch model on `images`; else the golden answers of the first float32 program.

    `images` are uint8 RGB; golden answers have their own images, and need no torch. None where there is neither.
    """
    for subject in subjects:
        bundle = subject.bundle
        if images and runs_as_reference(subject):
            inputs = _tensors(images, bundle)
            return _reference(f"{subject.title}, torch, fp32", images, _run(bundle.run_torch, inputs), bundle)
    for subject in subjects:
        golden = subject.bundle.golden
        if golden is not None and subject.bundle.program_spec.precision == "fp32":
            name = f"the golden answers of {subject.title}"
            return _reference(name, golden.images, golden.outputs, subject.bundle)
    return None


def runs_as_reference(subject: Subject) -> bool:
    """Whether the answers of a model to any images can be the reference: torch weights, where torch is installed."""
    return subject.bundle.program == "torch" and ENGINES["torch"].installed


def compare_with(reference: Reference, engine: Engine, bundle: Bundle) -> Parity | None:
    """Compares an engine's answers with the reference's; None where labels or shapes differ.

    Raises GateError for outputs that are not finite.
    """
    outputs = _run(engine.run, _tensors(reference.images, bundle))
    if outputs.shape != reference.outputs.shape or (
        bundle.labels is not None
        and reference.labels is not None
        and not same_names(bundle.labels.names, reference.labels.names)
    ):
        return None
    expected = reference.outputs
    if not (np.isfinite(outputs).all() and np.isfinite(expected).all()):
        raise GateError("outputs, or those of the reference, are not finite numbers")
    return Parity(
        difference=relative_difference(expected, outputs),
        cosine=lowest_cosine(expected, outputs),
        agreement=agreement_of(expected, outputs) if reference.classes else None,
    )


def evaluate_engine(bundle: Bundle, engine: Engine, samples: Samples) -> Evaluation:
    """Accuracy of an opened engine."""
    return evaluate(Predictor(bundle, engine, batch_size=TOGETHER), samples)


def require_classes(subjects: Sequence[Subject], samples: Samples) -> None:
    """Raises InputError, before anything is measured, unless every model can be evaluated on the data."""
    for subject in subjects:
        bundle = subject.bundle
        if isinstance(bundle.config, LiTConfig):
            raise InputError(
                f"{bundle.where} matches images with words, so `data` cannot score it here: "
                "leave it out and use  vitsmith evaluate --zeroshot"
            )
        if not bundle.classes or getattr(bundle.config, "pooling", "") in ("unpooled", "token_unpooled"):
            raise InputError(f"{bundle.where} does not give one class for an image: leave `data` out")
        refuse_regression(bundle, "top-1 accuracy")
        match_classes(bundle, samples)


def _reference(name: str, images: Sequence[Array], outputs: Array, bundle: Bundle) -> Reference:
    classes = 0 if bundle.head == "regression" else bundle.classes
    return Reference(name, tuple(images), outputs, bundle.labels, classes)


def _tensors(images: Sequence[Array], bundle: Bundle) -> Array:
    return np.stack([preprocess(image, bundle.preprocessing) for image in images])


def _run(run: Any, tensors: Array) -> Array:
    return np.concatenate([run(tensors[at : at + TOGETHER]) for at in range(0, len(tensors), TOGETHER)])
