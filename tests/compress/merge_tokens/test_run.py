"""Merging behind its gate: what is written, what is refused, and what it tells."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import vitsmith as vs
from tests.compress.merge_tokens.models import LARGER, LENIENT, bundle_of, photos, speeds, wavering
from tests.tiny import pictures, tiny_inputs, tiny_lit, tiny_model
from vitsmith.compress.merge_tokens.result import REQUIRED, Merged, Try, write_merged
from vitsmith.compress.merge_tokens.run import merge, merge_by, merged_bundle
from vitsmith.compress.merge_tokens.schedules import MergeTarget
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.errors import GateError, InputError, OutputError
from vitsmith.models.configure import change
from vitsmith.runs.place import check_place
from vitsmith.weights.bundle.bundle import Bundle


def test_outputs_that_are_no_numbers_agree_with_nothing():
    bundle = bundle_of()
    with torch.no_grad():
        bundle.model.head.bias[0] = float("nan")
    with pytest.raises(InputError, match="output for it is not finite"):
        merge(bundle, MergeTarget(ratio=1.2), photos(), race=speeds(2))


def test_a_merged_model_without_answers_is_refused_by_the_gate(monkeypatch):
    def spoiled(bundle, numbers, *, share=False):
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
    written = write_merged(found, tmp_path / "run")
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
        write_merged(found, tmp_path / "run")
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
