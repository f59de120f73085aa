"""The gate passes what is the same and refuses, with the reason, whatever is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vitsmith.errors import GateError, InputError
from vitsmith.gate import (
    SAME_ANSWERS,
    Requirements,
    agreement_of,
    compare,
    first_difference,
    relative_difference,
)

Array = np.ndarray[Any, Any]
IMAGES = np.random.default_rng(0).normal(size=(9, 3, 4, 4)).astype(np.float32)
MATRIX = np.random.default_rng(1).normal(size=(48, 5)).astype(np.float32)


def reference(images: Array) -> Array:
    return images.reshape(len(images), -1) @ MATRIX


def scaled(factor: float) -> Callable[[Array], Array]:
    return lambda images: reference(images) * np.float32(factor)


def seen_batches(candidate: Callable[[Array], Array], count: int = 9) -> list[int]:
    sizes = []
    compare(reference, lambda images: sizes.append(len(images)) or candidate(images), IMAGES[:count])
    return sizes


def test_what_is_the_same_passes() -> None:
    verdict = compare(reference, lambda images: reference(images) * np.float32(1.0001), IMAGES)
    assert verdict.passed and verdict.num_images == 9 and verdict.agreement == 1.0
    assert verdict.relative == pytest.approx(1e-4, rel=0.01)
    verdict.require("the export")


def test_embeddings_have_no_top1() -> None:
    mixed = compare(reference, scaled(-1), IMAGES, Requirements(agreement=1.0), embeddings="texts")
    assert mixed.failures == (
        "the largest number is at the same position in 0.0% of the embeddings of texts (required 100.0%)",
    )
    assert "agreement" not in mixed.to_dict() and "top-1" not in str(mixed)
    both = replace(mixed, failures=(), num_texts=4)
    assert str(both).startswith("passed, difference ") and str(both).endswith(" on 9 images and 4 texts")
    assert both.to_dict()["num_texts"] == 4


def test_every_size_is_tried_and_few_images_are_repeated() -> None:
    assert seen_batches(reference) == [1] * 9 + [2] * 4 + [7]
    assert seen_batches(reference, count=3) == [1] * 3 + [2] + [7]


def frozen_at(size: int) -> Callable[[Array], Array]:
    def run(images: Array) -> Array:
        if len(images) != size:
            raise RuntimeError(f"Got invalid dimensions: expected {size}\nand more lines")
        return reference(images)

    return run


def last_row_wrong(images: Array) -> Array:
    logits = reference(images)
    if len(images) == 7:
        logits[-1] = -logits[-1]
    return logits


@pytest.mark.parametrize(
    ("candidate", "problem"),
    [
        (scaled(1.01), r"outputs differ by 0\.01 of the largest \(allowed 0\.001\)"),
        (scaled(-1), r"top-1 agrees on 0\.0% of the images \(required 100\.0%\)"),
        (last_row_wrong, "outputs differ by"),
        (frozen_at(1), r"batches of 2 do not run \(Got invalid dimensions: expected 1\); batches of 7 do not run"),
        (lambda images: reference(images)[:, :4], r"batches of 1 give shape \(9, 4\), expected \(9, 5\)"),
        (lambda images: reference(images)[:1], r"batches of 2 give shape \(4, 5\), expected \(8, 5\)"),
        (scaled(float("nan")), "outputs differ by inf"),
        (scaled(float("inf")), "outputs differ by inf"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_what_differs_is_refused(candidate: Callable[[Array], Array], problem: str) -> None:
    verdict = compare(reference, candidate, IMAGES)
    assert not verdict.passed
    with pytest.raises(GateError, match=rf"^the export was refused, nothing was written: .*{problem}") as refused:
        verdict.require("the export")
    assert refused.value.exit_code == 3 and "\n" not in str(refused.value)


def test_a_broken_reference_is_no_yardstick() -> None:
    assert not compare(scaled(float("nan")), reference, IMAGES, replace(SAME_ANSWERS, agreement=0.0)).passed


def test_nothing_to_compare_is_an_error_and_no_pass() -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        compare(reference, reference, IMAGES[:0])
    with pytest.raises(InputError, match="nothing to compare"):
        compare(reference, reference, IMAGES, Requirements(batches=()))


def test_requirements_are_the_callers() -> None:
    assert compare(reference, scaled(1.01), IMAGES, Requirements(relative=0.02)).passed
    lenient = Requirements(relative=10.0, agreement=0.5, batches=(3,))
    assert compare(reference, frozen_at(3), IMAGES, lenient).passed


def test_the_first_layer_that_differs_is_named_only_after_a_failure() -> None:
    one, other = np.ones((2, 3)), np.full((2, 3), 1.5)

    def layers(batch: Array) -> list[tuple[str, Array, Array]]:
        assert len(batch) == 2
        return [("patches", one, one), ("blocks.0.norm1", one, other), ("blocks.0", one, -one)]

    verdict = compare(reference, scaled(1.5), IMAGES, layers=layers)
    assert verdict.first_layer == "blocks.0.norm1 (relative difference 0.5)"
    with pytest.raises(GateError, match=r"the first layer that differs is blocks\.0\.norm1"):
        verdict.require("the export")
    assert compare(reference, reference, IMAGES, layers=layers).first_layer == ""
    assert first_difference([("a", one, one[:1])], 0.1) == "a (shape (1, 3) instead of (2, 3))"


def test_a_layer_is_named_where_no_difference_of_outputs_is_asked() -> None:
    one = np.ones((2, 3))
    for differing, told in (
        (one * 1.5, "head (relative difference 0.5)"),
        (one * np.nan, "head (relative difference inf)"),
    ):
        verdict = compare(
            reference,
            scaled(-1),
            IMAGES,
            Requirements(agreement=1.0),
            layers=lambda _, differing=differing: [("patches", one, one), ("head", one, differing)],
        )
        assert verdict.first_layer == told
    assert first_difference([("head", one, one * np.nan)], np.inf) == "head (relative difference inf)"


def test_layers_that_do_not_run_do_not_hide_the_verdict() -> None:
    def layers(_: Array) -> Any:
        raise RuntimeError("no such tensor")

    verdict = compare(reference, frozen_at(1), IMAGES, layers=layers)
    with pytest.raises(GateError, match=r"batches of 2 do not run.*the layers do not run \(no such tensor\)"):
        verdict.require("the export")


def test_ties_within_the_tolerance_agree() -> None:
    expected = np.array([[10.0, 9.9999, 0.0], [10.0, 5.0, 0.0]])
    assert agreement_of(expected, expected[:, [1, 0, 2]], 1e-3) == 0.5
    assert agreement_of(expected, expected[:, [1, 0, 2]], 0.6) == 1.0
    assert relative_difference(expected, expected + 0.1) == pytest.approx(0.01)
    patches = np.zeros((2, 6, 3))
    assert agreement_of(patches, patches, 1e-3) == 1.0 and relative_difference(patches, patches) == 0.0
