"""The drop of accuracy between two models on the same images, and its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vitsmith.errors import InputError
from vitsmith.evaluation.evaluation import Evaluation, compare_accuracy
from vitsmith.evaluation.scores import score_logits
from vitsmith.gate import Paired
from vitsmith.gate.paired import tango_interval


def test_a_published_interval() -> None:
    """Cavo et al. 2012, as the tests of the R package contingencytables have it, to four places."""
    assert tango_interval(6, 16, 161) == pytest.approx((-0.1240, -0.0054), abs=5e-5)
    assert tango_interval(16, 6, 161) == pytest.approx((0.0054, 0.1240), abs=5e-5)


def score_by_search(difference: float, lost: int, gained: int, images: int) -> float:
    """The score statistic, with the most likely share of gained images found by trying very many."""
    least, most = max(0.0, -difference), (1 - difference) / 2
    shares = np.linspace(least, most, 400_001)[1:-1]
    same = images - lost - gained
    likelihood = (
        gained * np.log(shares) + lost * np.log(shares + difference) + same * np.log(1 - 2 * shares - difference)
    )
    share = float(shares[likelihood.argmax()])
    return (lost - gained - images * difference) / math.sqrt(images * (2 * share + difference * (1 - difference)))


@pytest.mark.parametrize("counts", [(12, 2, 50), (3, 8, 200), (40, 20, 160), (9, 9, 1000)])
def test_the_ends_are_where_a_score_test_just_rejects(counts: tuple[int, int, int]) -> None:
    low, high = tango_interval(*counts)
    assert score_by_search(low, *counts) == pytest.approx(1.96, abs=2e-3)
    assert score_by_search(high, *counts) == pytest.approx(-1.96, abs=2e-3)


def test_how_often_it_holds_the_true_difference() -> None:
    """Counted over all outcomes of 40 images, for shares of images that only one of the models names rightly."""
    images = 40
    pairs = [(lost, gained) for lost in range(images + 1) for gained in range(images + 1 - lost)]
    ends = np.array([tango_interval(lost, gained, images) for lost, gained in pairs])
    counts = np.array([(lost, gained, images - lost - gained) for lost, gained in pairs])
    factorials = np.array([math.lgamma(count + 1) for count in range(images + 1)])
    for lost, gained in ((0.01, 0.01), (0.05, 0.02), (0.1, 0.1), (0.2, 0.05), (0.3, 0.3)):
        logs = counts @ np.log([lost, gained, 1 - lost - gained]) - factorials[counts].sum(axis=1)
        chances = np.exp(logs + factorials[images])
        held = (ends[:, 0] <= lost - gained) & (lost - gained <= ends[:, 1])
        assert chances.sum() == pytest.approx(1) and 0.94 < chances[held].sum() < 0.9999


def test_where_no_answer_differs_or_all_do() -> None:
    squared = 1.959963984540054**2
    assert tango_interval(0, 0, 200) == pytest.approx((-squared / (200 + squared), squared / (200 + squared)))
    low, high = tango_interval(10, 0, 10)
    assert 0.4 < low < 0.5 and high == pytest.approx(1)


def test_outcomes_are_counted_image_by_image() -> None:
    reference = np.array([True, True, True, False, False, True])
    candidate = np.array([True, False, False, True, False, True])
    found = Paired.of(reference, candidate)
    assert found == Paired(6, lost=2, gained=1, both=2)
    assert (found.before, found.after) == (4 / 6, 3 / 6) and found.drop == pytest.approx(100 / 6)
    low, high = found.interval
    assert low < 0 < found.drop < high
    assert found.to_dict()["drop_interval"] == [low, high] and found.to_dict()["num_labelled_images"] == 6


@pytest.mark.parametrize("candidate", [np.ones(3, bool), np.ones((2, 1), bool)])
def test_other_images_cannot_be_compared(candidate: np.ndarray) -> None:
    with pytest.raises(InputError, match="give both the same images"):
        Paired.of(np.ones(2, bool), candidate)


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (2, 1, 1, 1), (2, -1, 1, 1)])
def test_outcomes_that_cannot_be_are_refused(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="do not fit"):
        Paired(*counts)


def test_when_images_tell() -> None:
    assert Paired(200, 0, 0, 190).is_open(0.5) and not Paired(200, 0, 0, 190).is_open(2)
    assert not Paired(200, 30, 2, 160).is_open(0.5), "it is clear that too much was lost"
    assert not Paired(200, 2, 30, 160).is_open(0.5), "it is clear that nothing was lost"
    assert not Paired(20, 20, 0, 0).is_open(100), "everything is allowed"


@pytest.mark.parametrize(
    ("found", "allowed"), [(Paired(200, 0, 0, 190), 0.5), (Paired(200, 3, 2, 180), 1), (Paired(200, 5, 2, 180), 0.2)]
)
def test_as_many_images_as_are_told_would_tell(found: Paired, allowed: float) -> None:
    enough = found.images_to_tell(allowed)
    assert enough is not None and enough > found.num_images and enough == float(f"{enough:.2g}")
    for count, tells in ((enough, True), (0.85 * enough, False)):
        low, high = tango_interval(found.lost * count / 200, found.gained * count / 200, count)
        assert (not low <= allowed / 100 < high) is tells


def test_no_number_of_images_tells_what_is_just_allowed() -> None:
    assert Paired(200, 3, 1, 180).images_to_tell(1.0) is None
    assert Paired(200, 0, 0, 180).images_to_tell(0.0) is None


def evaluation(labels: list[int], left_out: tuple[str, ...] = ()) -> Evaluation:
    logits, kept = np.eye(3, dtype=np.float32)[[0, 1, 2]], np.array(labels)
    return Evaluation(score_logits(logits, kept), logits, kept, ("a", "b", "c"), 1.0, left_out)


def test_evaluations_are_compared_on_the_same_images_alone() -> None:
    assert compare_accuracy(evaluation([0, 1, 1]), evaluation([0, 1, 1])) == Paired(3, 0, 0, 2)
    for other in (evaluation([0, 1, 2]), evaluation([0, 1, 1], ("cat.jpg is half a picture",))):
        with pytest.raises(InputError, match="were evaluated on different images"):
            compare_accuracy(evaluation([0, 1, 1]), other)
