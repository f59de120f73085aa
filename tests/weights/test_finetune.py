"""Weights for another task: what is kept, resized, reset and left out, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.reference import fill
from tests.tiny import CONFIGS, REFERENCE, VIT, released_npz, small_cases, tiny_inputs, tiny_model
from vitsmith import init_for_finetune, load, save
from vitsmith.errors import ConfigError, InputError, UnknownNameError
from vitsmith.layers.positions import resize_positions
from vitsmith.models.build import build
from vitsmith.models.configure import change
from vitsmith.weights.finetune import adapt

RESIZED = dict(np.load(REFERENCE / "recipes" / "position_embeddings.npz"))
IMAGE_MODELS = [name for name in CONFIGS if not name.startswith("lit") and "unpooled" not in name]


def positions_model(grid: tuple[int, int], *, class_token: bool) -> Any:
    """A model of width 8 with patches of 2 pixels, whose position embeddings are those of the recording."""
    config = change(
        VIT, width=8, heads=2, depth=1, patch=(2, 2), image_size=(2 * grid[0], 2 * grid[1]),
        pooling="token" if class_token else "gap",
    )  # fmt: skip
    model = build(config)
    shape = tuple(model.positions.embedding.shape)
    model.positions.embedding.data = torch.from_numpy(fill.uniform(f"posembed/{grid[0]}", shape))
    return model


@pytest.mark.parametrize("key", RESIZED)
def test_position_embeddings_are_resized_as_the_original_does_to_the_bit(key: str) -> None:
    old, _, new, prefix = key.split("-")
    model = positions_model((int(old), int(old)), class_token=prefix == "prefix1")
    adapted, report = adapt(model, classes=3, image_size=(2 * int(new), 2 * int(new)))
    np.testing.assert_array_equal(adapted.positions.embedding.detach().numpy(), RESIZED[key])
    assert report.resized == {"positions.embedding": f"grid {old}x{old} to {new}x{new} (zoom)"}


@pytest.mark.parametrize(("old", "new"), [((3, 5), (6, 4)), ((4, 4), (2, 7)), ((2, 2), (1, 3)), ((1, 4), (3, 4))])
def test_grids_that_are_not_square(old: tuple[int, int], new: tuple[int, int]) -> None:
    model = positions_model(old, class_token=True)
    before = model.positions.embedding.detach().clone()
    adapted, _ = adapt(model, classes=3, image_size=(2 * new[0], 2 * new[1]))
    after = adapted.positions.embedding.detach()
    grid = before[0, 1:].T.reshape(1, 8, *old)
    expected = torch.nn.functional.interpolate(grid, new, mode="bilinear", align_corners=True)
    torch.testing.assert_close(after[:, 1:], expected.flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-6)
    assert torch.equal(after[:, 0], before[:, 0])


@pytest.mark.parametrize("new", [(10, 6), (3, 2), (5, 4)])
def test_bicubic_is_what_pillow_does(new: tuple[int, int]) -> None:
    embedding = torch.from_numpy(fill.uniform("posembed/bicubic", (1, 2 + 5 * 4, 3)))
    found = resize_positions(embedding, (5, 4), new, prefix=2, method="bicubic")
    assert torch.equal(found[:, :2], embedding[:, :2])
    for channel in range(3):
        plane = Image.fromarray(embedding[0, 2:, channel].reshape(5, 4).numpy(), mode="F")
        expected = np.asarray(plane.resize(new[::-1], Image.Resampling.BICUBIC))
        np.testing.assert_allclose(found[0, 2:, channel].reshape(new).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_everything_but_the_head_is_kept(name: str) -> None:
    source, (images,) = tiny_model(CONFIGS[name]), tiny_inputs(CONFIGS[name], 3)
    expected = source.features(images)
    model, report = adapt(source, classes=7, keep_representation=True)
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    torch.testing.assert_close(model.eval().features(images).pooled, expected.pooled, rtol=0, atol=0)
    assert torch.equal(model(images), torch.zeros(3, 7))  # a head that knows nothing yet
    heads = ("head", "distillation_head")[: 2 if name == "vit-distilled" else 1]
    reset = [f"{head}.{kind}" for head in heads for kind in ("weight", "bias")]
    assert report.reset == reset and not report.resized and not report.unused
    assert sorted([*report.loaded, *report.reset]) == sorted(key for key, _ in model.named_parameters())
    assert str(report).splitlines() == [f"loaded   {len(report.loaded)} arrays", f"reset    {', '.join(reset)}"]


def test_the_representation_layer_goes_with_the_head_unless_it_is_kept() -> None:
    config, (images,) = CONFIGS["vit-representation"], tiny_inputs(VIT, 2)
    tokens = tiny_model(config).features(images).tokens
    model, report = adapt(tiny_model(config), classes=3)
    assert model.config.representation is None and model.head.in_features == 32
    assert report.unused == ["representation.0.bias", "representation.0.weight"]
    torch.testing.assert_close(model.eval().features(images).pooled, tokens[:, 0], rtol=0, atol=0)
    kept, report = adapt(tiny_model(config), classes=3, keep_representation=True)
    assert kept.head.in_features == 20 and not report.unused and "representation.0.weight" in report.loaded


@pytest.mark.parametrize("name", ["lit-bert", "lit-transformer-projected"])
def test_of_lit_the_image_tower_is_taken(name: str) -> None:
    source, (images, _) = tiny_model(CONFIGS[name]), tiny_inputs(CONFIGS[name], 2)
    tokens = source.image.features(images).tokens
    model, report = adapt(source, classes=4, image_size=(16, 24))
    torch.testing.assert_close(model.eval().features(images).tokens, tokens, rtol=0, atol=0)
    assert model(images).shape == (2, 4) and report.reset == ["head.weight", "head.bias"]
    assert "log_temperature" in report.unused and any(key.startswith("text.blocks.1") for key in report.unused)


def test_another_resolution_and_other_rates_at_once() -> None:
    model, report = adapt(tiny_model(VIT), classes=4, image_size=(32, 16), dropout=0.2, stochastic_depth=0.1)
    assert model.config.grid == (4, 2) and model.dropout.p == 0.2 and model.blocks[1].drop_branch.rate == 0.1
    assert model(torch.zeros(2, 3, 32, 16)).shape == (2, 4)
    assert "resized  positions.embedding: grid 2x3 to 4x2 (zoom)" in str(report)


@pytest.mark.parametrize("pooling", ["gap", "token_and_gap"])
def test_a_new_head_may_see_the_tokens_otherwise(pooling: str) -> None:
    images = tiny_inputs(VIT, 2)[0]
    tokens = tiny_model(VIT).features(images).tokens
    model, report = adapt(tiny_model(VIT), classes=4, pooling=pooling)
    mean = tokens[:, 1:].mean(dim=1)
    expected = mean if pooling == "gap" else torch.cat([tokens[:, 0], mean], dim=1)
    torch.testing.assert_close(model.eval().features(images).pooled, expected)
    assert report.reset == ["head.weight", "head.bias"] and not report.unused


@pytest.mark.parametrize(
    ("name", "options", "error", "problem"),
    [
        ("mixer", {"image_size": (32, 32)}, ConfigError, "bound to its resolution: .* 16x24, .*cannot become 32x32"),
        ("vit-token", {"image_size": (20, 24)}, ConfigError, "not a multiple of the patch 8x8"),
        ("vit-token", {"classes": 0}, ConfigError, "classes must be at least 1"),
        ("vit-token", {"width": 64}, ConfigError, "width cannot change in fine-tuning"),
        ("vit-gap", {"pooling": "token"}, ConfigError, "pooling 'token' needs class_token=True"),
        ("vit-token", {"representation": 9, "keep_representation": True}, ConfigError, "representation cannot change"),
        ("mixer", {"attention_dropout": 0.1}, ConfigError, "unknown option of a mixer model 'attention_dropout'"),
        ("vit-token", {"positions": "nearest"}, UnknownNameError, "'nearest': known are bicubic, bicubic_offset, "),
    ],
)
def test_what_cannot_be_adapted_says_so(name: str, options: dict[str, Any], error: type, problem: str) -> None:
    with pytest.raises(error, match=problem):
        adapt(tiny_model(CONFIGS[name]), **{"classes": 3, **options})


def test_init_for_finetune_takes_files_bundles_and_models(tmp_path: Path) -> None:
    case = small_cases()["small-vit-token"]
    released = released_npz(tmp_path / "fresh.npz", case["layout"], {"head/kernel": np.zeros((48, 10), np.float32)})
    expected = load(released, headless=True).model
    images = tiny_inputs(expected.config, 2)[0]
    bundle = save(expected, tmp_path / "bundle")
    sources = (released, str(released), tmp_path / "bundle", bundle, load(released, headless=True).model)
    for source in sources:
        model, _ = init_for_finetune(source, classes=5, dropout=0.1)
        assert model.training and model.config.dropout == 0.1 and model.head.weight.shape == (5, 48)
        torch.testing.assert_close(model.eval().features(images).pooled, expected(images), rtol=0, atol=5e-6)
    larger, report = init_for_finetune(released, classes=5, image_size=48, positions="bicubic")
    assert larger.config.grid == (6, 6) and "grid 4x4 to 6x6 (bicubic)" in report.resized["positions.embedding"]
    with pytest.raises(InputError, match="is not ViT-B_16"):
        init_for_finetune(released, classes=5, name="B/16")
