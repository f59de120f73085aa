"""Checkpoints of timm and HF give the answers that timm and HF give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from tests.weights import foreign_reference as reference
from tests.weights.foreign_files import HF_CONFIG, TIMM_CONFIG, loaded, refusal, timm_config, written
from tests.weights.foreign_reference import hf_vit, hf_vit_logits, images, timm_mixer, timm_vit, timm_vit_logits
from vitsmith.errors import ConfigError
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.fill import arrays_of
from vitsmith.weights.hf.names import MODULES, RELEASED, hf_slots
from vitsmith.weights.timm.names import timm_slots

TOLERANCE = 1e-5


def logits_of(foreign: Bundle, height: int = 32, width: int = 32) -> torch.Tensor:
    assert not foreign.model.training
    with torch.inference_mode():
        return foreign.model(images(height, width))


# arrays of timm_vit, timm's config.json or None, and how the reference is to compute
TIMM_VITS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]] = {
    "class token": ({}, None, {}),
    "mean, no class token": ({"class_token": False}, None, {"pool": "avg"}),
    "mean beside a class token, fc_norm": ({"norm": "fc_norm"}, None, {"pool": "avg"}),
    "mean, no class token, fc_norm": ({"class_token": False, "norm": "fc_norm"}, None, {"pool": "avg"}),
    "mean beside a class token, norm": ({}, timm_config(global_pool="avg"), {"pool": "avg"}),
    "no position for the class token": ({"class_position": False}, TIMM_CONFIG, {}),
    "representation": ({"representation": 24}, None, {}),
    "distillation token": ({"distilled": True}, None, {}),
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
    foreign = loaded(written(tmp_path, state, config, file))
    torch.testing.assert_close(
        logits_of(foreign), timm_vit_logits(state, images(32, 32), **computed), rtol=TOLERANCE, atol=TOLERANCE
    )
    assert foreign.provenance.kind == "timm"
    assert foreign.model.config.norm_eps == 1e-6


@pytest.mark.parametrize("file", ["model.safetensors", "model.pth"])
def test_timm_mixers_give_timms_logits(tmp_path: Path, file: str) -> None:
    state = timm_mixer()
    foreign = loaded(written(tmp_path, state, name=file))
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
    foreign = loaded(path, image_size=(16, 32) if told_by == "caller" else None)
    compute = timm_vit_logits if make is timm_vit else reference.timm_mixer_logits
    expected = compute(state, images(16, 32))
    torch.testing.assert_close(logits_of(foreign, 16, 32), expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert foreign.preprocessing.size == (16, 32)


@pytest.mark.parametrize(
    ("class_position", "config"),
    [(True, TIMM_CONFIG), (False, TIMM_CONFIG), (True, None)],
    ids=["all", "patches", "alone"],
)
def test_timms_positions_move_to_another_size_as_timm_moves_them(
    tmp_path: Path, class_position: bool, config: Any
) -> None:
    """`resample_abs_pos_embed` of timm's layers/pos_embed.py: bicubic, antialiased, tokens before the patches kept."""
    state = timm_vit(class_position=class_position)
    foreign = loaded(written(tmp_path, state, config), image_size=(48, 24))
    prefix = int(class_position)
    grid = state["pos_embed"][:, prefix:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(6, 3), mode="bicubic", antialias=True).permute(0, 2, 3, 1).flatten(1, 2)
    moved = {**state, "pos_embed": torch.cat([state["pos_embed"][:, :prefix], grid], dim=1)}
    expected = timm_vit_logits(moved, images(48, 24))
    torch.testing.assert_close(logits_of(foreign, 48, 24), expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert "positions of 4x4 patches were resized to 6x3, bicubic with antialiasing" in str(foreign.provenance.notes)


def test_a_grid_of_as_many_patches_moves_where_the_config_tells_another(tmp_path: Path) -> None:
    foreign = loaded(written(tmp_path, timm_vit(), TIMM_CONFIG), image_size=(16, 64))
    assert foreign.config.grid == (2, 8) and "4x4 patches were resized to 2x8" in str(foreign.provenance.notes)
    alone = loaded(written(tmp_path, timm_vit(), name="alone.safetensors"), image_size=(16, 64))
    assert "4x4 patches were resized to 2x8" in str(alone.provenance.notes)
    (tmp_path / "config.json").unlink()
    told = loaded(tmp_path / "alone.safetensors", image_size=(16, 64))
    assert told.config.grid == (2, 8) and "resized" not in str(told.provenance.notes)


def test_the_size_of_the_file_may_be_given_where_patches_do_not_fill_it(tmp_path: Path) -> None:
    """As those of So400m/14 do not fill 384: what is left of an edge is not seen."""
    path = written(tmp_path, timm_vit(), timm_config(pretrained_cfg={"input_size": [3, 35, 35]}))
    foreign, given = loaded(path), loaded(path, image_size=(35, 35))
    assert given.config == foreign.config and given.config.image_size == (35, 35) and given.config.grid == (4, 4)
    assert given.provenance.notes == foreign.provenance.notes
    told = "36x36 is not a multiple of the patch 8x8; the nearest multiples are 32x32 and 40x40"
    with pytest.raises(ConfigError, match=told):
        loaded(path, image_size=(36, 36))


def test_as_many_patches_as_positions_of_all_tokens_are_no_grid_of_the_file(tmp_path: Path) -> None:
    """18 positions are those of 4x4 patches and two tokens, and not of 3x6 patches."""
    path = written(tmp_path, timm_vit(distilled=True), TIMM_CONFIG)
    foreign = loaded(path, image_size=(24, 48))
    assert foreign.config.position_embedding.learned == "all" and foreign.config.grid == (3, 6)
    assert any("positions of 4x4 patches were resized to 3x6" in note for note in foreign.provenance.notes)
    ours, own = (one.model.state_dict()["positions.embedding"] for one in (foreign, loaded(path)))
    assert torch.equal(ours[:, :2], own[:, :2])


def test_the_arrays_say_the_size_when_the_config_is_of_another(tmp_path: Path) -> None:
    path = written(tmp_path, timm_vit(patches=9), TIMM_CONFIG)
    assert loaded(path).preprocessing.size == (24, 24)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("naming", [RELEASED, MODULES], ids=["released", "modules"])
@pytest.mark.parametrize(("act", "gelu"), [("gelu", "none"), ("gelu_new", "tanh"), ("gelu_pytorch_tanh", "tanh")])
def test_hf_vits_give_hfs_logits(tmp_path: Path, file: str, naming: Any, act: str, gelu: str) -> None:
    state = hf_vit()
    saved = reference.in_new_names(state) if naming is MODULES else state
    config = {**HF_CONFIG, "hidden_act": act, "num_attention_heads": 4, "layer_norm_eps": 0.01}
    written(tmp_path, saved, config, file)
    foreign = loaded(tmp_path)
    expected = hf_vit_logits(state, images(32, 32), heads=4, gelu=gelu, eps=0.01)
    torch.testing.assert_close(logits_of(foreign), expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert foreign.provenance.kind == "hf"


def test_hf_defaults_are_their_own(tmp_path: Path) -> None:
    state = hf_vit(patches=8)
    foreign = loaded(written(tmp_path, state, {**HF_CONFIG, "image_size": [16, 32]}))
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
        logits_of(loaded(tmp_path)), hf_vit_logits(state, images(32, 32)), rtol=TOLERANCE, atol=TOLERANCE
    )


def test_the_pooler_of_a_bare_hf_model_is_its_feature(tmp_path: Path) -> None:
    state = hf_vit(prefix="", pooler=24)
    path = written(tmp_path, state, HF_CONFIG)
    expected = hf_vit_logits(state, images(32, 32), prefix="")
    torch.testing.assert_close(logits_of(loaded(path, headless=True)), expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert "no classifier head" in refusal(path)


def test_headless_gives_features_whose_head_gives_the_logits(tmp_path: Path) -> None:
    for state, config, head in ((timm_vit(), None, "head"), (hf_vit(), HF_CONFIG, "classifier")):
        path = written(tmp_path, state, config)
        features = logits_of(loaded(path, headless=True))
        assert features.shape == (2, reference.WIDTH)
        logits = features @ state[f"{head}.weight"].T + state[f"{head}.bias"]
        torch.testing.assert_close(logits, logits_of(loaded(path)), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(
    "options", [{}, {"class_token": False, "norm": "fc_norm"}, {"class_position": False}, {"distilled": True}]
)
def test_timm_names_both_ways(tmp_path: Path, options: dict[str, Any]) -> None:
    state = timm_vit(**options)
    model = loaded(written(tmp_path, state, TIMM_CONFIG)).model
    back = dict(arrays_of(model, timm_slots(model.config)))
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)


def test_hf_names_both_ways(tmp_path: Path) -> None:
    state = hf_vit()
    model = loaded(written(tmp_path, state, HF_CONFIG)).model
    for naming, expected in ((RELEASED, state), (MODULES, reference.in_new_names(state))):
        back = dict(arrays_of(model, hf_slots(model.config, naming)))
        assert back.keys() == expected.keys() and all(torch.equal(back[name], expected[name]) for name in back)
