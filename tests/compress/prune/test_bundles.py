"""A bundle becomes a smaller one, and the images by which its parts are chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitsmith as vs
from tests.compress.prune.models import (
    NAMES,
    bundle_of,
    preprocessed,
    samples_of,
)
from tests.tiny import CONFIGS, VIT, pictures, tiny_inputs, tiny_lit, tiny_model
from vitsmith.compress.images import labelled_training_images, spread, unlabelled_training_images
from vitsmith.compress.prune.run import prune_bundle
from vitsmith.compress.prune.sizes import Pruning
from vitsmith.errors import DatasetError, InputError
from vitsmith.models.configure import change
from vitsmith.models.cost import flops
from vitsmith.predict import Predictor
from vitsmith.weights.bundle.bundle import Bundle


@pytest.mark.parametrize("name", ["vit-token", "mixer", "hybrid-stages"])
def test_a_bundle_becomes_a_smaller_one(name: str) -> None:
    bundle = bundle_of(name)
    width = {"tokens_mlp_width": 6} if name == "mixer" else {"heads": 2}
    pruned, notes = prune_bundle(bundle, samples_of(bundle.config), Pruning(mlp_width=24, depth=1, **width))
    assert (pruned.preprocessing, pruned.labels, notes) == (bundle.preprocessing, bundle.labels, ())
    assert pruned.config.depth == 1 and flops(pruned.config) < flops(bundle.config)
    assert pruned.run_torch(tiny_inputs(bundle.config, 2)[0].numpy()).shape == (2, 5)
    assert bundle.model.config == bundle.config  # the original is still what it was
    assert pruned.provenance.parent == bundle.where and "pruned: depth 2 -> 1" in pruned.provenance.notes[-1]


def test_what_was_known_of_the_original_is_known_of_what_is_left() -> None:
    bundle = bundle_of()
    known = bundle.provenance.model_copy(update={"notes": ("trained on cats",)})
    pruned, _ = prune_bundle(replace(bundle, provenance=known), samples_of(bundle.config), Pruning(mlp_width=24))
    assert pruned.provenance.notes[0] == "trained on cats" and len(pruned.provenance.notes) == 2


def test_a_pruned_bundle_is_exported_like_any_other(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from tests.exporting import export_onnx

    bundle = bundle_of()
    pruned, _ = prune_bundle(bundle, samples_of(bundle.config), Pruning(heads=3, mlp_width=24))
    exported, verdict = export_onnx(vs.save(pruned, tmp_path / "torch"), tmp_path / "onnx")
    assert verdict.passed
    images = pictures(3, seed=5)
    expected = Predictor(pruned, "torch").logits(images)
    np.testing.assert_allclose(Predictor(exported).logits(images), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("bundle", "told"),
    [
        (lambda: tiny_lit(), "matches images with texts: only classifiers can be pruned"),
        (lambda: Bundle.of(tiny_model(change(VIT, classes=0))), "has no classifier"),
        (lambda: Bundle.of(tiny_model(CONFIGS["vit-unpooled"])), "gives logits for every token"),
        (lambda: replace(bundle_of(), program="onnx"), r"an exported program \(model.onnx\)"),
        (lambda: Bundle.of(tiny_model(change(VIT, merge=(1, 0)))), "merges tokens"),
    ],
)
def test_what_is_no_classifier_of_images_is_refused(bundle: Callable[[], Bundle], told: str) -> None:
    with pytest.raises(InputError, match=told):
        prune_bundle(bundle(), samples_of(VIT), Pruning(heads=2))


def write_photos(folder: Path, count: int, names: tuple[str, ...] = NAMES) -> Path:
    for index, picture in enumerate(pictures(count)):
        path = folder / names[index % len(names)] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return folder


def test_labels_are_matched_by_name_and_the_model_may_know_more(tmp_path: Path) -> None:
    material = labelled_training_images(bundle_of(), str(write_photos(tmp_path, 48, ("eel", "bee"))))
    assert material.labelled and material.calibration.classes == material.evaluation.classes == NAMES
    train, val = material.calibration, material.evaluation
    assert {Path(name).parts[0] for name, label in zip(train.names, train.labels, strict=True) if label == 4} == {"eel"}
    assert set(train.labels) == set(val.labels) == {1, 4} and len(train) + len(val) == 48


def test_data_of_other_classes_and_too_little_of_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not know 1 of the data's 2 classes, the first is 'fox'"):
        labelled_training_images(bundle_of(), str(write_photos(tmp_path / "a", 24, ("eel", "fox"))))
    with pytest.raises(DatasetError, match="8 images are too few to prune by, give at least 20"):
        labelled_training_images(bundle_of(), str(write_photos(tmp_path / "b", 8, ("eel", "bee"))))
    with pytest.raises(DatasetError, match="does not name its classes"):
        labelled_training_images(replace(bundle_of(), labels=None), str(write_photos(tmp_path / "c", 24)))
    write_photos(tmp_path / "d" / "train", 20)
    write_photos(tmp_path / "d" / "val", 7)
    with pytest.raises(
        DatasetError, match="7 evaluation images are too few, give at least 8 beside the training images"
    ):
        labelled_training_images(bundle_of(), str(tmp_path / "d"))


def test_images_without_labels_have_the_models_own_answers() -> None:
    bundle = replace(bundle_of(), labels=None)
    images = pictures(40)
    material = unlabelled_training_images(bundle, images)
    assert not material.labelled and (len(material.calibration), len(material.evaluation)) == (30, 10)
    own = bundle.run_torch(np.stack([preprocessed(image, bundle) for image in images])).argmax(axis=1)
    for part in (material.calibration, material.evaluation):
        for name, label in zip(part.names, part.labels, strict=True):
            assert own[int(name.split()[1])] == label
    names = [set(part.names) for part in (material.calibration, material.evaluation)]
    assert not names[0] & names[1]
    few = unlabelled_training_images(bundle, images[:20])
    assert (len(few.calibration), len(few.evaluation)) == (12, 8)
    with pytest.raises(DatasetError, match="too few"):
        unlabelled_training_images(bundle, images[:19])


def test_calibration_images_come_from_all_over_the_set() -> None:
    samples = samples_of(VIT, 20)
    assert list(spread(samples, 5).names) == ["0", "5", "10", "14", "19"]
    assert spread(samples, 20) is samples
