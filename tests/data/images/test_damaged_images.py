"""Half a picture is an error: every format, as far as it can tell, whatever flags other libraries set for Pillow."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile

from tests.data.images.photographs import PHOTO, encoded, refusal
from vitsmith.data.images.read import read_image
from vitsmith.errors import ImageError

GRAIN = (PHOTO // 2 + np.random.default_rng(0).integers(0, 120, PHOTO.shape)).astype(np.uint8)
CASES = {
    "png": encoded(GRAIN, "PNG"),
    "png grey": encoded(GRAIN[:, :, 0], "PNG"),
    "png palette": encoded(Image.fromarray(GRAIN).convert("P"), "PNG"),
    "png transparent": encoded(Image.fromarray(GRAIN).convert("RGBA"), "PNG"),
    "png exif behind": encoded(GRAIN, "PNG", exif=Image.Exif()),
    "gif": encoded(GRAIN, "GIF"),
    "bmp": encoded(GRAIN, "BMP"),
    "tiff": encoded(GRAIN, "TIFF"),
    "tiff lzw": encoded(GRAIN, "TIFF", compression="tiff_lzw"),
    "tiff deflate": encoded(GRAIN, "TIFF", compression="tiff_adobe_deflate"),
    "tiff jpeg": encoded(GRAIN, "TIFF", compression="jpeg"),
    "webp": encoded(GRAIN, "WEBP"),
    "webp lossless": encoded(GRAIN, "WEBP", lossless=True),
    "avif": encoded(GRAIN, "AVIF"),
    "ppm": encoded(GRAIN, "PPM"),
    "jpeg": encoded(GRAIN, "JPEG"),
    "jpeg progressive": encoded(GRAIN, "JPEG", progressive=True),
    "jpeg four inks": encoded(Image.fromarray(GRAIN).convert("CMYK"), "JPEG"),
}
CHECKSUMS = [name for name in CASES if name.startswith("png")]
RAW_PIXELS = ("bmp", "tiff", "ppm")  # a black or changed end of theirs is a picture like any other


def is_right_or_refused(data: bytes, whole: np.ndarray) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Pillow's, of TIFF tags behind the end of the file
            return np.array_equal(read_image(data), whole)
    except ImageError:
        return True


@pytest.mark.parametrize("flag", [False, True], ids=["", "LOAD_TRUNCATED_IMAGES"])
@pytest.mark.parametrize("name", CASES)
def test_files_that_are_cut_off_give_no_other_pixels(name, flag, monkeypatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", flag)
    data = CASES[name]
    whole = read_image(data)
    for end in np.linspace(0, len(data) - 1, 40).astype(int).tolist():
        assert is_right_or_refused(data[:end], whole), end
    assert ImageFile.LOAD_TRUNCATED_IMAGES is flag


@pytest.mark.parametrize("flag", [False, True], ids=["", "LOAD_TRUNCATED_IMAGES"])
@pytest.mark.parametrize("name", [name for name in CASES if name not in RAW_PIXELS])
def test_a_second_half_of_zeros_gives_no_other_pixels(name, flag, monkeypatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", flag)
    data = CASES[name]
    whole = read_image(data)
    for share in (0.3, 0.5, 0.7, 0.9):
        end = int(len(data) * share)
        assert is_right_or_refused(data[:end] + bytes(len(data) - end), whole), share


@pytest.mark.parametrize("name", CHECKSUMS)
def test_any_changed_byte_of_a_png_is_found(name) -> None:
    data = CASES[name]
    random = np.random.default_rng(1)
    for at in np.linspace(8, len(data) - 1, 60).astype(int).tolist():
        changed = bytearray(data)
        changed[at] ^= 1 << int(random.integers(8))
        with pytest.raises(ImageError):
            read_image(bytes(changed))
    changed = bytearray(data)
    changed[data.index(b"IDAT") + 20] ^= 1
    assert "is damaged: the checksum of its IDAT chunk at byte" in refusal(bytes(changed))


def test_bytes_behind_the_end_of_a_png_are_no_damage() -> None:
    np.testing.assert_array_equal(read_image(CASES["png"] + b"appended by a phone"), GRAIN)


def test_a_png_with_right_checksums_and_too_few_pixels_is_refused(monkeypatch) -> None:
    def chunk(kind: bytes, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))

    def png(rows: int, interlaced: int, *, cut: int = 0) -> bytes:
        pixels = zlib.compress(b"".join(b"\0" + bytes(range(30)) for _ in range(rows)))
        header = struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, interlaced)
        start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        return start + chunk(b"IDAT", pixels[: len(pixels) - cut]) + chunk(b"IEND", b"")

    for flag in (False, True):
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", flag)
        assert read_image(png(10, 0)).ravel().tolist() == list(range(30)) * 10
        for rows in (5, 9):
            assert "its compressed pixels end before its last row" in refusal(png(rows, 0))
        refusal(png(0, 0))
        refusal(png(9, 0, cut=12))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 8), (9, 13), (17, 5)])
@pytest.mark.parametrize("kind", ["black", "interlaced"])
def test_black_and_interlaced_pngs_are_measured(size, kind) -> None:
    def chunk(name: bytes, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))

    width, height = size
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    grey = np.arange(width * height, dtype=np.uint8).reshape(height, width) * (kind == "interlaced")
    parts = [grey[y::down, x::right] for x, y, right, down in passes] if kind == "interlaced" else [grey]
    rows = [b"\0" + row.tobytes() for part in parts if part.size for row in part]
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, kind == "interlaced")

    def png(stream: bytes) -> bytes:
        body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(stream)) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + body

    np.testing.assert_array_equal(read_image(png(b"".join(rows)))[:, :, 0], grey)
    told = refusal(png(b"".join(rows[:-1])))
    assert len(rows) == 1 or "end before its last row" in told
    refusal(png(b"".join(rows)[:-1]))


def test_a_picture_of_one_colour_may_end_in_zeros() -> None:
    white = np.full((2000, 2000, 3), 255, np.uint8)
    data = encoded(white, "WEBP")
    assert len(data) - len(data.rstrip(b"\0")) > 300
    np.testing.assert_array_equal(read_image(data), white)
    photo = encoded(GRAIN, "WEBP", quality=100)
    assert "bytes are zeros" in refusal(photo[:-2000] + bytes(2000))


@pytest.mark.parametrize("name", [*CHECKSUMS, "jpeg", "jpeg progressive", "gif"])
def test_images_that_pillow_opened_and_did_not_read_are_checked_too(name, tmp_path) -> None:
    whole = CASES[name]
    path = tmp_path / "x"
    path.write_bytes(whole)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_image(image), read_image(whole))
    end = len(whole) // 2
    path.write_bytes(whole[:end] + bytes(len(whole) - end))
    with Image.open(path) as image:
        assert refusal(image).startswith(f"{path}: ")


def test_a_draft_of_pillow_stays_a_draft(tmp_path) -> None:
    (tmp_path / "x.jpg").write_bytes(CASES["jpeg"])
    with Image.open(tmp_path / "x.jpg") as image:
        image.draft("RGB", (60, 40))
        assert read_image(image).shape == (40, 60, 3)


def test_the_flag_is_put_back_when_many_threads_have_read(monkeypatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    half = [data[: len(data) // 2] for data in CASES.values()] * 4

    def refused(data: bytes) -> bool:
        try:
            read_image(data)
        except ImageError:
            return True
        return False

    with ThreadPoolExecutor(8) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert all(pool.map(refused, half))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_the_same_holds_in_shards(tmp_path) -> None:
    import tarfile

    from vitsmith.data.sets.datasets import open_labelled

    whole = CASES["png"]
    damaged = whole[:9000] + bytes(len(whole) - 9000)
    with tarfile.open(tmp_path / "y.tar", "w") as tar:
        for name, data in (("a.png", whole), ("a.cls", b"0"), ("b.png", damaged), ("b.cls", b"1")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    samples, _ = open_labelled(str(tmp_path / "y.tar"))
    np.testing.assert_array_equal(samples.image(0), GRAIN)
    with pytest.raises(ImageError, match=r"^y\.tar/b\.png: is damaged: the checksum of its IDAT chunk"):
        samples.image(1)


def tiff(tags: dict[int, tuple[int, int]], pixels: bytes) -> bytes:
    """A little-endian TIFF of one uncompressed strip: tag -> (type, value)."""
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + pixels


@pytest.mark.parametrize("extra", [{254: (4, 1)}, {50706: (4, 0x101)}], ids=["thumbnail", "DNG"])
def test_the_thumbnail_of_a_raw_file_is_not_taken_for_the_picture(extra) -> None:
    tags = {256: (3, 4), 257: (3, 4), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 0), 278: (3, 4), 279: (4, 16)}
    start = 8 + 2 + 12 * len(tags) + 4
    np.testing.assert_array_equal(
        read_image(tiff(tags | {273: (4, start)}, bytes(range(16))))[:, :, 0].ravel(), range(16)
    )
    data = tiff(tags | extra | {273: (4, start + 12)}, bytes(range(16)))
    assert "is a camera's raw file" in refusal(data)


@pytest.mark.parametrize("rows", [60, 120])
def test_any_changed_byte_of_a_deflated_tiff_is_found(rows) -> None:
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 256, (10, 10, 3), np.uint8))
    whole = np.asarray(noise.resize((160, 120), Image.Resampling.BICUBIC))  # of what shrinks libtiff reads no checksum
    buffer = io.BytesIO()
    Image.fromarray(whole).save(buffer, "TIFF", compression="tiff_adobe_deflate", tiffinfo={278: rows})
    data = buffer.getvalue()
    tags = Image.open(io.BytesIO(data)).tag_v2
    assert len(tags[273]) == 120 // rows
    np.testing.assert_array_equal(read_image(data), whole)
    for start, size in zip(tags[273], tags[279], strict=True):
        for at in range(start, start + size, size // 20):
            changed = data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]
            with pytest.raises(ImageError, match=r"damaged TIFF|decode"):
                read_image(changed)


def test_zeros_behind_the_end_of_a_webp_are_no_damage() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(buffer, "WEBP")
    data = buffer.getvalue()
    np.testing.assert_array_equal(read_image(data + bytes(4096)), read_image(data))
