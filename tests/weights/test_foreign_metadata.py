"""What lies beside foreign weights, read as their own libraries read it: preprocessing and labels."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitsmith as vs
from tests.weights.foreign_files import HF_CONFIG, TIMM_CONFIG, loaded, refusal, timm_config, written
from tests.weights.foreign_reference import hf_vit, timm_vit
from tests.weights.hf_files import written_model
from vitsmith.data.images.preprocess import preprocess
from vitsmith.errors import InputError
from vitsmith.specs import ImageSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.load import load

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
NAMES = ["ant", "bee", "cat", "dog", "eel"]


def load_timm(folder: Path, **fields: Any) -> Bundle:
    return loaded(written(folder, timm_vit(), timm_config(**fields)))


def load_hf(folder: Path, preprocessor: dict[str, Any] | None, **fields: Any) -> Bundle:
    return loaded(hf_folder(folder, preprocessor, **fields))


def hf_folder(folder: Path, preprocessor: dict[str, Any] | None, **fields: Any) -> Path:
    written(folder, hf_vit(), {**HF_CONFIG, **fields})
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def photo(height: int, width: int) -> np.ndarray:
    """Smooth, so that a wrong filter or offset shows and rounding does not."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [np.sin(rows / 9 + shift) * np.cos(columns / 7 - shift) for shift in (0, 1, 2)]
    return (127.5 + 127 * np.stack(channels, axis=-1)).astype(np.uint8)


# --- timm ------------------------------------------------------------------------------------------------------------


def test_timm_preprocessing_is_what_config_json_says(tmp_path: Path) -> None:
    cfg = {
        "input_size": [3, 32, 32],
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "crop_pct": 0.95,
        "crop_mode": "center",
        "interpolation": "bilinear",
        "test_input_size": None,
        "license": "apache-2.0",
    }
    foreign = load_timm(tmp_path, pretrained_cfg=cfg)
    assert foreign.preprocessing == ImageSpec.pillow(
        32, crop=0.95, interpolation="bilinear", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)
    )
    heads = "assumed, because arrays do not show it: 2 heads"
    assert foreign.provenance.notes == (heads,)
    assert load_timm(tmp_path, pretrained_cfg=cfg, model_args={"num_heads": 2}).provenance.notes == ()
    squash = load_timm(tmp_path, pretrained_cfg={**cfg, "crop_mode": "squash", "crop_pct": 1.0})
    assert squash.preprocessing.resize == "squash"
    cropped = load_timm(tmp_path, pretrained_cfg={**cfg, "crop_mode": "squash"}).preprocessing
    assert (cropped.resize, cropped.crop) == ("squash", 0.95)
    border = load_timm(tmp_path, pretrained_cfg={**cfg, "crop_mode": "border"}).preprocessing
    assert (border.resize, border.crop, border.fill) == ("longer", 0.95, (26, 51, 76))
    old = loaded(written(tmp_path, timm_vit(), {"architecture": "vit_test", "num_classes": 5, **cfg}))
    assert old.preprocessing == foreign.preprocessing and old.provenance.notes == (heads,)


@pytest.mark.parametrize(
    ("told", "published"),
    [
        ({"hf_hub_id": "timm/vit_test.in1k"}, {"origin": "hf:timm/vit_test.in1k"}),
        ({"hf_hub_id": "me/pets@4b0f1c2"}, {"origin": "hf:me/pets", "revision": "4b0f1c2"}),
        ({"hf_hub_id": "timm/", "tag": "in1k"}, {"origin": "hf:timm/vit_test.in1k"}),
        ({"hf_hub_id": "/home/me/pets"}, {}),
        ({"hf_hub_id": ["timm"], "license": 3, "tag": {}}, {}),
        ({"license": "cc-by-nc-4.0", "tag": "mae"}, {"license": "cc-by-nc-4.0"}),
        ({"license": "apache-2.0", "tag": "augreg_in21k"}, {"license": "apache-2.0"}),
        ({"license": "apache-2.0", "tag": "laion2b_ft_in1k"}, {}),
    ],
)
def test_who_published_timms_weights_and_their_licence(
    tmp_path: Path, told: dict[str, object], published: dict[str, str]
) -> None:
    cfg = {"input_size": [3, 32, 32], **told}
    folder = written(tmp_path, timm_vit(), {"architecture": "vit_test", "num_classes": 5, "pretrained_cfg": cfg}).parent
    expected = {"origin": "", "revision": "", "license": ""} | published
    assert load(folder).provenance.publication == expected


def test_what_config_json_leaves_out_is_timms_default_and_noted(tmp_path: Path) -> None:
    foreign = load_timm(tmp_path, pretrained_cfg={"input_size": [3, 32, 32], "std": None})
    assert foreign.preprocessing == ImageSpec.pillow(32, crop=0.875, interpolation="bicubic", **IMAGENET)
    _, defaults = foreign.provenance.notes
    assert defaults == "config.json does not have mean, std, crop_pct, interpolation: timm's defaults were used"


def test_assumptions_without_config_json_are_noted(tmp_path: Path) -> None:
    foreign = loaded(written(tmp_path, timm_vit(), name="deit.pth"))
    assert foreign.preprocessing == ImageSpec.pillow(32, crop=0.9, interpolation="bicubic")
    preprocessing, architecture = foreign.provenance.notes
    assert "preprocessing was assumed" in preprocessing and "DeiT" in preprocessing
    assert architecture == (
        "assumed, because arrays do not show it: 2 heads, GELU erf, pooling 'token', a square grid of 4x4 patches for "
        "images of 32x32 pixels (image_size= changes it)"
    )
    assert foreign.labels is None
    large = loaded(written(tmp_path, timm_vit(patches=30 * 30), name="large.pth"))
    assert large.preprocessing.crop == 1.0  # as timm's own models have it from 240 pixels on


def test_averaged_weights_are_noted(tmp_path: Path) -> None:
    state = timm_vit()
    torch.save({"model": state, "model_ema": state}, tmp_path / "trained.pth")
    (tmp_path / "config.json").write_text(json.dumps(TIMM_CONFIG))
    assert "'model_ema', were read" in loaded(tmp_path / "trained.pth").provenance.notes[-1]


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        ({"mean": [0.5, 0.5]}, "pretrained_cfg.mean.2: is missing"),
        ({"std": [0, 1, 1]}, "the JSON files beside it do not fit: ImageSpec: std must be positive"),
    ],
)
def test_timm_preprocessing_we_cannot_do(tmp_path: Path, cfg: dict[str, Any], told: str) -> None:
    config = timm_config(pretrained_cfg={"input_size": [3, 32, 32], **cfg})
    assert told in refusal(written(tmp_path, timm_vit(), config))


@pytest.mark.parametrize(
    "fields",
    [
        {"label_names": NAMES},
        {"pretrained_cfg": {"input_size": [3, 32, 32], "label_names": NAMES}},
        {"labels": NAMES},
    ],
)
def test_timm_labels(tmp_path: Path, fields: dict[str, Any]) -> None:
    labels = load_timm(tmp_path, **fields).labels
    assert labels is not None and list(labels.names) == NAMES
    assert loaded(tmp_path, headless=True).labels is None


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, timm_vit(), timm_config(label_names=NAMES[:4]))
    assert "has 5 classes, the config.json beside it names 4" in refusal(path)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"crop_mode": "pad"}, "crop_mode 'pad', in its config.json, cannot be reproduced"),
        ({"interpolation": "nearest", "crop_mode": "pad"}, "crop_mode 'pad' and interpolation 'nearest'"),
        ({"crop_pct": 1.5}, "crop_pct 1.5, which fills with black"),
    ],
)
def test_timms_preprocessing_that_we_cannot_do_refuses_images(
    tmp_path: Path, fields: dict[str, Any], told: str
) -> None:
    found = load_timm(tmp_path, pretrained_cfg={**TIMM_CONFIG["pretrained_cfg"], **fields})
    assert told in found.provenance.images_refused and told in found.provenance.notes[0]
    with pytest.raises(InputError, match=re.escape(told)):
        vs.Predictor(found)
    assert not loaded(tmp_path, preprocessing="usual").refuses_images


# --- HF --------------------------------------------------------------------------------------------------------------


def test_hf_without_preprocessor_config_is_its_default_and_noted(tmp_path: Path) -> None:
    foreign = load_hf(tmp_path, None)
    assert foreign.preprocessing == ImageSpec.pillow(32, resize="squash", interpolation="bilinear")
    assert "there is no preprocessor_config.json" in foreign.provenance.notes[0]


@pytest.mark.parametrize(
    ("preprocessor", "expected"),
    [
        ({"size": 32}, {"resize": "squash"}),
        ({"size": {"height": 32, "width": 32}, "resample": 3}, {"resize": "squash", "interpolation": "bicubic"}),
        ({"size": 32, "resample": 1}, {"resize": "squash", "interpolation": "lanczos"}),
        ({"size": 32, "image_mean": IMAGENET["mean"], "image_std": IMAGENET["std"]}, {"resize": "squash", **IMAGENET}),
        ({"size": 32, "do_normalize": False}, {"resize": "squash", "mean": (0, 0, 0), "std": (1, 1, 1)}),
        ({"size": 32, "crop_size": 32, "do_center_crop": True}, {"resize": "squash"}),
        ({"size": {"shortest_edge": 40}, "crop_size": 32, "do_center_crop": True}, {"crop": 0.8, "corner": "floor"}),
        (
            {"size": {"height": 40, "width": 40}, "crop_size": 32, "do_center_crop": True},
            {"resize": "squash", "crop": 0.8, "corner": "floor"},
        ),
    ],
)
def test_hf_preprocessing(tmp_path: Path, preprocessor: dict[str, Any], expected: dict[str, Any]) -> None:
    for kind in ("image_processor_type", "feature_extractor_type"):
        foreign = load_hf(tmp_path, {kind: "ViTImageProcessor", **preprocessor})
        usual = {"size": (32, 32), "resize": "shorter", "antialias": True, "quantize": "round"}
        assert foreign.preprocessing == ImageSpec(**usual | expected)
        assert foreign.provenance.notes == ()


@pytest.mark.parametrize(
    "preprocessor",
    [
        {},
        {"do_rescale": False},
        {"rescale_factor": 0.00392156862745098},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]},
        {"rescale_factor": 1 / 127.5, "do_normalize": False},
        {"do_rescale": False, "image_mean": [120.0, 110.0, 100.0], "image_std": [60.0, 61.0, 62.0]},
        {"resample": 3, "do_normalize": False, "do_rescale": False},
    ],
)
def test_hf_tensors_are_hfs(tmp_path: Path, preprocessor: dict[str, Any]) -> None:
    """Against its arithmetic: Pillow to uint8, times rescale_factor, minus mean, over std."""
    spec = load_hf(tmp_path, {"size": 32, **preprocessor}).preprocessing
    image = photo(50, 70)
    resized = np.asarray(Image.fromarray(image).resize((32, 32), preprocessor.get("resample", 2)), np.float64)
    factor = preprocessor.get("rescale_factor", 1 / 255) if preprocessor.get("do_rescale", True) else 1.0
    expected = resized * factor
    if preprocessor.get("do_normalize", True):
        expected = (expected - preprocessor.get("image_mean", [0.5] * 3)) / preprocessor.get("image_std", [0.5] * 3)
    np.testing.assert_allclose(preprocess(image, spec), expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-5)


def test_hf_crops_come_back_to_the_edge_that_was_told(tmp_path: Path) -> None:
    """floor(size / crop), which an ImageSpec resizes to, is shortest_edge for every edge, whatever the rounding."""
    path = hf_folder(tmp_path, {})
    crop = {"do_center_crop": True, "crop_size": 32}
    for edge in [*range(32, 100), 1024 + 7]:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": edge}, **crop}))
        assert math.floor(32 / loaded(path).preprocessing.crop) == edge


def test_another_size_in_the_preprocessor_is_noted(tmp_path: Path) -> None:
    foreign = load_hf(tmp_path, {"size": {"height": 224, "width": 224}})
    assert foreign.preprocessing.size == (32, 32)
    assert foreign.provenance.notes == ("preprocessor_config.json says 224x224; the model's size, 32x32, was used",)


@pytest.mark.parametrize(
    ("preprocessor", "told"),
    [
        ({"do_resize": False}, "do_resize false"),
        ({"resample": 0}, "resample 0"),
        ({"size": {"longest_edge": 32}}, "size {'longest_edge': 32}"),
        (
            {"size": {"height": 40, "width": 40}, "crop_size": {"height": 32, "width": 20}, "do_center_crop": True},
            "cropped to {'height': 32, 'width': 20}",
        ),
        (
            {"size": {"height": 40, "width": 40}, "crop_size": 48, "do_center_crop": True},
            "size {'height': 40, 'width': 40} cropped to {'height': 48",
        ),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "'longest_edge': 64} without a centre crop"),
        ({"size": {"shortest_edge": 32}}, "size {'shortest_edge': 32} without a centre crop (images would keep their"),
        ({"image_processor_type": "SiglipImageProcessor", "size": 32}, "size {'shortest_edge': 32} without a centre"),
        ({"image_processor_type": "CLIPImageProcessor", "size": 32, "do_center_crop": False}, "without a centre crop"),
        ({"do_pad": True, "do_thumbnail": True, "do_convert_rgb": True}, "do_pad, do_thumbnail true"),
        (
            {"size": {"shortest_edge": 24}, "do_center_crop": True, "crop_size": 32},
            "size {'shortest_edge': 24} cropped to",
        ),
        (
            {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 30}},
            "size {'shortest_edge': 40} cropped to",
        ),
        (
            {
                "image_processor_type": "LevitImageProcessor",  # resizes to 256 / 224 of the size
                "size": {"shortest_edge": 32},
                "resample": 3,
                "image_mean": [0, 0, 0],
                "image_std": [1, 1, 1],
                "do_center_crop": True,
                "crop_size": {"height": 32, "width": 32},
            },
            "LevitImageProcessor, whose rules are not known, in its preprocessor_config.json, cannot be reproduced",
        ),
        ({"size": {"max_height": 32, "max_width": 32}}, "size {'max_height': 32, 'max_width': 32} without a centre"),
    ],
)
def test_hf_preprocessing_we_cannot_do_refuses_images_and_not_the_model(
    tmp_path: Path, preprocessor: dict[str, Any], told: str
) -> None:
    found = loaded(hf_folder(tmp_path, preprocessor))
    assert found.model(torch.zeros(1, 3, 32, 32)).isfinite().all()
    assert told in found.provenance.images_refused and told in found.provenance.notes[0]
    with pytest.raises(InputError, match=rf"{re.escape(told)}.*, so it is given no images: take what is usual"):
        vs.Predictor(found)
    known = loaded(tmp_path, preprocessing="usual")
    assert known.preprocessing == found.preprocessing == ImageSpec.pillow(32, resize="squash", interpolation="bilinear")
    assert isinstance(vs.Predictor(known), vs.Predictor)
    vs.save(found, tmp_path / "saved")
    with pytest.raises(InputError, match=re.escape(told)):
        vs.Predictor(vs.load(tmp_path / "saved"))
    assert not vs.load(tmp_path / "saved", preprocessing="usual").refuses_images


@pytest.mark.parametrize(
    ("preprocessor", "told"),
    [
        ({"image_mean": "zero"}, "image_mean: must be a list"),
        ({"image_std": [1, 0, 1]}, "the JSON files beside it do not fit: ImageSpec: std must be positive"),
    ],
)
def test_a_preprocessor_that_is_damaged_is_refused(tmp_path: Path, preprocessor: dict[str, Any], told: str) -> None:
    assert told in refusal(hf_folder(tmp_path, preprocessor))


def test_other_forms_of_the_same_numbers(tmp_path: Path) -> None:
    plain = {"size": {"height": 40, "width": 40}, "do_center_crop": True, "crop_size": 32, "image_mean": [0.25] * 3}
    other = {"size": [40, 40], "do_center_crop": True, "image_mean": 0.25, "image_std": 0.5}
    other["crop_size"] = {"height": 32, "width": 32, "shortest_edge": None}
    read = load_hf(tmp_path, plain)
    again = load_hf(tmp_path, other)
    assert (read.preprocessing, read.provenance.notes) == (again.preprocessing, again.provenance.notes)
    assert (read.preprocessing.crop, read.preprocessing.mean) == (0.8, (0.25, 0.25, 0.25))
    assert load_hf(tmp_path, {"size": [40, 32]}).provenance.notes[0].startswith("preprocessor_config.json says 40x32")


def test_a_preprocessor_without_a_name_is_that_of_its_model(tmp_path: Path) -> None:
    """As AutoImageProcessor decides: by the model type, so a plain number is CLIP's shorter edge."""
    fields = {"size": 40, "do_center_crop": True, "crop_size": 32}
    (written_model(tmp_path, "clip") / "preprocessor_config.json").write_text(json.dumps(fields))
    found = loaded(tmp_path).preprocessing
    assert (found.resize, found.interpolation, found.crop) == ("shorter", "bicubic", 0.8)


def test_hf_labels_are_in_index_order(tmp_path: Path) -> None:
    shuffled = {str(index): NAMES[index] for index in (3, 0, 4, 1, 2)}
    labels = load_hf(tmp_path, None, id2label=shuffled).labels
    assert labels is not None and list(labels.names) == NAMES
    assert loaded(tmp_path, headless=True).labels is None


def test_placeholder_labels_are_no_labels(tmp_path: Path) -> None:
    assert load_hf(tmp_path, None, id2label={str(index): f"LABEL_{index}" for index in range(5)}).labels is None


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"0": "ant", "2": "bee"}, "does not number the classes 0 to 1"),
        ({"0": "ant", "1": "bee"}, "has 5 classes, the config.json beside it names 2"),
        ({"first": "ant"}, "id2label.first"),
    ],
)
def test_hf_labels_that_do_not_fit_are_refused(tmp_path: Path, names: dict[str, str], told: str) -> None:
    assert told in refusal(hf_folder(tmp_path, None, id2label=names))
