"""Every family keeps every contract, and what the contracts do not say: inputs, initialisers, LiT's arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.contracts import CONTRACTS, kind_of
from tests.tiny import CONFIGS, VIT, tiny_inputs, tiny_model
from vitsmith.errors import ConfigError, InputError, UnknownNameError
from vitsmith.layers.depth import StochasticDepth, depth_rates
from vitsmith.models.build import build, create_model
from vitsmith.models.config import ModelConfig
from vitsmith.models.configure import change
from vitsmith.models.lit import normalize
from vitsmith.models.presets import presets
from vitsmith.weights.bundle.bundle import Bundle


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
@pytest.mark.parametrize("name", CONFIGS)
def test_contract(name: str, contract: Callable[[ModelConfig], None]) -> None:
    contract(CONFIGS[name])


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_of_a_kind_that_keeps_the_contracts(name: str) -> None:
    kinds = {kind_of(config) for config in CONFIGS.values()}
    assert kind_of(presets()[name].config) in kinds, "add a tiny model of this kind to tests/tiny.py"


def test_lit_logits_are_scaled_cosine_similarities() -> None:
    config = CONFIGS["lit-bert-projected"]
    model, (images, tokens) = tiny_model(config), tiny_inputs(config, 4)
    raw_images, raw_texts = model.image(images), model.text(tokens)
    expected = torch.nn.functional.cosine_similarity(raw_images[:, None], raw_texts[None], dim=-1)
    torch.testing.assert_close(model(images, tokens), expected * model.log_temperature.exp(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.encode_image(images).norm(dim=-1), torch.ones(4))
    torch.testing.assert_close(normalize(torch.tensor([[3e-8, 4e-8]])), torch.tensor([[0.5, 2 / 3]]))  # 1e-8 is added


def test_stochastic_depth_keeps_the_mean() -> None:
    layer = StochasticDepth(0.25).train()
    torch.manual_seed(0)
    kept = layer(torch.ones(4000, 2, 3))
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(kept, kept[:, :1, :1].expand_as(kept))  # a sample's branch goes as a whole
    assert kept.mean() == pytest.approx(1, abs=0.03)
    assert depth_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3]) and depth_rates(0.3, 1) == [0]


def test_bert_does_not_look_at_padding_and_survives_nothing_else() -> None:
    config = CONFIGS["lit-bert"]
    model, tokens = tiny_model(config), torch.tensor([[3, 4, 5, 0, 0, 0]])
    before = model.encode_text(tokens)
    with torch.no_grad():
        model.text.words.weight[0] += 10.0
        model.text.positions.weight[4] += 10.0
    torch.testing.assert_close(model.encode_text(tokens), before)
    assert model.encode_text(torch.zeros(1, 6, dtype=torch.int64)).isfinite().all()


def test_the_class_token_is_left_out_of_the_mean() -> None:
    model, images = tiny_model(CONFIGS["vit-timm"]), tiny_inputs(VIT, 2)[0]
    tokens, pooled, _, _ = model.features(images)
    torch.testing.assert_close(pooled, model.norm(tokens[:, 1:].mean(dim=1)))
    plain = tiny_model(CONFIGS["vit-gap"])
    torch.testing.assert_close(plain.features(images).pooled, plain.features(images).tokens.mean(dim=1))


def test_attention_weights_on_request_leave_the_fused_path_alone() -> None:
    model, images = tiny_model(VIT), tiny_inputs(VIT, 2)[0]
    seen = model.features(images, intermediates=["blocks.1.attention.weights"]).intermediates
    assert list(seen) == ["blocks.1.attention.weights"] and seen["blocks.1.attention.weights"].shape == (2, 4, 7, 7)
    assert not any(block.attention.explicit for block in model.blocks)
    with pytest.raises(UnknownNameError, match=r"unknown intermediate 'blocks\.2\.mlp': did you mean blocks\.1\.mlp"):
        model.features(images, intermediates=["patches", "blocks.2.mlp"])
    with pytest.raises(InputError, match="intermediate 'head' has no output"):  # features stop before it
        model.features(images, intermediates=["head"])
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((2, 16, 24, 3), r"images\.permute\(0, 3, 1, 2\)"),
        ((3, 16, 24), r"images\[None\]"),
        ((2, 3, 24, 16), r"image_size=\(height, width\)"),
        ((2, 1, 16, 24), "three channels"),
        ((2, 4, 16, 24), "three channels"),
    ],
)
@pytest.mark.parametrize("name", ["vit-token", "mixer", "hybrid-stem"])
def test_images_of_another_shape_are_refused_at_the_door(name: str, shape: tuple[int, ...], hint: str) -> None:
    with pytest.raises(InputError, match=r"must have shape \(batch, 3, 16, 24\), got .*; .*" + hint):
        tiny_model(CONFIGS[name])(torch.zeros(shape))


def test_pixels_that_nobody_normalised_are_refused_at_the_door() -> None:
    bundle, pixels = Bundle.of(tiny_model(CONFIGS["vit-token"])), torch.full((2, 3, 16, 24), 200, dtype=torch.uint8)
    for run in (bundle.model, lambda images: bundle.run_torch(images.numpy())):
        with pytest.raises(InputError, match="must be normalised floating-point numbers, got uint8: give pixels to"):
            run(pixels)


@pytest.mark.parametrize("tokens", [torch.ones(2, 5).long(), torch.ones(6).long(), torch.ones(2, 6)])
@pytest.mark.parametrize("name", ["lit-bert", "lit-transformer"])
def test_tokens_of_another_shape_or_kind_are_refused(name: str, tokens: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"integers of shape \(batch, 6\)"):
        tiny_model(CONFIGS[name]).encode_text(tokens)


def test_fresh_weights_follow_the_original() -> None:
    torch.manual_seed(0)
    weights = {name: w.detach() for name, w in create_model("ViT-S_16", image_size=64, classes=10).named_parameters()}
    xavier = (6 / (384 + 384)) ** 0.5
    for kernel in (*weights["blocks.0.attention.qkv.weight"].chunk(3), weights["blocks.0.attention.out.weight"]):
        assert kernel.abs().max() <= xavier and kernel.std() == pytest.approx(xavier / 3**0.5, rel=0.01)
    assert weights["blocks.0.mlp.widen.weight"].abs().max() == pytest.approx((6 / (384 + 1536)) ** 0.5, rel=1e-3)
    assert weights["blocks.0.mlp.widen.bias"].std() == pytest.approx(1e-6, rel=0.1)
    assert weights["positions.embedding"].std() == pytest.approx(0.02, rel=0.05)
    assert weights["patches.projection.weight"].std() == pytest.approx((3 * 16 * 16) ** -0.5, rel=0.02)
    assert not weights["class_token"].any() and not weights["head.weight"].any()
    hybrid, mixer = build(CONFIGS["hybrid-stages"]), build(CONFIGS["mixer"])
    assert not hybrid.resnet.stages[0][0].norm3.weight.any() and hybrid.resnet.root_norm.weight.min() == 1
    assert not mixer.blocks[0].token_mixing.widen.bias.any()


def test_impossible_configurations_tell_every_mistake() -> None:
    with pytest.raises(ConfigError) as refused:
        create_model("ViT-B_16", image_size=(225, 320), heads=7, pooling="unpooled", class_token=True)
    for mistake in (
        "width 768 is not a multiple of heads 7",
        "token_unpooled",
        "nearest multiples are 224x320 and 240x320",
    ):
        assert mistake in str(refused.value)
    with pytest.raises(ConfigError, match=r"depth: .*got -1.*dropout: .*got 1\.5"):
        create_model("ViT-B_16", depth=-1, dropout=1.5)
    for size in (0, 384.5, (224,), "384"):
        with pytest.raises(ConfigError, match="image_size"):
            create_model("ViT-B_16", image_size=size)
    with pytest.raises(ConfigError, match=r"'drop_out': did you mean dropout.*depth: .*got -1"):
        create_model("ViT-B_16", drop_out=0.1, depth=-1)
    with pytest.raises(ConfigError, match="LiT-B16B has no classes"):
        create_model("LiT-B16B", classes=3)
    with pytest.raises(ConfigError, match="towers must meet in one width: image 24, text 32"):
        change(CONFIGS["lit-bert"], image=change(VIT, classes=24).model_dump())
    with pytest.raises(ConfigError, match="smaller than one patch"):
        create_model("R50+ViT-L_32", patch=(9, 9))
    with pytest.raises(ConfigError, match="19 channels are not a multiple of GroupNorm's 32 groups"):
        create_model("R50+ViT-L_32", resnet={"stages": (1,), "width_factor": 0.3})
    with pytest.raises(ConfigError, match="width 64 is not a multiple of heads 5"):
        change(CONFIGS["lit-bert"], text={**CONFIGS["lit-bert"].text.model_dump(), "heads": 5})
