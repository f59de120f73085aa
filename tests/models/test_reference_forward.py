"""The original's recorded outputs, layer by layer, through `vitsmith.load` of files like the released ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vitsmith
from tests.reference import fill
from tests.tiny import REFERENCE, layout_of, released_npz, second_naming, small_cases
from vitsmith.models.features import record

CASES = small_cases()
FULL = ("ViT-Ti_16", "ViT-S_32", "R+ViT-Ti_16", "R26+ViT-S_32", "Mixer-B_32")
FULL_LIT = "LiT-B16B_2"
OURS = (
    (r"Transformer/encoderblock_(\d+)|MixerBlock_(\d+)", r"blocks.\1\2"),
    (r"Transformer/encoder_norm|pre_head_layer_norm", "norm"),
    (r"Transformer/posembed_input", "positions"),
    (r"embedding|stem", "patches"),
    (r"pre_logits", "representation"),
    (r"gn_root", "resnet.root_norm"),
    (r"block(\d+)", "resnet.stages.{stage}"),
)


def recorded(case: str) -> dict[str, np.ndarray]:
    with np.load(REFERENCE / "forward" / f"{case}.npz") as file:
        return dict(file)


def images_of(case: str, size: int) -> Tensor:
    return torch.from_numpy(fill.image(case, 2, size)).permute(0, 3, 1, 2)


def relative_error(found: Tensor, expected: np.ndarray) -> float:
    assert tuple(found.shape) == expected.shape
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


def module_of(recorded_name: str) -> str:
    """Our module for a recorded 'after/...': their stages count from 1."""
    name = recorded_name.removeprefix("after/")
    for pattern, ours in OURS:
        if match := re.fullmatch(pattern, name):
            return ours.format(stage=int(match[1]) - 1) if "{" in ours else match.expand(ours)
    raise AssertionError(f"unknown recording {recorded_name}")


def channels_last(output: Tensor) -> Tensor:
    return output.permute(0, 2, 3, 1) if output.ndim == 4 else output


@pytest.fixture
def load_released(tmp_path: Path) -> Callable[..., Any]:
    """Loads a layout from a file that is removed at once: the largest has 780 MB, and pytest keeps its folders."""

    def load(layout: Mapping[str, Sequence[int]], rename: Callable[[str], str] = str, **options: Any) -> Any:
        path = released_npz(tmp_path / "released.npz", layout, rename=rename)
        try:
            return vitsmith.load(path, **options).model
        finally:
            path.unlink()

    return load


@pytest.mark.parametrize("rename", [str, second_naming], ids=["first naming", "second naming"])
@pytest.mark.parametrize("case", [case for case in CASES if "LiT" not in case])
def test_small_models_layer_by_layer(case: str, rename: Callable[[str], str], load_released: Any) -> None:
    fields, expected = CASES[case], recorded(case)
    size, pooling = fields["image_size"], "unpooled" if "unpooled" in case else None
    model = load_released(fields["layout"], rename, image_size=size, pooling=pooling)
    modules = {name: module_of(name) for name in expected if name.startswith("after/")}
    if model.config.family == "vit" and model.config.representation:
        modules["after/pre_logits"] = "representation.0"  # recorded before its tanh
    with torch.inference_mode(), record(model, list(modules.values())) as seen:
        logits = model(images_of(case, size))
    assert relative_error(logits, expected["logits"]) <= 1e-5
    errors = {name: relative_error(channels_last(seen[module]), expected[name]) for name, module in modules.items()}
    assert len(errors) >= 4 and max(errors.values()) <= 1e-5, errors


@pytest.mark.parametrize("case", ["small-LiT-text-transformer", "small-LiT-image-head"])
def test_small_lit(case: str, load_released: Any) -> None:
    model = load_released(CASES[case]["layout"])
    check_lit(model, case, CASES[case]["image_size"], tolerance=1e-5)


@pytest.mark.parametrize("name", FULL)
def test_full_size_models(name: str, load_released: Any) -> None:
    model = load_released(layout_of(name)["layout"], name=name)
    with torch.inference_mode():
        logits = model(images_of(name, 224))
    assert relative_error(logits, recorded(name)["logits"]) <= 1e-4


def test_full_size_lit(load_released: Any) -> None:
    model = load_released(layout_of(FULL_LIT)["layout"], name=FULL_LIT)
    check_lit(model, FULL_LIT, 224, tolerance=1e-4)


def check_lit(model: Any, case: str, size: int, *, tolerance: float) -> None:
    expected = recorded(case)
    with torch.inference_mode():
        images = model.encode_image(images_of(case, size))
        texts = model.encode_text(torch.from_numpy(expected["tokens"]).long())
        logits = model(images_of(case, size), torch.from_numpy(expected["tokens"]).long())
        temperature = model.temperature
    assert relative_error(images, expected["image_embedding"]) <= tolerance
    assert relative_error(texts, expected["text_embedding"]) <= tolerance
    assert relative_error(temperature, expected["temperature"]) <= tolerance
    product = expected["temperature"] * expected["image_embedding"] @ expected["text_embedding"].T
    assert np.abs(logits.numpy() - product).max() <= tolerance * expected["temperature"]


def test_every_recording_is_compared() -> None:
    recordings = {path.stem for path in (REFERENCE / "forward").glob("*.npz")}
    assert recordings == {*CASES, *FULL, FULL_LIT}
