"""Files of timm of every family give timm's answers, recorded beside the script that made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.reference.timm.record import ARCHITECTURES, images
from tests.weights.foreign_files import loaded, refusal, written
from tests.weights.timm_files import RECORDED, state_of
from vitsmith.weights.fill import arrays_of
from vitsmith.weights.metadata import CLIP_MEAN
from vitsmith.weights.timm.names import Naming, timm_slots


def test_every_architecture_was_recorded() -> None:
    assert RECORDED.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("architecture", RECORDED)
def test_timms_answers_and_names_both_ways(tmp_path: Path, architecture: str) -> None:
    recorded, state = RECORDED[architecture], state_of(architecture)
    path = written(tmp_path, state, recorded["config"])
    model = loaded(path, headless=recorded["config"]["num_classes"] == 0).model
    with torch.inference_mode():
        answers = model(images(model.config.image_size))
    torch.testing.assert_close(answers, torch.tensor(recorded["outputs"]), rtol=1e-5, atol=1e-5)
    back = dict(arrays_of(model, timm_slots(model.config, Naming.of(state))))
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("architecture", ["eva02_tiny_patch14_224", "vit_pe_core_tiny_patch16_384"])
def test_places_that_only_the_name_tells_are_not_guessed(tmp_path: Path, architecture: str) -> None:
    state, config = state_of(architecture), RECORDED[architecture]["config"]
    path = written(tmp_path, state)
    assert "rotary position embeddings" in refusal(path) and "no config.json beside it" in refusal(path)
    written(tmp_path, state, {**config, "architecture": "mine"})
    assert "'mine' is not known" in refusal(path)


def test_biases_of_keys_that_the_file_leaves_out_are_zero(tmp_path: Path) -> None:
    architecture = "eva02_base_patch14_224"
    path = written(tmp_path, state_of(architecture), RECORDED[architecture]["config"])
    query, key, value = loaded(path).model.blocks[0].attention.qkv.bias.chunk(3)
    assert not key.any() and query.all() and value.all()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"architecture": "eva02_enormous_patch14_clip_224"}, "norms after attention and MLP"),
        ({"architecture": "vit_base_patch16_rpn_224"}, "norms after attention and MLP"),
        ({"model_args": {"rope_temperature": 50}}, "rope_temperature=50"),
        ({"model_args": {"rope_rotate_half": False}}, "rope_rotate_half=False"),
        ({"model_args": {"use_rot_pos_emb": False}}, "use_rot_pos_emb=False"),
        ({"model_args": {"dynamic_img_pad": True}}, "dynamic_img_pad=True"),
        ({"model_args": {"global_pool": "", "img_size": [32, 48]}}, "global_pool ''"),
        ({"architecture": "vit_base_patch16_reg4_map_256"}, "attention pooling of the patches alone"),
    ],
)
def test_arithmetic_that_only_names_tell_is_refused(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    recorded = RECORDED["vit_pe_core_tiny_patch16_384"]
    state = state_of("vit_pe_core_tiny_patch16_384")
    if "map" in fields.get("architecture", ""):
        del state["norm_pre.weight"], state["norm_pre.bias"]
    assert told in refusal(written(tmp_path, state, {**recorded["config"], **fields}))


@pytest.mark.parametrize(
    ("tag", "own_head", "projects"),
    [("openai", False, True), ("openai_ft_in1k", False, False), ("openai", True, False)],
)
def test_the_projection_of_a_tower_is_not_taken_for_classes(
    tmp_path: Path, tag: str, own_head: bool, projects: bool
) -> None:
    """Nor a classifier for a projection: timm writes down the number of classes that a user asked for."""
    architecture = "vit_base_patch32_clip_224"
    config = RECORDED[architecture]["config"]
    arguments = {name: value for name, value in config["model_args"].items() if own_head or name != "num_classes"}
    described = {**config, "pretrained_cfg": {"tag": tag}, "model_args": arguments}
    path = written(tmp_path, state_of(architecture), described)
    for headless in (False, projects):
        bundle = loaded(path, headless=headless)
        assert any("are the embedding of an image" in note for note in bundle.provenance.notes) is projects
        assert (bundle.head, bundle.classes) == (("none", 0) if projects else ("softmax", 5))
        assert bundle.model.config.classes == 5


@pytest.mark.parametrize(("bias", "projects"), [(None, True), (0.0, True), (0.5, False)])
def test_without_config_json_the_bias_tells_a_classifier_from_clips_projection(
    tmp_path: Path, bias: float | None, projects: bool
) -> None:
    state = state_of("vit_base_patch32_clip_224")
    del state["head.bias"]
    state |= {} if bias is None else {"head.bias": torch.full((5,), bias)}
    bundle = loaded(written(tmp_path, state), image_size=(64, 96))
    assert (bundle.head, bundle.classes) == (("none", 0) if projects else ("softmax", 5))
    assert any("CLIP's projection for a head without bias" in note for note in bundle.provenance.notes) is projects
    assert bundle.preprocessing.mean == CLIP_MEAN


def test_an_edge_that_no_patch_covers_is_left_out_as_in_timm(tmp_path: Path) -> None:
    architecture = "vit_base_patch16_siglip_224"
    recorded, state = RECORDED[architecture], state_of(architecture)
    arguments = {**recorded["config"]["model_args"], "img_size": [40, 60]}
    path = written(tmp_path, state, {**recorded["config"], "model_args": arguments})
    model = loaded(path, headless=True).model
    wider = torch.full((2, 3, 40, 60), 9.0)
    wider[:, :, :32, :48] = images((32, 48))
    with torch.inference_mode():
        torch.testing.assert_close(model(wider), torch.tensor(recorded["outputs"]), rtol=1e-5, atol=1e-5)
