"""What is exported: graphs that compute only what is asked, and preprocessing inside a program."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from tests.exporting import export_onnx
from tests.tiny import CONFIGS, pictures, tiny_inputs, tiny_lit, tiny_model
from vitsmith import Bundle, ImageSpec
from vitsmith.data.images.preprocess import preprocess, resize_image
from vitsmith.engines.pixels import pixels_from_tensors
from vitsmith.errors import GateError
from vitsmith.exporters.onnx import write_graph
from vitsmith.exporters.parts import FromPixels, parts_of
from vitsmith.exporters.run import _rounding
from vitsmith.models.configure import change
from vitsmith.specs import ProgramSpec

UNEVEN = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def spec_of(size: tuple[int, int], **fields: Any) -> ImageSpec:
    return ImageSpec(size=size, quantize="round", **fields)


@pytest.mark.parametrize("name", ["vit-token", "vit-gap", "vit-wide-grid", "hybrid-stem", "hybrid-stages", "mixer"])
def test_pixels_give_what_normalised_images_give(name: str) -> None:
    model = tiny_model(CONFIGS[name])
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    spec = spec_of(model.config.image_size, **UNEVEN)
    tensors = np.stack([preprocess(picture, spec) for picture in pictures(5)])
    pixels = np.stack([resize_image(picture, spec) for picture in pictures(5)])
    with torch.inference_mode():
        expected = model(torch.from_numpy(tensors))
        found = FromPixels(model, spec)(torch.from_numpy(pixels))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 * expected.abs().max().item())
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_the_normalisation_is_in_the_patch_embedding_and_nowhere_else(tmp_path: Path) -> None:
    bundle = Bundle.of(tiny_model(CONFIGS["vit-token"]), preprocessing=spec_of((16, 24), **UNEVEN))
    tensors = np.stack([preprocess(picture, bundle.preprocessing) for picture in pictures(2)])
    kinds = []
    for pixels in (False, True):
        (part,) = parts_of(bundle, tensors, pixels=pixels)
        write_graph(part, tmp_path / "graph.onnx")
        graph = onnx.load(tmp_path / "graph.onnx").graph
        kinds.append([node.op_type for node in graph.node if node.op_type not in ("Transpose", "Cast")])
    assert kinds[0] == kinds[1]
    assert graph.input[0].name == "pixels" and graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


@pytest.mark.parametrize("fields", [UNEVEN, {}, {"mean": (0, 0, 0), "std": (1, 1, 1)}])
def test_pixels_come_back_from_tensors_exactly(fields: dict[str, Any]) -> None:
    spec = spec_of((16, 16), **fields)
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = np.stack([every, every[::-1], every.T], axis=-1)
    found = pixels_from_tensors(preprocess(image, spec)[None], spec)
    assert found.dtype == np.uint8 and np.array_equal(found[0], image)


@pytest.mark.parametrize("name", ["vit-token", "hybrid-stages", "mixer", "lit-bert"])
def test_an_exported_program_of_pixels_is_used_like_any_other(name: str, tmp_path: Path) -> None:
    bundle = tiny_lit(name) if name.startswith("lit") else Bundle.of(tiny_model(CONFIGS[name]))
    bundle = dataclasses.replace(
        bundle, preprocessing=bundle.preprocessing.model_copy(update={"quantize": "round", **UNEVEN})
    )
    exported, verdict = export_onnx(bundle, tmp_path / "pixels", spec=ProgramSpec(pixels=True))
    assert exported.program_spec.pixels and verdict.relative < 1e-5 and exported.preprocessing == bundle.preprocessing
    from vitsmith.engines.open import open_engine

    engine = open_engine(exported, "onnx")
    for batch in (1, 2, 7):
        tensors = np.stack([preprocess(picture, bundle.preprocessing) for picture in pictures(batch, seed=batch)])
        expected = bundle.run_torch(tensors)
        np.testing.assert_allclose(engine.run(tensors), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("antialias", [False, True])
def test_what_rounding_costs_is_noted_and_refused_where_it_changes_answers(
    antialias: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIGS["vit-token"]
    bundle = Bundle.of(tiny_model(config), preprocessing=ImageSpec(size=config.image_size, antialias=antialias))
    assert bundle.preprocessing.quantize == "none"
    exported, _ = export_onnx(bundle, tmp_path / "pixels", spec=ProgramSpec(pixels=True))
    assert exported.preprocessing.quantize == "round"
    (note,) = exported.provenance.notes
    assert note.startswith("resized pixels are rounded to uint8, which moved outputs by up to ")

    def changed_by_rounding(one: Bundle, tensors: np.ndarray) -> np.ndarray:
        outputs = np.tile(np.float32([1, 0.9, 0, 0, 0]), (len(tensors), 1))
        if one.preprocessing.quantize == "round":
            outputs[0] = [0.9, 1, 0, 0, 0]  # no more than outputs move anyhow, and yet another class
        return outputs

    monkeypatch.setattr(Bundle, "run_torch", changed_by_rounding)
    with pytest.raises(GateError, match=r"changes its answers: top-1 agrees on 92\.9% .*; export it without `pixels`"):
        export_onnx(bundle, tmp_path / "refused", spec=ProgramSpec(pixels=True))
    assert not (tmp_path / "refused").exists()


def test_of_embeddings_rounding_must_keep_the_direction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.of(tiny_model(change(CONFIGS["vit-token"], classes=0)))
    assert _rounding(bundle, bundle).endswith("by up to 0 of the largest")

    def turned(one: Bundle, tensors: np.ndarray) -> np.ndarray:
        return np.tile(np.float32([1, 0.2 if one.preprocessing.quantize == "round" else 0.1]), (len(tensors), 1))

    monkeypatch.setattr(Bundle, "run_torch", turned)
    with pytest.raises(
        GateError, match=r"the cosine of outputs falls to 0\.9952 \(required 0\.9999\); export it without"
    ):
        export_onnx(bundle, tmp_path / "refused", spec=ProgramSpec(pixels=True))


@pytest.mark.parametrize("name", ["vit-token", "vit-distilled", "hybrid-stages", "vit-gap", "vit-unpooled"])
def test_the_last_block_computes_only_what_the_head_sees(name: str, tmp_path: Path) -> None:
    bundle = Bundle.of(tiny_model(CONFIGS[name]))
    images = tiny_inputs(bundle.config, 3)[0]
    seen: list[Tensor] = []
    (part,) = parts_of(bundle, images.numpy())
    write_graph(part, tmp_path / "graph.onnx")
    graph = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "graph.onnx")).graph
    shapes = {info.name: [d.dim_value for d in info.type.tensor_type.shape.dim] for info in graph.value_info}
    (widened,) = [n.output[0] for n in graph.node if n.op_type == "Gelu" and "blocks.1" in str(n.metadata_props)]
    pooled = bundle.config.pooling == "token"
    assert shapes[widened][1] == (bundle.config.prefix if pooled else bundle.config.tokens)
    handle = bundle.model.blocks[-1].register_forward_hook(lambda *given: seen.append(given[2]))
    with torch.inference_mode():
        watched = bundle.model(images)
        handle.remove()
        torch.testing.assert_close(bundle.model(images), watched, rtol=0, atol=5e-6)
    assert seen[0].shape[1] == bundle.config.tokens, "whoever listens sees all of it"


def test_a_fixed_batch_is_in_the_graph(tmp_path: Path) -> None:
    bundle = Bundle.of(tiny_model(change(CONFIGS["vit-token"], classes=3)))
    exported, _ = export_onnx(bundle, tmp_path / "fixed", spec=ProgramSpec(batch=4))
    shape = onnx.load(exported.folder / "model.onnx").graph.input[0].type.tensor_type.shape
    assert [axis.dim_value for axis in shape.dim] == [4, 3, 16, 24]
    assert exported.program_spec.batch == 4
