"""Token merging behind its gate: a schedule for the same weights; the answers must stay and time must be saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.compress.images import TaskImages
from vitsmith.compress.merge_tokens.result import BATCH, REQUIRED, Merged, Try
from vitsmith.compress.merge_tokens.schedule_search import IMAGES, SchedulePlanner
from vitsmith.compress.merge_tokens.schedules import MergeTarget, Numbers, describe, fit, image_tower, saved
from vitsmith.compress.result import Listener, Told
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.data.images.sources import ImageSource
from vitsmith.engines.open import open_engine
from vitsmith.errors import InputError
from vitsmith.evaluation.accuracy import right_answers
from vitsmith.evaluation.evaluation import refuse_regression
from vitsmith.evaluation.speed import Race, Runner, Speedup, measure_speedup
from vitsmith.gate import Paired, Requirements, mean_cosine, refusing
from vitsmith.machine import describe_machine
from vitsmith.models.build import build
from vitsmith.models.config import LiTConfig, ViTConfig
from vitsmith.models.configure import change
from vitsmith.models.cost import flops
from vitsmith.stream import ImageStream
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.measurements import accuracy

SAMPLES = 32
"""Sample photographs that are used where the user gives no images; as many calibrate as evaluate."""
GOLDEN_IMAGES = 2
CANDIDATES = 8
"""Sample photographs from which golden images are chosen, beside the original's golden images."""


def merge_by(bundle: Bundle, ratio: float, kind: str = "constant") -> Bundle:
    """The same model with 1 / `ratio` of the arithmetic for an image, by a constant or decreasing schedule.

    Nothing is evaluated, and both models share their weights. Raises InputError for a model without tokens to merge,
    and for a ratio that no such schedule reaches.
    """
    tower = check_mergeable(bundle)
    return merged_bundle(bundle, fit(tower, kind, ratio=ratio), share=True)


def check_mergeable(bundle: Bundle) -> ViTConfig:
    """Return the configuration of the tower whose tokens merge.

    Raises InputError for models without one, ConfigError for parts that do not go with merging.
    """
    bundle.check_split()
    if bundle.program != "torch":
        raise InputError(
            f"{bundle.where} is an exported program (model.{bundle.program}): merge in the bundle it was made from, "
            "and export that"
        )
    refuse_regression(bundle, "agreement of first choices")
    tower = image_tower(bundle.config, bundle.where)
    change(tower, merge=(1, *(0,) * (tower.depth - 1)))
    return tower


def merged_bundle(bundle: Bundle, numbers: Numbers, *, share: bool = False) -> Bundle:
    """The same weights in a model whose blocks merge `numbers` tokens each; without golden examples.

    With `share` both models share the arrays of their weights, so that neither must be trained.
    """
    tower = check_mergeable(bundle)
    merging = change(tower, merge=numbers)
    lit = isinstance(bundle.config, LiTConfig)
    config = change(bundle.config, image=merging.model_dump()) if lit else merging
    model = build(config, device="meta")
    model.load_state_dict(
        {
            name: array.detach().cpu() if share else array.detach().cpu().clone()
            for name, array in bundle.model.state_dict().items()
        },
        assign=True,
    )
    note = f"tokens merged: {describe(numbers)}; {tower.tokens - sum(numbers)} of {tower.tokens} are left"
    return bundle.derive(model, note, by=f"vitsmith merge-tokens {bundle.where}", kind="merged")


def sample_photos(bundle: Bundle) -> TaskImages:
    """Images for users who give none: sample photographs, and the bundle's golden images for evaluation."""
    golden = list(bundle.golden.images) if bundle.golden else []
    samples = sample_images(2 * SAMPLES)
    # by default, golden images are sample photographs too
    photos = [photo for photo in samples if not any(np.array_equal(photo, one) for one in golden)]
    evaluation = (golden + photos[SAMPLES:])[:SAMPLES]
    return TaskImages.of(photos[:SAMPLES], evaluation, f"{len(evaluation)} golden and sample photographs")


def merge(
    bundle: Bundle,
    target: MergeTarget,
    images: TaskImages,
    required: Requirements = REQUIRED,
    *,
    race: Race = measure_speedup,
    listener: Listener = lambda _: None,
) -> Merged:
    """Merges to the target, compares with the original on the evaluation images, and measures both; writes nothing.

    Without a ratio or number of tokens the ratios of RATIOS are tried until one passes. `race` times engines in turns.
    `Merged.require` refuses a result that falls short. Raises InputError for a model or target that cannot be merged.
    """
    tower = check_mergeable(bundle)
    if bundle.classes == 0 and images.labels is not None:
        raise InputError(f"{bundle.where} has no classes of its own, and cannot be evaluated on labels: give `images`")
    required.check_measured("merge", "accuracy_drop", "agreement", "any_speedup")
    required.of_answers(labelled=images.labels is not None, classes=bundle.classes > 0)  # before any work
    required.check_tells(len(images.evaluation))
    if not any(remark.startswith("evaluating on ") for remark in images.remarks):  # which the user has seen
        listener(Told(f"evaluating on {images.name}"))
    expected = _answers(bundle, images.evaluation.sources)
    count = min(IMAGES, len(images.calibration))
    planner = SchedulePlanner(
        tower,
        target,
        _answers_of_schedules(bundle, images),
        classes=bundle.classes > 0,
        on_search=lambda: listener(Told(f"searching: measuring what each block loses, on {count} calibration images")),
    )
    tries: list[Try] = []
    for one in planner.targets:
        try:
            numbers = planner.plan(one)
        except InputError:
            if one is planner.targets[-1] and not tries:
                raise
            continue  # a smaller ratio may be possible
        merged = merged_bundle(bundle, numbers)
        with refusing(_merging(bundle)):
            tries.append(_evaluated(tower, merged, numbers, images, expected))
        found = Merged(merged, bundle, images, required, target.kind, tuple(tries), planner.compared)
        left = f"{1 / tries[-1].ratio:.0%} of the FLOPs left"
        listener(Told(f"{left}: {found.what} {tries[-1].agreement:.2%}"))
        if not found.wrong:
            break
    if found.wrong:
        return found
    with refusing(_merging(bundle)):
        merged = merged.with_golden(_steady_images(bundle, merged))
    listener(Told("measuring the speed of both, in turns"))
    found = replace(found, bundle=merged, speedup=_speedup(bundle, merged, race))
    return replace(found, bundle=_described(found))


def _answers_of_schedules(bundle: Bundle, images: TaskImages) -> Callable[[Numbers], Array]:
    """What gives the outputs (images, width) of the model with a schedule, each computed once."""
    sources = images.calibration.sources[:IMAGES]

    @cache
    def answers(numbers: Numbers) -> Array:
        merged = merged_bundle(bundle, numbers, share=True) if any(numbers) else bundle
        with refusing(_merging(bundle)) if any(numbers) else nullcontext():
            return _answers(merged, sources)

    return answers


class _Torch:
    """Runs a bundle's torch model as it is, because weights are compared here, not engines."""

    name, precision, why = "torch", "float32", ""

    def __init__(self, bundle: Bundle) -> None:
        self.run = bundle.run_torch


def _answers(bundle: Bundle, sources: Sequence[ImageSource]) -> Array:
    """Outputs (images, width). Raises ImageError for unreadable images, NotFiniteError for NaN and infinity."""
    engine: Any = _Torch(bundle)
    rows = ImageStream(bundle.preprocessing, engine, batch_size=BATCH).rows(sources)
    assert rows is not None
    return rows


def _merging(bundle: Bundle) -> str:
    """Name of the merging in messages."""
    return f"merging of {bundle.where}"


def _evaluated(tower: ViTConfig, merged: Bundle, numbers: Numbers, images: TaskImages, expected: Array) -> Try:
    found = _answers(merged, images.evaluation.sources)
    if merged.classes:
        agreement = float((expected.argmax(axis=-1) == found.argmax(axis=-1)).mean())
    else:
        agreement = mean_cosine(expected, found)
    paired = None
    if images.labels is not None:
        before, after = (right_answers(logits, images.labels) for logits in (expected, found))
        paired = Paired.of(before, after)
    return Try(
        numbers=numbers,
        tokens=tower.tokens - sum(numbers),
        gflops=flops(tower) / saved(tower, numbers) / 1e9,
        ratio=saved(tower, numbers),
        agreement=agreement,
        accuracy=paired,
    )


def _steady_images(bundle: Bundle, merged: Bundle) -> list[Array]:
    """Golden images whose answers move least when their tensors move by what bfloat16 rounds.

    Which tokens are most alike can depend on the last bit, so another engine may merge other tokens. Golden answers are
    there to detect a wrong engine, so they are taken from images whose merging is clear.
    """
    golden = list(bundle.golden.images) if bundle.golden else []
    images = golden + sample_images(CANDIDATES)
    tensors = np.stack([preprocess(image, bundle.preprocessing) for image in images])
    expected, random = merged.run_torch(tensors), np.random.default_rng(0)
    moved = np.zeros(len(images))
    for _ in range(3):
        noise = random.uniform(-1, 1, tensors.shape).astype(np.float32) * np.abs(tensors) * 2.0**-8
        moved = np.maximum(moved, np.abs(merged.run_torch(tensors + noise) - expected).max(axis=-1))
    return [images[at] for at in sorted(np.argsort(moved, kind="stable")[:GOLDEN_IMAGES].tolist())]


def _speedup(bundle: Bundle, merged: Bundle, race: Race) -> Speedup:
    tensors = np.stack([preprocess(image, bundle.preprocessing) for image in sample_images(4)])
    before, after = (Runner(open_engine(one, "torch", precision="fp32")) for one in (bundle, merged))
    return race(before, after, np.resize(tensors, (BATCH, *tensors.shape[1:])))


def _described(found: Merged) -> Bundle:
    """The merged bundle with its measurements."""
    last = found.tries[-1]
    data, machine = found.images.name, describe_machine()
    metric = "agreement" if found.bundle.classes else "mean_cosine"
    measurements = [accuracy(last.agreement, data, machine, metric=metric)]
    if last.top1 is not None:
        measurements.append(accuracy(last.top1[1], data, machine))
    return found.bundle.measured(*measurements)
