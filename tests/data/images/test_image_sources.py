"""What callers give for an image, and files that are none: read, or one line that says what it is, at once."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.images.photographs import PHOTO, encoded, refusal
from tests.tiny import VIT, tiny_model
from vitsmith import Bundle, ImageSpec, Labels, Predictor
from vitsmith.data.images import sources as image_sources
from vitsmith.data.images.read import read_image
from vitsmith.data.sets.split_record import digest_of
from vitsmith.errors import ImageError, InputError

PNG = encoded(PHOTO, "PNG")


def test_bytes_of_every_kind_are_read(tmp_path) -> None:
    (tmp_path / "x.png").write_bytes(PNG)
    with (tmp_path / "x.png").open("rb") as file:
        for source in (bytearray(PNG), memoryview(PNG), io.BytesIO(PNG), file):
            for _ in range(2):  # an open file is read from its beginning
                np.testing.assert_array_equal(read_image(source), PHOTO)
    written = io.BytesIO()
    Image.fromarray(PHOTO).save(written, "PNG")
    np.testing.assert_array_equal(read_image(written), PHOTO)
    assert "cannot be read" in refusal(file)
    with (tmp_path / "x.png").open() as text:
        assert "with 'rb'" in refusal(text)
    assert refusal(io.BytesIO(b"")) == "image file: is empty (0 bytes); replace the image"


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch) -> None:
    (tmp_path / "x.png").write_bytes(PNG)
    monkeypatch.setenv("HOME", str(tmp_path))
    np.testing.assert_array_equal(read_image(Path("~/x.png")), PHOTO)
    assert refusal("~/y.png").startswith("~/y.png: cannot be read (No such file")


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (None, "NoneType is not an image"),
        (float("nan"), "float is not an image"),
        (7, "int is not an image"),
        ({"a.jpg"}, "set is not an image"),
        ({"image": "a.jpg"}, "dict is not an image"),
        (torch.zeros(3, 4, 3), "may have its channels first or last"),
        (torch.zeros(5, 4, 6), "float32 of shape (5, 4, 6) is not an image: give uint8 from 0 to 255, or floating"),
        (torch.zeros(3), "is not an image"),
        (torch.zeros(3, 4, 5, dtype=torch.int32), "int32 of shape (3, 4, 5) is not an image"),
        (torch.full((3, 4, 5), 255.0), "values from 255 to 255: floating point is read as 0 to 1"),
        (torch.full((3, 4, 5), -0.1), "before they are normalised"),
        (torch.full((3, 4, 5), float("nan")), "values from nan to nan"),
        (np.float32(1), "numpy.float32 is not an image"),
        (np.full((4, 5, 3), 0.5), "(255 * array).round().astype(numpy.uint8)"),
        (np.zeros((4, 5, 3), np.uint16), "(array >> 8).astype(numpy.uint8)"),
        (np.zeros((4, 5), object), "object of shape (4, 5) is not an image"),
        (np.zeros((4, 5, 2), np.uint8), "uint8 of shape (4, 5, 2) is not an image"),
        (np.zeros((3, 4, 5), np.uint8), "it looks channels-first"),
        (np.zeros((0, 5, 3), np.uint8), "(0, 5, 3)"),
    ],
    ids=str,
)
def test_what_is_no_image_is_described(source, part) -> None:
    assert part in refusal(source)


def test_tensors_are_read_with_their_channels_on_either_side() -> None:
    first = torch.from_numpy(PHOTO.copy()).permute(2, 0, 1)
    for tensor in (
        first,
        first.permute(1, 2, 0),
        first / 255,
        first.double() / 255,
        first.float().div(255).requires_grad_(),
    ):
        np.testing.assert_array_equal(read_image(tensor), PHOTO)
    np.testing.assert_array_equal(read_image(first[:1]), np.repeat(PHOTO[:, :, :1], 3, axis=2))
    np.testing.assert_array_equal(read_image(first[0]), np.repeat(PHOTO[:, :, :1], 3, axis=2))
    np.testing.assert_array_equal(read_image((first / 255).bfloat16()), PHOTO)


def test_tensors_need_no_torch() -> None:
    class Tensor:
        """As JAX has them."""

        device, dtype, shape = "tpu", np.dtype(np.uint8), PHOTO.shape

        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return PHOTO

    np.testing.assert_array_equal(read_image(Tensor()), PHOTO)


def test_an_image_has_one_digest_in_whatever_its_bytes_lie() -> None:
    for source in (bytearray(PNG), memoryview(PNG), io.BytesIO(PNG)):
        assert digest_of(source, b"salt") == digest_of(PNG, b"salt")
    assert digest_of(torch.from_numpy(PHOTO.copy()).permute(2, 0, 1), b"salt") == digest_of(PHOTO, b"salt")


def test_views_of_any_stride_are_read() -> None:
    for view in (PHOTO[::-1, ::-1], PHOTO[::2, 1::3], PHOTO.transpose(1, 0, 2), PHOTO[:, :, ::-1], PHOTO[:, :, :1]):
        expected = np.repeat(view, 3, axis=2) if view.shape[2] == 1 else view
        np.testing.assert_array_equal(read_image(view), expected)
    fixed = PHOTO.copy()
    fixed.flags.writeable = False
    np.testing.assert_array_equal(read_image(fixed), PHOTO)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    images = ImageSpec.pillow((16, 24), resize="squash", interpolation="bilinear")
    bundle = Bundle.of(tiny_model(VIT), preprocessing=images, labels=Labels(names=list("abcde")))
    return Predictor(bundle, "torch", threads=1, decoders=1)


def test_one_image_or_a_row_of_them_in_every_form(predictor, tmp_path) -> None:
    (tmp_path / "x.png").write_bytes(PNG)
    path = str(tmp_path / "x.png")
    expected = predictor.logits([PHOTO])[0]
    fixed = PHOTO.copy()
    fixed.flags.writeable = False
    one = [path, Path(path), PNG, bytearray(PNG), memoryview(PNG), io.BytesIO(PNG), PHOTO, fixed, PHOTO[::-1][::-1]]
    tensor = torch.from_numpy(PHOTO.copy()).permute(2, 0, 1)
    one += [tensor, tensor / 255]
    for images in (*one, Image.open(path)):
        np.testing.assert_array_equal(predictor.logits(images), expected[None])
        assert len(predictor(images)) == len(list(predictor.stream(images))) == 1

    def endless() -> Iterator[str]:
        while True:
            yield path

    assert next(iter(predictor.stream(endless()))).source == path
    for images in (
        [path, PNG],
        (path, PNG),
        iter([path, PNG]),
        np.array([path, path]),
        np.stack([PHOTO, PHOTO]),
        torch.stack([tensor] * 2),
    ):
        np.testing.assert_allclose(predictor.logits(images), np.stack([expected] * 2), atol=1e-5)


@pytest.mark.parametrize(
    "images", [None, 3, float("nan"), {"a.jpg"}, {"a.jpg": 1}, object()], ids=lambda one: type(one).__name__
)
def test_what_is_no_row_of_images_is_refused(predictor, images) -> None:
    for call in (predictor, predictor.logits, lambda images: list(predictor.stream(images))):
        with pytest.raises(InputError, match="is neither an image nor a list of images"):
            call(images)


def test_an_entry_that_is_no_image_is_told_by_its_number(predictor) -> None:
    for entry in (None, 3, [[1, 2], [3, 4]]):
        with pytest.raises(ImageError, match=r"^image 1: \w+ is not an image"):
            predictor([PHOTO, entry])


# --- files that are none ---------------------------------------------------------------------------------------------


def test_pipes_sockets_devices_links_and_folders_are_called_what_they_are(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    place = Path("/tmp") / f"vitsmith-{os.getpid()}.jpg"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        try:
            assert "it is a socket, not a file" in refusal(place)
        finally:
            place.unlink()
    for name, part in [
        ("pipe.jpg", "cannot be read (it is a named pipe (FIFO), not a file); give an image file"),
        ("folder.jpg", "is a folder; give one image file"),
        ("dangling.jpg", "it is a link to a file that does not exist"),
        ("loop.jpg", "symbolic links"),
        ("zero.jpg", "it is a device, not a file"),
        ("x" * 300 + ".jpg", "cannot be read (File name too long); check the path"),
        ("a\0.jpg", "no file has such a name"),
        ("\udcff.jpg", "No such file"),
    ]:
        assert refusal(tmp_path / name).startswith(f"{tmp_path / name}: ")
        assert part in refusal(tmp_path / name)


def test_a_file_over_the_limit_is_not_read(tmp_path, monkeypatch) -> None:
    with (tmp_path / "x.jpg").open("wb") as file:
        file.truncate(10 << 30)
    assert "10,737,418,240 bytes, over the limit of 1,073,741,824" in refusal(tmp_path / "x.jpg")
    monkeypatch.setattr(image_sources, "LARGEST", 100)
    assert "more than 100 bytes" in refusal(io.BytesIO(PNG))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b'{"error": "Not found"}', "a JSON document"),
        (b"<Error><Code>AccessDenied</Code></Error>", "an XML document"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b'<?xml version="1.0"?>\n<svg>', "an SVG drawing"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf", "a HEIC image"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's raw file"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "a camera's raw file"),
        (b"IIRO\x08\0\0\0", "a camera's raw file"),
        (b"FUJIFILMCCD-RAW 0201", "a camera's raw file"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"\xff\x0a\x00", "a JPEG XL image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\0\0\0\x20ftypisom\0\0\2\0", "a video"),
        (b"\x1a\x45\xdf\xa3\x01", "a video"),
        (b"RIFF\0\0\0\0AVI LIST", "a video"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "a companion file of macOS"),
        (b"PK\3\4", "a ZIP archive"),
        (bytes(5000), "begins with zeros only"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Thumbs.db"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_of_other_kinds_are_called_what_they_are(tmp_path, content, part) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    assert part in refusal(tmp_path / "x.jpg")
