"""Pixels by each source's own rule, value by value: read from its configuration, compared with what its code gave.

`tests/reference/preprocess/make.py` ran transformers, open_clip, timm and torchvision.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image
from pydantic import ValidationError

from tests import REFERENCE
from tests.tiny import VIT
from vitsmith.data.images.preprocess import load_image
from vitsmith.specs import ImageSpec
from vitsmith.weights.bundle.summary import describe_images
from vitsmith.weights.hf.images import HFPreprocessor, hf_images, hf_notes, unfollowed
from vitsmith.weights.metadata import IMAGENET_MEAN, IMAGENET_STD
from vitsmith.weights.open_clip.images import OpenClipPreprocessing, open_clip_images
from vitsmith.weights.timm.images import timm_images
from vitsmith.weights.timm.metadata import TimmMetadata

PLACE = REFERENCE / "preprocess"
CASES: dict[str, dict[str, Any]] = json.loads((PLACE / "sources.json").read_text())
DINOV2 = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 256},
    "crop_size": {"height": 224, "width": 224},
    "image_mean": IMAGENET_MEAN,
    "image_std": IMAGENET_STD,
}


def pictures() -> dict[str, np.ndarray]:
    face, coffee = skimage.data.astronaut(), skimage.data.coffee()
    return {
        "wide": skimage.data.chelsea(),
        "tall": coffee.transpose(1, 0, 2),
        "odd": face[:131, :97],
        "tiny": face[100:111, 200:213],
        "column": face[:90, 200:201],
        "row": coffee[150:151, :60],
    }


def spec_of(name: str) -> ImageSpec:
    told, size = CASES[name]["config"], tuple(CASES[name]["size"])
    if name.startswith("hf"):
        return hf_images(HFPreprocessor(**told), size)
    if name.startswith("open_clip"):
        return open_clip_images(OpenClipPreprocessing(**told), size)
    metadata = TimmMetadata.model_validate({"architecture": "vit", "pretrained_cfg": told})
    return timm_images(VIT.model_copy(update={"image_size": size}), metadata)


@pytest.mark.parametrize("name", CASES)
def test_pixels_are_those_of_the_source(name: str) -> None:
    spec = spec_of(name)
    with np.load(PLACE / "sources.npz") as recorded:
        expected = {key.split("/")[1]: recorded[key] for key in recorded.files if key.startswith(f"{name}/")}
    compared = {key: picture for key, picture in pictures().items() if key in expected}
    assert len(compared) == (4 if spec.resize == "longer" else 6)  # with these the sources fail at sides that vanish
    for key, picture in compared.items():
        found = load_image(np.ascontiguousarray(picture), spec)
        # In float torch and NumPy add in another order; divided by std, the last bits of float32 are 4 times as large.
        np.testing.assert_allclose(found, expected[key], rtol=0, atol=5e-6 if spec.quantize == "none" else 1e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "P-transparent", "RGBA", "CMYK"])
def test_other_modes_become_the_pixels_that_hf_makes_of_them(mode: str) -> None:
    """Transparency over white, colours as Pillow converts them."""
    with np.load(PLACE / "sources.npz") as recorded:
        pixels, expected = recorded[f"modes/{mode}"], recorded[f"hf-clip/{mode}"]
        picture = Image.fromarray(pixels, "CMYK" if mode == "CMYK" else None)
        if mode.startswith("P"):
            picture = Image.fromarray(pixels, "P")
            picture.putpalette(recorded[f"palettes/{mode}"].tobytes())
    if mode == "P-transparent":
        picture.info["transparency"] = 3
    np.testing.assert_allclose(load_image(picture, spec_of("hf-clip")), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {"image_processor_type": "CLIPImageProcessor"},
            {"resize": "shorter", "interpolation": "bicubic", "mean": (0.48145466, 0.4578275, 0.40821073)},
        ),
        ({"feature_extractor_type": "CLIPFeatureExtractor", "size": 224}, {"resize": "shorter", "crop": 1.0}),
        ({"image_processor_type": "SiglipImageProcessor"}, {"resize": "squash", "interpolation": "bicubic"}),
        ({"image_processor_type": "SiglipImageProcessorFast", "resample": 2}, {"interpolation": "bilinear"}),
        (DINOV2, {"resize": "shorter", "crop": 0.875, "corner": "floor", "mean": IMAGENET_MEAN}),
        ({"image_processor_type": "DeiTImageProcessor"}, {"resize": "squash", "crop": 0.875, "corner": "floor"}),
        ({"image_processor_type": "DINOv3ViTImageProcessorFast"}, {"quantize": "none", "mean": IMAGENET_MEAN}),
        ({"image_processor_type": "DINOv3ViTImageProcessorFast", "do_rescale": False}, {"quantize": "round"}),
        ({"image_processor_type": "ViTImageProcessorPil", "image_mean": None}, {"resize": "squash", "crop": 1.0}),
    ],
)
def test_what_a_processor_leaves_out_is_its_own_default(told: dict[str, Any], expected: dict[str, Any]) -> None:
    preprocessor = HFPreprocessor.model_validate(told)
    spec = hf_images(preprocessor, (224, 224))
    assert {field: getattr(spec, field) for field in expected} == expected
    assert spec.antialias and hf_notes(preprocessor, (224, 224)) == ()


def test_the_size_that_a_processor_crops_to_is_compared_with_the_models() -> None:
    notes = hf_notes(HFPreprocessor.model_validate(DINOV2), (518, 518))
    assert notes == ("preprocessor_config.json says 224x224; the model's size, 518x518, was used",)
    notes = hf_notes(HFPreprocessor.model_validate(DINOV2), (518, 518), asked=True)
    assert notes == ("preprocessor_config.json says 224x224; 518x518, as asked for, was used",)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("hf-dinov3", "RGB, 17x17, squashed (bilinear, antialiased in float), mean (0.485, 0.456, 0.406)"),
        ("hf-deit", "RGB, 17x17, squashed, centre crop of 0.85 (bicubic, antialiased), mean"),
        ("hf-clip", "RGB, 17x17, shorter side resized, centre crop of 1 (bicubic, antialiased), mean"),
        (
            "open_clip-longest-wide",
            "RGB, 17x23, longer side resized, filled with (127, 127, 127) (bilinear, antialiased)",
        ),
    ],
)
def test_inspect_says_how_pixels_become_a_tensor(name: str, told: str) -> None:
    assert describe_images(spec_of(name)).startswith(told)


def test_processors_with_rules_of_their_own_are_refused() -> None:
    naflex = HFPreprocessor.model_validate({"image_processor_type": "Siglip2ImageProcessor", "do_resize": True})
    assert unfollowed(naflex).startswith("Siglip2ImageProcessor, whose rules are not known, in its preprocessor_config")


@pytest.mark.parametrize(
    "wrong", [{"interpolation": "lanczos"}, {"resize_mode": "stretch"}, {"mode": "L"}, {"fill_color": 256}]
)
def test_open_clips_words_are_known_ones(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        OpenClipPreprocessing.model_validate(wrong)


def test_open_clips_one_number_is_for_every_channel() -> None:
    spec = open_clip_images(OpenClipPreprocessing.model_validate({"mean": 0.5, "std": 0.25}), (32, 32))
    assert (spec.mean, spec.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
