"""What models are called: by their name, or by what they are built of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import vitsmith as vs
from tests.tiny import CONFIGS, tiny_clip, tiny_lit
from tests.weights.hf_files import written_model
from vitsmith.models.config import LiTConfig
from vitsmith.models.configure import change
from vitsmith.models.presets import kind_of_towers, presets
from vitsmith.records import Provenance
from vitsmith.weights.bundle.card import model_card
from vitsmith.weights.bundle.summary import title

UNKNOWN = Provenance(source="s")


@pytest.mark.parametrize("name", [name for name, one in presets().items() if isinstance(one.config, LiTConfig)])
def test_pairs_of_towers_are_of_their_kind_at_any_size(name: str) -> None:
    config = presets()[name].config
    assert isinstance(config, LiTConfig)
    kind = {"SigLIP2": "SigLIP"}.get(name.partition("-")[0], name.partition("-")[0])
    smaller = change(config, image=config.image.model_copy(update={"depth": 3}).model_dump())
    assert kind_of_towers(config) == kind_of_towers(smaller) == kind
    assert title(config, UNKNOWN).startswith(f"{name} at ")
    assert title(smaller, UNKNOWN).startswith(f"{kind} of image width {config.image.width}, depth 3, patch ")


def test_both_towers_are_described(tmp_path: Path) -> None:
    for name in ("clip", "siglip"):
        (tmp_path / name).mkdir()
    bundle = vs.load(written_model(tmp_path / "clip", "clip"))
    assert isinstance(bundle.config, LiTConfig)
    image, text = bundle.config.image, bundle.config.text
    patch = "x".join(map(str, image.patch))
    numbers = f"image width {image.width}, depth {image.depth}, patch {patch} and text width {text.width}, "
    assert f"<Bundle CLIP of {numbers}depth {text.depth} at " in repr(bundle)
    assert model_card(bundle).startswith(f"# CLIP of {numbers}")
    assert "<Bundle SigLIP of image width " in repr(vs.load(written_model(tmp_path / "siglip", "siglip")))
    assert "<Bundle LiT of image width 32, " in repr(tiny_lit())


@pytest.mark.parametrize(
    "changed", [{"bias": True}, {"image": change(CONFIGS["lit-bert"].image, pooling="gap", class_token=False)}]
)
def test_towers_of_no_known_kind_are_two_towers_and_those_that_lit_trained_are_its(changed: dict[str, Any]) -> None:
    config = CONFIGS["lit-bert"].model_copy(update=changed)
    assert title(config, UNKNOWN).startswith("two towers of image width 32, depth 2, patch 8x8 and text width 64, ")
    assert title(config, Provenance(source="s", kind="trained")).startswith("LiT of image width 32, ")


def test_clips_text_tower_on_a_tower_that_is_not_clips_is_not_called_clip() -> None:
    assert "<Bundle two towers of image width 32, " in repr(tiny_clip())
