"""Every architecture has exactly the recorded parameters, and every spelling of a name finds the right one."""

from __future__ import annotations

import pytest

from tests.tiny import CONFIGS, REFERENCE, VIT, layout_of
from vitsmith.errors import UnknownNameError, WeightsError
from vitsmith.models.build import build, count_parameters, create_model
from vitsmith.models.config import ViTConfig
from vitsmith.models.configure import change, configure
from vitsmith.models.cost import parameters
from vitsmith.models.presets import check_name, find_preset, name_of, presets


def vit_parameters(width: int, depth: int, mlp_width: int, patch: int) -> int:
    """At 224 pixels with a class token and 1,000 classes, array by array."""
    attention = 4 * (width * width + width)
    mlp = width * mlp_width + mlp_width + mlp_width * width + width
    stem = patch * patch * 3 * width + width + width + (1 + (224 // patch) ** 2) * width
    return stem + depth * (attention + mlp + 4 * width) + 2 * width + width * 1000 + 1000


def mixer_parameters(width: int, depth: int, tokens_mlp_width: int, channels_mlp_width: int, patch: int) -> int:
    tokens = (224 // patch) ** 2
    mixing = sum(
        2 * size * hidden + hidden + size for size, hidden in ((tokens, tokens_mlp_width), (width, channels_mlp_width))
    )
    return patch * patch * 3 * width + width + depth * (mixing + 4 * width) + 2 * width + width * 1000 + 1000


UNRECORDED = {
    "ViT-mu_16": vit_parameters(32, 1, 128, 16),
    "ViT-M_16": vit_parameters(512, 12, 2048, 16),
    "ViT-M_32": vit_parameters(512, 12, 2048, 32),
    "ViT-So400m_14": vit_parameters(1152, 27, 4304, 14),
    "ViT-g_14": vit_parameters(1408, 40, 6144, 14),
    "ViT-G_14": vit_parameters(1664, 48, 8192, 14),
    "Mixer-S_8": mixer_parameters(512, 8, 256, 2048, 8),
    "Mixer-S_16": mixer_parameters(512, 8, 256, 2048, 16),
    "Mixer-S_32": mixer_parameters(512, 8, 256, 2048, 32),
    "Mixer-H_14": mixer_parameters(1280, 32, 640, 5120, 14),
}
"""Sizes without a recorded layout, from arXiv 2106.04560 (mu to G), 2305.13035 (So400m) and 2105.01601."""


PUBLISHED = {
    "DINOv2-S_14": 22_056_192,
    "DINOv2-B_14": 86_579_712,
    "DINOv2-L_14": 304_367_616,
    "DINOv2-g_14": 1_136_479_232,
    "DINOv2-S_14-reg4": 22_056_192 + 4 * 384,
    "DINOv2-B_14-reg4": 86_579_712 + 4 * 768,
    "DINOv2-L_14-reg4": 304_367_616 + 4 * 1024,
    "DINOv2-g_14-reg4": 1_136_479_232 + 4 * 1536,
    "DINOv3-S_16": 21_596_160,
    "DINOv3-Splus_16": 28_692_480,
    "DINOv3-B_16": 85_659_648,
    "DINOv3-L_16": 303_128_576,
    "DINOv3-Hplus_16": 840_591_360,
    "DINOv3-7B_16": 6_716_030_976,
    "DeiT3-S_16": 22_059_496,
    "DeiT3-M_16": 38_849_512,
    "DeiT3-B_16": 86_585_320,
    "DeiT3-L_16": 304_374_760,
    "DeiT3-H_14": 632_126_440,
    "CLIP-B_32": 151_277_313,
    "CLIP-B_16": 149_620_737,
    "CLIP-L_14": 427_616_513,
    "CLIP-H_14": 986_109_441,
    "CLIP-g_14": 1_366_678_273,
    "CLIP-G_14": 2_539_567_105,
    "SigLIP-B_16": 203_155_970,
    "SigLIP-L_16": 652_150_786,
    "SigLIP-So400m_14": 877_360_306,
    "SigLIP-B_16-i18n": 370_626_050,
    "SigLIP-So400m_16-i18n": 1_127_430_706,
    "SigLIP2-L_16": 881_526_786,
    "SigLIP2-So400m_14": 1_135_463_602,
    "SigLIP2-So400m_16": 1_135_670_962,
    "SigLIP2-g_16": 1_871_393_906,
    "SigLIP2-B_16": 375_187_970,
    "SigLIP2-B_32": 376_856_066,
}
"""Counts of the authors' models, without mask tokens: DINOv2 and DINOv3 by their hub code, DeiT III by timm, CLIP and
SigLIP by transformers, SigLIP's for many languages by big_vision."""
KEYLESS = ("DINOv3-S_16", "DINOv3-Splus_16", "DINOv3-B_16", "DINOv3-L_16", "DINOv3-Hplus_16")
"""Published with biases of queries and values that are zero; the preset has none, as timm has them."""


def published_count(name: str) -> int:
    config = presets()[name].config
    if name not in KEYLESS:
        return PUBLISHED[name]
    assert isinstance(config, ViTConfig)
    return PUBLISHED[name] - 2 * config.depth * config.width


def test_the_formulas_agree_with_what_is_recorded() -> None:
    assert vit_parameters(1280, 32, 5120, 14) == layout_of("ViT-H_14")["parameters"]
    assert mixer_parameters(1024, 24, 512, 4096, 16) == layout_of("Mixer-L_16")["parameters"]


@pytest.mark.parametrize("name", presets())
def test_number_of_parameters(name: str) -> None:
    if name in PUBLISHED:
        expected = published_count(name)
    else:
        expected = UNRECORDED[name] if name in UNRECORDED else layout_of(name)["parameters"]
    assert count_parameters(create_model(name, device="meta")) == expected
    assert parameters(configure(name)) == expected


def test_every_published_layout_is_a_preset() -> None:
    recorded = {layout_of(path.stem)["model"] for path in (REFERENCE / "layouts").glob("*.json")}
    assert recorded | set(UNRECORDED) | set(PUBLISHED) == set(presets()) | {"ViT-B_16"}
    assert not recorded & set(UNRECORDED)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_count_from_a_configuration_is_the_count_of_its_model(name: str) -> None:
    assert parameters(CONFIGS[name]) == count_parameters(build(CONFIGS[name], device="meta"))


NAMES = {
    "ViT-B_16": (
        "ViT-B/16",
        "B/16",
        "B_16",
        "b16",
        "vit-b16",
        "VIT B16",
        "vit_base_patch16",
        "google/vit-base-patch16",
    ),
    "ViT-Ti_16": ("Ti/16", "vit-ti16", "vit_tiny_patch16"),
    "ViT-S_32": ("S/32", "vit_small_patch32"),
    "ViT-M_16": ("M/16", "vit_medium_patch16"),
    "ViT-So400m_14": ("So400m/14", "vit_so400m_patch14"),
    "ViT-H_14": ("H/14", "vit_huge_patch14"),
    "ViT-g_14": ("ViT-g/14", "g/14", "g14", "vit_giant_patch14"),
    "ViT-G_14": ("ViT-G/14", "G/14", "G14", "vit_gigantic_patch14"),
    "ViT-B_16-gap-norep": ("B/16-gap-norep", "vit_base_patch16_gap"),
    "R+ViT-Ti_16": ("R+Ti/16", "R_Ti_16", "vit_tiny_r_s16_p8"),
    "R26+ViT-S_32": ("R26+S/32", "R26_S_32", "vit_small_r26_s32"),
    "R50+ViT-B_16": ("R50+B/16", "R50_B_16", "vit_base_r50_s16"),
    "R50+ViT-L_32": ("R50+L/32", "R50_L_32", "vit_large_r50_s32"),
    "Mixer-B_16": ("Mixer-B/16", "mixer-b_16", "mixer_b16"),
    "Mixer-S_32": ("Mixer-S/32", "mixer_s32"),
    "LiT-B16B": ("lit-b16b",),
    "LiT-B16B_2": ("lit_b16b_2",),
}


@pytest.mark.parametrize(("spelling", "name"), [(spelling, name) for name, all_ in NAMES.items() for spelling in all_])
def test_spellings(spelling: str, name: str) -> None:
    assert find_preset(spelling) == (presets()[name], None)


@pytest.mark.parametrize("name", presets())
def test_a_canonical_name_finds_itself(name: str) -> None:
    assert find_preset(name)[0].name == name == name_of(presets()[name].config)


@pytest.mark.parametrize(
    ("spelling", "name", "size"),
    [
        ("vit_base_patch16_384", "ViT-B_16", 384),
        ("timm/vit_small_patch32_384.augreg_in21k_ft_in1k", "ViT-S_32", 384),
        ("google/vit-large-patch32-384", "ViT-L_32", 384),
        ("google/vit-base-patch16-224-in21k", "ViT-B_16", 224),
        ("vit_base_patch16_224.orig_in21k", "ViT-B_16", 224),
        ("vit_tiny_r_s16_p8_384.augreg_in21k", "R+ViT-Ti_16", 384),
        ("vit_large_r50_s32_384", "R50+ViT-L_32", 384),
        ("mixer_b16_224.goog_in21k", "Mixer-B_16", 224),
        ("vit_gigantic_patch14_224", "ViT-G_14", 224),
    ],
)
def test_names_with_a_size_set_it(spelling: str, name: str, size: int) -> None:
    assert find_preset(spelling) == (presets()[name], size)
    assert configure(spelling).image_size == (size, size)
    assert configure(spelling, image_size=(448, 448)).image_size == (448, 448)


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("ViT-B_17", "did you mean ViT-B_16"),
        ("vit-g14", "ViT-g_14.*ViT-G_14|ViT-G_14.*ViT-g_14"),  # either: only their case tells them apart
        ("Mixer-B/17", "did you mean Mixer-B_16"),
        ("resnet50", "unknown model 'resnet50'"),
        ("vit_base_patch16_clip_224.openai", "unknown model"),
        ("", "known are"),
    ],
)
def test_an_unknown_name_tells_the_closest(name: str, closest: str) -> None:
    with pytest.raises(UnknownNameError, match=closest):
        create_model(name)


def test_overrides_change_the_configuration() -> None:
    config = configure("B/16", classes=7, image_size=(64, 32), dropout=0.1, pooling="gap", representation=12)
    assert (config.classes, config.grid, config.tokens, config.feature_width) == (7, (4, 2), 8, 12)
    assert config.dropout == 0.1 and not config.class_token
    assert configure("B/16-gap-norep", pooling="token").class_token
    assert configure("LiT-L16Ti", image_size=96).image.grid == (6, 6)
    assert configure("R50+ViT-B_16", image_size=250).grid == (16, 16)


def test_a_claimed_name_is_checked_against_the_architecture() -> None:
    check_name(configure("B/16", classes=3, image_size=384, dropout=0.2), "vit_base_patch16_224", "file.npz")
    with pytest.raises(WeightsError, match=r"^file\.npz is not ViT-S_16: width 768 instead of 384.*like ViT-B_16$"):
        check_name(configure("B/16"), "S/16", "file.npz")
    with pytest.raises(WeightsError, match="is not Mixer-B_16: family vit instead of mixer"):
        check_name(VIT, "Mixer-B/16", "file.npz")
    with pytest.raises(WeightsError, match=r"class_token False instead of True; it looks like ViT-B_16-gap-norep$"):
        check_name(configure("B/16-gap-norep"), "B/16", "file.npz")
    with pytest.raises(WeightsError, match=r"resnet"):
        check_name(configure("R50+B/16"), "ViT-B_16", "file.npz")
    assert name_of(change(VIT, width=64)) is None
