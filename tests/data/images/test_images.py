from __future__ import annotations

import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.data.images.photographs import PHOTO, encoded, refusal, with_segment
from vitsmith.data.images.read import IMAGE_SUFFIXES, MAX_PIXELS, read_image
from vitsmith.errors import ImageError

EXIF_HEADER = b"Exif\0\0II*\0\x08\0\0\0"


def decoded_by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def exif_with(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# --- what is decoded -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2}], ids=str)
def test_jpeg_has_the_pixels_that_pillow_decodes(options):
    data = encoded(PHOTO, "JPEG", quality=90, **options)
    np.testing.assert_array_equal(read_image(data), decoded_by_pillow(data))


def test_path_bytes_array_and_pillow_image_give_the_same_pixels(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(PHOTO, "PNG"))
    for source in (path, str(path), path.read_bytes(), PHOTO, Image.fromarray(PHOTO), Image.open(path)):
        pixels = read_image(source)
        np.testing.assert_array_equal(pixels, PHOTO)
        assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_listed_suffix_is_read(tmp_path, suffix):
    path = tmp_path / f"photo{suffix}"
    Image.new("RGB", (24, 16), "white").convert({".pbm": "1", ".pgm": "L"}.get(suffix, "RGB")).save(path)
    np.testing.assert_array_equal(read_image(path), np.full((16, 24, 3), 255))


def test_grey_becomes_three_equal_channels():
    grey = PHOTO[:, :, 1]
    expected = np.stack([grey] * 3, axis=2)
    for source in (grey, grey[:, :, None], Image.fromarray(grey), encoded(grey, "PNG"), encoded(grey, "TIFF")):
        np.testing.assert_array_equal(read_image(source), expected)
    jpeg = encoded(grey, "JPEG")
    np.testing.assert_array_equal(read_image(jpeg), decoded_by_pillow(jpeg))


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "YCbCr", "LAB", "HSV"])
def test_other_modes_become_rgb(mode):
    image = Image.fromarray(PHOTO).convert("RGB") if mode != "LAB" else Image.new("LAB", (4, 4), (255, 128, 128))
    image = image.convert(mode)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(image), expected)
    if mode not in ("LAB", "HSV"):
        np.testing.assert_array_equal(read_image(encoded(image, "TIFF")), expected)


def test_four_ink_jpegs_are_read_as_pillow_reads_them():
    inks = np.kron(np.random.default_rng(0).integers(0, 256, (6, 8, 4), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    cmyk = encoded(Image.frombytes("CMYK", (64, 48), inks.tobytes()), "JPEG", quality=95)
    transform = cmyk.index(b"Adobe") + 11
    ycck = cmyk[:transform] + b"\x02" + cmyk[transform + 1 :]
    assert [simplejpeg.decode_jpeg_header(data)[2] for data in (cmyk, ycck)] == ["CMYK", "YCCK"]
    for data in (cmyk, ycck):
        np.testing.assert_array_equal(read_image(data), decoded_by_pillow(data))


def test_sampling_that_simplejpeg_refuses_is_left_to_pillow():
    data = simplejpeg.encode_jpeg(np.full((16, 16, 3), 128, np.uint8), 90, "RGB", "444")
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    odd = bytearray(data[: scan + 14])
    odd[frame + 11], odd[frame + 14], odd[frame + 17] = 0x22, 0x21, 0x12  # blocks of Y, Cb and Cr: 2x2, 2x1, 1x2
    blocks = "001010" * 4 + "0000" * 4  # four of Y, two of Cb and two of Cr, all flat, in the standard Huffman codes
    odd += int(blocks, 2).to_bytes(5, "big") + b"\xff\xd9"
    with pytest.raises(ValueError, match="subsampling"):
        simplejpeg.decode_jpeg_header(bytes(odd))
    np.testing.assert_array_equal(read_image(bytes(odd)), np.full((16, 16, 3), 128))
    for cut in (odd[:-2], odd[:-2] + bytes(500)):  # which Pillow would pad, or take for pixels
        assert "is cut off: it is a JPEG without its end" in refusal(bytes(cut))


@pytest.mark.parametrize("widen", [lambda grey: grey * 257, lambda grey: grey * 256], ids=["repeated", "shifted"])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_keeps_the_high_byte(file_format, widen):
    grey = np.arange(256, dtype=np.uint16).reshape(8, 32)
    wide = widen(grey)
    data = b"P5 32 8 65535\n" + wide.astype(">u2").tobytes() if file_format == "PPM" else encoded(wide, file_format)
    np.testing.assert_array_equal(read_image(data), np.stack([grey] * 3, axis=2))


def test_sixteen_bit_grey_and_sixteen_bit_colour_agree():
    wide = np.random.default_rng(1).integers(0, 65536, (8, 8), dtype=np.uint16)
    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in wide)
    colour = png(8, 8, 16, 2, zlib.compress(rows))
    np.testing.assert_array_equal(read_image(colour), read_image(encoded(wide, "PNG")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "array", "palette", "key"])
def test_transparency_is_laid_over_white(mode):
    if mode == "palette":
        image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
        image.putpalette([0, 0, 0, 40, 40, 40, 90, 90, 90])
        data, alpha = encoded(image, "PNG", transparency=bytes([0, 102, 255])), [0, 102, 255]
    elif mode == "key":  # one grey level declared transparent
        data = encoded(Image.frombytes("L", (3, 1), bytes([0, 40, 90])), "PNG", transparency=0)
        alpha = [0, 255, 255]
    else:
        alpha = [0, 102, 255]
        rgba = np.array([[[c, c, c, a] for c, a in zip([0, 40, 90], alpha, strict=True)]], np.uint8)
        data = rgba if mode == "array" else encoded(Image.fromarray(rgba).convert(mode), "PNG")
    share = np.array(alpha) / 255
    expected = np.array([0, 40, 90]) * share + 255 * (1 - share)
    np.testing.assert_allclose(read_image(data)[0], np.stack([expected] * 3, axis=1), atol=1)


# --- EXIF orientation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_orientation_is_applied(file_format, orientation):
    data = encoded(PHOTO, file_format, exif=exif_with(orientation))
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    pixels = read_image(data)
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(read_image(Image.open(io.BytesIO(data))), expected)


def test_orientation_six_turns_the_picture_clockwise():
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :8] = 255
    turned = read_image(encoded(stored, "PNG", exif=exif_with(6)))
    assert turned.shape == (32, 16, 3)
    assert turned[:8, 8:].min() == 255 and turned.sum() == stored.sum()


@pytest.mark.parametrize(
    "payload",
    [
        EXIF_HEADER + struct.pack("<HHHII", 1, 0x0112, 3, 1, 9),
        EXIF_HEADER + struct.pack("<HHHII", 1, 0x0112, 3, 1, 0),
        EXIF_HEADER + struct.pack("<HHHI", 40, 0x0112, 3, 1),
        EXIF_HEADER[:8],
        b"Exif\0\0garbage",
        b"Exif\0\0",
    ],
    ids=["nine", "zero", "cut", "header", "garbage", "empty"],
)
def test_senseless_exif_leaves_the_picture_as_it_is(payload):
    clean = encoded(PHOTO, "JPEG")
    np.testing.assert_array_equal(read_image(with_segment(clean, 0xE1, payload)), read_image(clean))


def test_exif_is_found_behind_other_segments_and_fill_bytes():
    jpeg = encoded(PHOTO, "JPEG")
    turned = with_segment(jpeg, 0xE1, EXIF_HEADER + struct.pack("<HHHII", 1, 0x0112, 3, 1, 3) + bytes(4))
    turned = with_segment(turned[:2] + b"\xff" + turned[2:], 0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")
    np.testing.assert_array_equal(read_image(turned), read_image(jpeg)[::-1, ::-1])


# --- scaled decoding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needed", "shape"),
    [
        ((80, 120), (80 * 2, 120 * 2)),  # 2x on both sides is just what a full decode gives
        ((40, 60), (80, 120)),
        ((41, 60), (160, 240)),
        ((40, 61), (160, 240)),
        ((20, 30), (40, 60)),
        ((10, 15), (20, 30)),
        ((1, 1), (20, 30)),  # libjpeg goes no further than 1/8
        ((500, 500), (160, 240)),
    ],
)
def test_jpeg_is_reduced_while_twice_the_needed_size_remains(needed, shape):
    assert read_image(encoded(PHOTO, "JPEG"), needed=needed).shape[:2] == shape


def test_odd_sizes_are_reduced_rounding_up():
    assert read_image(encoded(PHOTO[:101, :203], "JPEG"), needed=(25, 50)).shape == (51, 102, 3)


def test_needed_is_about_the_upright_picture():
    data = encoded(PHOTO, "JPEG", exif=exif_with(6))  # stored 160 x 240, upright 240 x 160
    assert read_image(data, needed=(60, 40)).shape == (120, 80, 3)
    assert read_image(data, needed=(40, 60)).shape == (240, 160, 3)


def test_other_formats_and_no_need_give_all_pixels():
    assert read_image(encoded(PHOTO, "PNG"), needed=(10, 10)).shape == PHOTO.shape
    assert read_image(encoded(PHOTO, "JPEG")).shape == PHOTO.shape


def test_scaled_decoding_stays_within_a_level_of_full_decoding():
    data = encoded(skimage.data.astronaut(), "JPEG", quality=90)
    resized = [
        np.asarray(Image.fromarray(pixels).resize((128, 128), Image.Resampling.BICUBIC), np.float32)
        for pixels in (read_image(data), read_image(data, needed=(128, 128)))
    ]
    assert 0 < np.abs(resized[0] - resized[1]).mean() < 1.0


def test_scaled_cmyk_jpeg_has_the_colours_of_the_full_one():
    cmyk = Image.new("CMYK", (64, 64), (200, 40, 90, 30))
    data = encoded(cmyk, "JPEG", quality=95)
    reduced = read_image(data, needed=(16, 16))
    assert reduced.shape == (32, 32, 3)
    np.testing.assert_array_equal(reduced, read_image(data)[:32, :32])


# --- what is refused -------------------------------------------------------------------------------------------------


def png(width: int, height: int, depth: int, colour: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg_claiming(height: int, width: int) -> bytes:
    data = bytearray(simplejpeg.encode_jpeg(np.ascontiguousarray(PHOTO)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_claiming(height: int, width: int) -> bytes:
    data = bytearray(encoded(PHOTO, "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [png(50_000, 50_000, 8, 2, b""), jpeg_claiming(50_000, 50_000), bmp_claiming(50_000, 50_000)],
    ids=["png", "jpeg", "bmp"],
)
def test_pixels_are_counted_before_decoding(data):
    assert refusal(data).startswith("image bytes: has 2,500,000,000 pixels (50000 high, 50000 wide), over the limit")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_max_pixels_holds_for_every_format(file_format):
    data = encoded(PHOTO, file_format)
    assert read_image(data, max_pixels=160 * 240).shape == PHOTO.shape
    assert "over the limit of 38,399" in refusal(data, max_pixels=160 * 240 - 1)


def test_pillow_images_are_counted_too():
    assert "over the limit of 99" in refusal(Image.new("L", (10, 10)), max_pixels=99)


def test_where_pillow_would_warn_we_refuse(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)  # 160 x 240 is between its warning and its error
    assert "over the limit of 30,000" in refusal(encoded(PHOTO, "PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(encoded(PHOTO, "PNG")).shape == PHOTO.shape


def test_the_default_limit_is_where_pillow_gives_up():
    assert MAX_PIXELS == 2 * 89_478_485


@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["cut", "cut and closed"])
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_cut_off_jpeg_is_never_half_a_picture(share, mode, progressive, end):
    whole = encoded(Image.fromarray(PHOTO).convert(mode), "JPEG", quality=90, progressive=progressive)
    assert refusal(whole[: int(len(whole) * share)] + end).startswith("image bytes: ")


def test_jpeg_without_its_last_bytes_is_refused():
    whole = encoded(PHOTO, "JPEG")
    for missing in (1, 2, 3, 10):
        assert "cut-off or damaged JPEG (Premature end of JPEG file)" in refusal(whole[:-missing])


def test_harmless_faults_of_jpegs_are_forgiven():
    whole = encoded(PHOTO, "JPEG")
    later_revision = whole[:11] + b"\x03\x01" + whole[13:]
    stray_bytes = whole[:-2] + bytes(10) + whole[-2:]
    trailing = whole + b"appended by a phone"
    for data in (later_revision, stray_bytes, trailing):
        np.testing.assert_array_equal(read_image(data), read_image(whole))


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_cut_off_files_are_refused(file_format):
    data = encoded(PHOTO, file_format)
    told = refusal(data[: len(data) * 6 // 10])
    assert told.startswith(("image bytes: cannot be decoded (", "image bytes: is cut off: "))
    assert ("is cut off" in told) == (file_format in ("PNG", "WEBP"))


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_animations_and_pages_are_refused(file_format):
    frames = [Image.fromarray(np.roll(PHOTO, shift, axis=1)) for shift in (0, 40, 80)]
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert "(3 frames); save one of them as an image" in refusal(data)


def test_the_previews_of_a_phone_are_no_animation():
    data = encoded(PHOTO, "MPO", save_all=True, append_images=[Image.fromarray(PHOTO[::2, ::2])])
    assert Image.open(io.BytesIO(data)).n_frames == 2
    np.testing.assert_array_equal(read_image(data), decoded_by_pillow(data))
    assert read_image(Image.open(io.BytesIO(data))).shape == PHOTO.shape


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_white_are_refused(mode):
    image = Image.fromarray(PHOTO[:, :, 0]).convert(mode)
    for source in (image, encoded(image, "TIFF")):
        assert f"has 32-bit pixels (mode {mode}) of unknown range" in refusal(source)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty (0 bytes)"),
        (b"hello world, this is text", "is not an image but text that says 'hello world, this is text'"),
        (b"/annex/objects/SHA256E-s346M--a.jpg\n", "is a git-annex pointer, not the file it stands for"),
        (b'<?xml version="1.0"?><svg/>', "is an SVG drawing, not pixels"),
        (b"\n<!DOCTYPE html><title>404</title>", "is an HTML page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC image, which is not supported"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "is a HEIC image, which is not supported"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is a PostScript file"),
        (b"\xff\xd8\xff", "cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n", "is cut off"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "is cut off"),
        (b"II*\0\x08\0\0\0", "is cut off"),
        (b"GIF89a", "cannot be decoded"),
        (b"BM", "cannot be decoded"),
        (b"P6 9", "cannot be decoded"),
    ],
)
def test_files_that_are_no_image_are_named(tmp_path, content, complaint):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(content)
    assert refusal(path).startswith(f"{path}: {complaint}")


def test_paths_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    assert refusal(tmp_path) == f"{tmp_path}: is a folder; give one image file"
    missing = tmp_path / "missing.png"
    assert refusal(missing) == (
        f"{missing}: cannot be read (No such file or directory); check the path and its permissions"
    )
    assert "cannot be" in refusal("nul\0byte.png")

    def deny(path: str, flags: int) -> int:
        raise PermissionError(13, os.strerror(13), path)

    monkeypatch.setattr(os, "open", deny)  # the tests may run as root, whom no permission stops
    assert refusal("secret.png") == "secret.png: cannot be read (Permission denied); check the path and its permissions"


def test_a_lazy_pillow_image_that_is_damaged_is_named(tmp_path):
    path = tmp_path / "cut.png"
    data = encoded(PHOTO, "PNG")
    path.write_bytes(data[: len(data) // 2])
    with Image.open(path) as image:
        assert refusal(image) == f"{path}: is cut off: it is a PNG without its end; replace the image"


@pytest.mark.parametrize(
    ("array", "hint"),
    [
        (np.zeros((4, 5, 3), np.float32), "float32 of shape (4, 5, 3)"),
        (np.zeros((4, 5, 3), np.int64), "int64 of shape (4, 5, 3)"),
        (np.zeros((4, 5), bool), "bool of shape (4, 5)"),
        (np.zeros((6, 5, 2), np.uint8), "uint8 of shape (6, 5, 2)"),
        (np.zeros((2, 4, 5, 3), np.uint8), "uint8 of shape (2, 4, 5, 3)"),
        (np.zeros((5,), np.uint8), "uint8 of shape (5,)"),
        (np.zeros((0, 5, 3), np.uint8), "uint8 of shape (0, 5, 3)"),
        (np.zeros((3, 40, 50), np.uint8), "it looks channels-first, so try array.transpose(1, 2, 0)"),
    ],
)
def test_arrays_of_other_kinds_are_described(array, hint):
    message = refusal(array)
    assert message.startswith("image array: ") and hint in message
    assert "give uint8 of shape (height, width)" in message
    assert ("channels-first" in message) == (array.shape == (3, 40, 50))


def test_other_objects_are_refused():
    assert refusal(["a.jpg"]) == (
        "image: list is not an image; give a path, the bytes of a file, an open file, a uint8 array, a tensor or a "
        "Pillow image"
    )


# --- robustness ------------------------------------------------------------------------------------------------------

SMALL = {name: encoded(PHOTO[:24, :32], name) for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    file_format=st.sampled_from(sorted(SMALL)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    kept=st.floats(0.1, 1),
)
def test_damaged_bytes_give_pixels_or_one_error(file_format, changes, kept):
    data = bytearray(SMALL[file_format])
    for place, value in changes:
        data[int(place * min(len(data), 200))] = value  # mostly headers, where the plugins branch
    try:
        pixels = read_image(bytes(data[: int(len(data) * kept)]), max_pixels=100_000)
    except ImageError as error:
        assert str(error).startswith("image bytes: ") and "\n" not in str(error)
    else:
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


def test_many_threads_read_the_same_pixels():
    sources = [encoded(PHOTO, name) for name in ("JPEG", "PNG", "WEBP", "TIFF")] * 8
    expected = [read_image(source) for source in sources]
    with ThreadPoolExecutor(8) as pool:
        for pixels, alone in zip(pool.map(read_image, sources), expected, strict=True):
            np.testing.assert_array_equal(pixels, alone)
