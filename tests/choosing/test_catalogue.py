"""The catalogue of published checkpoints, against presets, released tags and published numbers of parameters."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import pytest

from vitsmith.choosing.catalogue import METRICS, TASKS, Checkpoint, catalogue
from vitsmith.choosing.local_weights import checkpoint_is_local
from vitsmith.models.config import LiTConfig
from vitsmith.models.configure import change, configure
from vitsmith.models.cost import parameters
from vitsmith.models.presets import differences, presets
from vitsmith.weights.fetch.addresses import cached_path
from vitsmith.weights.fetch.hub.address import hub_address
from vitsmith.weights.fetch.hub.known_models import known_models
from vitsmith.weights.fetch.published import find_checkpoint

LICENCES = {
    "apache-2.0": True,
    "mit": True,
    "dinov3-license": True,
    "apple-amlr": False,
    "cc-by-nc-4.0": False,
    "": None,
}


def found(source: str) -> Checkpoint:
    return next(row for row in catalogue() if row.source == source)


def test_each_row_is_a_name_that_load_takes() -> None:
    known = {row.name for row in known_models()}
    for row in catalogue():
        address = hub_address(row.source)
        if address is None:
            assert find_checkpoint(row.source).tag == row.source
        else:
            assert address.name in known and address.revision is None, row.source
            assert address.file in ("", "open_clip_model.safetensors")


def test_no_row_is_there_twice() -> None:
    assert max(Counter(row.source for row in catalogue()).values()) == 1
    assert max(Counter(row.name for row in catalogue()).values()) == 1
    assert not any(":" in row.name or "/" in row.name for row in catalogue())


def test_accuracies_are_percent_by_a_known_metric_that_fits_the_task() -> None:
    endings = {"classify": "", "zeroshot": "-zeroshot", "embed": ("-knn", "-linear")}
    for row in catalogue():
        assert row.accuracy and row.accuracy_source, row.source
        assert row.accuracy.keys() <= METRICS.keys()
        assert all(1 < value < 100 for value in row.accuracy.values())
        first = next(task for task in TASKS if task in row.tasks)
        plain = {"imagenet", "imagenet-real", "imagenet-v2", "imagenet-a", "imagenet-r", "imagenet-sketch"}
        for metric in row.accuracy:
            assert metric in plain if first == "classify" else metric.endswith(endings[first]), (row.source, metric)


def test_tasks_are_what_the_model_gives() -> None:
    for row in catalogue():
        if isinstance(row.config, LiTConfig):
            assert row.tasks == {"zeroshot", "embed"}
        else:
            assert row.tasks == ({"classify"} if row.config.classes else {"embed"})
        assert row.headless == (row.tasks == {"embed"})
        assert row.tasks <= set(TASKS)


def test_licences_are_known_words_or_not_known() -> None:
    assert all(row.commercial is LICENCES[row.licence] for row in catalogue())
    assert found("hf:apple/DFN2B-CLIP-ViT-B-16").commercial is False


@pytest.mark.parametrize(
    "row", [row for row in catalogue() if hub_address(row.source) is None], ids=lambda row: row.name
)
def test_a_released_tag_has_the_configuration_of_its_preset(row: Checkpoint) -> None:
    file = find_checkpoint(row.source)
    side = file.resolution
    preset = configure(file.model)
    assert not differences(row.config, preset)
    assert row.image_size == (side, side)
    tower = row.config.image if isinstance(row.config, LiTConfig) else row.config
    of_preset = preset.image if isinstance(preset, LiTConfig) else preset
    assert tower == change(of_preset, image_size=(side, side), unseen_edge=side % tower.patch[0] != 0)


@pytest.mark.parametrize(
    ("source", "preset"),
    [
        ("hf:timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", "ViT-Ti_16"),
        ("hf:timm/vit_small_patch32_384.augreg_in21k_ft_in1k", "ViT-S_32"),
        ("hf:timm/vit_tiny_r_s16_p8_224.augreg_in21k_ft_in1k", "R+ViT-Ti_16"),
        ("hf:timm/mixer_b16_224.goog_in21k_ft_in1k", "Mixer-B_16"),
        ("hf:timm/deit3_small_patch16_224.fb_in1k", "DeiT3-S_16"),
        ("hf:timm/ViT-B-16-SigLIP-256", "SigLIP-B_16"),
        ("hf:openai/clip-vit-large-patch14-336", "CLIP-L_14"),
        ("hf:laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "CLIP-B_32"),
        ("hf:facebook/dinov2-base", "DINOv2-B_14"),
        ("hf:facebook/dinov2-with-registers-giant", "DINOv2-g_14-reg4"),
        ("hf:facebook/dinov3-vits16plus-pretrain-lvd1689m", "DINOv3-Splus_16"),
    ],
)
def test_a_model_of_the_hub_has_the_architecture_of_its_preset(source: str, preset: str) -> None:
    config = found(source).config
    others = [one for one in differences(config, presets()[preset].config) if not one.startswith("image.classes")]
    assert not others


# Millions of parameters. Source: param_count of timm's results/results-imagenet.csv at aa4b5850, whose weights keep no
# zeros for the biases of keys in EVA-02.
COUNTS = {
    "deit_tiny_patch16_224.fb_in1k": 5.72,
    "deit_base_distilled_patch16_384.fb_in1k": 87.63,
    "vit_base_patch16_384.augreg_in21k_ft_in1k": 86.86,
    "vit_base_patch8_224.augreg2_in21k_ft_in1k": 86.58,
    "vit_large_r50_s32_384.augreg_in21k_ft_in1k": 329.09,
    "vit_mediumd_patch16_reg4_gap_256.sbb2_e200_in12k_ft_in1k": 64.11,
    "vit_wee_patch16_reg1_gap_256.sbb_in1k": 13.42,
    "vit_so400m_patch14_siglip_378.webli_ft_in1k": 429.38,
    "vit_huge_patch14_clip_336.laion2b_ft_in12k_in1k": 632.46,
    "eva02_tiny_patch14_336.mim_in22k_ft_in1k": 5.76,
    "flexivit_small.1200ep_in1k": 22.06,
    "mixer_l16_224.goog_in21k_ft_in1k": 208.20,
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_number_of_parameters_is_the_published_one(name: str) -> None:
    assert math.isclose(parameters(found(f"hf:timm/{name}").config) / 1e6, COUNTS[name], abs_tol=0.01)


def test_the_size_in_a_name_of_timm_is_the_size_of_the_images() -> None:
    sized = [row for row in catalogue() if row.source.startswith("hf:timm/vit_") and "/open_clip" not in row.source]
    assert len(sized) > 80
    for row in sized:
        side = int(re.findall(r"_(\d{3})(?:_|\.)", row.name)[0])
        assert row.image_size == (side, side), row.source


def test_published_figures_are_as_their_authors_state_them() -> None:
    assert found("LiT-B16B_2.lit").accuracy == {"imagenet-zeroshot": 73.9, "imagenet-v2-zeroshot": 65.1}
    assert found("LiT-B16B.lit").accuracy == {"imagenet-zeroshot": 72.1}  # a README of big_vision names it for 73.9
    assert found("hf:facebook/dinov2-small").accuracy == {"imagenet-knn": 79.0, "imagenet-linear": 81.1}
    assert found("hf:facebook/dinov2-small").image_size == (224, 224)
    for row in catalogue():
        published = None if hub_address(row.source) else find_checkpoint(row.source).accuracy
        if published is not None:
            told = row.accuracy.get("imagenet", row.accuracy.get("imagenet-zeroshot", 0))
            assert math.isclose(told, published, abs_tol=0.006), row.source


def test_weights_are_local_when_the_cache_of_the_hub_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    whole, parts = found("hf:timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"), found("hf:facebook/dinov2-giant")
    towers = found("hf:timm/vit_base_patch16_clip_224.metaclip_400m/open_clip_model.safetensors")
    assert checkpoint_is_local(whole) is None
    folder = snapshot(tmp_path, "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", "config.json")
    assert checkpoint_is_local(whole) is None
    (folder / "model.safetensors").write_bytes(b"")
    assert checkpoint_is_local(whole) == folder / "model.safetensors"
    folder = snapshot(tmp_path, "facebook/dinov2-giant", "config.json", "first.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "first.safetensors", "b": "second.safetensors"}}')
    assert checkpoint_is_local(parts) is None
    (folder / "second.safetensors").write_bytes(b"")
    assert checkpoint_is_local(parts) == index
    index.write_text("[")
    assert checkpoint_is_local(parts) is None
    folder = snapshot(tmp_path, "timm/vit_base_patch16_clip_224.metaclip_400m", "config.json", "model.safetensors")
    assert checkpoint_is_local(towers) is None  # timm's tower alone
    (folder / "open_clip_model.safetensors").write_bytes(b"")
    assert checkpoint_is_local(towers) == folder / "open_clip_model.safetensors"


def snapshot(cache: Path, name: str, *files: str) -> Path:
    """The folder of a commit in the hub's cache, with empty files."""
    repository = cache / f"models--{name.replace('/', '--')}"
    folder = repository / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    for file in files:
        (folder / file).write_bytes(b"")
    return folder


def test_weights_of_google_are_local_with_their_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path))
    row = found("LiT-B16B_2.lit")
    file = find_checkpoint(row.source)
    weights, words = cached_path(file.url), cached_path(file.vocabulary)
    assert checkpoint_is_local(row) is None
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"")
    assert checkpoint_is_local(row) is None
    words.write_bytes(b"")
    assert checkpoint_is_local(row) == weights
