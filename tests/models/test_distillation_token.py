"""DeiT's second token and head: shapes in training and evaluation, and how checkpoints get or lose one.

That it keeps the contracts of every model is in test_models.py, timm's logits are in test_foreign.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny import CONFIGS, VIT, tiny_inputs, tiny_model
from tests.weights.foreign_files import loaded, refusal, written
from tests.weights.foreign_reference import timm_vit
from vitsmith import load, save
from vitsmith.errors import ConfigError
from vitsmith.models.build import build, create_model
from vitsmith.models.configure import change
from vitsmith.weights.finetune import adapt

DISTILLED = CONFIGS["vit-distilled"]
(IMAGES,) = tiny_inputs(VIT, 3)


def test_heads_come_apart_in_training_and_answer_together() -> None:
    model = tiny_model(DISTILLED)
    together = model(IMAGES)
    apart = model.train()(IMAGES)
    assert together.shape == (3, 5) and apart.shape == (3, 2, 5)
    torch.testing.assert_close(together, (apart[:, 0] + apart[:, 1]) / 2)
    tokens, pooled, _, _ = model.features(IMAGES)
    torch.testing.assert_close(apart[:, 0], tokens[:, 0] @ model.head.weight.T + model.head.bias)
    second = model.distillation_head
    torch.testing.assert_close(apart[:, 1], tokens[:, 1] @ second.weight.T + second.bias)
    torch.testing.assert_close(pooled, (tokens[:, 0] + tokens[:, 1]) / 2)


def test_what_a_head_learns_reaches_its_own_token() -> None:
    model = tiny_model(change(DISTILLED, depth=1)).train()
    model(IMAGES)[:, 1].square().sum().backward()
    assert model.head.weight.grad is None or not model.head.weight.grad.any()
    assert model.distillation_head.weight.grad.any() and model.distillation_token.grad.any()


def test_fresh_tokens_are_told_apart_by_their_positions() -> None:
    model = build(DISTILLED)
    assert not model.distillation_token.any() and not model.distillation_head.weight.any()
    assert model.positions.embedding.shape == (1, 2 + 6, 32)
    assert (model.positions.embedding[0, 0] - model.positions.embedding[0, 1]).abs().max() > 1e-3


def test_it_needs_a_class_token() -> None:
    for pooling in ("gap", "unpooled", "token_unpooled"):
        with pytest.raises(ConfigError, match=f"pooling must be 'token', not '{pooling}'"):
            create_model("ViT-Ti_16", distillation_token=True, pooling=pooling)


def test_a_bundle_of_one_comes_back(tmp_path: Path) -> None:
    model = tiny_model(DISTILLED)
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.config == DISTILLED
    torch.testing.assert_close(loaded.model(IMAGES), model(IMAGES), rtol=0, atol=0)
    headless = load(tmp_path / "model", headless=True).model
    torch.testing.assert_close(
        headless(IMAGES), model.features(IMAGES).pooled, rtol=0, atol=1e-6
    )  # another kernel may run


def test_a_plain_checkpoint_becomes_a_distilled_student() -> None:
    source = tiny_model(VIT)
    before = {name: parameter.detach().clone() for name, parameter in source.named_parameters()}
    model, report = adapt(source, classes=3, image_size=(32, 16), distillation_token=True)
    assert model.config.distillation_token and model.config.tokens == 2 + 8
    assert report.copied == {"distillation_token": "class_token"}
    assert report.reset == ["head.weight", "head.bias", "distillation_head.weight", "distillation_head.bias"]
    told = "grid 2x3 to 4x2 (zoom), the distillation token's position begins as the class token's"
    assert report.resized == {"positions.embedding": told} and not report.unused
    positions, old = model.positions.embedding.detach(), before["positions.embedding"]
    assert torch.equal(positions[:, 0], old[:, 0]) and torch.equal(positions[:, 1], old[:, 0])
    grid = old[0, 1:].T.reshape(1, 32, 2, 3)
    expected = nn.functional.interpolate(grid, (4, 2), mode="bilinear", align_corners=True)
    torch.testing.assert_close(positions[:, 2:], expected.flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-6)
    assert torch.equal(model.distillation_token, before["class_token"])
    assert model.distillation_token.data_ptr() != model.class_token.data_ptr()
    tokens = model.features(torch.zeros(1, 3, 32, 16)).tokens
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1])  # a trained feature from the first update on


def test_a_distilled_checkpoint_keeps_its_token_or_loses_it() -> None:
    source = tiny_model(DISTILLED)
    positions, token = source.positions.embedding.detach().clone(), source.distillation_token.detach().clone()
    kept, report = adapt(source, classes=3, image_size=(16, 16))
    assert torch.equal(kept.positions.embedding[:, :2], positions[:, :2]) and report.copied == {}
    assert torch.equal(kept.distillation_token, token) and "distillation_token" in report.loaded
    plain, report = adapt(tiny_model(DISTILLED), classes=3, distillation_token=False)
    assert plain.distillation_token is None and plain.config.tokens == 1 + 6
    assert report.unused == ["distillation_head.bias", "distillation_head.weight", "distillation_token"]
    left = np.delete(positions.numpy(), 1, axis=1)
    np.testing.assert_array_equal(plain.positions.embedding.detach().numpy(), left)


def test_timms_distilled_deit_without_metadata_has_imagenets_mean(tmp_path: Path) -> None:
    state = timm_vit(distilled=True)
    foreign = loaded(written(tmp_path, state))
    assert foreign.model.config.distillation_token and foreign.preprocessing.mean == (0.485, 0.456, 0.406)
    headless = loaded(tmp_path / "model.safetensors", headless=True).model
    torch.testing.assert_close(
        headless(torch.zeros(1, 3, 32, 32)), foreign.model.features(torch.zeros(1, 3, 32, 32)).pooled
    )
    state["head_dist.weight"].zero_()
    assert "'head_dist.weight' is all zeros" in refusal(written(tmp_path, state))
