"""Folded layers: the answers of the module, from fewer operations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch

from tests.tiny import CONFIGS, tiny_inputs, tiny_lit, tiny_model, towers
from vitsmith.exporters.folding import with_folded_layers
from vitsmith.exporters.onnx import write_graph
from vitsmith.exporters.parts import Part, gate_tokens
from vitsmith.layers.attention import Attention
from vitsmith.models.config import MixerConfig, ModelConfig, ViTConfig
from vitsmith.models.configure import change

IMAGE_MODELS: dict[str, ModelConfig] = {
    **towers(),
    **{name: config for name, config in CONFIGS.items() if isinstance(config, ViTConfig | MixerConfig)},
}


def siglip_of_four_blocks() -> ViTConfig:
    return change(towers()["siglip"], depth=4)


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_a_folded_model_gives_the_answers_of_the_model(name: str) -> None:
    model = tiny_model(IMAGE_MODELS[name])
    images = tiny_inputs(model.config, 3)[0]
    with torch.inference_mode():
        expected, found = model(images), with_folded_layers(model)(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


def test_attention_pooling_of_merged_tokens_counts_each_as_often_as_it_has_patches() -> None:
    config = siglip_of_four_blocks()
    model = tiny_model(change(config, merge=(1, 1, 0, 0)))
    images = tiny_inputs(config, 3)[0]
    with torch.inference_mode():
        expected, found = model(images), with_folded_layers(model)(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 * float(expected.abs().max()))
    assert sum(isinstance(one, Attention) for one in with_folded_layers(model).modules()) == 4


@pytest.mark.parametrize("name", ["lit-bert", "lit-transformer"])
def test_a_folded_text_tower_gives_the_answers_of_the_tower(name: str) -> None:
    bundle = tiny_lit(name)
    tower, tokens = bundle.model.get_submodule("text"), torch.from_numpy(gate_tokens(bundle))
    with torch.inference_mode():
        expected, found = tower(tokens), with_folded_layers(tower)(tokens)
    assert not any(isinstance(one, Attention) for one in with_folded_layers(tower).modules())
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


def test_the_model_itself_stays_and_shares_what_is_not_folded() -> None:
    model = tiny_model(towers()["siglip"])
    before = {name: array.clone() for name, array in model.state_dict().items()}
    folded = with_folded_layers(model)
    assert isinstance(model.get_submodule("blocks.0.attention"), Attention)
    assert all(torch.equal(array, before[name]) for name, array in model.state_dict().items())
    for name in ("patches.projection", "blocks.0.mlp.widen", "blocks.1.attention.out", "attention_pool.out"):
        assert folded.get_parameter(f"{name}.weight") is model.get_parameter(f"{name}.weight")
    keys = folded.get_submodule("blocks.0.attention.key").get_parameter("weight")
    packed = model.get_submodule("blocks.0.attention.qkv").get_parameter("weight")
    assert keys.untyped_storage().data_ptr() == packed.untyped_storage().data_ptr()


def test_the_graph_moves_no_packed_tensor_apart_and_pools_without_keys_of_all_tokens(tmp_path: Path) -> None:
    model = tiny_model(towers()["siglip"])
    part = Part("model", model, tiny_inputs(model.config, 2)[0].numpy(), "images", "logits")
    write_graph(part, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["Split"] == 0 and kinds["Squeeze"] == 0
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    width, heads = model.config.width, model.config.attention_pool.heads
    assert (width, 2 * width) not in shapes.values() and (width, heads) in shapes.values()


def test_kernels_are_standardised_before_the_graph_is_written(tmp_path: Path) -> None:
    model = tiny_model(CONFIGS["hybrid-stages"])
    part = Part("model", model, tiny_inputs(model.config, 2)[0].numpy(), "images", "logits")
    write_graph(part, tmp_path / "model.onnx")
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node)
    assert kinds["Conv"] > 0 and not kinds["Sqrt"] and not kinds["Div"]


def test_the_last_block_computes_the_query_of_the_token_that_is_pooled_alone(tmp_path: Path) -> None:
    model = tiny_model(change(towers()["dinov3-gated"], pooling="token"))
    images = tiny_inputs(model.config, 2)[0].numpy()
    write_graph(Part("model", model, images, "images", "logits"), tmp_path / "model.onnx", batch=2)
    graph = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "model.onnx")).graph
    shapes = {one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim] for one in graph.value_info}
    last = f"blocks.{model.config.depth - 1}.attention.query"
    products = [
        shapes[node.output[0]]
        for node in graph.node
        if node.op_type == "MatMul" and any(last in one.value for one in node.metadata_props)
    ]
    assert [shape[:2] for shape in products] == [[2, 1]]
