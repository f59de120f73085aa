"""Identities of models are what they always were: recorded by version 0.1.0, before anything of them was touched."""

from __future__ import annotations

import json

import pytest
import torch

from tests import REFERENCE
from tests.tiny import CONFIGS, tiny_lit, tiny_model
from vitsmith import Bundle
from vitsmith.models.config import LiTConfig

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
