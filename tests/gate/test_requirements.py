"""What is asked is compared with what was measured in one place, which fails closed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from vitsmith.errors import GateError, InputError
from vitsmith.gate import Measured, Paired, Requirements, doubts, failures, require

FEW = Paired(200, lost=1, gained=0, both=180)


@pytest.mark.parametrize(
    ("asked", "kept", "not_kept", "told"),
    [
        (
            {"relative": 0.01},
            {"relative": 0.01},
            {"relative": 0.02},
            "outputs differ by 0.02 of the largest (allowed 0.01)",
        ),
        (
            {"agreement": 0.99},
            {"agreement": 0.99},
            {"agreement": 0.98},
            "top-1 agrees on 98.0% of the images (required 99.0%)",
        ),
        (
            {"cosine": 0.9},
            {"cosine": 0.9},
            {"cosine": 0.8},
            "the cosine of outputs falls to 0.8000 (required 0.9)",
        ),
        (
            {"mean_cosine": 0.9},
            {"mean_cosine": 0.9},
            {"mean_cosine": 0.8},
            "the mean cosine of outputs is 0.8000 (required 0.9)",
        ),
        ({"top1": 0.9}, {"top1": 0.9}, {"top1": 0.89}, "top-1 is 89.0% (required 90.0%)"),
        (
            {"speedup": 1.2},
            {"speedup": 1.2},
            {"speedup": 1.19, "batch": 8},
            "it runs 1.19 times as fast in batches of 8 (required 1.2)",
        ),
        ({"latency_ms": 20}, {"latency_ms": 20}, {"latency_ms": 21}, "one image takes 21 ms (allowed 20)"),
        ({"memory_mib": 20}, {"memory_mib": 20}, {"memory_mib": 21}, "memory peaks at 21 MiB (allowed 20)"),
        ({"size_mib": 20}, {"size_mib": 20}, {"size_mib": 21}, "the files take 21 MiB (allowed 20)"),
        (
            {"any_speedup": 1.05},
            {"single_speedup": 0.9, "speedup": 1.06},
            {"single_speedup": 1.05, "speedup": 1.0, "batch": 16},
            "it runs 1.05 times as fast for one image, 1.00 in batches of 16 "
            "(required more than 1.05 for either)",
        ),
        (
            {"accuracy_drop": 0.5},
            {"accuracy": FEW},
            {"accuracy": Paired(1000, lost=8, gained=2, both=900)},
            "top-1 drops by 0.60 points, 95% interval -0.02 to 1.39, on 1,000 images (allowed 0.5)",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_each_bound_by_itself(asked: dict[str, float], kept: Any, not_kept: Any, told: str) -> None:
    required = Requirements(**asked)  # type: ignore[arg-type]
    assert failures(Measured(**kept), required) == ()
    assert failures(Measured(**not_kept), required) == (told,)
    assert failures(Measured(**not_kept), Requirements()) == (), "nothing is asked"
    missing = failures(Measured(), required)
    assert len(missing) == 1 and "was not measured" in missing[0]
    if "accuracy" not in kept:
        assert len(failures(Measured(**dict.fromkeys(kept, math.nan)), required)) == 1, "NaN keeps nothing"


def test_outputs_that_are_not_finite_are_refused_whatever_is_asked() -> None:
    assert failures(Measured(relative=math.inf), Requirements()) == ("outputs are not finite (NaN or infinity)",)


def test_just_what_is_allowed_is_allowed() -> None:
    assert 100 * (0.95 - 0.94) > 1  # as computers count
    assert failures(Measured(accuracy=Paired(1000, 29, 0, 900)), Requirements(accuracy_drop=2.9)) == ()
    assert failures(Measured(accuracy=Paired(1000, 30, 0, 900)), Requirements(accuracy_drop=2.9)) != ()


def test_all_that_is_not_kept_is_told() -> None:
    told = failures(Measured(latency_ms=30, memory_mib=1, size_mib=80), Requirements(latency_ms=20, size_mib=50))
    assert [one.split(" (")[0] for one in told] == ["one image takes 30 ms", "the files take 80 MiB"]
    with pytest.raises(
        GateError, match=r"^the export was refused, nothing was written: one image takes 30 ms .*; be brief$"
    ):
        require("the export", told, "be brief")
    require("the export", (), "be brief")


def test_too_few_images_are_told_with_how_many_would_do() -> None:
    required = Requirements(accuracy_drop=0.5)
    assert doubts(Measured(accuracy=Paired(100, 0, 0, 90)), required) == (
        "100 images are too few to tell whether top-1 drops by more than 0.5 points: the drop is 0.00, its 95% "
        "interval -3.70 to 3.70, and one image is worth 1 point; about 770 images would be enough",
    )
    assert "one image is worth 0.5 points;" in doubts(Measured(accuracy=Paired(200, 0, 0, 190)), required)[0]
    assert "one image is" not in doubts(Measured(accuracy=Paired(400, 0, 0, 390)), required)[0]
    (near,) = doubts(Measured(accuracy=FEW), required)
    assert "images do not tell whether" in near and near.endswith("more images may not tell either: allow more or less")
    assert "too few" not in near
    assert doubts(Measured(accuracy=Paired(5000, 5, 5, 4000)), required) == ()
    assert doubts(Measured(accuracy=FEW), Requirements()) == doubts(Measured(), required) == ()


def test_doubts_refuse_only_where_the_gate_is_strict() -> None:
    measured = Measured(accuracy=FEW)
    assert failures(measured, Requirements(accuracy_drop=0.5)) == ()
    strict = Requirements(accuracy_drop=0.5, strict=True)
    assert failures(measured, strict) == doubts(measured, strict) != ()
    assert failures(Measured(accuracy=Paired(5000, 5, 5, 4000)), strict) == ()
    lost = Measured(accuracy=Paired(200, 4, 0, 180))
    assert len(failures(lost, strict)) == 2, "too much is lost, and even that is not sure"


def test_labels_decide_where_there_are_some() -> None:
    required = Requirements(agreement=0.99, accuracy_drop=1, speedup=1.2)
    assert required.of_answers(labelled=True, classes=True) == Requirements(accuracy_drop=1)
    assert required.of_answers(labelled=False, classes=True) == Requirements(agreement=0.99)
    assert required.of_answers(labelled=False, classes=False) == Requirements(mean_cosine=0.99)
    with pytest.raises(InputError, match="a strict gate counts right answers: give it labelled images"):
        Requirements(agreement=0.99, strict=True).of_answers(labelled=False, classes=True)


@pytest.mark.parametrize(
    ("asked", "labelled", "told"),
    [
        (Requirements(agreement=0.99), True, "images with labels are compared by accuracy_drop, and it has no bound"),
        (Requirements(accuracy_drop=1), False, "images without labels are compared by agreement, and it has no bound"),
    ],
)
def test_what_decides_must_be_asked(asked: Requirements, labelled: bool, told: str) -> None:
    for classes in (True, False):
        with pytest.raises(InputError, match=told):
            asked.of_answers(labelled=labelled, classes=classes)


def test_what_is_asked_is_laid_over_what_is_usual() -> None:
    usual = Requirements(relative=0.1, cosine=0.9, tie=0.5)
    assert usual.with_changes(None) == usual and usual.with_changes(Requirements()) == usual
    assert usual.with_changes(Requirements(relative=0.2, accuracy_drop=1, batches=(3,), strict=True)) == Requirements(
        relative=0.2, cosine=0.9, accuracy_drop=1, tie=0.5, batches=(3,), strict=True
    )
    assert usual.only("cosine") == Requirements(cosine=0.9, tie=0.5)


def test_bounds_of_what_is_not_measured_are_refused_and_not_passed_over() -> None:
    Requirements(accuracy_drop=1, strict=True).check_measured("prune", "accuracy_drop", "speedup")
    with pytest.raises(
        InputError, match="prune does not measure cosine, latency_ms: it takes bounds of accuracy_drop, "
    ):
        Requirements(latency_ms=3, cosine=0.9).check_measured("prune", "accuracy_drop", "speedup")


@pytest.mark.parametrize("batches", [(0,), (1, -2)])
def test_batches_that_cannot_be_are_refused(batches: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="batch sizes are whole numbers from 1"):
        Requirements(batches=batches)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"agreement": 99}, "agreement is 0 to 1, not 99"),
        ({"top1": -0.1}, "top1 is 0 to 1, not -0.1"),
        ({"cosine": 2}, "cosine is -1 to 1, not 2"),
        ({"mean_cosine": -2}, "mean_cosine is -1 to 1, not -2"),
        ({"accuracy_drop": -1}, "accuracy_drop is at least 0, not -1"),
        ({"speedup": -2}, "speedup is at least 0, not -2"),
        ({"latency_ms": -2}, "latency_ms is at least 0, not -2"),
        ({"tie": -0.1}, "tie is at least 0, not -0.1"),
    ],
)
def test_bounds_that_cannot_be_are_refused(asked: dict[str, float], told: str) -> None:
    with pytest.raises(InputError, match=f"^{told}$"):
        Requirements(**asked)  # type: ignore[arg-type]


def test_bounds_at_their_ends_are_taken() -> None:
    ends = Requirements(agreement=1, top1=0, cosine=-1, mean_cosine=1, accuracy_drop=0, speedup=0, relative=math.inf)
    assert (ends.agreement, ends.cosine, ends.accuracy_drop) == (1, -1, 0)


@pytest.mark.parametrize(("allowed", "enough"), [(0.5, 765), (1, 381), (10, 35)])
def test_images_that_could_not_tell_are_refused_before_work(allowed: float, enough: int) -> None:
    strict = Requirements(accuracy_drop=allowed, strict=True)
    strict.check_tells(enough)
    assert failures(Measured(accuracy=Paired(enough, 0, 0, enough)), strict) == ()
    assert failures(Measured(accuracy=Paired(enough - 1, 0, 0, enough - 1)), strict) != ()
    with pytest.raises(
        InputError, match=f"^{enough - 1} images that choose cannot .* at least {enough} are needed; give"
    ):
        strict.check_tells(enough - 1, "images that choose")
    Requirements(accuracy_drop=allowed).check_tells(1)


def test_a_strict_gate_that_allows_nothing_is_never_passed() -> None:
    with pytest.raises(InputError, match="no number of images is enough; allow some points with `max_drop`"):
        Requirements(accuracy_drop=0, strict=True).check_tells(10**6)
    assert failures(Measured(accuracy=Paired(10**6, 0, 0, 10**6)), Requirements(accuracy_drop=0, strict=True)) != ()
