"""DINOv2 and DINOv3 in their authors' files give the authors' answers, recorded in tests/reference/dino."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.reference.hf.arrays import images_of
from tests.weights.dino_files import authors_file, authors_state, recorded_models
from tests.weights.foreign_files import loaded, refusal
from vitsmith.training.images.start import start
from vitsmith.training.recipes.file import parse_recipe
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.finetune import init_for_finetune

NAMES = ("dinov2", "dinov2-gated", "dinov2-registers", "dinov3", "dinov3-gated")


def answers(bundle: Bundle) -> torch.Tensor:
    with torch.no_grad():
        return bundle.model(images_of(*bundle.config.image_size))


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_the_authors_at_each_size(tmp_path: Path, name: str) -> None:
    path = authors_file(tmp_path, name)
    for size, expected in recorded_models()[name]["outputs"].items():
        height, width = map(int, size.split("x"))
        bundle = loaded(path, image_size=(height, width), headless=True)
        torch.testing.assert_close(answers(bundle), torch.tensor(expected), rtol=1e-4, atol=2e-5)
        assert bundle.provenance.kind == "dino"


def test_images_and_positions_are_those_of_the_authors(tmp_path: Path) -> None:
    dinov2 = loaded(authors_file(tmp_path, "dinov2"), headless=True)
    assert dinov2.config.image_size == (224, 224) and dinov2.config.position_embedding.resize == "bicubic_offset"
    assert (dinov2.preprocessing.resize, dinov2.preprocessing.interpolation) == ("shorter", "bicubic")
    assert any("heads were assumed to be 64 wide" in note for note in dinov2.provenance.notes)
    assert any("4x4 patches were resized to 16x16" in note for note in dinov2.provenance.notes)
    dinov3 = loaded(authors_file(tmp_path, "dinov3"), headless=True)
    assert dinov3.config.image_size == (256, 256)
    assert (dinov3.preprocessing.resize, dinov3.preprocessing.interpolation) == ("squash", "bilinear")
    satellite = (tmp_path / "dinov3_pretrain.pth").rename(tmp_path / "dinov3_vitl16_pretrain_sat493m.pth")
    assert loaded(satellite, headless=True).preprocessing.mean == (0.430, 0.411, 0.296)


@pytest.mark.parametrize("name", ["dinov2", "dinov2-registers"])
@pytest.mark.parametrize("size", ["28x42", "98x70"])
def test_fine_tuning_resizes_the_stored_positions_once(tmp_path: Path, name: str, size: str) -> None:
    """Not by way of the 16 x 16 patches that the authors' images usually have."""
    height, width = map(int, size.split("x"))
    model, report = init_for_finetune(authors_file(tmp_path, name), classes=3, image_size=(height, width))
    with torch.no_grad():
        found = model.eval().features(images_of(height, width)).pooled
    expected = torch.tensor(recorded_models()[name]["outputs"][size])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)
    assert "positions.embedding" in report.loaded and not report.resized


def test_a_training_run_starts_at_its_size_with_positions_resized_once(tmp_path: Path) -> None:
    init = str(authors_file(tmp_path, "dinov2"))
    recipe = parse_recipe({"model": {"init": init, "image_size": 56}, "data": {"path": "digits"}})
    model, images, *_ = start(recipe, 3)
    with torch.no_grad():
        found = model.eval().features(images_of(56, 56)).pooled
    expected = torch.tensor(recorded_models()["dinov2"]["outputs"]["56x56"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)
    assert images.size == (56, 56)


def test_stored_periods_decide_the_rotary_positions(tmp_path: Path) -> None:
    rounded = loaded(authors_file(tmp_path, "dinov3"), headless=True).config.position_embedding.rotary
    exact = loaded(authors_file(tmp_path, "dinov3-gated"), headless=True).config.position_embedding.rotary
    assert rounded.bfloat16 and not exact.bfloat16
    notes = loaded(tmp_path / "dinov3_pretrain.pth", headless=True).provenance.notes
    assert any("periods of rotary positions are the stored ones" in note for note in notes)
    state = authors_state("dinov3")
    state["rope_embed.periods"] *= 1.01
    torch.save(state, tmp_path / "other.pth")
    assert "'rope_embed.periods' are not the periods of base 100" in refusal(tmp_path / "other.pth")


def test_biases_are_masked(tmp_path: Path) -> None:
    model = loaded(authors_file(tmp_path, "dinov3"), headless=True).model
    for block in model.blocks:
        query, key, value = block.attention.qkv.bias.chunk(3)
        assert query.all() and value.all() and not key.any()
    state = authors_state("dinov3")
    state["blocks.1.attn.qkv.bias_mask"].fill_(torch.nan)
    torch.save(state, tmp_path / "unset.pth")
    assert "'blocks.1.attn.qkv.bias_mask' was never set" in refusal(tmp_path / "unset.pth")


def test_models_without_biases_and_with_the_norm_of_training_are_read(tmp_path: Path) -> None:
    """As DINOv3 7B: no bias of queries, keys and values, and a norm that only training uses."""
    state = {name: array for name, array in authors_state("dinov3-gated").items() if ".qkv.bias" not in name}
    state |= {"local_cls_norm.weight": torch.ones(128), "local_cls_norm.bias": torch.ones(128)}
    torch.save(state, tmp_path / "7b.pth")
    assert not loaded(tmp_path / "7b.pth", headless=True).config.block.qkv_bias


def test_what_no_published_model_is_is_refused(tmp_path: Path) -> None:
    path = authors_file(tmp_path, "dinov2")
    assert "there is no classifier head" in refusal(path)
    assert "image size 30x30 is not a multiple of the patch" in refusal(path, Exception, image_size=(30, 30))
    state = authors_state("dinov2")
    torch.save({**state, "pos_embed": torch.ones(1, 16, 128)}, tmp_path / "torn.pth")
    assert "15 positions of patches, which make no square" in refusal(tmp_path / "torn.pth")
    torch.save({**state, "cls_norm.weight": torch.ones(128)}, tmp_path / "untied.pth")
    assert "1 unexpected: cls_norm.weight" in refusal(tmp_path / "untied.pth", headless=True)
