"""Training crops from files: the right part of the upright picture, with the pixels of decoding all of it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import simplejpeg
import skimage.data
from PIL import Image, ImageOps

from vitsmith.data.augment.crops import read_crop, read_part
from vitsmith.data.augment.settings import AugmentSpec, sample_box
from vitsmith.data.images import jpeg
from vitsmith.data.images.preprocess import resize_image
from vitsmith.errors import ImageError
from vitsmith.specs import ImageSpec

PHOTO = skimage.data.astronaut()[20:260, 70:390]  # 240 high, 320 wide
EXACT = AugmentSpec(decoding="exact")
PILLOW = ImageSpec.pillow((20, 30), resize="squash")
SPECS = {
    "two taps": ImageSpec.original((20, 30)),
    "pillow bilinear": ImageSpec.pillow((20, 30), interpolation="bilinear"),
    "pillow bicubic": PILLOW,
    "pillow lanczos": ImageSpec.pillow((20, 30), interpolation="lanczos"),
    "truncated": ImageSpec.lit((20, 30)),
}
JPEGS = [
    {"subsampling": 0},
    {"subsampling": 1},
    {"subsampling": 2},
    {"progressive": True},
    {"restart_marker_rows": 2},
]


def encoded(pixels: np.ndarray, file_format: str = "JPEG", orientation: int = 1, **options: object) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(buffer, file_format, exif=exif, **{"quality": 90} | options)
    return buffer.getvalue()


def boxed_by_pillow(data: bytes, number: int) -> Image.Image:
    """What seed `number` cuts out of the upright picture, all of it decoded by Pillow."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    box = sample_box(picture.height, picture.width, AugmentSpec(), np.random.default_rng(number))
    return picture.convert("RGB").crop((box.left, box.top, box.left + box.width, box.top + box.height))


# --- only the upper rows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
@pytest.mark.parametrize("options", [*JPEGS, "grey"], ids=str)
def test_upper_rows_are_those_of_the_whole_picture(options, reduction):
    data = encoded(PHOTO[:, :, 0]) if options == "grey" else encoded(PHOTO[:236, :317], **options)
    size = simplejpeg.decode_jpeg_header(data)[:2]
    whole = simplejpeg.decode_jpeg(data, min_height=-(-size[0] // reduction), min_width=-(-size[1] // reduction))
    for rows in (1, 15, 16, 17, 31, 32, 100, 160, 223, 224, 225, size[0]):
        upper = jpeg.decode(data, size, reduction=reduction, rows=rows)
        kept = -(-rows // reduction)
        np.testing.assert_array_equal(upper[:kept], whole[:kept])
        stops_early = (options == "grey" or "subsampling" in options) and rows <= 160
        assert len(upper) < len(whole) if stops_early else len(upper) <= len(whole)


def test_no_more_rows_are_decoded_than_the_chroma_needs():
    data = encoded(PHOTO, subsampling=2)  # units of 16 rows, a row of chroma for two of pixels
    assert [len(jpeg.decode(data, (240, 320), rows=rows)) for rows in (1, 14, 15, 30, 31)] == [16, 16, 32, 32, 48]


# --- the right part --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exact_crops_are_those_of_pillow_whatever_the_orientation(orientation, tmp_path):
    data = encoded(PHOTO, orientation=orientation)
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    for number in range(6):
        expected = np.asarray(boxed_by_pillow(data, number).resize((30, 20), Image.Resampling.BICUBIC))
        for source in (path, str(path), data):
            crop = read_crop(source, PILLOW, EXACT, np.random.default_rng(number))
            np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize("options", JPEGS, ids=str)
@pytest.mark.parametrize("name", SPECS)
def test_exact_crops_are_cut_out_of_the_whole_picture(name, options):
    data = encoded(PHOTO, **options)
    for number in range(4):
        part = np.asarray(boxed_by_pillow(data, number))
        whole_part = SPECS[name].model_copy(update={"resize": "squash", "crop": 1.0})
        expected = np.rint(resize_image(part, whole_part)).astype(np.uint8)
        crop = read_crop(data, SPECS[name], EXACT, np.random.default_rng(number))
        np.testing.assert_array_equal(crop, expected)


def test_other_sources_are_cropped_alike():
    for number in range(4):
        expected = boxed_by_pillow(encoded(PHOTO, "PNG"), number).resize((30, 20), Image.Resampling.BICUBIC)
        for source in (PHOTO, Image.fromarray(PHOTO), encoded(PHOTO, "PNG"), encoded(PHOTO, "WEBP", lossless=True)):
            crop = read_crop(source, PILLOW, EXACT, np.random.default_rng(number))
            np.testing.assert_array_equal(crop, np.asarray(expected))


def test_four_inks_go_the_way_of_whole_pictures():
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).convert("CMYK").save(buffer, "JPEG", quality=90)
    data = buffer.getvalue()
    for number in range(3):
        expected = boxed_by_pillow(data, number).resize((30, 20), Image.Resampling.BICUBIC)
        crop = read_crop(data, PILLOW, EXACT, np.random.default_rng(number))
        np.testing.assert_array_equal(crop, np.asarray(expected))


# --- scaled decoding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_resizing_in_whole_numbers_is_within_a_level(name):
    spec = SPECS[name]
    for number in range(10):
        exact = read_crop(PHOTO, spec, EXACT, np.random.default_rng(number)).astype(int)
        fast = read_crop(PHOTO, spec, AugmentSpec(), np.random.default_rng(number)).astype(int)
        assert np.abs(exact - fast).max() <= 1


def snapped(edge: float, grid: int) -> int:
    return round(edge / grid) * grid


@pytest.mark.parametrize("orientation", range(1, 9))
def test_scaled_decoding_shows_nearly_the_same(orientation):
    smooth = ImageSpec.pillow(24, resize="squash", interpolation="bilinear")
    data = encoded(np.asarray(Image.fromarray(PHOTO).resize((640, 480))), orientation=orientation)
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    errors, reductions = [], []
    for number in range(24):
        box = sample_box(picture.height, picture.width, AugmentSpec(), np.random.default_rng(number))
        part = read_part(data, AugmentSpec(), np.random.default_rng(number), needed=smooth.size)
        grid = min((1, 2, 4, 8), key=lambda divisor: abs(divisor - box.height / part.shape[0]))
        reductions.append(grid)
        assert abs(part.shape[0] - box.height / grid) <= 1 and abs(part.shape[1] - box.width / grid) <= 1
        edges = (box.left, box.top, box.left + box.width, box.top + box.height)
        exact = picture.crop([snapped(edge, grid) for edge in edges]).resize((24, 24), Image.Resampling.BILINEAR)
        crop = read_crop(data, smooth, AugmentSpec(), np.random.default_rng(number)).astype(float)
        errors.append(np.abs(crop - np.asarray(exact)).mean())
    assert min(reductions) > 1 and max(reductions) == 8
    assert np.mean(errors) < 1.0  # levels of 255


def test_a_crop_that_is_hardly_larger_than_needed_is_decoded_in_full():
    data = encoded(PHOTO)
    for number in range(6):
        part = read_part(data, AugmentSpec(), np.random.default_rng(number), needed=(200, 200))
        np.testing.assert_array_equal(part, np.asarray(boxed_by_pillow(data, number)))


# --- what cannot be read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoding", ["exact", "scaled"])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_file_that_is_cut_off_is_refused_wherever_the_crop_lies(tmp_path, share, decoding):
    path = tmp_path / "holiday.jpg"
    data = encoded(PHOTO)
    path.write_bytes(data[: int(share * len(data))])
    for number in range(12):
        with pytest.raises(ImageError) as told:
            read_crop(path, PILLOW, AugmentSpec(decoding=decoding), np.random.default_rng(number))
        assert str(told.value).startswith(f"{path}: is a cut-off or damaged JPEG (Premature end of JPEG file)")


def test_missing_rows_are_never_shown():
    data = encoded(PHOTO)
    closed = data[: len(data) // 2] + b"\xff\xd9"
    whole = AugmentSpec(area=(1, 1), aspect=(1, 2))
    with pytest.raises(ImageError, match=r"^image bytes: is a cut-off or damaged JPEG"):
        read_crop(closed, PILLOW, whole, np.random.default_rng(0))


def test_every_error_names_the_file_once(tmp_path):
    path = tmp_path / "holiday.png"
    for content, complaint in (
        (b"", "is empty (0 bytes)"),
        (b"\x89PNG\r\n\x1a\n", "is cut off"),
        (b"\xff\xd8\xff", "cannot be decoded"),
        (encoded(PHOTO, "PNG")[:2000], "is cut off"),
    ):
        path.write_bytes(content)
        with pytest.raises(ImageError) as told:
            read_crop(path, PILLOW, AugmentSpec(), np.random.default_rng(0))
        assert str(told.value).startswith(f"{path}: {complaint}")
    with pytest.raises(ImageError, match=r"missing\.jpg: cannot be read"):
        read_crop(tmp_path / "missing.jpg", PILLOW, AugmentSpec(), np.random.default_rng(0))
    with pytest.raises(ImageError, match="over the limit of 99"):
        read_part(encoded(PHOTO), AugmentSpec(), np.random.default_rng(0), max_pixels=99)


def test_long_and_narrow_pictures_are_refused_or_small():
    line = np.zeros((20_000, 1, 3), np.uint8)
    whole = AugmentSpec(area=(1, 1), aspect=(0.01, 100))
    assert read_crop(line, ImageSpec.original(8), whole, np.random.default_rng(0)).shape == (8, 8, 3)
    with pytest.raises(ImageError, match=r"^image array: .* too long and narrow"):
        read_crop(np.zeros((2_000_000, 1, 3), np.uint8), ImageSpec.pillow(64), whole, np.random.default_rng(0))


def test_floats_beyond_white_become_white():
    """Bicubic overshoots at an edge; in uint8 260 would be 4."""
    edge = np.zeros((40, 40, 3), np.uint8)
    edge[:, 20:] = 255
    images = ImageSpec(size=(60, 60), antialias=True, interpolation="bicubic")
    assert resize_image(edge, images).max() > 260
    whole = AugmentSpec(area=(1, 1), aspect=(1, 1), flip=False, decoding="exact")
    crop = read_crop(edge, images, whole, np.random.default_rng(0))
    assert (crop[:, 31:] >= 230).all() and (crop[:, :29] <= 25).all()
