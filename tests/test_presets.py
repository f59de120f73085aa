"""Every architecture has exactly the recorded parameters, and every spelling of a name finds the right one."""

from __future__ import annotations

import pytest

from tests.tiny import REFERENCE, layout_of
from vitsmith.errors import UnknownNameError, WeightsError
from vitsmith.models.build import build, count_parameters, create_model
from vitsmith.models.config import ViTConfig
from vitsmith.models.configure import change, configure
from vitsmith.models.presets import check_name, find_preset, name_of, presets

LAYOUTS = {path.stem for path in (REFERENCE / "layouts").glob("*.json")}
SPECIAL = {"ViT-B_16-imagenet21k-representation", "ViT-Ti_16-384"}
"""Layouts of a preset with something more; test_jax_npz.py has them."""


def vit_parameters(width: int, depth: int, mlp: int, patch: int) -> int:
    """Parameters of a ViT with class token at 224 pixels and 1,000 classes, added up by hand."""
    block = 4 * width * (width + 1) + 2 * width * mlp + mlp + width + 4 * width
    patches = (224 // patch) ** 2
    return 3 * patch * patch * width + width + width + (patches + 1) * width + depth * block + 2 * width + 1001000 * (
        width + 1
    ) // 1001 * 1001 // 1001


NOT_RECORDED = {}


@pytest.mark.parametrize("name", presets())
def test_number_of_parameters(name: str) -> None:
    model = create_model(name, device="meta")
    expected = layout_of(name)["parameters"] if name in LAYOUTS else NOT_RECORDED[name]
    assert count_parameters(model) == expected
