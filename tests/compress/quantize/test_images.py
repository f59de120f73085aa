"""The images that calibrate, and those that evaluate."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny import CONFIGS, pictures, tiny_lit, tiny_model
from vitsmith import Bundle, Labels
from vitsmith.compress.images import Amounts, labelled_images, unlabelled_images
from vitsmith.errors import (
    DatasetError,
    InputError,
)
from vitsmith.models.configure import change


def write_pictures(folder: Path, count: int) -> list[str]:
    for index, pixels in enumerate(pictures(count)):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return [str(folder / f"{index}.png") for index in range(count)]


def test_images_that_calibrate_do_not_judge(tmp_path: Path) -> None:
    bundle = Bundle.of(tiny_model(CONFIGS["vit-token"]))
    names = write_pictures(tmp_path, 50)
    photos = unlabelled_images(bundle, names, amounts=Amounts(calibration=20, evaluation=25))
    assert len(photos.calibration) == 20 and len(photos.evaluation) == 25 and photos.labels is None
    assert not set(photos.calibration.sources) & set(photos.evaluation.sources)
    assert photos.remarks[0] == "evaluating on 25 of the 30 evaluation images"
    again = unlabelled_images(bundle, names[::-1], amounts=Amounts(calibration=20, evaluation=25))
    assert set(again.calibration.sources) == set(photos.calibration.sources), "names decide, not their order"
    other = unlabelled_images(bundle, names, amounts=Amounts(calibration=20, evaluation=25, seed=1))
    assert set(other.calibration.sources) != set(photos.calibration.sources)
    assert len(unlabelled_images(bundle, names).calibration) == 25


def test_images_and_labelled_data_go_together(digits: Bundle, tmp_path: Path) -> None:
    own = write_pictures(tmp_path, 40)
    photos = labelled_images(digits, "digits", images=own, amounts=Amounts(calibration=10))
    assert len(photos.calibration) == 10 and set(photos.calibration.sources) < set(own)
    assert len(photos.evaluation) == 359 and photos.labels is not None
    assert not any("of the" in remark for remark in photos.remarks)
    capped = labelled_images(digits, "digits", images=own, amounts=Amounts(calibration=10, evaluation=20))
    assert len(capped.evaluation) == 20 and sum("evaluating on" in told for told in capped.remarks) == 1
    assert "evaluating on 20 of the 359 evaluation images" in capped.remarks


def test_too_few_images_are_refused(digits: Bundle) -> None:
    with pytest.raises(DatasetError, match="`images`: 5 calibration images are too few, give at least 8"):
        unlabelled_images(digits, pictures(10))
    with pytest.raises(DatasetError, match="digits: 7 evaluation images are too few"):
        labelled_images(digits, "digits", amounts=Amounts(evaluation=7))
    assert unlabelled_images(digits, pictures(16)).remarks[0].startswith("only 8 calibration images")


def test_images_of_other_classes_are_refused(digits: Bundle) -> None:
    letters = dataclasses.replace(digits, labels=Labels(names=tuple("abcdefghij")))
    for images in ([], pictures(10)):
        with pytest.raises(DatasetError, match="the model does not know 10 of the data's 10 classes, the first is '0'"):
            labelled_images(letters, "digits", images=images)
    with pytest.raises(DatasetError, match="does not name its classes"):
        labelled_images(dataclasses.replace(digits, labels=None), "digits")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("lit-bert", "has no classes of its own, and cannot be evaluated on labelled data: give `images`"),
        ("vit-unpooled", "gives logits for each patch, and cannot be evaluated on labels of images: give `images`"),
    ],
)
def test_models_that_labels_cannot_judge_are_refused(name: str, problem: str) -> None:
    bundle = tiny_lit(name) if name.startswith("lit") else Bundle.of(tiny_model(change(CONFIGS[name], classes=10)))
    with pytest.raises(InputError, match=problem):
        labelled_images(bundle, "digits")
