"""A clear no to every foreign checkpoint that our models cannot compute, and to damaged or incomplete ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.weights import foreign_reference as reference
from tests.weights.foreign_files import HF_CONFIG, loaded, refusal, timm_config, written
from tests.weights.foreign_reference import hf_vit, timm_mixer, timm_vit
from vitsmith.errors import ConfigError, UnknownNameError

FEATURES = {
    "distillation_token": "a distillation token",
    "rope.freqs": "rotary",
    "blocks.0.attn.relative_position_bias_table": "relative position biases",
    "patch_embed.backbone.layer1.0.conv1.weight": "a convolutional front",
    "patch_embed.norm.weight": "a norm after the patch embedding",
    "blocks.0.attn.lambda_q1": "differential attention",
    "blocks.0.in_proj.weight": "attention and MLP side by side",
    "blocks.0.attns.1.qkv.weight": "parallel branches",
    "blocks.0.mlp.w12.weight": "a gated MLP",
    "blocks.0.mlp_channels.gate.proj.weight": "spatial gating",
    "blocks.0.linear_tokens.weight": "affine layers",
    "decoder_pred.weight": "the decoder of masked pre-training",
}


@pytest.mark.parametrize("array", FEATURES)
def test_what_timm_has_and_we_have_not_is_named(tmp_path: Path, array: str) -> None:
    message = refusal(written(tmp_path, {**timm_vit(), array: torch.zeros(reference.WIDTH)}))
    assert FEATURES[array] in message and repr(array) in message and "model.safetensors" in message


def test_norms_without_bias_are_named(tmp_path: Path) -> None:
    bare = {name: array for name, array in timm_vit().items() if not name.endswith("norm1.bias")}
    assert "(RMSNorm), as in 'blocks.0.norm1.weight'" in refusal(written(tmp_path, bare))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"hidden_act": "relu"}, "activation 'relu'"),
        ({"model_type": "beit"}, "model_type 'beit'"),
        ({"qkv_bias": False}, "unexpected: vit.encoder.layer.0.attention.attention.key.bias"),
        ({"num_channels": 1}, "num_channels 1"),
        ({"pooler_act": "relu"}, "pooler_act 'relu'"),
        ({"hidden_size": "wide"}, "hidden_size: must be a number, not 'wide'"),
        ({"num_hidden_layers": 3}, "missing: vit.encoder.layer.2."),
        ({"image_size": 64}, "vit.embeddings.position_embeddings is 1x17x128, expected 1x65x128"),
    ],
)
def test_hf_configs_we_cannot_follow(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    assert told in refusal(written(tmp_path, hf_vit(), {**HF_CONFIG, **fields}))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model_args": {"act_layer": "relu"}}, "activation 'relu'"),
        ({"model_args": {"norm_layer": "rmsnorm"}}, "norm_layer='rmsnorm'"),
        ({"model_args": {"pool_include_prefix": True}}, "pool_include_prefix=True"),
        ({"global_pool": "avgmax"}, "global_pool 'avgmax'"),
        ({"num_classes": 1000}, "has 5 classes, the config.json beside it says 1000"),
        ({"pretrained_cfg": {"input_size": "large"}}, "pretrained_cfg.input_size: must be a list"),
        ({"pretrained_cfg": "none"}, "pretrained_cfg: "),
        ({"architecture": None}, "architecture: is missing"),
    ],
)
def test_timm_configs_we_cannot_follow(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    assert told in refusal(written(tmp_path, timm_vit(), timm_config(**fields)))


def test_missing_extra_and_misshapen_arrays_are_named(tmp_path: Path) -> None:
    state = timm_vit()
    del state["blocks.1.norm2.bias"]
    state["stray.weight"] = torch.zeros(3)
    state["blocks.0.attn.proj.bias"] = torch.zeros(7)
    message = refusal(written(tmp_path, state))
    assert "1 missing: blocks.1.norm2.bias" in message
    assert "1 unexpected: stray.weight" in message
    assert "1 of wrong shape: blocks.0.attn.proj.bias is 7, expected 128" in message
    state = hf_vit()
    state["vit.pooler.dense.weight"] = torch.zeros(4, 4)
    del state["vit.layernorm.bias"]
    message = refusal(written(tmp_path, state, HF_CONFIG))
    assert "1 missing: vit.layernorm.bias" in message and "1 unexpected: vit.pooler.dense.weight" in message


@pytest.mark.parametrize("array", ["pos_embed", "blocks.0.mlp.fc1.weight"])
def test_a_timm_file_without_what_tells_its_sizes(tmp_path: Path, array: str) -> None:
    state = timm_vit()
    del state[array]
    assert f"array {array!r} is missing" in refusal(written(tmp_path, state))
    state[array] = torch.zeros(3)
    assert f"array {array!r} is 3, expected" in refusal(written(tmp_path, state))


def test_other_channels_are_refused(tmp_path: Path) -> None:
    for state, name in ((timm_vit(), "patch_embed.proj.weight"), (timm_mixer(), "stem.proj.weight")):
        state[name] = state[name][:, :1].contiguous()
        assert f"{name!r} takes 1 input channels" in refusal(written(tmp_path, state))


def test_heads_of_zeros_or_none_are_refused(tmp_path: Path) -> None:
    for state, config, head in ((timm_vit(), None, "head"), (hf_vit(), HF_CONFIG, "classifier")):
        state[f"{head}.weight"].zero_()
        path = written(tmp_path, state, config)
        assert f"'{head}.weight' is all zeros" in refusal(path)
        del state[f"{head}.weight"], state[f"{head}.bias"]
        written(tmp_path, state)
        assert "no classifier head in this file" in refusal(path)
        assert loaded(path, headless=True).model.config.classes == 0


def test_the_name_is_checked(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, timm_vit()), name="vit_base_patch16_224")
    assert "is not ViT-B_16" in message and "width 128 instead of 768" in message
    refusal(tmp_path / "model.safetensors", UnknownNameError, name="vit_enormous")
    assert "is not Mixer-B_16" in refusal(tmp_path / "model.safetensors", name="Mixer-B_16")


def test_grids_we_cannot_tell(tmp_path: Path) -> None:
    path = written(tmp_path, timm_vit(patches=8))
    assert "8 patches of 8x8 pixels do not form a square: give the size" in refusal(path)
    assert "expected 1x17x128" in refusal(path, image_size=(32, 32))
    assert "not a multiple of the patch" in refusal(path, ConfigError, image_size=(16, 31))
    path = written(tmp_path, timm_vit(patches=9, class_position=False))
    assert "give the size" in refusal(path)  # 9 may be 3 x 3 patches, or a class token and 2 x 4
    assert loaded(path, image_size=(24, 24)).preprocessing.size == (24, 24)


def test_other_files_and_folders(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, {"conv1.weight": torch.zeros(2)}))
    assert (
        "not the arrays of a timm ViT or Mixer or an HF ViT, CLIP or SigLIP or the authors' DINOv2 or DINOv3" in message
    )
    assert "needs its config.json" in refusal(written(tmp_path, hf_vit()))
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert "is an HDF5 file, as Keras writes (.h5, .keras), not weights: give .safet" in refusal(tmp_path / "model.h5")
    assert "no such file" in refusal(tmp_path / "absent.safetensors")
    (tmp_path / "empty").mkdir()
    assert "none of model.safetensors" in refusal(tmp_path / "empty")
    (tmp_path / "config.json").write_text("{")
    assert "config.json is no JSON" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert "config.json: must be an object" in refusal(tmp_path)
