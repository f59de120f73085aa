"""Turn image bytes, files, arrays and Pillow images into upright RGB pixels, and refuse what cannot be trusted.

Three promises: the size is read from the header and checked before anything is decoded; a cut-off or damaged file is an
error, never half a picture, as far as its format can tell; and every error is an ImageError of one line that begins
with the name of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from vitsmith.data.images.header import is_camera_raw, jpeg_orientation, open_header, orientation_of
from vitsmith.data.images.sources import ImageSource, name_source, read_bytes
from vitsmith.data.images.tensors import array_from_tensor, is_tensor
from vitsmith.data.images.truncation import check_opened, check_rows, check_whole, no_half_pictures
from vitsmith.errors import ImageError

Rgb = NDArray[np.uint8]

IMAGE_SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""Lower-case suffixes of the files that count as images when a folder is listed."""

MAX_PIXELS = 178_956_970
"""Default of `max_pixels`: 512 MiB of RGB. Beyond this count Pillow's own Image.open raises."""

# A scaled decode that is this many times larger than the resize target is close to a full one. Measured on nine photos
# of scikit-image (quality 90), scaled decode + Pillow resize against full decode + Pillow resize: the mean difference
# in 8-bit levels, bilinear / bicubic, is 2.2 / 1.5 at 1x, 1.0 / 1.1 at 1.5x, 0.8 / 0.7 at 2x, 0.35 / 0.35 at 3x.
_SCALED_DECODING_MARGIN = 2

_JPEG = b"\xff\xd8\xff"


def read_image(
    source: ImageSource, *, needed: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Upright RGB pixels of one image: uint8 of shape (height, width, 3), C-contiguous.

    `source` is a path, the bytes of a file, a file that is open for reading bytes, a Pillow image, or a uint8 array of
    shape (height, width), (height, width, 1), (height, width, 3) RGB or (height, width, 4) RGBA; an RGB array is
    returned without copying.

    With `needed`, the (height, width) that the upright picture will be resized to, a JPEG may be decoded at 1/2, 1/4 or
    1/8 of its size: the smallest that is still at least twice `needed` on both sides. Decoding is then faster, and an
    antialiased resize afterwards much faster, but the result is approximate: use it only for an ImageSpec with
    `scaled_decoding`.

    `max_pixels` bounds height x width in the header. For what Pillow decodes (everything but JPEG),
    `PIL.Image.MAX_IMAGE_PIXELS` (89,478,485 unless changed), where Pillow begins to warn, is a second limit.

    EXIF orientation is applied. Transparency is laid over white, as pages and viewers show it. 16-bit pixels keep their
    high byte: Pillow does so with 16-bit colour, and it restores 8-bit pixels that were widened, by zeros or by
    repetition. CMYK JPEGs are read as Adobe's inverted kind; colour profiles are ignored.

    Raises ImageError for what cannot be read or decoded, cut-off files and files whose format shows that they are
    damaged (also when `ImageFile.LOAD_TRUNCATED_IMAGES` is set), more than one frame or page, more than `max_pixels`,
    32-bit integer and float pixels (they have no agreed white), thumbnails of raw files. Safe to call from many
    threads; decoding releases the interpreter lock.
    """
    with named_errors(source):
        return decode_image(source, needed, max_pixels)


def decode_image(source: ImageSource, needed: tuple[int, int] | None, max_pixels: int) -> Rgb:
    """`read_image` without the name of the source in its errors: for use inside `named_errors`."""
    if is_tensor(source):
        pixels = _rgb_from_array(array_from_tensor(source))
    elif isinstance(source, np.ndarray):
        pixels = _rgb_from_array(source)
    elif isinstance(source, Image.Image):
        pixels = _rgb_of_pillow_image(source, max_pixels)
    else:
        pixels = _rgb_from_bytes(read_bytes(source), needed, max_pixels)
    return np.ascontiguousarray(pixels)


@contextmanager
def named_errors(source: object) -> Iterator[None]:
    """Turn every error inside the block into an ImageError that begins with the name of `source`."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name_source(source)}: {error}") from error.__cause__
    except Exception as error:  # Pillow's plugins let nearly any exception escape on crafted bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"{name_source(source)}: cannot be decoded ({reason}); replace the image or save it again"
        ) from error


def _rgb_from_bytes(data: bytes, needed: tuple[int, int] | None, max_pixels: int) -> Rgb:
    if not data:
        raise ImageError("is empty (0 bytes); replace the image")
    if data.startswith(_JPEG):
        return _rgb_from_jpeg(data, needed, max_pixels)
    return _rgb_with_pillow(data, max_pixels)


def _rgb_from_jpeg(data: bytes, needed: tuple[int, int] | None, max_pixels: int) -> Rgb:
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError:  # a chroma sampling unknown to TurboJPEG, or no frame at all: Pillow decides
        return _rgb_with_pillow(data, max_pixels)
    check_size(height, width, max_pixels)
    orientation = jpeg_orientation(data)
    if needed and orientation >= 5:
        needed = needed[1], needed[0]
    reduced = reduction((height, width), needed)
    four_inks = colours in ("CMYK", "YCCK")
    try:
        pixels: Rgb = simplejpeg.decode_jpeg(
            data,
            "CMYK" if four_inks else "RGB",
            min_height=-(-height // reduced),
            min_width=-(-width // reduced),
            strict=True,
        )
    except ValueError as error:
        if _means_damage(str(error)):
            raise ImageError(f"is a cut-off or damaged JPEG ({error}); replace the image") from error
        return _rgb_with_pillow(data, max_pixels)
    return upright(_rgb_from_cmyk(pixels) if four_inks else pixels, orientation)


def _means_damage(warning: str) -> bool:
    """Whether a libjpeg warning (jerror.h) means that pixels are missing, which Pillow would ignore.

    Bytes left over before the end marker (0xd9) are common in photos from cameras and the web, and mostly harmless.
    """
    if "extraneous bytes before marker 0xd9" in warning:
        return False
    return "Corrupt JPEG data" in warning or "Premature end of JPEG file" in warning


def reduction(size: tuple[int, int], needed: tuple[int, int] | None, *, margin: float = _SCALED_DECODING_MARGIN) -> int:
    """The largest of 8, 4, 2, 1 by which `size` can be divided and still be `margin` times `needed`."""
    if needed is None:
        return 1
    room = min(have // (margin * want) for have, want in zip(size, needed, strict=True))
    return next((divisor for divisor in (8, 4, 2) if divisor <= room), 1)


def _rgb_with_pillow(data: bytes, max_pixels: int) -> Rgb:
    check_whole(data)
    with no_half_pictures():
        image = open_header(data)
        check_opened(image, data)
        pixels = _rgb_from_pillow(image, max_pixels)
        check_rows(image, data)
        return pixels


def _rgb_of_pillow_image(image: Image.Image, max_pixels: int) -> Rgb:
    """Pixels of a picture that the caller opened; a file that Pillow has not read yet is read like any other file."""
    file, data = getattr(image, "fp", None), b""
    if file is not None and getattr(image, "tile", None):
        data = read_bytes(file)
        check_size(image.height, image.width, max_pixels)
        if data.startswith(_JPEG):
            pixels = _rgb_from_bytes(data, None, max_pixels)
            if image.size in (pixels.shape[1::-1], pixels.shape[:2]):  # otherwise the caller asked Pillow for a draft
                return pixels
        check_whole(data)
        check_opened(image, data)
    with no_half_pictures():
        pixels = _rgb_from_pillow(image, max_pixels)
        check_rows(image, data)
        return pixels


def _rgb_from_pillow(image: Image.Image, max_pixels: int) -> Rgb:
    check_size(image.height, image.width, min(max_pixels, Image.MAX_IMAGE_PIXELS or max_pixels))
    # The other pictures of an MPO are previews and depth maps of the first, written by phones and cameras.
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise ImageError(f"is animated or has several pages ({frames} frames); save one of them as an image")
    if is_camera_raw(image):
        raise ImageError("is a camera's raw file, of which only a thumbnail can be read; export it as JPEG")
    image.load()
    return upright(_rgb(image), orientation_of(image))  # in this order: a PNG may hold its EXIF behind the pixels


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (EXIF 2.32, tag 0x0112): swap the axes, then mirror columns, then rows."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _rgb(image: Image.Image) -> Rgb:
    # Pillow before 11 opens 16-bit PNGs as 'I', and every version opens 16-bit PGMs so.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _repeat_grey((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageError(f"has 32-bit pixels (mode {image.mode}) of unknown range; scale them to 8 bits first")
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(page, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _rgb_from_cmyk(inks: NDArray[np.uint8]) -> Rgb:
    height, width, _ = inks.shape
    return np.array(Image.frombytes("CMYK", (width, height), inks.tobytes(), "raw", "CMYK;I").convert("RGB"))


def _rgb_from_array(array: NDArray[np.generic]) -> Rgb:
    channels = array.shape[2] if array.ndim == 3 else 1 if array.ndim == 2 else 0
    if array.dtype != np.uint8 or channels not in (1, 3, 4) or array.size == 0:
        raise ImageError(
            f"{array.dtype} of shape {array.shape} is not an image: give uint8 of shape (height, width), "
            f"(height, width, 1), (height, width, 3) or (height, width, 4){_hint(array, channels)}"
        )
    pixels = array.astype(np.uint8, copy=False)
    if channels == 4:
        return _rgb(Image.fromarray(pixels))
    return pixels if channels == 3 else _repeat_grey(pixels.reshape(pixels.shape[:2]))


def _hint(array: NDArray[np.generic], channels: int) -> str:
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and channels not in (1, 3, 4):
        return "; it looks channels-first, so try array.transpose(1, 2, 0)"
    if array.dtype.kind == "f":
        return "; convert values from 0 to 1 with (255 * array).round().astype(numpy.uint8)"
    return "; convert 16 bits to 8 with (array >> 8).astype(numpy.uint8)" if array.dtype == np.uint16 else ""


def _repeat_grey(grey: NDArray[np.uint8]) -> Rgb:
    return np.repeat(grey[:, :, None], 3, axis=2)


def check_size(height: int, width: int, limit: int) -> None:
    """Raise ImageError for more than `limit` pixels."""
    if height * width > limit:
        raise ImageError(
            f"has {height * width:,} pixels ({height} high, {width} wide), over the limit of {limit:,}; shrink it"
        )
