"""Token merging: matching against plain loops, sizes, schedules, engines, the search, the gate, the picture."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.exporting import export_onnx
from tests.pretended import twice_as_fast
from tests.tiny import CONFIGS, VIT, pictures, tiny_inputs, tiny_lit, tiny_model
from vitsmith.cli.merge_tokens import _from
from vitsmith.compress.images import TaskImages
from vitsmith.compress.merge_tokens.patch_groups import groups
from vitsmith.compress.merge_tokens.result import REQUIRED, Merged, Try, write_merged
from vitsmith.compress.merge_tokens.run import check_mergeable, merge, merge_by, merged_bundle, sample_photos
from vitsmith.compress.merge_tokens.schedule_search import Losses, divergence, grow, measure_losses, search
from vitsmith.compress.merge_tokens.schedules import MergeTarget, clipped, describe, fit, saved, spread
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.engines.open import open_engine
from vitsmith.engines.openvino.core import openvino_core
from vitsmith.errors import GateError, InputError, OutputError, UnknownNameError
from vitsmith.evaluation.speed import Speed, Speedup
from vitsmith.layers.merging import MergingBlock, match, regroup
from vitsmith.layers.merging import merge as merge_tokens
from vitsmith.models.configure import change, configure
from vitsmith.models.cost import flops
from vitsmith.report.figure import LIGHT, png
from vitsmith.report.merging import draw_merging, labels_of_pixels, painted
from vitsmith.runs.place import check_place
from vitsmith.weights.bundle.bundle import Bundle

LARGER = change(VIT, image_size=(40, 48), depth=3)
LENIENT = replace(REQUIRED, agreement=0)
"""30 patches: enough for three rounds."""


def bundle_of(config: Any = LARGER, **fields: Any) -> Bundle:
    return Bundle.of(tiny_model(config), labels=vs.Labels(names=tuple("abcde")), **fields)


def wavering() -> Bundle:
    """One whose answers differ between pictures and hang by a thread."""
    bundle = bundle_of()
    head = bundle.model.head
    logits = torch.from_numpy(vs.Predictor(bundle, "torch").logits(photos().evaluation.sources))
    with torch.no_grad():
        head.bias.sub_(logits.mean(dim=0))
    return bundle


def photos(labels: np.ndarray | None = None) -> TaskImages:
    many = pictures(24)
    return TaskImages.of(many[:8], many[8:], "16 pictures", labels=labels)


def speeds(*gains: float) -> Any:
    """A measurement in which the second engine is so many times faster: alone, and in batches."""
    single, batches = gains if len(gains) == 2 else gains * 2
    speedup = Speedup(Speed(10, 100, 16), Speed(10 / single, 100 * batches, 16), single, batches)
    return lambda before, after, images: speedup


# --- the layer, against the paper in plain loops


def merged_plainly(x: np.ndarray, sizes: np.ndarray, keys: np.ndarray, count: int, prefix: int) -> Any:
    """Tokens, sizes and the patches of each, for one image, as section 3 of the paper says it."""
    rest = range(prefix, len(x))
    first, second = list(rest)[0::2], list(rest)[1::2]
    edges = []
    for a in first:
        cosines = [float(keys[a] @ keys[b] / np.sqrt((keys[a] @ keys[a]) * (keys[b] @ keys[b]))) for b in second]
        edges.append((max(cosines), a, second[int(np.argmax(cosines))]))
    edges.sort(key=lambda edge: -edge[0])
    into = {a: b for _, a, b in edges[:count]}
    tokens = [x[i] for i in range(prefix)] + [x[a] for a in first if a not in into]
    counts = [sizes[i] for i in range(prefix)] + [sizes[a] for a in first if a not in into]
    members = [[a] for a in first if a not in into]
    for b in second:
        group = [b, *(a for a, target in into.items() if target == b)]
        tokens.append(sum(sizes[i] * x[i] for i in group) / sum(sizes[i] for i in group))
        counts.append(sum(sizes[i] for i in group))
        members.append(group)
    return np.array(tokens), np.array(counts), members


@pytest.mark.parametrize(("tokens", "prefix", "count"), [(11, 1, 3), (12, 1, 5), (12, 2, 5), (12, 0, 6), (7, 1, 0)])
def test_merging_is_what_the_paper_says(tokens, prefix, count):
    random = np.random.default_rng(tokens + count)
    x, keys = random.normal(size=(3, tokens, 8)), random.normal(size=(3, tokens, 4))
    sizes = random.integers(1, 5, (3, tokens)).astype(float)
    matched = match(torch.tensor(keys, dtype=torch.float32), count, prefix)
    found, found_sizes = merge_tokens(
        torch.tensor(x, dtype=torch.float32), torch.tensor(sizes, dtype=torch.float32), matched, count, prefix
    )
    places = regroup(torch.arange(tokens - prefix).repeat(3, 1), matched, count, prefix)
    for index in range(3):
        expected, expected_sizes, members = merged_plainly(x[index], sizes[index], keys[index], count, prefix)
        np.testing.assert_allclose(found[index], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found_sizes[index], expected_sizes)
        for number, group in enumerate(members):
            assert set(np.flatnonzero(places[index] == number) + prefix) == set(group)


def test_of_equally_alike_tokens_the_earlier_merge():
    order, partners = match(torch.ones(1, 9, 4), 2, 1)[0]
    assert order.tolist() == [2, 3, 0, 1] and partners.tolist() == [0, 0, 0, 0]


def block_pair(count: int, prefix: int) -> tuple[MergingBlock, MergingBlock]:
    """A block that merges, and the same without."""
    options = {"gelu": "tanh", "norm_eps": 1e-6, "prefix": prefix}
    torch.manual_seed(3)
    one = MergingBlock(16, 4, 24, count=count, **options).eval()
    other = MergingBlock(16, 4, 24, count=0, **options).eval()
    other.load_state_dict(one.state_dict())
    return one, other


@pytest.mark.parametrize("prefix", [0, 1])
def test_equal_tokens_merge_without_loss(prefix):
    """Ten patches in pairs become five: attention in proportion to sizes makes all that follows the same."""
    torch.manual_seed(0)
    distinct, lead = torch.randn(2, 5, 16), torch.randn(2, prefix, 16)
    x = torch.cat([lead, distinct.repeat_interleave(2, dim=1)], dim=1)
    merging, whole = block_pair(5, prefix)
    _, last = block_pair(0, prefix)
    with torch.inference_mode():
        expected, none = last(whole(x)[0])
        found, sizes = last(*merging(x))
    assert none is None and sizes is not None
    assert sizes.tolist() == [[1.0] * prefix + [2.0] * 5] * 2
    torch.testing.assert_close(found[:, :prefix], expected[:, :prefix], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[:, prefix:], expected[:, prefix::2], rtol=0, atol=1e-5)
    if prefix:  # beside tokens that stand for one it is not so without sizes
        with torch.inference_mode():
            wrong, _ = last(merging(x)[0])
        assert (wrong - found).abs().max() > 1e-3


def test_attention_is_in_proportion_to_sizes():
    """A token of size s is attended to as s tokens would be."""
    block, _ = block_pair(0, 0)
    x, sizes = torch.randn(1, 4, 16), torch.tensor([[1.0, 3.0, 2.0, 1.0]])
    repeated = x.repeat_interleave(sizes[0].long(), dim=1)
    with torch.inference_mode():
        found, expected = block(x, sizes)[0], block(repeated)[0]
    torch.testing.assert_close(found[0], expected[0, [0, 1, 4, 6]], rtol=0, atol=1e-5)


# --- models


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith(("vit", "hybrid")) and "unp" not in name])
def test_merging_nothing_changes_nothing(name):
    plain = CONFIGS[name]
    images = tiny_inputs(plain, 2)[0]
    model = tiny_model(plain)
    merging = tiny_model(change(plain, merge=(0,) * plain.depth))
    merging.load_state_dict(model.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(merging(images), model(images), rtol=0, atol=1e-6)


def test_mean_pooling_weighs_by_size():
    config = change(LARGER, pooling="gap", merge=(5, 4, 3))
    model, images = tiny_model(config), tiny_inputs(config, 2)[0]
    sizes = []
    model.blocks[-1].register_forward_hook(lambda _m, _i, output: sizes.append(output[1]))
    with torch.inference_mode():
        features = model.features(images)
        logits = model(images)
    (weights, _) = sizes
    assert features.tokens.shape[1] == 30 - 12 and weights.sum(dim=1).tolist() == [30.0, 30.0]
    pooled = (features.tokens * weights[..., None]).sum(dim=1) / 30
    torch.testing.assert_close(features.pooled, pooled)
    torch.testing.assert_close(logits, F.linear(pooled, model.head.weight, model.head.bias))


def test_features_and_hooks_see_tokens_that_are_left():
    config = change(LARGER, merge=(5, 4, 0))
    features = tiny_model(config).features(
        tiny_inputs(config, 2)[0], intermediates=["blocks.*", "blocks.1.attention.weights"]
    )
    assert [features.intermediates[f"blocks.{at}"].shape[1] for at in range(3)] == [26, 22, 22]
    assert features.tokens.shape[1] == 22 and features.grid == (5, 6)
    weights = features.intermediates["blocks.1.attention.weights"]
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:3]))


def test_a_class_token_needs_nothing_else_of_the_last_block():
    config = change(LARGER, merge=(5, 4, 3))
    model, images = tiny_model(config), tiny_inputs(config, 2)[0]
    with torch.inference_mode():
        expected = model(images)
        found = model.head(model.features(images).pooled)  # computes all of the last block, and merges there
    torch.testing.assert_close(found, expected)


def test_it_trains():
    """Gradients go through merged tokens into every weight, also with everything that training makes random."""
    config = change(LARGER, merge=(5, 4, 0), dropout=0.1, stochastic_depth=0.2, attention_dropout=0.1)
    model, images = tiny_model(config).train(), tiny_inputs(config, 4)[0]
    torch.manual_seed(0)
    model(images).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in model.parameters())


def test_gradients_are_those_of_differences():
    torch.manual_seed(0)
    x = torch.randn(1, 9, 4, dtype=torch.float64)
    matched = match(torch.randn(1, 9, 3), 3, 1)

    def merged(tokens: torch.Tensor) -> torch.Tensor:
        return merge_tokens(tokens.float(), None, matched, 3, 1)[0].square().sum().double()

    gradient = torch.autograd.functional.jacobian(merged, x)
    step = torch.zeros_like(x)
    step[0, 3, 2] = 1e-2
    torch.testing.assert_close(gradient[0, 3, 2], (merged(x + step) - merged(x - step)) / 2e-2, rtol=1e-3, atol=1e-4)


# --- schedules


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


# --- the search


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


# --- the gate


def test_outputs_that_are_no_numbers_agree_with_nothing():
    bundle = bundle_of()
    with torch.no_grad():
        bundle.model.head.bias[0] = float("nan")
    with pytest.raises(InputError, match="output for it is not finite"):
        merge(bundle, MergeTarget(ratio=1.2), photos(), race=speeds(2))


def test_a_merged_model_without_answers_is_refused_by_the_gate(monkeypatch):
    def spoiled(bundle, numbers):
        merged = Bundle.of(copy.deepcopy(merged_bundle(bundle, numbers).model))
        merged.model.head.bias.data[0] = float("nan")
        return merged

    monkeypatch.setattr("vitsmith.compress.merge_tokens.run.merged_bundle", spoiled)
    for target in (MergeTarget(ratio=1.2), MergeTarget(kind="searched", ratio=1.2)):
        with pytest.raises(GateError, match=r"merging of .* was refused, nothing was written: .* is not finite"):
            merge(bundle_of(), target, photos(), race=speeds(2))


def test_a_merged_bundle_is_the_same_weights_with_another_configuration(tmp_path):
    bundle = bundle_of()
    found = merge(bundle, MergeTarget(ratio=1.2), photos(), LENIENT, race=speeds(1.1, 1.3))
    written = write_merged(found, "x", tmp_path / "run")
    assert written.config == change(LARGER, merge=found.tries[0].numbers) and written.labels == bundle.labels
    assert written.weights_hash == bundle.weights_hash and written.identity != bundle.identity
    assert written.provenance.parent == bundle.where and "tokens merged: " in written.provenance.notes[-1]
    model = tiny_model(written.config)
    images = tiny_inputs(LARGER, 3)[0]
    np.testing.assert_allclose(written.run_torch(images.numpy()), model(images).detach().numpy(), atol=1e-6)
    facts = json.loads((tmp_path / "run" / "merge.json").read_text())
    assert facts["speed"]["speedups"] == pytest.approx([1.1, 1.3]) and facts["tries"][0]["numbers"][-1] == 0
    with pytest.raises(OutputError, match="`force`"):
        check_place("merge-tokens", tmp_path / "run", force=False)
    check_place("merge-tokens", tmp_path / "run", force=True)
    with pytest.raises(OutputError, match="a folder that merge-tokens did not write"):
        check_place("merge-tokens", tmp_path, force=True)


def test_agreement_and_accuracy_are_counted():
    bundle, judged = wavering(), photos()
    before = vs.Predictor(bundle, "torch").logits(judged.evaluation.sources).argmax(axis=1)
    after = vs.Predictor(merge_by(bundle, 1.6), "torch").logits(judged.evaluation.sources).argmax(axis=1)
    assert 0 < (before != after).sum() < 16
    labels = np.where(np.arange(16) < 10, before, (before + 1) % 5).astype(np.int64)
    found = merge(
        bundle,
        MergeTarget(ratio=1.6),
        photos(labels),
        replace(REQUIRED, accuracy_drop=100),
        race=speeds(2),
    )
    assert found.tries[0].agreement == (before == after).mean()
    assert found.tries[0].top1 == (10 / 16, (after == labels).mean())


def test_the_gate_says_no_to_other_answers(tmp_path):
    found = merge(wavering(), MergeTarget(ratio=1.6), photos(), replace(REQUIRED, agreement=1.0), race=speeds(2))
    assert found.speedup is None and not found.slow
    with pytest.raises(GateError, match=r"top-1 agrees on \d.* \(required 100\.0%\); merge less, try"):
        write_merged(found, "x", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert str(found).startswith(f"{1 / found.tries[-1].ratio:.0%} of the FLOPs left, top-1 agreement ")
    assert "; refused: top-1 agrees on " in repr(found) and repr(found).startswith("<Merged ")
    labelled = photos(vs.Predictor(wavering(), "torch").logits(photos().evaluation.sources).argmax(axis=1))
    found = merge(wavering(), MergeTarget(ratio=1.6), labelled, replace(REQUIRED, accuracy_drop=1), race=speeds(2))
    with pytest.raises(GateError, match=r"top-1 drops by \d+\.\d+ points, 95% interval .* on 16 images \(allowed 1\)"):
        found.require()


def test_sixteen_images_tell_little_and_a_strict_gate_says_no():
    bundle = bundle_of()
    labels = vs.Predictor(bundle, "torch").logits(photos().evaluation.sources).argmax(axis=1)
    few, required = photos(labels), replace(REQUIRED, accuracy_drop=10)
    assert len(few.evaluation) == 16
    found = merge(bundle, MergeTarget(ratio=1.1), few, required, race=speeds(2))
    assert not found.failures and found.tries[-1].accuracy.num_images == 16
    assert found.doubts[0].startswith("16 images are too few to tell whether top-1 drops by more than 10 points")
    told = found.to_dict()
    assert told["doubts"] == list(found.doubts) and told["tries"][-1]["num_labelled_images"] == 16
    strict = replace(found, required=replace(required, strict=True))
    with pytest.raises(GateError, match=r"nothing was written: 16 images are too few to tell .* enough$"):
        strict.require()
    with pytest.raises(InputError, match=r"16 evaluation images cannot tell .* at least 35 are needed"):
        merge(bundle, MergeTarget(ratio=1.1), few, strict.required, race=speeds(2))
    with pytest.raises(InputError, match="merge does not measure size_mib"):
        merge(bundle, MergeTarget(ratio=1.1), few, replace(required, size_mib=1), race=speeds(2))
    with pytest.raises(InputError, match="a strict gate counts right answers: give it labelled images"):
        merge(bundle, MergeTarget(ratio=1.1), photos(), replace(required, strict=True), race=speeds(2))


def test_golden_images_are_those_whose_merging_is_clear():
    """Where rounded tensors make other tokens merge, answers move more than rounding alone moves them: none is kept."""
    bundle = bundle_of().with_golden(pictures(2))
    found = merge(bundle, MergeTarget(ratio=1.6), photos(), LENIENT, race=speeds(2)).bundle

    def moved(images: list[np.ndarray]) -> np.ndarray:
        tensors = torch.tensor(np.stack([preprocess(image, bundle.preprocessing) for image in images]))
        rounded = tensors.bfloat16().float()
        with torch.inference_mode():
            return (found.model(rounded) - found.model(tensors)).abs().amax(dim=-1).numpy()

    assert len(found.golden.images) == 2
    assert moved(list(found.golden.images)).max() < 0.2 * moved([*pictures(2), *sample_images(8)]).max()


def test_the_gate_says_no_when_it_does_not_pay():
    found = merge(bundle_of(), MergeTarget(ratio=1.2), photos(), LENIENT, race=speeds(0.97, 0.99))
    with pytest.raises(GateError, match=r"0\.97 times as fast for one image, 0\.99 in batches of 16 .* does not pay"):
        found.require()
    one = merge(bundle_of(), MergeTarget(ratio=1.2), photos(), LENIENT, race=speeds(0.97, 1.1))
    assert not one.failures


def test_break_even():
    """1/1.25 of the time at half the arithmetic: 0.3 of the time is merging itself."""
    bundle, last = bundle_of(), Try((8,), 9, 1.0, 2.0, 1.0, None)
    merged = Merged(bundle, bundle, photos(), REQUIRED, "constant", (last,), speedup=speeds(1.25, 2)(None, None, None))
    assert merged.break_even == (pytest.approx(1 / 0.7), 1.0)
    assert replace(merged, speedup=speeds(0.5)(None, None, None)).break_even[0] == float("inf")
    assert np.isnan(replace(merged, speedup=None).break_even).all()


def test_without_a_ratio_less_is_tried_until_it_passes():
    bundle = bundle_of()
    agreements = []
    for ratio in (1.75, 1.5, 1.35, 1.2):
        try:
            agreements.append(merge(bundle, MergeTarget(ratio=ratio), photos(), REQUIRED, race=speeds(2)).tries[0])
        except InputError:
            continue
    least = max(agreements, key=lambda one: one.agreement)
    found = merge(bundle, MergeTarget(), photos(), replace(REQUIRED, agreement=least.agreement), race=speeds(2))
    assert not found.failures and found.tries[-1].agreement == least.agreement
    assert [one.ratio for one in found.tries] == sorted((one.ratio for one in found.tries), reverse=True)


def test_the_image_tower_of_lit_merges():
    bundle = tiny_lit()
    image = change(bundle.config.image, image_size=(40, 48), depth=3)
    config = bundle.config.model_copy(update={"image": image})
    bundle = Bundle.of(tiny_model(config), vocabulary=bundle.vocabulary)
    found = merge(bundle, MergeTarget(ratio=1.1), photos(), LENIENT, race=speeds(2))
    assert found.what == "mean cosine" and found.bundle.config.image.merge[-1] == 0
    assert found.bundle.golden is not None and found.bundle.golden.texts is not None
    before, after = (one.run_torch(tiny_inputs(config, 2)[0].numpy()) for one in (bundle, found.bundle))
    assert np.abs(before - after).max() > 0 and found.tries[0].agreement > 0.5
    with pytest.raises(InputError, match="give `images`"):
        merge(bundle, MergeTarget(ratio=1.1), photos(np.zeros(16, np.int64)))


# --- other programs


MERGES: dict[str, dict[str, Any]] = {
    "token": {"merge": (5, 4, 0)},
    "gap": {"merge": (15, 7, 3), "pooling": "gap"},
}


@pytest.fixture(scope="module", params=MERGES)
def exported(request, tmp_path_factory) -> tuple[Bundle, Path]:
    """A model that merges, and its ONNX graph, which passed the gate in batches of 1, 2 and 7."""
    bundle = Bundle.of(tiny_model(change(LARGER, **MERGES[request.param])))
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_onnx(bundle, folder)
    return bundle, folder


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_onnxruntime_and_openvino_merge_alike(exported, batch):
    pytest.importorskip("openvino")
    bundle, folder = exported
    images = tiny_inputs(bundle.config, batch)[0].numpy()
    expected = bundle.run_torch(images)
    np.testing.assert_allclose(open_engine(vs.load(folder), "onnx").run(images), expected, atol=1e-5)
    compiled = openvino_core().compile_model(folder / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled([images])[0], expected, atol=1e-5)


def test_executorch_merges_alike(tmp_path):
    pytest.importorskip("executorch")
    from tests.exporting import export_executorch

    bundle = Bundle.of(tiny_model(change(LARGER, merge=(5, 4, 0))))
    export_executorch(bundle, tmp_path / "model")  # its gate compares batches of 1, 2 and 7
    engine = open_engine(vs.load(tmp_path / "model"), "executorch")
    for batch in (1, 2, 7):
        images = tiny_inputs(bundle.config, batch)[0].numpy()
        np.testing.assert_allclose(engine.run(images), bundle.run_torch(images), atol=2e-3)


# --- the picture


def test_groups_are_the_patches_of_each_token():
    config = change(LARGER, merge=(6, 5, 0))
    found = groups(tiny_model(config), tiny_inputs(config, 2)[0])
    assert found.shape == (2, 5, 6)
    for one in found:
        assert len(one.unique()) == 30 - 11
    plain = groups(tiny_model(LARGER), tiny_inputs(LARGER, 1)[0])
    assert plain.flatten().tolist() == list(range(30))


def test_groups_have_the_sizes_that_the_model_counts():
    config = change(LARGER, merge=(9, 7, 4), pooling="gap")
    model, images = tiny_model(config), tiny_inputs(config, 2)[0]
    sizes = []
    model.blocks[-1].register_forward_hook(lambda _m, _i, output: sizes.append(output[1]))
    found = groups(model, images)
    for one, counted in zip(found, sizes[0], strict=True):
        assert np.bincount(one.flatten(), minlength=10).tolist() == counted.tolist()


def test_a_group_is_painted_in_its_mean():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    found = np.array([[0, 1, 1], [0, 2, 1]])
    each = labels_of_pixels(found, (4, 6))
    assert each.tolist() == [[0, 0, 1, 1, 1, 1]] * 2 + [[0, 0, 2, 2, 1, 1]] * 2
    result = painted(image, found)
    for number in range(3):
        mean = image[each == number].mean(axis=0)
        np.testing.assert_allclose(
            result[each == number], np.broadcast_to(mean, result[each == number].shape), atol=0.5
        )


def test_the_picture_is_drawn():
    pytest.importorskip("matplotlib")
    bundle = merge_by(bundle_of(), 1.3)
    figure = draw_merging(bundle, pictures(2), LIGHT)
    titles = [axes.get_title() for axes in figure.axes]
    left = bundle.config.tokens - sum(bundle.config.merge) - 1
    assert titles == ["image", f"30 patches in {left} tokens", "", ""]
    assert png(figure).startswith(b"\x89PNG")


# --- the command line


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a bundle and pictures, to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vitsmith.evaluation.speed.time_in_turns", twice_as_fast)
    vs.save(bundle_of().with_golden(pictures(1)), tmp_path / "pets" / "model")
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures(20)):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path


def test_the_command_writes_model_numbers_and_picture(folder, capsys):
    pytest.importorskip("matplotlib")
    options = ("--images", "photos", "--keep", "0.83", "--min-agreement", "0", "--min-speedup", "0")
    code, out, err = call(capsys, "merge-tokens", "pets/model", *options)
    assert code == 0, err
    assert "tokens left" in out and "one image" in out and "break-even" in out
    run = folder / "runs" / "merge-tokens" / "pets"
    assert sorted(path.name for path in run.iterdir()) == ["command.txt", "merge.json", "merged.png", "model"]
    assert sum(vs.load(run / "model").config.merge) > 0
    with Image.open(run / "merged.png") as picture:
        assert picture.width > 500
    code, out, err = call(capsys, "merge-tokens", "pets/model", *options, "--tokens", "20")
    assert code == 2 and "give one of them" in err
    code, out, err = call(capsys, "merge-tokens", "pets/model", *options, "--json", "--out", "else")
    assert code == 0 and json.loads(out)["tries"][0]["tokens"] < 31


def test_the_command_refuses_with_3_and_writes_nothing(folder, capsys):
    code, out, err = call(
        capsys, "merge-tokens", "pets/model", "--keep", "0.83", "--min-agreement", "0", "--min-speedup", "99"
    )
    assert code == 3 and "merging does not pay here" in err and "sample photographs" in err
    assert "tokens left" in out and not (folder / "runs").exists()


@pytest.mark.parametrize("verb", ["merge-tokens", "quantize"])
def test_bounds_that_would_do_nothing_are_refused(verb: str, folder, capsys) -> None:
    for options, told in (
        (("--images", "photos", "--max-drop", "1"), "--max-drop is measured on labelled images: give some with --data"),
        (("--data", "photos", "--min-agreement", "0.9"), "--min-agreement is for images without labels: on --data"),
    ):
        code, out, err = call(capsys, verb, "pets/model", *options)
        assert (code, out) == (2, "") and told in err and err.count("\n") == 1
    assert not (folder / "runs").exists()


def test_break_even_is_said_so_that_it_need_not_be_read_twice() -> None:
    assert _from(1.614) == "when at most 62% of the FLOPs are left" and _from(float("inf")) == "never"
