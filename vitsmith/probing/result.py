"""The result of a probe: every model with the scores of every method, and the bundle of the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitsmith.errors import GateError, UnknownNameError, about
from vitsmith.probing.bundle import Gated
from vitsmith.probing.classifiers.choice import Choice
from vitsmith.probing.classifiers.prototypes import FewShot
from vitsmith.probing.classifiers.scores import MethodScore
from vitsmith.probing.kinds import Kind
from vitsmith.weights.bundle.bundle import Bundle

METHODS = ("k-NN", "ridge", "logistic", "zero-shot")
"""The methods of a table, in order."""


@dataclass(frozen=True, eq=False)
class ModelProbe:
    """One model: what its features are, and how good each method is on them."""

    name: str
    features: Kind
    """The kind of features that all scores are of."""
    width: int
    """D, the numbers of an image."""
    engine: str
    precision: str
    scores: tuple[MethodScore, ...]
    """Of the held-out images."""
    shots: tuple[FewShot, ...]
    """Class means of few images: a row for each number of them that the classes have."""
    choice: Choice
    """How the regularisation of the logistic probe was chosen."""
    cross_validated: float | None
    """Accuracy of the logistic probe in cross-validation; models are compared by it. None where nothing is left out."""
    validated: dict[Kind, float | None]
    """The same for each kind of features that was tried."""
    seen: int = 0
    """Training images of the probe that the model was trained on before: cross-validation is too good for it then."""
    warnings: tuple[str, ...] = ()
    """Why its numbers may be too good, and what was left out."""
    remarks: tuple[str, ...] = ()
    cached: int = 0
    """Images whose features were in the cache."""
    seconds: float = 0.0
    """Time of the pass over the images."""
    fitting_seconds: float = 0.0
    """Time of everything after it."""

    def score(self, method: str) -> MethodScore | None:
        """The score of one of `METHODS`; None where the model has none, as of zero-shot without a text tower.

        Raises InputError for another method.
        """
        if method not in METHODS:
            raise UnknownNameError("method", method, METHODS)
        return next((one for one in self.scores if one.method == method), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "model": self.name,
            "features": self.features,
            "width": self.width,
            "engine": self.engine,
            "precision": self.precision,
            "cross_validated": self.cross_validated,
            "validated": dict(self.validated),
            "choice": self.choice.to_dict(),
            "scores": [one.to_dict() for one in self.scores],
            "shots": [one.to_dict() for one in self.shots],
            "cached": self.cached,
            "seconds": self.seconds,
            "fitting_seconds": self.fitting_seconds,
            "seen": self.seen,
            "warnings": list(self.warnings),
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True)
class Failed:
    """A model that could not be probed, and why."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False, repr=False)
class Probed:
    """The result of a probe."""

    data: str
    classes: tuple[str, ...]
    train_images: int
    held_out_images: int
    models: tuple[ModelProbe, ...]
    """In the order in which they were given."""
    failed: tuple[Failed, ...]
    best: ModelProbe
    """The best model by cross-validation on the training images; the held-out images do not choose. Models that were
    trained on these images come after the others."""
    gated: Gated | None = None
    """What the gate found of the bundle; None where none was made."""
    no_bundle: str = ""
    """Why no bundle was made, in a sentence; '' where there is one or none was asked for."""
    remarks: tuple[str, ...] = ()
    """What to know about the images and the bundle; `ModelProbe.warnings` is about a model."""
    folder: Path | None = None
    """The folder of the run."""
    bundle: Bundle | None = None
    """The bundle on disk of `bundled` with its logistic probe."""
    bundled: ModelProbe | None = None
    """The model of the bundle, written or refused: `best`, or the best with weights where that is an exported program;
    None where no bundle was made."""

    @property
    def chosen(self) -> str:
        """How the best of several models was chosen, for a sentence."""
        if self.best.seen:
            return "by cross-validation on images that it was trained on: the number is too good"
        if any(one.seen for one in self.models):
            return "by cross-validation, of the models that were not trained on the training images"
        return "by cross-validation"

    @property
    def told(self) -> tuple[str, ...]:
        """The remarks on images and bundle and the warnings on each model, with its name."""
        return (*self.remarks, *(about(one.name, told) for one in self.models for told in one.warnings))

    def require(self) -> None:
        """Raises GateError where the bundle did not answer as the probe did and so was not written."""
        if self.gated is not None and self.gated.failures:
            assert self.bundled is not None
            raise GateError(
                f"the bundle of {self.bundled.name} was refused and not written: {'; '.join(self.gated.failures)}; the "
                "scores are of the features and stand"
            )

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The columns of a table of models and methods, and its rows as text."""
        methods = [one for one in METHODS if any(model.score(one) for model in self.models)]
        shown = [self.most_shots] if self.most_shots else []
        columns = (
            "model",
            "features",
            *methods,
            *(f"{count} shot{'' if count == 1 else 's'}" for count in shown),
            "cross-validated",
        )
        rows = []
        for model in self.models:
            cells = [_told(model.score(method)) for method in methods]
            cells += [shots_told(model, count) for count in shown]
            validated = "" if model.cross_validated is None else f"{model.cross_validated:.1%}"
            mark = " *" if model is self.best and len(self.models) > 1 else ""
            rows.append((model.name + mark, f"{model.features} ({model.width:,})", *cells, validated))
        return columns, rows

    @property
    def most_shots(self) -> int:
        """The largest number of shots that any model has a score of; 0 for none."""
        return max((row.shots for one in self.models for row in one.shots), default=0)

    def __str__(self) -> str:
        columns, rows = self.table()
        widths = [max(len(row[at]) for row in (columns, *rows)) for at in range(len(columns))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (columns, *rows)
        ]
        lines += [about(one.name, one.reason) for one in self.failed]
        lines += self.told
        return "\n".join(lines)

    def __repr__(self) -> str:
        names = ", ".join(one.name for one in self.models)
        return f"<Probed {names} on {self.data}: {self.held_out_images:,} held-out images>"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "data": self.data,
            "classes": list(self.classes),
            "train_images": self.train_images,
            "held_out_images": self.held_out_images,
            "best": self.best.name,
            "chosen": self.chosen,
            "bundled": None if self.bundled is None else self.bundled.name,
            "models": [one.to_dict() for one in self.models],
            "failed": [{"model": one.name, "reason": one.reason} for one in self.failed],
            "gate": None if self.gated is None else self.gated.to_dict(),
            "no_bundle": self.no_bundle,
            "bundle": None if self.bundle is None else str(self.bundle.folder),
            "remarks": list(self.remarks),
        }


def _told(score: MethodScore | None) -> str:
    """'91.2% (89.0 to 93.1)'; '' for no score."""
    return "" if score is None else share_told(score.accuracy, score.interval)


def shots_told(model: ModelProbe, count: int) -> str:
    """The accuracy of prototypes of so many images, with its interval; '' where there is none."""
    row = next((one for one in model.shots if one.shots == count), None)
    return "" if row is None else share_told(row.accuracy, row.interval)


def share_told(share: float, interval: Sequence[float]) -> str:
    """'91.2% (89.0 to 93.1)': a share and its 95% interval."""
    low, high = interval
    return f"{share:.1%} ({100 * low:.1f} to {100 * high:.1f})"


def worst_classes(result: Probed, count: int) -> list[tuple[str, float]]:
    """The classes that the logistic probe on the best model does not always name, worst first, and its accuracy."""
    score = result.best.score("logistic")
    if score is None:
        return []
    shares = zip(result.classes, score.per_class, strict=True)
    wrong = [(name, share) for name, share in shares if share is not None and share < 1]
    return sorted(wrong, key=lambda one: one[1])[:count]
