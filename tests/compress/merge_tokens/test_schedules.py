"""Schedules: how many tokens merge in which block, and the search for the best of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vitsmith as vs
from tests.compress.merge_tokens.models import LARGER, LENIENT, bundle_of, photos, speeds
from tests.tiny import CONFIGS, VIT, tiny_model
from vitsmith.compress.merge_tokens.run import check_mergeable, merge, merge_by, sample_photos
from vitsmith.compress.merge_tokens.schedule_search import Losses, divergence, grow, measure_losses, search
from vitsmith.compress.merge_tokens.schedules import MergeTarget, clipped, describe, fit, saved, spread
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.errors import InputError, UnknownNameError
from vitsmith.models.configure import change, configure
from vitsmith.models.cost import flops
from vitsmith.weights.bundle.bundle import Bundle


def test_schedules_add_up():
    tower = configure("ViT-B_16")
    assert spread(tower, "constant", 143) == (13,) * 11 + (0,)
    for total in (40, 100, 143):
        falling = spread(tower, "decreasing", total)
        assert sum(falling) == total and list(falling) == sorted(falling, reverse=True) and falling[-1] == 0
    assert spread(tower, "decreasing", 121)[0] == 21 and spread(tower, "decreasing", 121)[-2] in (0, 1)
    assert spread(change(tower, pooling="gap"), "constant", 120) == (10,) * 12


def test_a_schedule_fits_what_was_asked():
    tower = configure("ViT-B_16")
    for kind in ("constant", "decreasing"):
        numbers = fit(tower, kind, ratio=1.5)
        fewer = spread(tower, kind, sum(numbers) - 1)
        assert flops(tower) / flops(change(tower, merge=numbers)) >= 1.5 > saved(tower, fewer)
        assert fit(tower, kind, tokens=90) == spread(tower, kind, 197 - 90)
    with pytest.raises(InputError, match=r"divides the arithmetic by at most 2\.\d+, not by 9"):
        fit(tower, "constant", ratio=9)
    with pytest.raises(InputError, match="between 2 and 196, got 197"):
        fit(tower, "constant", tokens=197)
    with pytest.raises(InputError, match="leaves at least 16 tokens, so 3 cannot be reached"):
        fit(change(LARGER, depth=2), "constant", tokens=3)


def test_a_schedule_is_told_shortly():
    assert describe((13,) * 11 + (0,)) == "13 x 11, 0"
    assert describe((5, 4, 3)) == "5 4 3"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"ratio": 0.5}, "must be above 1, got 0.5"),
        ({"ratio": 1.5, "tokens": 20}, "give one of them"),
    ],
)
def test_targets_that_cannot_be(target, said):
    with pytest.raises(InputError, match=said):
        MergeTarget(**target)
    with pytest.raises(UnknownNameError, match="constant"):
        MergeTarget("constat")


@pytest.mark.parametrize(
    ("name", "said"),
    [("mixer", "needs? every token in its place"), ("vit-unpooled", "an answer for every token")],
)
def test_what_cannot_merge_is_refused(name, said):
    with pytest.raises(InputError, match=said):
        check_mergeable(Bundle.of(tiny_model(CONFIGS[name])))


def test_the_original_format_cannot_say_that_tokens_merge(tmp_path):
    with pytest.raises(InputError, match="token merging"):
        vs.save(merge_by(bundle_of(change(LARGER, image_size=(48, 48))), 1.2), tmp_path / "x.npz", format="npz")


def test_merging_twice_is_refused():
    with pytest.raises(InputError, match="merges tokens already"):
        merge_by(merge_by(bundle_of(), 1.2), 1.2)


def test_one_block_is_refused():
    with pytest.raises(InputError, match="has only one block"):
        merge_by(bundle_of(change(VIT, depth=1)), 1.2)


def test_one_patch_is_refused():
    with pytest.raises(InputError, match="has only one patch"):
        merge_by(bundle_of(change(VIT, image_size=(8, 8))), 1.2)


def test_divergence_is_kl_of_classifiers_and_one_minus_cosine_else():
    random = np.random.default_rng(0)
    expected, found = random.normal(size=(2, 6, 4)).astype(np.float32)
    reference = F.kl_div(torch.tensor(found).log_softmax(-1), torch.tensor(expected).softmax(-1), reduction="batchmean")
    assert divergence(expected, found, classes=True) == pytest.approx(reference.item(), rel=1e-5)
    cosine = F.cosine_similarity(torch.tensor(expected), torch.tensor(found)).mean()
    assert divergence(expected, found, classes=False) == pytest.approx(1 - cosine.item(), rel=1e-4)


def made_up(tower: Any, weights: tuple[float, ...]) -> Any:
    """Answers that move by `weights` for each token that a block merges."""

    def answers(numbers: tuple[int, ...]) -> np.ndarray:
        moved = sum(weight * number for weight, number in zip(weights, numbers, strict=True))
        return np.array([[1.0, 0.0], [0.5, 0.0]], np.float32) + np.float32([[-moved, moved]])

    return answers


@pytest.mark.parametrize("cheap", [0, 1])
def test_the_search_merges_where_it_costs_least(cheap):
    tower = change(LARGER, depth=4)
    weights = tuple(0.001 if block == cheap else 0.1 for block in range(4))
    losses = measure_losses(tower, made_up(tower, weights), classes=True)
    found, compared = search(tower, losses, MergeTarget(ratio=1.15), made_up(tower, weights), classes=True)
    assert saved(tower, found) >= 1.15 and found[cheap] == max(found) and sum(found) - found[cheap] <= 1
    kinds = {kind: far for kind, _, far in compared}
    assert kinds["searched"] <= min(kinds.values())


def test_growing_makes_room_for_early_merges():
    """Blocks whose losses are nil fill up first; still a goal is met that needs the others."""
    losses = Losses(((0, 8),) * 3, ((0.0, 1.0), (0.0, 1.0), (0.0, 0.0)))
    tower = change(LARGER, pooling="gap")
    numbers = grow(tower, losses, MergeTarget(tokens=4))
    assert tower.tokens - sum(numbers) <= 4 and numbers == clipped(tower, numbers)
    with pytest.raises(InputError, match="no schedule merges so much"):
        grow(tower, losses, MergeTarget(ratio=30))


def test_a_search_over_a_real_model_is_no_worse_than_plain_schedules():
    bundle = bundle_of()
    found = merge(bundle, MergeTarget("searched", 1.25), photos(), LENIENT, race=speeds(1.2))
    far = {kind: divergence for kind, _, divergence in found.compared}
    assert set(far) == {"by block", "constant", "decreasing", "searched"} and far["searched"] == min(far.values())
    assert found.tries[-1].ratio >= 1.25 and found.bundle.config.merge == found.tries[-1].numbers


def test_a_single_block_that_merges_has_nothing_to_search_over():
    found = merge(bundle_of(VIT), MergeTarget("searched"), photos(), LENIENT, race=speeds(2))
    assert found.tries[-1].numbers[0] > 0 and found.compared[-1][0] == "searched"


def test_sample_photographs_that_search_do_not_judge():
    stand_ins = sample_photos(bundle_of().with_golden(sample_images(2)))
    assert len(stand_ins.calibration) == len(stand_ins.evaluation) == 32
    assert not any(
        np.array_equal(one, other) for one in stand_ins.calibration.sources for other in stand_ins.evaluation.sources
    )
