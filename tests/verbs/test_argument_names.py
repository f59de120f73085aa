"""Arguments by a name that a public function does not have: refused with the name that was meant."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import vitsmith as vs
from tests.tiny import tiny_lit
from vitsmith.errors import InputError, UnknownNameError

WRONG: dict[str, dict[str, str]] = {
    "load": {"imagesize": "image_size"},
    "evaluate": {"spilt": "split"},
    "export": {"strictgate": "strict_gate"},
    "probe": {"shot": "shots"},
    "quantize": {"maxdrop": "max_drop"},
    "train": {"batchsize": "batch_size"},
    "lit": {"textmodel": "text_model"},
    "write_index": {"knd": "kind"},
    "open_index": {"unfinshed": "unfinished"},
    "open_engine": {"thread": "threads"},
    "open_data": {"splits": "split"},
    "search": {"thread": "threads"},
    "load_image": {"maxpixels": "max_pixels"},
    "Predictor": {"batchsize": "batch_size"},
    "Encoder": {"batchsize": "batch_size"},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_misspelt_argument_is_told_with_the_one_that_was_meant(name: str) -> None:
    ((given, meant),) = WRONG[name].items()
    with pytest.raises(UnknownNameError, match=rf"argument of {name} '{given}': did you mean {meant}"):
        getattr(vs, name)(**{given: 1})


def test_images_alone_are_no_question_to_two_towers() -> None:
    model: Any = tiny_lit().model
    images = torch.zeros(1, 3, 16, 24)
    with pytest.raises(
        InputError, match=r"model\(images, tokens\), or embed one of them, model\.encode_image\(images\)"
    ):
        model(images)
    assert model.encode_image(images).shape == (1, 32)
