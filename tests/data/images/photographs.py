"""A photograph, its bytes in any file format, and how bytes are refused."""

import io
import struct

import numpy as np
import pytest
import skimage.data
from PIL import Image

from vitsmith.data.images.read import read_image
from vitsmith.errors import ImageError

PHOTO = skimage.data.astronaut()[100:260, 150:390]  # 160 high, 240 wide: a face, unlike any mirror image of itself


def encoded(picture: np.ndarray | Image.Image, file_format: str, **options: object) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def with_segment(jpeg: bytes, marker: int, payload: bytes) -> bytes:
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def refusal(source: object, **options: object) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message
