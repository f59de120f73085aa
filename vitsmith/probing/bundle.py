"""The bundle of a probe: the backbone with its linear head, and the gate between what was measured and what is written.

N held-out images, D features, K classes.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitsmith.arrays import Array
from vitsmith.data.images.preprocess import load_image
from vitsmith.data.images.read import Rgb
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.data.images.sources import ImageSource, is_encoded, read_bytes
from vitsmith.data.sets.samples import Samples
from vitsmith.data.sets.split_record import SplitRecord
from vitsmith.errors import DatasetError, ImageError
from vitsmith.evaluation.accuracy import right_answers
from vitsmith.evaluation.scores import Scores, score_logits
from vitsmith.files.atomic import remove_empty
from vitsmith.gate import Measured, Paired, Requirements, agreement_of, failures, relative_difference
from vitsmith.machine import describe_machine
from vitsmith.models.config import merges
from vitsmith.predict import Predictor
from vitsmith.probing.backbone import Backbone
from vitsmith.probing.classifiers.steps import OnStep, unwatched
from vitsmith.probing.features import FrozenFeatures, content_key
from vitsmith.probing.kinds import Kind
from vitsmith.records import Measurement, Provenance
from vitsmith.specs import Labels
from vitsmith.version import __version__
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import read_bundle, write_bundle
from vitsmith.weights.bundle.measurements import accuracy

GATE_IMAGES = 256
"""Held-out images that the bundle on disk must answer as the probe did, evenly chosen: each runs through the model."""
GOLDEN_IMAGES = 4

REQUIRED = Requirements(relative=2e-3, agreement=1.0)
"""Requirements for features in float32: as golden outputs, whose sums another batch adds in another order.
Which of two classes that are equal within that comes first may differ, and with it the accuracy."""
REQUIRED_MERGING = Requirements(relative=0.05, agreement=0.98, accuracy_drop=1.0)
"""For a model that merges tokens, where rounding may merge another pair."""
REQUIRED_ROUNDED = Requirements(relative=0.3, agreement=0.95, accuracy_drop=1.0)
"""For features in another precision than float32: the bundle computes in float32 and is not rounded so."""


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier on the features of one kind."""

    kind: Kind
    weight: Tensor
    """float32 (K, D), on features as the model gives them."""
    bias: Tensor
    """float32 (K,)."""
    told: str
    """How it was found, for the bundle's notes."""

    def logits(self, features: Tensor) -> Array:
        """float32 (N, K) for features (N, D)."""
        return torch.addmm(self.bias, features, self.weight.T).numpy()


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The held-out images of a probe with their features of the head's kind."""

    samples: Samples
    features: FrozenFeatures
    values: Tensor
    """(N, D)."""
    data: str
    """The name of the data set."""

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        return self.features.labels.numpy()

    @property
    def gate_images(self) -> int:
        """How many of them the bundle must answer."""
        return min(len(self.features), GATE_IMAGES)


def make_bundle(backbone: Backbone, head: Head, held_out: HeldOut, record: SplitRecord, notes: Sequence[str]) -> Bundle:
    """The bundle of a probe in memory; its golden examples and scores are of held-out images, `notes` say what to know.

    Publisher and licence of the backbone's weights hold for it too.
    """
    bundle = Bundle.of(
        backbone.classifier(head.kind, head.weight, head.bias),
        preprocessing=backbone.spec,
        labels=Labels(names=held_out.samples.classes),
        provenance=Provenance(
            source=f"vitsmith probe on {held_out.data}",
            kind="trained",
            parent=backbone.bundle.where,
            date=datetime.date.today().isoformat(),
            vitsmith=__version__,
            notes=(head.told, *notes, *_rounding(backbone)),
            **backbone.bundle.provenance.publication,
        ),
        measurements=_measurements(score_logits(head.logits(held_out.values), held_out.labels), held_out, backbone),
    )
    return bundle.with_golden(_golden_images(held_out) or sample_images(GOLDEN_IMAGES)).with_split(record)


def write_checked(
    bundle: Bundle,
    folder: Path,
    backbone: Backbone,
    head: Head,
    held_out: HeldOut,
    on_step: OnStep = unwatched,
) -> Gated:
    """Writes the bundle, reads it again as a user would, and compares its answers with those of the probe.

    Where they differ nothing is left in `folder`. `on_step` is called for each image that it answers. Raises
    DatasetError for an image that was replaced meanwhile, and OutputError.
    """
    written = write_bundle(bundle, folder)
    try:
        gated = _compare(written, backbone, head, held_out, on_step)
    except BaseException:
        _remove(folder)
        raise
    if gated.failures:
        _remove(folder)
        return gated
    return replace(gated, bundle=written)


@dataclass(frozen=True, eq=False)
class Gated:
    """What the gate found of a probe's bundle."""

    measured: Measured
    required: Requirements
    failures: tuple[str, ...]
    num_images: int
    bundle: Bundle | None = None
    """The bundle on disk; None where it was refused."""

    def to_dict(self) -> dict[str, object]:
        """Plain data, ready for JSON."""
        return {
            "num_images": self.num_images,
            "difference": self.measured.relative,
            "agreement": self.measured.agreement,
            "failures": list(self.failures),
        }


def _compare(written: Bundle, backbone: Backbone, head: Head, held_out: HeldOut, on_step: OnStep) -> Gated:
    count = len(held_out.features)
    rows = np.unique(np.linspace(0, count - 1, held_out.gate_images).round().astype(np.int64))
    sources = [_unchanged(held_out, row) for row in rows.tolist()]
    reopened = read_bundle(folder) if (folder := written.folder) is not None else written
    required = _required(backbone)
    expected = head.logits(held_out.values[torch.from_numpy(rows)])
    found = Predictor(reopened, "torch").logits(_counted(sources, on_step))
    labels = held_out.labels[rows]
    tie = required.relative if required.relative is not None else 0.0
    measured = Measured(
        relative=relative_difference(expected, found),
        agreement=agreement_of(expected, found, tie),
        agrees="it names the class that the probe named for {:.1%} of the held-out images",
        accuracy=Paired.of(right_answers(expected, labels), right_answers(found, labels)),
    )
    reasons = failures(measured, required)
    if reasons:
        reasons = (*reasons, _where(reopened, held_out, rows, sources, tie))
    return Gated(measured, required, reasons, len(rows))


def _counted(sources: Sequence[ImageSource], on_step: OnStep) -> Iterator[ImageSource]:
    for source in sources:
        yield source
        on_step()


def _where(reopened: Bundle, held_out: HeldOut, rows: np.ndarray, sources: list[ImageSource], allowed: float) -> str:
    """The first part of the model that differs: its features, or the head on them."""
    few = slice(0, 8)
    tensors = np.stack([load_image(source, reopened.preprocessing) for source in sources[few]])
    with torch.inference_mode():
        model = reopened.model
        device = next(model.parameters()).device
        found = model.features(torch.from_numpy(tensors).to(device)).pooled.float().cpu().numpy()  # type: ignore[operator]
    expected = held_out.values[torch.from_numpy(rows[few])].numpy()
    difference = relative_difference(expected, found)
    if difference > allowed:
        return f"the first part that differs are the features (relative difference {difference:.2g})"
    return "its features are the same, and the head's answers differ"


def _required(backbone: Backbone) -> Requirements:
    if backbone.rounded:
        return REQUIRED_ROUNDED
    return REQUIRED_MERGING if merges(backbone.bundle.config) else REQUIRED


def _unchanged(held_out: HeldOut, row: int) -> ImageSource:
    """The image of a row, read again. Raises DatasetError if it is another than the one with those features."""
    index = int(held_out.features.indices[row])
    try:
        source = held_out.samples.sources[index]
        held = read_bytes(source) if is_encoded(source) else source
        same = content_key(held) == held_out.features.contents[row]
    except ImageError:
        same = False
    if not same:
        raise DatasetError(
            f"{held_out.samples.names[index]} was replaced or removed while the probe ran: run it again, features that "
            "were computed are in the cache"
        )
    return held


def _golden_images(held_out: HeldOut) -> list[Rgb]:
    """Held-out images, evenly chosen."""
    readable = held_out.features.indices.tolist()
    found = []
    for index in readable[:: max(len(readable) // GOLDEN_IMAGES, 1)][:GOLDEN_IMAGES]:
        with suppress(ImageError):
            found.append(held_out.samples.image(index))
    return found


def _measurements(scores: Scores, held_out: HeldOut, backbone: Backbone) -> tuple[Measurement, ...]:
    """The scores of the probe. They have a precision where the features do not have that of the bundle."""
    machine = describe_machine()
    data = f"{held_out.data}, {scores.num_images} held-out images"
    precision = backbone.torch_precision if backbone.rounded else ""
    return (
        accuracy(scores.top1, data, machine, interval=scores.top1_interval, precision=precision),
        accuracy(scores.top5, data, machine, metric="top5", precision=precision),
        accuracy(scores.calibration_error, data, machine, metric="calibration_error", precision=precision),
    )


def _rounding(backbone: Backbone) -> tuple[str, ...]:
    if not backbone.rounded:
        return ()
    return (
        f"its scores are of features in {backbone.torch_precision}, to which the head was fitted; these weights "
        "compute in fp32: vitsmith evaluate measures them",
    )


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    remove_empty(folder)
