"""Models of transformers besides its plain ViT give transformers' answers, recorded in tests/reference/hf."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import vitsmith as vs
from tests.command_line import call
from tests.reference.hf.arrays import images_of, state_of
from tests.tiny import pictures
from tests.weights.foreign_files import loaded, refusal
from tests.weights.hf_files import MODELS, written_model
from vitsmith.errors import ConfigError, WeightsError
from vitsmith.weights.finetune import init_for_finetune
from vitsmith.weights.position_layout import ResizedPositions

BIT = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 48},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 42, "width": 42},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def with_head(name: str) -> bool:
    return "Classification" in MODELS[name]["model"]


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_those_of_transformers_at_two_sizes(tmp_path: Path, name: str) -> None:
    written_model(tmp_path, name)
    for size, expected in MODELS[name]["outputs"].items():
        height, width = map(int, size.split("x"))
        bundle = loaded(tmp_path, image_size=(height, width), headless=not with_head(name))
        with torch.no_grad():
            found = bundle.model(images_of(height, width))
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-5)
        assert bundle.provenance.kind == "hf" and bundle.config.image_size == (height, width)


@pytest.mark.parametrize("name", ["dinov2", "dinov2-gated", "dinov3-gated"])
def test_names_of_modules_are_read_too(tmp_path: Path, name: str) -> None:
    """`torch.save(model.state_dict())` of transformers 5 has other names than `save_pretrained`."""
    written_model(tmp_path, name)
    state = load_file(tmp_path / "model.safetensors")
    for old, new in (
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("mlp.weights_out", "mlp.down_proj"),
    ):
        state = {key.replace(old, new): array for key, array in state.items()}
    renamed = {f"model.{key}" if key.startswith("layer.") else key: array for key, array in state.items()}
    for key in [key for key in renamed if "weights_in" in key]:
        gate, value = renamed.pop(key).chunk(2)
        renamed |= {
            key.replace("weights_in", "gate_proj"): gate.clone(),
            key.replace("weights_in", "up_proj"): value.clone(),
        }
    (tmp_path / "model.safetensors").unlink()
    torch.save(renamed, tmp_path / "pytorch_model.bin")
    size, expected = next(iter(MODELS[name]["outputs"].items()))
    height, width = map(int, size.split("x"))
    bundle = loaded(tmp_path, image_size=(height, width), headless=not with_head(name))
    with torch.no_grad():
        found = bundle.model(images_of(height, width))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_the_preprocessor_says_the_size_of_dinov2s_images_and_positions_follow(tmp_path: Path) -> None:
    written_model(tmp_path, "dinov2-registers")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(BIT))
    bundle = loaded(tmp_path)
    assert bundle.config.image_size == bundle.preprocessing.size == (42, 42) and bundle.config.grid == (3, 3)
    assert bundle.config.position_embedding.resize == "bicubic"
    assert [note for note in bundle.provenance.notes if "resized" in note] == [
        "positions of 4x4 patches were resized to 3x3, bicubic with antialiasing, as their publisher's code does"
    ]


def test_the_type_with_registers_may_have_none(tmp_path: Path) -> None:
    """transformers then stores an array of no registers."""
    kind = "dinov2_with_registers"
    written_model(tmp_path, "dinov2", model_type=kind, architectures=[], num_register_tokens=0)
    state = load_file(tmp_path / "model.safetensors")
    save_file({**state, "dinov2.embeddings.register_tokens": torch.ones(1, 0, 24)}, tmp_path / "model.safetensors")
    with torch.no_grad():
        answers = loaded(tmp_path, image_size=(56, 56)).model(images_of(56, 56))
    torch.testing.assert_close(answers, torch.tensor(MODELS["dinov2"]["outputs"]["56x56"]), rtol=1e-4, atol=1e-5)


def test_fine_tuning_resizes_positions_once_and_not_to_the_preprocessors_size_first(tmp_path: Path) -> None:
    written_model(tmp_path, "dinov2-registers")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(BIT))
    expected = loaded(tmp_path, image_size=(28, 42), headless=True).model
    with pytest.raises(ConfigError, match="the nearest multiples are 28x28 and 42x42"):
        init_for_finetune(tmp_path, classes=3, image_size=30)
    model, report = init_for_finetune(tmp_path, classes=3, image_size=(28, 42))
    assert torch.equal(model.positions.embedding, expected.positions.embedding) and not report.resized


def test_pixels_that_fill_no_patch_are_left_out_as_transformers_does(tmp_path: Path) -> None:
    written_model(tmp_path, "dinov2")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**BIT, "crop_size": 45}))
    bundle = loaded(tmp_path)
    assert bundle.config.image_size == (45, 45) and bundle.config.grid == (3, 3) and bundle.config.unseen_edge
    assert "the nearest multiples are 42x42 and 56x56" in refusal(tmp_path, Exception, image_size=(45, 45))


def test_what_has_no_file_is_said(tmp_path: Path) -> None:
    written_model(tmp_path, "mae")
    notes = loaded(tmp_path, headless=True).provenance.notes
    assert any(note.startswith("the decoder of pre-training (") and note.endswith(") was left out") for note in notes)
    dinov3 = tmp_path / "dinov3"
    dinov3.mkdir()
    notes = loaded(written_model(dinov3, "dinov3"), headless=True).provenance.notes
    assert any("the usual preprocessing is" in note and "DINOv3ViT" in note for note in notes)
    assert any("the feature is the class token (timm's is the mean of the patches: pooling=" in note for note in notes)


def test_keys_without_bias_have_a_bias_of_zero(tmp_path: Path) -> None:
    model = loaded(written_model(tmp_path, "dinov3"), headless=True).model
    for block in model.blocks:
        query, key, value = block.attention.qkv.bias.chunk(3)
        assert query.all() and value.all() and not key.any()


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("dinov2", {"architectures": ["Dinov2ForDepth", "DPTForDepthEstimation"]}, "'DPTForDepthEstimation'"),
        ("dinov2", {"hidden_act": "relu"}, "activation 'relu' is not supported"),
        ("dinov2", {"num_channels": 4}, "num_channels 4"),
        ("dinov2", {"use_swiglu_ffn": True}, "arrays do not fit the model"),
        ("dinov2", {"model_type": "dinov3_vit"}, "architecture 'Dinov2ForImageClassification'"),
        ("dinov2-registers", {"num_register_tokens": 0}, "embeddings.register_tokens"),
        ("dinov3-gated", {"hidden_act": "gelu"}, "activation 'gelu' is not supported, known are silu"),
        ("dinov3", {"key_bias": True}, "layer.0.attention.k_proj.bias"),
        ("dinov3", {"rope_theta": 0.5}, "position_embedding.rotary.base"),
        ("deit", {"model_type": "beit"}, "model_type 'beit' is not supported, known are vit, deit"),
    ],
)
def test_configs_that_we_cannot_follow_are_named(tmp_path: Path, name: str, fields: dict[str, Any], told: str) -> None:
    assert told in refusal(written_model(tmp_path, name, **fields), Exception)


def test_arrays_that_no_model_has_are_named(tmp_path: Path) -> None:
    written_model(tmp_path, "dinov2")
    extra = {"dinov2.encoder.layer.0.attention.relative_position_bias.table": [3, 3]}
    save_file(state_of({**MODELS["dinov2"]["arrays"], **extra}), tmp_path / "model.safetensors")
    assert f"1 unexpected: {next(iter(extra))}" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["dinov2", "dinov3"])
def test_a_file_without_its_layers_is_refused(tmp_path: Path, name: str) -> None:
    written_model(tmp_path, name)
    arrays = {key: shape for key, shape in MODELS[name]["arrays"].items() if "layer." not in key}
    save_file(state_of(arrays), tmp_path / "model.safetensors")
    assert "missing" in refusal(tmp_path)


def test_resized_positions_are_not_written_back() -> None:
    layout = ResizedPositions((4, 4), (2, 3), 1, "bicubic")
    assert layout.foreign_shape((1, 7, 5)) == (1, 17, 5)
    assert layout.ours_from_foreign(torch.ones(1, 17, 5)).shape == (1, 7, 5)
    with pytest.raises(WeightsError, match="cannot be written in the size they had"):
        layout.foreign_from_ours(torch.ones(1, 7, 5))


def test_a_backbone_without_a_head_becomes_a_program_of_its_features(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "hf").mkdir()
    folder = written_model(tmp_path / "hf", "dinov3")
    size = {"height": 64, "width": 64}
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "DINOv3ViTImageProcessor", "size": size})
    )
    code, _, err = call(capsys, "export", folder, "--to", "onnx", "--out", tmp_path / "program")
    assert code == 0 and "no classifier head in this file: the model gives its features" in err
    program, weights = vs.Encoder(tmp_path / "program", "onnx"), vs.Encoder(folder, "torch")
    np.testing.assert_allclose(program.images(pictures(2)), weights.images(pictures(2)), atol=1e-5)
    with pytest.raises(WeightsError, match="no classifier head in this file: give it one with  vitsmith train"):
        vs.Predictor(folder)


ASKING = {
    "train": ("digits", "--model"),
    "distill": ("digits", "--teacher", "teacher", "--model"),
    "lit": ("shapes", "--set", "image.init_size=[100,100]", "--model"),
    "predict": ("cat.png",),
    "embed": ("cat.png", "--out", "index"),
    "zeroshot": ("cat.png", "--labels", "a,b"),
    "evaluate": ("--data", "digits"),
    "prune": ("--data", "digits"),
    "quantize": ("--images", "cat.png"),
    "merge-tokens": ("--images", "cat.png"),
    "compress": ("--data", "digits"),
    "export": ("--to", "onnx"),
    "benchmark": (),
    "inspect": (),
}


@pytest.mark.parametrize("verb", ASKING)
def test_every_command_names_the_nearest_sizes_that_patches_fill(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = written_model(tmp_path, "dinov2")
    Image.new("RGB", (40, 30)).save("cat.png")
    given = ASKING[verb]
    given = (*given, model) if given[-1:] == ("--model",) else (model, *given)
    size = () if verb == "lit" else ("--image-size", "100")
    code, _, err = call(capsys, verb, *given, *size)
    assert code == 2 and "the nearest multiples are 98x98 and 112x112" in err, err
