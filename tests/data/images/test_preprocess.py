from __future__ import annotations

import io

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests import REFERENCE
from vitsmith.data.images.preprocess import load_image, normalize, preprocess, resize_image
from vitsmith.data.images.read import read_image
from vitsmith.errors import ConfigError, ImageError
from vitsmith.specs import ImageSpec

RECORDED = REFERENCE / "preprocess"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PHOTOS = ["chelsea", "astronaut", "coffee"]


def photo(name: str) -> np.ndarray:
    return getattr(skimage.data, name)()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def resized_by_torch(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Two-tap bilinear with half-pixel centres, of the whole image."""
    batch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(batch, (height, width), mode="bilinear", antialias=False)
    return resized[0].permute(1, 2, 0).numpy()


# --- the original's preprocessing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PHOTOS)
def test_original_preprocessing_is_reproduced(name):
    expected = np.load(RECORDED / f"{name}.npz")["finetune_eval_224"].transpose(2, 0, 1)
    pixels = preprocess(photo(name), ImageSpec.original(224))
    assert pixels.dtype == np.float32 and pixels.flags.c_contiguous
    np.testing.assert_allclose(pixels, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("crop", [False, True], ids=["squash", "crop"])
@pytest.mark.parametrize("name", PHOTOS)
def test_lit_preprocessing_is_reproduced_to_the_last_bit(name, crop):
    expected = np.load(RECORDED / f"{name}.npz")["lit_224_crop" if crop else "lit_224_squash"]
    pixels = resize_image(photo(name), ImageSpec.lit(224, crop=crop))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(*[st.integers(1, 90)] * 4)
def test_two_taps_agree_with_torch(height, width, to_height, to_width):
    image = noise(height, width)
    pixels = resize_image(image, ImageSpec.original((to_height, to_width)))
    # float32 positions differ in their last bits (about 1e-5 of a pixel), and noise turns that into values
    np.testing.assert_allclose(pixels, resized_by_torch(image, to_height, to_width), rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("source", "size", "resized", "corner"),
    [
        ((300, 451), (224, 224), (224, 337), (0, 56)),  # 336.75 wide; 113 pixels too many, of which 56 on the left
        ((451, 300), (224, 224), (337, 224), (56, 0)),
        ((7, 13), (14, 14), (14, 26), (0, 6)),  # enlarged
        ((4, 9), (2, 2), (2, 4), (0, 1)),  # 4.5 wide: halves go to even
        ((4, 11), (2, 2), (2, 6), (0, 2)),  # 5.5 wide
        ((60, 80), (30, 20), (30, 40), (0, 10)),  # height decides
        ((60, 80), (20, 40), (30, 40), (5, 0)),  # width decides
    ],
)
def test_two_tap_crop_is_the_centre_of_the_whole_resized_image(source, size, resized, corner):
    image = noise(*source)
    pixels = resize_image(image, ImageSpec(size=size, resize="shorter"))
    (top, left), (height, width) = corner, size
    expected = resized_by_torch(image, *resized)[top : top + height, left : left + width]
    np.testing.assert_allclose(pixels, expected, rtol=0, atol=0.01)


def test_two_tap_crop_keeps_the_share_that_is_asked_for():
    image = noise(100, 100)
    pixels = resize_image(image, ImageSpec(size=(40, 40), resize="shorter", crop=0.8))
    np.testing.assert_allclose(pixels, resized_by_torch(image, 50, 50)[5:45, 5:45], rtol=0, atol=0.01)


def test_two_taps_of_a_very_long_image_need_no_whole_resized_image():
    image = np.zeros((1, 2_000_001, 3), np.uint8)
    image[:, 999_990:1_000_010] = (10, 20, 30)  # whole, it would be 64 x 128,000,064 pixels
    np.testing.assert_array_equal(
        resize_image(image, ImageSpec.lit(64, crop=True)), np.broadcast_to(image[0, 1_000_000], (64, 64, 3))
    )


def test_quantizing_truncates_or_rounds_the_same_floats():
    image = noise(50, 70)
    floats = resize_image(image, ImageSpec(size=(20, 30)))
    assert floats.dtype == np.float32
    np.testing.assert_array_equal(resize_image(image, ImageSpec(size=(20, 30), quantize="truncate")), np.trunc(floats))
    np.testing.assert_array_equal(resize_image(image, ImageSpec(size=(20, 30), quantize="round")), np.round(floats))


# --- the recipe of timm, torchvision and HF --------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("name", "size", "crop", "resized", "corner"),
    [  # resized as (width, height), corner as (left, top): torchvision's Resize and CenterCrop, done by hand
        ("chelsea", (224, 224), 0.9, (372, 248), (74, 12)),  # 451x300 -> 372.8 is cut to 372
        ("chelsea", (224, 224), 0.875, (384, 256), (80, 16)),
        ("chelsea", (224, 224), 1.0, (336, 224), (56, 0)),
        ("coffee", (224, 224), 0.9, (372, 248), (74, 12)),
        ("coffee", (225, 225), 0.95, (354, 236), (64, 6)),  # 129 and 11 over: 64.5 and 5.5, halves to even
        ("astronaut", (384, 384), 1.0, (384, 384), (0, 0)),
        ("coffee", (160, 224), 1.0, (240, 160), (8, 0)),  # timm's ResizeKeepRatio: 600x400 covers 224x160
        ("coffee", (224, 160), 0.9, (372, 248), (106, 12)),  # covers 177 wide, 248 high
    ],
)
def test_pillow_recipe_is_resize_crop_normalise(name, size, crop, resized, corner, interpolation):
    image = photo(name)
    (left, top), (height, width) = corner, size
    filtered = Image.fromarray(image).resize(resized, getattr(Image.Resampling, interpolation.upper()))
    cropped = np.asarray(filtered.crop((left, top, left + width, top + height)))
    spec = ImageSpec.pillow(size, crop=crop, interpolation=interpolation, **IMAGENET)
    np.testing.assert_array_equal(resize_image(image, spec), cropped)
    expected = (cropped.transpose(2, 0, 1) / 255.0 - np.reshape(spec.mean, (3, 1, 1))) / np.reshape(spec.std, (3, 1, 1))
    pixels = preprocess(image, spec)
    assert pixels.dtype == np.float32 and pixels.flags.c_contiguous
    np.testing.assert_allclose(pixels, expected, rtol=0, atol=1e-6)


def test_portrait_and_landscape_are_treated_alike():
    image = photo("chelsea")
    spec = ImageSpec.pillow(224, interpolation="bilinear")
    upright, turned = resize_image(image, spec), resize_image(image.transpose(1, 0, 2), spec)
    # Pillow rounds between its horizontal and its vertical pass, so the two may differ by one level.
    assert np.abs(upright.astype(int) - turned.transpose(1, 0, 2)).max() <= 1


def test_pillow_squash_uses_the_whole_image():
    image = photo("coffee")
    expected = np.asarray(Image.fromarray(image).resize((192, 128), Image.Resampling.BILINEAR))
    spec = ImageSpec.pillow((128, 192), resize="squash", interpolation="bilinear")
    np.testing.assert_array_equal(resize_image(image, spec), expected)


# --- in float, corners, fillings -------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(*[st.integers(1, 90)] * 4, st.sampled_from(["bilinear", "bicubic"]))
def test_antialiased_floats_are_those_of_torch(height, width, to_height, to_width, interpolation):
    image = noise(height, width)
    pixels = resize_image(image, ImageSpec(size=(to_height, to_width), antialias=True, interpolation=interpolation))
    batch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(batch, (to_height, to_width), mode=interpolation, antialias=True)
    assert pixels.dtype == np.float32
    # 3e-4 of 255 levels; with positions in float64, as Pillow has them, up to 8e-3
    np.testing.assert_allclose(pixels, expected[0].permute(1, 2, 0).numpy(), rtol=0, atol=5e-4)


@pytest.mark.parametrize("shape", [(1, 300_000), (300_000, 1)])
def test_a_long_line_in_float_needs_no_whole_resized_image(shape):
    spec = ImageSpec(size=(64, 64), antialias=True)
    np.testing.assert_allclose(resize_image(np.full((*shape, 3), 77, np.uint8), spec), 77, rtol=0, atol=1e-3)
    shorter = spec.model_copy(update={"resize": "shorter"})
    np.testing.assert_allclose(resize_image(np.full((*shape, 3), 77, np.uint8), shorter), 77, rtol=0, atol=1e-3)


def test_hfs_corner_is_rounded_down():
    image = photo("coffee")  # 400 x 600 -> 236 x 354: 11 and 129 pixels are over
    whole = np.asarray(Image.fromarray(image).resize((354, 236), Image.Resampling.BICUBIC))
    even, down = (ImageSpec.pillow(225, crop=0.95).model_copy(update={"corner": one}) for one in ("round", "floor"))
    np.testing.assert_array_equal(resize_image(image, even), whole[6:231, 64:289])
    np.testing.assert_array_equal(resize_image(image, down), whole[5:230, 64:289])


@pytest.mark.parametrize(
    ("shape", "size", "resized", "corner"),
    [
        ((60, 80), (40, 40), (30, 40), (5, 0)),
        ((80, 61), (40, 40), (40, 30), (0, 5)),  # 30.5 wide: halves to even
        ((40, 40), (21, 44), (21, 21), (0, 11)),  # 23 free columns, of which 11 on the left
        ((1000, 1), (32, 32), (32, 1), (0, 15)),  # a side never vanishes
    ],
)
@pytest.mark.parametrize("quantize", ["round", "none"])
def test_the_longer_side_fits_and_the_rest_is_filled(shape, size, resized, corner, quantize):
    image = noise(*shape)
    spec = ImageSpec(size=size, resize="longer", antialias=True, quantize=quantize, fill=(10, 20, 30))
    squashed = resize_image(image, ImageSpec(size=resized, antialias=True, quantize=quantize))
    expected = np.tile(np.asarray((10, 20, 30), squashed.dtype), (*size, 1))
    expected[corner[0] : corner[0] + resized[0], corner[1] : corner[1] + resized[1]] = squashed
    np.testing.assert_array_equal(resize_image(image, spec), expected)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"antialias": True, "quantize": "truncate"}, "rounds"),
        ({"interpolation": "bicubic"}, "needs antialias=True"),
        ({"antialias": True, "interpolation": "lanczos"}, "is Pillow's"),
        ({"crop": 0.9}, "crop with resize='squash' needs antialias=True"),
        ({"resize": "longer"}, "need antialias=True"),
        ({"corner": "floor"}, "need antialias=True"),
        ({"antialias": True, "fill": (1, 2, 3)}, "fill is for resize='longer'"),
        ({"antialias": True, "resize": "longer", "fill": (1, 2, 256)}, "fill.2: Input should be less than or equal"),
    ],
)
def test_what_no_source_does_is_refused(fields, told):
    with pytest.raises(ConfigError) as caught:
        ImageSpec(size=(8, 8), **fields)
    assert told in str(caught.value)


# --- normalisation ---------------------------------------------------------------------------------------------------


def test_normalising_all_levels_is_the_written_formula():
    levels = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    spec = ImageSpec(size=(16, 16), **IMAGENET)
    expected = (levels / 255 - np.array(spec.mean)) / np.array(spec.std)
    for pixels in (levels, levels.astype(np.float32)):
        output = normalize(pixels, spec)
        assert output.shape == (3, 16, 16) and output.dtype == np.float32
        np.testing.assert_allclose(output, expected.transpose(2, 0, 1), rtol=0, atol=1e-6)


def test_half_mean_and_std_is_the_originals_range():
    levels = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    output = normalize(levels, ImageSpec.original(16)).transpose(1, 2, 0)
    np.testing.assert_allclose(output, (levels - 127.5) / 127.5, rtol=0, atol=1e-6)
    assert output.min() == -1.0 and output.max() == 1.0


# --- loading ---------------------------------------------------------------------------------------------------------


def jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_loading_decodes_in_full_unless_the_spec_allows_less():
    data = jpeg(photo("astronaut"))
    spec = ImageSpec.pillow(100)
    np.testing.assert_array_equal(load_image(data, spec), preprocess(read_image(data), spec))


@pytest.mark.parametrize(
    ("resize", "crop", "decoded"),
    [("squash", 1.0, 256), ("shorter", 1.0, 256), ("shorter", 0.7, 512)],  # 0.7: 182 pixels are needed before the crop
)
def test_scaled_decoding_looks_at_the_size_before_the_crop(resize, crop, decoded):
    data = jpeg(photo("astronaut"))
    spec = ImageSpec.pillow(128, resize=resize, crop=crop, scaled_decoding=True)
    half = read_image(data, needed=(128, 128))
    assert half.shape == (256, 256, 3)
    expected = preprocess(half if decoded == 256 else read_image(data), spec)
    np.testing.assert_array_equal(load_image(data, spec), expected)


def test_loading_passes_the_limit_of_pixels_on(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg(photo("coffee")))
    assert load_image(path, ImageSpec.original(32), max_pixels=240_000).shape == (3, 32, 32)
    with pytest.raises(ImageError, match=r"photo\.jpg: has 240,000 pixels"):
        load_image(path, ImageSpec.original(32), max_pixels=239_999)


# --- wrong input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [ImageSpec.original(8), ImageSpec.pillow(8)], ids=["two taps", "pillow"])
@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((9, 9, 3), np.float32), "float32 of shape (9, 9, 3)"),
        (np.zeros((9, 9), np.uint8), "uint8 of shape (9, 9)"),
        (np.zeros((9, 9, 4), np.uint8), "uint8 of shape (9, 9, 4)"),
        (np.zeros((3, 9, 9), np.uint8), "uint8 of shape (3, 9, 9)"),
        (np.zeros((0, 9, 3), np.uint8), "uint8 of shape (0, 9, 3)"),
    ],
)
def test_other_arrays_are_refused(image, told, spec):
    with pytest.raises(ImageError) as caught:
        preprocess(image, spec)
    assert told in str(caught.value) and "give uint8 RGB of shape (height, width, 3)" in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "resize"), [((1, 400_000), "shorter"), ((400_000, 1), "shorter"), ((400_000, 1), "squash")]
)
def test_an_image_that_pillow_would_blow_up_on_the_way_is_refused(shape, resize):
    with pytest.raises(ImageError, match=f"image of {shape[0]} x {shape[1]} pixels .* is too long and narrow"):
        resize_image(np.zeros((*shape, 3), np.uint8), ImageSpec.pillow(224, resize=resize))


@pytest.mark.parametrize(("shape", "resize"), [((20, 2000), "shorter"), ((2000, 20), "shorter"), ((9, 9), "squash")])
def test_panoramas_and_large_results_are_resized(shape, resize):
    spec = ImageSpec.pillow(224 if resize == "shorter" else (5000, 4), resize=resize)
    resized = resize_image(np.full((*shape, 3), 77, np.uint8), spec)
    np.testing.assert_array_equal(resized, np.full((*spec.size, 3), 77))


@pytest.mark.parametrize("spec", [ImageSpec.original(32), ImageSpec.lit(32, crop=True), ImageSpec.pillow(32)])
def test_views_are_read_and_left_alone(spec):
    image = noise(60, 80)
    before = image.copy()
    mirrored = image[:, ::-1]
    np.testing.assert_array_equal(preprocess(mirrored, spec), preprocess(mirrored.copy(), spec))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("spec", [ImageSpec.original(20), ImageSpec.lit(20), ImageSpec.lit(20, crop=True)])
def test_an_image_of_the_right_size_is_not_touched(spec):
    image = noise(20, 20)
    np.testing.assert_array_equal(resize_image(image, spec), image)
    np.testing.assert_array_equal(resize_image(image, ImageSpec.pillow(20, crop=1.0)), image)
