"""The teacher of a distillation: a bundle that answers for the student's images, normalised as it needs them.

Teacher and student see exactly the same view of an image, with its crop, flip and mixup ("consistent teaching",
arXiv 2106.05237). Where a view never changes, the answer is cached. B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vitsmith.data.augment.settings import AugmentSpec
from vitsmith.engines.open import open_engine
from vitsmith.errors import NOT_FINITE, BundleError, ConfigError, DatasetError, NotFiniteError
from vitsmith.finite import count_not_finite
from vitsmith.names import ambiguous_name, normal, positions_by_name
from vitsmith.records import Publication
from vitsmith.specs import ImageSpec
from vitsmith.training.images.teacher_cache import Answers
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.update.losses import DistillLoss
from vitsmith.training.update.precision import Precision
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.load import assumed, load

Forward = Callable[[Tensor], Tensor]


def open_teacher(
    recipe: TrainRecipe,
    classes: Sequence[str],
    images: ImageSpec,
    device: torch.device | str,
    tell: Callable[[str], None] = lambda _: None,
) -> DistillLoss:
    """The loss of the recipe's distillation, with its teacher on `device`; `images` is the student's preprocessing.

    `tell` receives what had to be assumed about the teacher.

    Raises ConfigError for a teacher that is no classifier of whole images, or whose head differs from the recipe's
    loss (softmax or sigmoid), DatasetError when it does not have exactly `classes` by name, and what `load` raises.
    """
    assert recipe.distill is not None
    chosen: dict[str, Any] = {**recipe.distill.teacher_read_as}
    bundle = load(recipe.distill.teacher, headless=None, image_size=recipe.distill.teacher_size, **chosen)
    _check_classifier(bundle)
    for note in assumed(bundle):
        tell(f"teacher: {note}")
    if bundle.head != recipe.loss.kind:
        each = "scores each class by itself" if bundle.head == "sigmoid" else "has classes that exclude each other"
        raise ConfigError(
            f"the teacher {bundle.where} {each} ({bundle.head}), but loss.kind is {recipe.loss.kind}: "
            f"set loss.kind={bundle.head}"
        )
    teacher = Teacher(
        bundle, classes, images, device, precision=recipe.run.precision, remember=is_repeating(recipe.augment)
    )
    return DistillLoss(teacher, recipe.distill, recipe.loss.kind)


def is_repeating(augment: AugmentSpec) -> bool:
    """Whether every pass over the data gives exactly the same tensors."""
    return (
        augment.area == (1, 1)
        and not augment.flip
        and augment.grade == "none"
        and not (augment.mixup_alpha or augment.color or augment.erasing)
    )


class Teacher:
    """Turns images (B, 3, h, w), normalised for the student, into the teacher's float32 logits (B, K), no gradients.

    The logits are in the order of `classes`, the student's, and raw, as in the papers: the temperature of the
    distillation softens both models alike (arXiv 1503.02531, section 2), and the teacher's own calibration would
    soften the teacher twice. So a calibration in the bundle is not used.

    Images are renormalised, and resized (bilinear, antialiased) when the teacher takes another size: the teacher sees
    no more detail than the student.
    """

    def __init__(
        self,
        bundle: Bundle,
        classes: Sequence[str],
        images: ImageSpec,
        device: torch.device | str = "cpu",
        *,
        precision: Precision = "fp32",
        remember: bool = False,
    ) -> None:
        _check_classifier(bundle)
        bundle.check_preprocessing("--teacher-read-as")
        self._where = bundle.where
        self.publication = Publication(**bundle.provenance.publication)
        self.identity = _identity(bundle)
        """The identity of the bundle; '' for a program that does not record what it was exported from."""
        self._columns = torch.tensor(_columns(bundle, classes), device=device)
        self._view = View(images, bundle.preprocessing, device)
        self._run = _torch_run(bundle, device, precision) if bundle.program == "torch" else _engine_run(bundle)
        self._answers = Answers(images.size, device) if remember else None

    @property
    def cached_share(self) -> float:
        """The share of images so far whose answers were in the cache; 0 where augmentation changes the images."""
        return self._answers.share if self._answers is not None else 0.0

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        return self._answer(images) if self._answers is None else self._answers.get(images, self._answer)

    def _answer(self, images: Tensor) -> Tensor:
        answers = self._run(self._view(images)).float()[:, self._columns]
        if count_not_finite(answers):
            raise NotFiniteError(
                f"the teacher {self._where} gives answers that are {NOT_FINITE}: set run.precision to fp32, or take "
                "another teacher"
            )
        return answers


class View:
    """Turns tensors normalised by one ImageSpec into those of another, at its size."""

    def __init__(self, given: ImageSpec, wanted: ImageSpec, device: torch.device | str) -> None:
        given_mean, given_std, mean, std = (
            torch.tensor(values, dtype=torch.float64)[:, None, None]
            for values in (given.mean, given.std, wanted.mean, wanted.std)
        )
        # ((x * given_std + given_mean) - mean) / std, as one multiplication and one addition
        self._scale = (given_std / std).float().to(device)
        self._shift = ((given_mean - mean) / std).float().to(device)
        self._same = (given.mean, given.std) == (wanted.mean, wanted.std)
        self._size = wanted.size

    def __call__(self, images: Tensor) -> Tensor:
        if tuple(images.shape[2:]) != self._size:
            images = F.interpolate(images, self._size, mode="bilinear", antialias=True, align_corners=False)
        return images if self._same else images * self._scale + self._shift


def _identity(bundle: Bundle) -> str:
    try:
        return bundle.identity
    except BundleError:  # exported before bundles had a hash of their weights
        return ""


_ASKED = 10_000
"""The least images that a run gives its teacher: enough for the search of the fastest engine to pay."""


def _torch_run(bundle: Bundle, device: torch.device | str, precision: Precision) -> Forward:
    kind = torch.device(device).type
    model = bundle.model.to(device).requires_grad_(False)

    def run(images: Tensor) -> Tensor:
        with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
            return model(images)

    return run


def _engine_run(bundle: Bundle) -> Forward:
    """Exported programs run where their engine does, in their own precision."""
    engine = open_engine(bundle, num_images=_ASKED)
    return lambda images: torch.from_numpy(engine.run(images.cpu().numpy())).to(images.device)


def _check_classifier(bundle: Bundle) -> None:
    config = bundle.config
    if not bundle.classes:
        raise ConfigError(f"the teacher {bundle.where} has no classifier: fine-tune it on this data first")
    if bundle.head == "regression":
        raise ConfigError(f"the teacher {bundle.where} gives values (a regression), not classes: take a classifier")
    if getattr(config, "pooling", "").endswith("unpooled"):
        raise ConfigError(f"the teacher {bundle.where} gives logits for every token: take one with 'token' or 'gap'")


def _columns(bundle: Bundle, classes: Sequence[str]) -> list[int]:
    """The positions of `classes` among the teacher's logits."""
    if bundle.labels is None:
        raise DatasetError(
            f"the teacher {bundle.where} does not name its {bundle.classes} classes, so they cannot be matched with "
            "the data's: fine-tune it on this data first, or save it as a bundle with labels"
        )
    positions, shown = positions_by_name(bundle.labels.names), bundle.labels.shown
    if unclear := next(filter(None, (ambiguous_name(name, bundle.labels.names) for name in classes)), ""):
        raise DatasetError(f"the teacher {bundle.where} cannot be matched with the data: {unclear}")
    missing = [name for name in classes if normal(name) not in positions]
    found = [positions[normal(name)][0] for name in classes if normal(name) in positions]
    extra = [shown[index] for index in sorted(set(range(len(shown))) - set(found))]
    if missing or extra:
        told = [
            f"{verb} {len(names)} {what}, the first is {names[0]!r}"
            for names, verb, what in (
                (missing, "it does not know", "of the data's"),
                (extra, "it knows", "that the data does not have"),
            )
            if names
        ]
        raise DatasetError(
            f"the teacher {bundle.where} has other classes: {'; '.join(told)}. Fine-tune it on this data first"
        )
    return found
