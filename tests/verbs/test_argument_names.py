"""Arguments by a name that a public function does not have: refused with the name that was meant."""

from __future__ import annotations

import dataclasses
import re
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


OPTIONS = {"write_index": {"options": vs.IndexOptions}}
"""Public functions with an argument that is an object of options, all of which have defaults."""


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_given_as_an_argument_is_told_where_to_write_it(name: str) -> None:
    for argument, kind in OPTIONS[name].items():
        assert getattr(vs, kind.__name__) is kind  # what the message says to write
        for field in dataclasses.fields(kind):
            written = rf"{argument}=vitsmith\.{kind.__name__}\({field.name}=True\)"
            with pytest.raises(InputError, match=rf"^{name} has no argument '{field.name}': write it as  {written}$"):
                getattr(vs, name)(**{field.name: True})


def test_no_public_function_has_other_options() -> None:
    """The message names the type by the package: so it has to be public."""
    found: dict[str, set[str]] = {}
    for name in vs.__all__:
        function = getattr(getattr(vs, name), "__wrapped__", None)
        for annotation in getattr(function, "__annotations__", {}).values():
            kinds = re.findall(r"\b\w+Options\b", str(annotation))
            found |= {name: found.get(name, set()) | set(kinds)} if kinds else {}
    assert found == {name: {kind.__name__ for kind in kinds.values()} for name, kinds in OPTIONS.items()}


def test_images_alone_are_no_question_to_two_towers() -> None:
    model: Any = tiny_lit().model
    images = torch.zeros(1, 3, 16, 24)
    with pytest.raises(
        InputError, match=r"model\(images, tokens\), or embed one of them, model\.encode_image\(images\)"
    ):
        model(images)
    assert model.encode_image(images).shape == (1, 32)
