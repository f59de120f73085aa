"""The linear classifiers of DINO's authors, found beside the model under their published names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.reference.hf.arrays import images_of
from tests.weights.dino_files import authors_state
from tests.weights.foreign_files import loaded, refusal

HEADS = {
    "dinov2": ("dinov2_vitb14_pretrain.pth", "dinov2_vitb14_linear_head.pth"),
    "dinov2-registers": ("dinov2_vitb14_reg4_pretrain.pth", "dinov2_vitb14_reg4_linear_head.pth"),
    "dinov3-gated": (
        "dinov3_vit7b16_pretrain_lvd1689m-a955f4ea.pth",
        "dinov3_vit7b16_imagenet1k_linear_head-90d8ed92.pth",
    ),
}


def written(folder: Path, name: str, classes: int = 7) -> Path:
    """A model and its head; returns the path of the model."""
    model, head = HEADS[name]
    torch.save(authors_state(name), folder / model)
    noise = torch.randn(classes, 256, generator=torch.Generator().manual_seed(0))
    torch.save({"weight": noise, "bias": torch.arange(classes) / 10}, folder / head)
    return folder / model


@pytest.mark.parametrize("name", HEADS)
def test_a_head_sees_the_class_token_and_the_mean_of_the_patches(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    bundle = loaded(path)
    batch = images_of(*bundle.config.image_size)
    head = torch.load(tmp_path / HEADS[name][1])
    with torch.inference_mode():
        tokens = loaded(path, headless=True).model.features(batch).tokens
        patches = tokens[:, 5 if name != "dinov2" else 1 :]
        expected = torch.cat([tokens[:, 0], patches.mean(dim=1)], dim=1) @ head["weight"].T + head["bias"]
        torch.testing.assert_close(bundle.model(batch), expected, rtol=1e-5, atol=1e-5)
    assert bundle.head == "softmax" and bundle.classes == 7 and bundle.labels is None
    assert any(f"its head is {HEADS[name][1]}" in note for note in bundle.provenance.notes)


def test_a_thousand_classes_have_imagenets_names(tmp_path: Path) -> None:
    bundle = loaded(written(tmp_path, "dinov2", classes=1000))
    assert bundle.labels is not None and bundle.labels.names[0] == "tench, Tinca tinca"


def test_heads_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "dinov2")
    head = path.with_name("dinov2_vitb14_linear_head.pth")
    assert "a head without its model: give the model" in refusal(head)
    torch.save({"weight": torch.ones(7, 128), "bias": torch.ones(7)}, head)
    assert "not a head for the class token and the mean" in refusal(path)
    head.rename(path.with_name("dinov2_vitb14_linear4_head.pth"))
    assert "class tokens of the last four blocks" in refusal(path)
    assert loaded(path, headless=True).config.classes == 0
    path.with_name("dinov2_vitb14_linear4_head.pth").rename(path.with_name("dinov2_vitl14_linear_head.pth"))
    assert "there is no classifier head" in refusal(path)
