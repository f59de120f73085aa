"""Checkpoints of timm and HF: the same answers as theirs, and a clear no to everything our models cannot compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests import foreign_reference as reference
from tests.foreign_reference import State, hf_vit, hf_vit_logits, images, timm_mixer, timm_vit, timm_vit_logits
from vitsmith.errors import ConfigError, UnknownNameError, VitsmithError, WeightsError
from vitsmith.weights.fill import arrays_of
from vitsmith.weights.foreign import ForeignModel, load_foreign
from vitsmith.weights.hf_names import MODULES, RELEASED, hf_slots
from vitsmith.weights.timm_names import timm_slots

TOLERANCE = 1e-5

TIMM_CONFIG = {"architecture": "vit_test", "num_classes": 5, "pretrained_cfg": {"input_size": [3, 32, 32]}}
HF_CONFIG = {
    "model_type": "vit",
    "hidden_size": reference.WIDTH,
    "num_hidden_layers": reference.DEPTH,
    "num_attention_heads": reference.HEADS,
    "intermediate_size": reference.MLP_WIDTH,
    "image_size": 32,
    "patch_size": reference.PATCH,
}


def written(folder: Path, state: State, config: dict[str, Any] | None = None, name: str = "model.safetensors") -> Path:
    """The checkpoint, with `config.json` beside it."""
    if name.endswith(".safetensors"):
        save_file(state, folder / name)
    else:
        torch.save(state, folder / name)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder / name


def timm_config(**fields: Any) -> dict[str, Any]:
    return {**TIMM_CONFIG, **fields}


def logits_of(foreign: ForeignModel, height: int = 32, width: int = 32) -> torch.Tensor:
    assert not foreign.model.training
    with torch.inference_mode():
        return foreign.model(images(height, width))


def refusal(path: Path, error: type[VitsmithError] = WeightsError, **options: Any) -> str:
    with pytest.raises(error) as caught:
        load_foreign(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- the same answers ------------------------------------------------------------------------------------------------

# arrays of timm_vit, timm's config.json or None, and how the reference is to compute
TIMM_VITS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]] = {
    "class token": ({}, None, {}),
    "mean, no class token": ({"class_token": False}, None, {"pool": "avg"}),
    "mean beside a class token, fc_norm": ({"norm": "fc_norm"}, None, {"pool": "avg"}),
    "mean, no class token, fc_norm": ({"class_token": False, "norm": "fc_norm"}, None, {"pool": "avg"}),
    "mean beside a class token, norm": ({}, timm_config(global_pool="avg"), {"pool": "avg"}),
    "no position for the class token": ({"class_position": False}, TIMM_CONFIG, {}),
    "representation": ({"representation": 24}, None, {}),
    "told heads": ({}, timm_config(model_args={"num_heads": 8}), {"heads": 8}),
    "tanh GELU as an argument": ({}, timm_config(model_args={"act_layer": "gelu_tanh"}), {"gelu": "tanh"}),
    "tanh GELU by name": (
        {"class_token": False},
        timm_config(architecture="vit_so400m_patch16_siglip_gap_256"),
        {"pool": "avg", "gelu": "tanh"},
    ),
    "heads by name": ({}, timm_config(architecture="vit_base_patch16_gap_224"), {"heads": 16}),
}


@pytest.mark.parametrize("file", ["model.safetensors", "model.pth"])
@pytest.mark.parametrize("case", TIMM_VITS)
def test_timm_vits_give_timms_logits(tmp_path: Path, case: str, file: str) -> None:
    options, config, computed = TIMM_VITS[case]
    state = timm_vit(**options)
    foreign = load_foreign(written(tmp_path, state, config, file))
    torch.testing.assert_close(
        logits_of(foreign), timm_vit_logits(state, images(32, 32), **computed), rtol=TOLERANCE, atol=TOLERANCE
    )
    assert foreign.format == "timm"
    assert foreign.model.config.norm_eps == 1e-6


@pytest.mark.parametrize("file", ["model.safetensors", "model.pth"])
def test_timm_mixers_give_timms_logits(tmp_path: Path, file: str) -> None:
    state = timm_mixer()
    foreign = load_foreign(written(tmp_path, state, name=file))
    expected = reference.timm_mixer_logits(state, images(32, 32))
    torch.testing.assert_close(logits_of(foreign), expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("told_by", ["input_size", "img_size", "caller"])
@pytest.mark.parametrize("make", [timm_vit, timm_mixer])
def test_grids_that_are_not_square(tmp_path: Path, make: Any, told_by: str) -> None:
    state = make(patches=8)
    config = {
        "input_size": timm_config(pretrained_cfg={"input_size": [3, 16, 32]}),
        "img_size": timm_config(model_args={"img_size": [16, 32]}),
        "caller": None,
    }[told_by]
    path = written(tmp_path, state, config)
    foreign = load_foreign(path, image_size=(16, 32) if told_by == "caller" else None)
    compute = timm_vit_logits if make is timm_vit else reference.timm_mixer_logits
    expected = compute(state, images(16, 32))
    torch.testing.assert_close(logits_of(foreign, 16, 32), expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert foreign.images.size == (16, 32)


def test_the_arrays_say_the_size_when_the_config_is_of_another(tmp_path: Path) -> None:
    path = written(tmp_path, timm_vit(patches=9), TIMM_CONFIG)
    assert load_foreign(path).images.size == (24, 24)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("naming", [RELEASED, MODULES], ids=["released", "modules"])
@pytest.mark.parametrize(("act", "gelu"), [("gelu", "none"), ("gelu_new", "tanh"), ("gelu_pytorch_tanh", "tanh")])
def test_hf_vits_give_hfs_logits(tmp_path: Path, file: str, naming: Any, act: str, gelu: str) -> None:
    state = hf_vit()
    saved = reference.in_new_names(state) if naming is MODULES else state
    config = {**HF_CONFIG, "hidden_act": act, "num_attention_heads": 4, "layer_norm_eps": 0.01}
    written(tmp_path, saved, config, file)
    foreign = load_foreign(tmp_path)
    expected = hf_vit_logits(state, images(32, 32), heads=4, gelu=gelu, eps=0.01)
    torch.testing.assert_close(logits_of(foreign), expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert foreign.format == "hf"


def test_hf_defaults_are_their_own(tmp_path: Path) -> None:
    state = hf_vit(patches=8)
    foreign = load_foreign(written(tmp_path, state, {**HF_CONFIG, "image_size": [16, 32]}))
    torch.testing.assert_close(
        logits_of(foreign, 16, 32), hf_vit_logits(state, images(16, 32)), rtol=TOLERANCE, atol=TOLERANCE
    )
    assert foreign.model.config.norm_eps == 1e-12 and foreign.model.config.gelu == "erf"


def test_an_hf_folder_in_parts(tmp_path: Path) -> None:
    state = hf_vit()
    parts = [dict(list(state.items())[:10]), dict(list(state.items())[10:])]
    for number, part in enumerate(parts):
        save_file(part, tmp_path / f"part-{number}.safetensors")
    index = {"weight_map": {name: f"part-{number}.safetensors" for number, part in enumerate(parts) for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG))
    torch.testing.assert_close(
        logits_of(load_foreign(tmp_path)), hf_vit_logits(state, images(32, 32)), rtol=TOLERANCE, atol=TOLERANCE
    )


def test_the_pooler_of_a_bare_hf_model_is_its_feature(tmp_path: Path) -> None:
    state = hf_vit(prefix="", pooler=24)
    path = written(tmp_path, state, HF_CONFIG)
    expected = hf_vit_logits(state, images(32, 32), prefix="")
    torch.testing.assert_close(logits_of(load_foreign(path, headless=True)), expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert "no classifier head" in refusal(path)


def test_headless_gives_features_whose_head_gives_the_logits(tmp_path: Path) -> None:
    for state, config, head in ((timm_vit(), None, "head"), (hf_vit(), HF_CONFIG, "classifier")):
        path = written(tmp_path, state, config)
        features = logits_of(load_foreign(path, headless=True))
        assert features.shape == (2, reference.WIDTH)
        logits = features @ state[f"{head}.weight"].T + state[f"{head}.bias"]
        torch.testing.assert_close(logits, logits_of(load_foreign(path)), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("options", [{}, {"class_token": False, "norm": "fc_norm"}, {"class_position": False}])
def test_timm_names_both_ways(tmp_path: Path, options: dict[str, Any]) -> None:
    state = timm_vit(**options)
    model = load_foreign(written(tmp_path, state, TIMM_CONFIG)).model
    slots = timm_slots(model.config, class_position=options.get("class_position", True))
    back = dict(arrays_of(model, slots))
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)


def test_hf_names_both_ways(tmp_path: Path) -> None:
    state = hf_vit()
    model = load_foreign(written(tmp_path, state, HF_CONFIG)).model
    for naming, expected in ((RELEASED, state), (MODULES, reference.in_new_names(state))):
        back = dict(arrays_of(model, hf_slots(model.config, naming)))
        assert back.keys() == expected.keys() and all(torch.equal(back[name], expected[name]) for name in back)


# --- refusals --------------------------------------------------------------------------------------------------------

FEATURES = {
    "dist_token": "a distillation token",
    "reg_token": "register tokens",
    "norm_pre.weight": "a norm before the blocks",
    "attn_pool.latent": "attention pooling",
    "rope.freqs": "rotary",
    "blocks.0.attn.relative_position_bias_table": "relative position biases",
    "patch_embed.backbone.stem.conv.weight": "a convolutional front",
    "patch_embed.norm.weight": "a norm after the patch embedding",
    "blocks.0.ls1.gamma": "LayerScale",
    "blocks.0.gamma_1": "LayerScale",
    "blocks.0.attn.q_norm.weight": "normalised queries",
    "blocks.0.attn.q_bias": "separate projections",
    "blocks.0.mlp.norm.weight": "norms inside",
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


def test_queries_without_bias_and_gated_mlps_are_named(tmp_path: Path) -> None:
    state = timm_vit()
    bare = {name: array for name, array in state.items() if not name.endswith("qkv.bias")}
    assert "without bias, as in 'blocks.0.attn.qkv.weight'" in refusal(written(tmp_path, bare))
    for name in ("blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc1.bias"):
        state[name] = state[name].repeat_interleave(2, dim=0)
    assert "a gated MLP, as in 'blocks.0.mlp.fc1.weight'" in refusal(written(tmp_path, state))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"hidden_act": "quick_gelu"}, "activation 'quick_gelu'"),
        ({"model_type": "deit"}, "model_type 'deit'"),
        ({"qkv_bias": False}, "qkv_bias False"),
        ({"num_channels": 1}, "num_channels 1"),
        ({"pooler_act": "relu"}, "pooler_act 'relu'"),
        ({"hidden_size": "wide"}, "hidden_size: Input should be a valid integer"),
        ({"num_hidden_layers": 3}, "missing: vit.encoder.layer.2."),
        ({"image_size": 64}, "vit.embeddings.position_embeddings is 1x17x128, expected 1x65x128"),
    ],
)
def test_hf_configs_we_cannot_follow(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    assert told in refusal(written(tmp_path, hf_vit(), {**HF_CONFIG, **fields}))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model_args": {"act_layer": "quick_gelu"}}, "activation 'quick_gelu'"),
        ({"architecture": "vit_base_patch16_quickgelu_224"}, "activation 'quick_gelu'"),
        ({"model_args": {"norm_layer": "rmsnorm"}}, "norm_layer='rmsnorm'"),
        ({"model_args": {"pool_include_prefix": True}}, "pool_include_prefix=True"),
        ({"global_pool": "avgmax"}, "global_pool 'avgmax'"),
        ({"num_classes": 1000}, "has 5 classes, the config.json beside it says 1000"),
        ({"pretrained_cfg": {"input_size": "large"}}, "pretrained_cfg.input_size: Input should be a valid tuple"),
        ({"pretrained_cfg": "none"}, "pretrained_cfg: "),
        ({"architecture": None}, "architecture: Field required"),
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
        assert load_foreign(path, headless=True).model.config.classes == 0


def test_the_name_is_checked(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, timm_vit()), name="vit_base_patch16_224")
    assert "is not ViT-B_16" in message and "width 128 instead of 768" in message
    refusal(tmp_path / "model.safetensors", UnknownNameError, name="vit_enormous")
    refusal(tmp_path / "model.safetensors", WeightsError, name="Mixer-B_16")


def test_grids_we_cannot_tell(tmp_path: Path) -> None:
    path = written(tmp_path, timm_vit(patches=8))
    assert "8 patches of 8x8 pixels do not form a square: say the size" in refusal(path)
    assert "expected 1x17x128" in refusal(path, image_size=(32, 32))
    assert "not a multiple of the patch" in refusal(path, ConfigError, image_size=(16, 31))
    path = written(tmp_path, timm_vit(patches=9, class_position=False))
    assert "say the size" in refusal(path)  # 9 may be 3 x 3 patches, or a class token and 2 x 4
    assert load_foreign(path, image_size=(24, 24)).images.size == (24, 24)


def test_other_files_and_folders(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, {"conv1.weight": torch.zeros(2)}))
    assert "not the arrays of a timm ViT or Mixer or an HF ViT (they begin with conv1.weight)" in message
    assert "needs its config.json" in refusal(written(tmp_path, hf_vit()))
    assert "known are .safetensors" in refusal(tmp_path / "model.h5")
    assert "no such file" in refusal(tmp_path / "absent.safetensors")
    (tmp_path / "empty").mkdir()
    assert "none of model.safetensors" in refusal(tmp_path / "empty")
    (tmp_path / "config.json").write_text("{")
    assert "config.json: not a readable JSON file" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert "config.json: Input should be a valid dictionary" in refusal(tmp_path)
