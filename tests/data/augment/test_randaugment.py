"""RandAugment's operations against Pillow, and where the original differs from Pillow against its formula by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import skimage.data
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from vitsmith.data.augment.randaugment import OPERATIONS, operate, randaugment

MAGNITUDES = [0, 10, 15, 20]
PHOTOS = ["astronaut", "chelsea", "coffee"]
SIZES = {"astronaut": (224, 224), "chelsea": (120, 180), "coffee": (224, 96)}
CENTRE = (0.3, 0.9)


def photo(name: str) -> Image.Image:
    """Of another shape each: a mistake of height and width would show."""
    return Image.fromarray(getattr(skimage.data, name)()).resize(SIZES[name][::-1])


def operated(image: Image.Image, name: str, magnitude: float, *, sign: int = 1) -> np.ndarray:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    draws = np.array([[0.25 if sign < 0 else 0.75, *CENTRE]])
    return operate(pixels, np.array([name]), draws, magnitude=magnitude)[0].permute(1, 2, 0).numpy()


def furthest(result: np.ndarray, expected: Image.Image | np.ndarray) -> int:
    return int(np.abs(result.astype(int) - np.asarray(expected).astype(int)).max())


@pytest.mark.parametrize("name", PHOTOS)
def test_stretching_equalising_and_inverting_are_pillows(name: str) -> None:
    image = photo(name)
    dull = image.point(lambda value: 40 + value // 2)
    for source in (image, dull):
        assert furthest(operated(source, "AutoContrast", 10), ImageOps.autocontrast(source)) <= 1
        assert furthest(operated(source, "Equalize", 10), ImageOps.equalize(source)) == 0
        assert furthest(operated(source, "Invert", 10), ImageOps.invert(source)) == 0


@pytest.mark.parametrize("name", ["AutoContrast", "Equalize"])
def test_an_image_of_one_value_stays(name: str) -> None:
    flat = Image.new("RGB", (20, 16), (7, 200, 255))
    assert furthest(operated(flat, name, 10), flat) == 0


# TensorFlow shifts a byte by 7 at most, so that 0 bits are 1; magnitude 20 keeps all 8.
@pytest.mark.parametrize(("magnitude", "bits"), [(0, 1), (10, 4), (15, 6), (20, 8)])
def test_posterize_is_pillows(magnitude: int, bits: int) -> None:
    image = photo("chelsea")
    assert furthest(operated(image, "Posterize", magnitude), ImageOps.posterize(image, bits)) == 0


# The original compares with int(magnitude / 10 * 256) as uint8: 0, 256, 384 and 512 are 0, 0, 128 and 0.
@pytest.mark.parametrize(("magnitude", "threshold"), [(0, 0), (5, 128), (10, 0), (15, 128), (20, 0)])
def test_solarize_is_pillows(magnitude: int, threshold: int) -> None:
    image = photo("astronaut")
    assert furthest(operated(image, "Solarize", magnitude), ImageOps.solarize(image, threshold)) == 0


@pytest.mark.parametrize(("magnitude", "addition"), [(0, 0), (10, 110), (15, 165), (20, 220)])
def test_solarize_add_brightens_the_dark(magnitude: int, addition: int) -> None:
    image = photo("astronaut")
    expected = image.point([min(value + addition, 255) if value < 128 else value for value in range(256)] * 3)
    assert furthest(operated(image, "SolarizeAdd", magnitude), expected) == 0


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("name", PHOTOS)
def test_blends_are_pillows(name: str, magnitude: int) -> None:
    """One level apart, more only where a blend magnifies that of the poorer image by |1 - factor|."""
    image = photo(name)
    factor = magnitude / 10 * 1.8 + 0.1
    magnified = 1 + int(np.ceil(abs(1 - factor)))  # grey and SMOOTH round in Pillow, and are cut off in the original
    brighter = ImageEnhance.Brightness(image).enhance(factor)
    assert furthest(operated(image, "Brightness", magnitude), brighter) <= 1
    assert furthest(operated(image, "Color", magnitude), ImageEnhance.Color(image).enhance(factor)) <= magnified
    # The original's "mean" is the number of pixels / 256, which at 224 is 196.
    grey = Image.new("RGB", image.size, (196,) * 3)
    assert furthest(operated(image, "Contrast", magnitude), Image.blend(grey, image, factor)) <= 1
    smooth = image.copy()  # Pillow's filter copies the outermost pixels too
    smooth.paste(image.filter(ImageFilter.SMOOTH).crop((1, 1, image.width - 1, image.height - 1)), (1, 1))
    assert furthest(operated(image, "Sharpness", magnitude), Image.blend(smooth, image, factor)) <= magnified


# Not 10 and 15, where a shear of 0.3 or 0.45 puts every tenth row half-way between two pixels, and rounding decides.
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("magnitude", [0, 9.7, 14.3, 20])
@pytest.mark.parametrize("name", PHOTOS)
def test_movements_are_pillows(name: str, magnitude: float, sign: int) -> None:
    """The same pixels, but for the few (0.2% at most) that Pillow's 16 bits of fraction put elsewhere."""
    image = photo(name)
    width, height = image.size
    level = sign * magnitude / 10
    shear, across, down = level * 0.3, level * 100 * width / 224, level * 100 * height / 224
    # Pillow's coordinates begin at the edge of the first pixel, TensorFlow's at its centre: hence the half-pixels.
    affine = {
        "ShearX": (1, shear, -shear / 2, 0, 1, 0),
        "ShearY": (1, 0, 0, shear, 1, -shear / 2),
        "TranslateX": (1, 0, across, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, down),
    }
    expected = {
        key: image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=(128,) * 3)
        for key, matrix in affine.items()
    }
    expected["Rotate"] = image.rotate(level * 30, fillcolor=(128,) * 3)
    for key, reference in expected.items():
        differ = (operated(image, key, magnitude, sign=sign) != np.asarray(reference)).any(2)
        assert differ.mean() < 0.002, (key, differ.mean())


@pytest.mark.parametrize(("magnitude", "reach"), [(0, 0), (10, 40), (20, 80)])
def test_cutout_is_a_box_around_its_centre(magnitude: int, reach: int) -> None:
    image = photo("astronaut")
    row, column = int(CENTRE[0] * 224), int(CENTRE[1] * 224)
    expected = np.array(image)
    expected[max(row - reach, 0) : row + reach, max(column - reach, 0) : column + reach] = 128
    assert furthest(operated(image, "Cutout", magnitude), expected) == 0


def test_small_images_lose_the_same_share() -> None:
    white = Image.new("RGB", (32, 64), (255,) * 3)
    assert (operated(white, "TranslateX", 10) == 128).mean() == pytest.approx(14 / 32)  # 100 / 224 of 32, rounded
    assert (operated(white, "TranslateY", 10) == 128).mean() == pytest.approx(29 / 64)


def test_every_image_has_its_own_operation() -> None:
    """A mixed batch, longer than is worked on at once, is what each image alone becomes; the input stays."""
    image = torch.from_numpy(np.array(photo("coffee"))).permute(2, 0, 1)
    names = np.array(OPERATIONS * 5)
    batch = torch.stack([image.roll(place, 2) for place in range(len(names))])
    before = batch.clone()
    draws = np.random.default_rng(0).random((len(names), 3))
    together = operate(batch, names, draws, magnitude=15)
    for place in range(len(names)):
        part = slice(place, place + 1)
        assert torch.equal(together[part], operate(batch[part], names[part], draws[part], magnitude=15)), names[place]
    assert torch.equal(batch, before)


def test_operations_are_equally_frequent_and_applied_in_turn() -> None:
    draws = np.random.default_rng(0).random((4000, 2, 4))
    chosen = (draws[..., 0] * 16).astype(int)
    assert scipy.stats.chisquare(np.bincount(chosen.ravel(), minlength=16)).pvalue > 1e-3
    image = torch.from_numpy(np.array(photo("chelsea"))).permute(2, 0, 1)[None]
    some = draws[:20]
    results = randaugment(image.expand(20, -1, -1, -1), some, magnitude=10)
    for place in range(20):
        expected = image
        for layer in range(2):
            name = np.array([OPERATIONS[chosen[place, layer]]])
            expected = operate(expected, name, some[place : place + 1, layer, 1:], magnitude=10)
        assert torch.equal(results[place], expected[0])
