"""Identities of models are what they always were: recorded by version 0.1.0, before anything of them was touched."""

from __future__ import annotations

import json

import pytest
import torch

from tests import REFERENCE
from tests.tiny import CONFIGS, tiny_lit, tiny_model
from vitsmith import Bundle, ImageSpec
from vitsmith.models.config import LiTConfig
from vitsmith.weights.bundle.identity import canonical, name_space

RECORDED = REFERENCE / "identities.json"


def identities(name: str) -> dict[str, str]:
    """Of a model whose weights are quotients of small integers, the same on every machine."""
    config = CONFIGS[name]
    bundle = tiny_lit(name) if isinstance(config, LiTConfig) else Bundle.of(tiny_model(config))
    with torch.no_grad():
        for at, parameter in enumerate(bundle.model.parameters()):
            numbers = torch.arange(at, at + parameter.numel()) % 251 - 125
            parameter.copy_(numbers.reshape(parameter.shape) / 128)
    found = {"weights": bundle.weights_hash, "images": bundle.identity}
    return found | ({"texts": bundle.text_identity} if bundle.text is not None else {})


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_identities_are_those_of_version_0_1_0(name: str) -> None:
    assert identities(name) == json.loads(RECORDED.read_text(encoding="utf-8"))[name]


def test_later_fields_of_preprocessing_count_only_where_they_say_something() -> None:
    usual = ImageSpec.pillow(32)
    assert {"corner", "fill"}.isdisjoint(canonical(usual))
    filled = usual.model_copy(update={"resize": "longer"})
    others = [usual.model_copy(update={"corner": "floor"}), filled, filled.model_copy(update={"fill": (1, 1, 1)})]
    assert canonical(others[0])["corner"] == "floor" and canonical(others[2])["fill"] == [1, 1, 1]
    assert all(ImageSpec.model_validate(canonical(one)) == one for one in others)
    config = next(iter(CONFIGS.values()))
    assert len({name_space("weights", config, one, None) for one in (usual, *others)}) == 4
